"""Which questions of the ECLAIR guidelines does a benchmark answer?

Omoumi et al., "To buy or not to buy: evaluating commercial AI solutions in radiology (the ECLAIR guidelines)", European
Radiology 31, 3786-3796 (2021), PMC8128726. The headings are the paper's; the questions are paraphrased.
"""

from __future__ import annotations

from benchmarks.result.lookup import Result, find
from benchmarks.result.quoted import Text, compose, quote, quote_words
from benchmarks.result.roles import find_scores
from benchmarks.result.wording import escape_hidden, format_count

NOT_ANSWERED = "Not answered here."


def list_questions(result: Result, key: str | None) -> tuple[tuple[Text, ...], ...]:
    """Return rows of heading, question and this report's answer; a heading is printed once."""
    asked: dict[str, tuple[tuple[str, Text], ...]] = {
        "Relevance": (
            ("Which problem is solved, for whom, and with what benefit?", format_intended_use(result)),
            (
                "What are the risks?",
                (f"{name_worst_cases(result)} A risk analysis is the manufacturer's task.",),
            ),
        ),
        "Performance and validation": (
            (
                "How was the algorithm designed and trained, on which data?",
                ("Not answered here: see the model card. This report is valid for the files under Sources.",),
            ),
            ("How well does it perform, and how was that established?", format_validation(result, key)),
            (
                "Does it hold on our own patients and scanners?",
                ("Not answered here. Measure again with your own images and masks: --images, --masks.",),
            ),
            ("Does it change after it is installed?", ("No: the file is fixed, and identified by its SHA-256.",)),
        ),
        "Usability and integration": (
            ("What does it need: device, system, network?", format_requirements(result)),
            ("How long does it take within the workflow?", (format_time_chapters(result),)),
            ("How does it reach the PACS, and how are results shown?", (NOT_ANSWERED,)),
        ),
        "Regulatory and legal": (
            (
                "Is it cleared as a medical device (CE mark, FDA)?",
                ("No. It is not a medical device; it is for research and evaluation.",),
            ),
            (
                "What happens to patients' data?",
                ("In part: nothing leaves the device. This report names images and may show some: restrict access.",),
            ),
        ),
        "Financial and support services": (
            ("What does it cost?", ("In part: devices, on the first page; energy only where it was measured.",)),
            ("Who trains users, maintains it and is liable for faults?", (NOT_ANSWERED,)),
        ),
    }
    return tuple(
        ((heading if number == 0 else "",), (question,), answer)
        for heading, questions in asked.items()
        for number, (question, answer) in enumerate(questions)
    )


def name_worst_cases(result: Result) -> str:
    """Return where the worst cases are, if the result has any."""
    return "In part: the worst cases are shown under Accuracy." if find(result, "worst") else NOT_ANSWERED


def format_time_chapters(result: Result) -> str:
    """Return the chapters on time that have figures."""
    parts = {"end_to_end": "From file to mask", "sustained": "Sustained work"}
    measured = [title for part, title in parts.items() if find(result, part) is not None]
    return f"See the first page, {', '.join(measured or ['Latency'])}."


def format_intended_use(result: Result) -> Text:
    """Return the intended use of the model's contract."""
    use = find(result, "model.contract.intended_use")
    stated = (
        f"As stated in the model's contract: {escape_hidden(use)}" if use else "The contract states no intended use."
    )
    return (f"{stated} The benefit is not answered here: it needs a study of the workflow.",)


def format_validation(result: Result, key: str | None) -> Text:
    """Return the reference of the accuracy, and the number of images."""
    entry = f"accuracy.{find_scores(result, key)}" if key else "accuracy"
    if find(result, f"{entry}.n") is None:
        return ("Not measured: there is no accuracy in this run.",)
    masks = find(result, f"{entry}.against") == "masks"
    reference = "the given masks" if masks else "the float model, not the truth"
    return compose(
        "Against {}, on {} images, with intervals: see Accuracy.", reference, quote(result, f"{entry}.n", format_count)
    )


def format_requirements(result: Result) -> Text:
    """Return the machine that it was measured on."""
    cpu, system = (quote_words(result, f"machine.facts.{name}") for name in ("cpu", "os"))
    return compose("Measured on {}, {}; memory and files under Memory. No network.", cpu, system)
