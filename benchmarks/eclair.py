"""What the ECLAIR guidelines would have a buyer ask, and which of it a benchmark can answer.

Omoumi et al., "To buy or not to buy: evaluating commercial AI solutions in radiology (the ECLAIR guidelines)", European
Radiology 31, 3786-3796 (2021), PMC8128726. The headings are the paper's; the questions are put in our own words.
"""

from __future__ import annotations

from .numbers import Result, Text, cite, cite_words, find, flow, printable, say_count
from .subjects import find_scores

NO = "Not answered here."


def list_questions(result: Result, key: str | None) -> tuple[tuple[Text, ...], ...]:
    """Return rows of heading, question, and what this report answers to it; a heading stands once."""
    asked: dict[str, tuple[tuple[str, Text], ...]] = {
        "Relevance": (
            ("Which problem is solved, for whom, and with what benefit?", tell_use(result)),
            (
                "What are the risks?",
                ("In part: the worst cases are shown under Accuracy. A risk analysis is the maker's to give.",),
            ),
        ),
        "Performance and validation": (
            (
                "How was the algorithm designed and trained, on which data?",
                ("Not answered here: see the model's card. This report holds for the files under Sources.",),
            ),
            ("How well does it do, and how was that established?", tell_validation(result, key)),
            (
                "Does it hold on our own patients and scanners?",
                ("Not answered here. Measure again with your own images and masks: --images, --masks.",),
            ),
            ("Does it change after it is installed?", ("No: the file is fixed, and named by its SHA-256.",)),
        ),
        "Usability and integration": (
            ("What does it need: device, system, network?", tell_needs(result)),
            ("How long does it take within the work?", ("See the first page, From file to mask, Sustained work.",)),
            ("How does it reach the PACS, and how are results shown?", (NO,)),
        ),
        "Regulatory and legal": (
            (
                "Is it cleared as a medical device (CE mark, FDA)?",
                ("No. It is not a medical device; it is for research and evaluation.",),
            ),
            (
                "What happens to patients' data?",
                ("In part: nothing leaves the device. This report names images and may show some: mind who gets it.",),
            ),
        ),
        "Financial and support services": (
            ("What does it cost?", ("In part: devices, on the first page; energy only where it was measured.",)),
            ("Who trains users, maintains it and answers for faults?", (NO,)),
        ),
    }
    return tuple(
        ((heading if number == 0 else "",), (question,), answer)
        for heading, questions in asked.items()
        for number, (question, answer) in enumerate(questions)
    )


def tell_use(result: Result) -> Text:
    """Return what the model says it is for."""
    use = find(result, "model.contract.intended_use")
    stated = f"As the model states it: {printable(use)}" if use else "The model states no intended use."
    return (f"{stated} The benefit is not answered here: it needs a study of the work itself.",)


def tell_validation(result: Result, key: str | None) -> Text:
    """Return what accuracy was measured against."""
    entry = f"accuracy.{find_scores(result, key)}" if key else "accuracy"
    if find(result, f"{entry}.n") is None:
        return ("Not measured: there is no accuracy in this run.",)
    judge = (
        "the masks that were given" if find(result, f"{entry}.against") == "masks" else "the float model, not the truth"
    )
    return flow(
        f"Against {judge}, on ", cite(result, f"{entry}.n", say_count), " images, with intervals: see Accuracy."
    )


def tell_needs(result: Result) -> Text:
    """Return what it was measured on."""
    cpu, system = (cite_words(result, f"machine.facts.{name}") for name in ("cpu", "os"))
    return flow("Measured on ", cpu, ", ", system, "; memory and files under Memory. No network.")
