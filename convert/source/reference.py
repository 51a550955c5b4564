"""What does the Keras that wrote the model answer, and does the model that was loaded agree with it?

For files of Keras 2 that is tf-keras, in a child process of its own: the loader that the result was made with is no
judge of itself. Its outputs then take the place of Keras 3's, so that everything later is compared with them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ModelError

from .answers import DRAWN_FILE, FOLDER, name_output, read_drawn_outputs
from .process import ConversionRequest, SourceFacts, find_end, run_child

QUESTION = "reference.json"  # written by the process that loaded the model, where another one has to answer
ANSWER = "reference_result.json"
ANSWERS = "reference"  # the folder of the reference's outputs
# Both compute in float32 with the same kernels. Over the cases of tests/convert/source the largest difference was 1e-6
# of the largest output; the smallest change of meaning known, hard_sigmoid's, makes 0.01 and more.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ReferenceQuestion:
    """What a reference has to know beside the request and the facts."""

    outputs: tuple[str, ...]  # the names of all outputs, in order
    mask: int  # which of them is the mask
    flattened: bool  # it comes as a list of pixels
    classes: int | None  # which of them classifies the image
    append: str  # the activation that the mask still needs
    loaded_by: str  # what its answers are compared with: "Keras 3.15.1"


@dataclass(frozen=True)
class ReferenceAnswer:
    """What a reference says beside its outputs."""

    name: str  # "tf-keras 2.21.0"
    why_not: str = ""  # why it gave no outputs


def write_question(work: Path, question: ReferenceQuestion) -> None:
    """Leave a question for `ask_reference`."""
    (work / QUESTION).write_text(json.dumps(asdict(question)))


def read_question(work: Path) -> ReferenceQuestion:
    """Return the question in a folder."""
    data = json.loads((work / QUESTION).read_text())
    return ReferenceQuestion(**{**data, "outputs": tuple(data["outputs"])})


def ask_reference(work: Path, request: ConversionRequest, facts: SourceFacts) -> SourceFacts:
    """Return the facts with the reference in them, its outputs in `work`; the same facts where no other one is needed.

    Raises:
        ModelError: the loaded model's outputs are further than TOLERANCE from the reference's.
    """
    if not (work / QUESTION).exists():
        return facts
    question = read_question(work)
    ended = run_child("convert.source.reference_main", work, work / "reference_noise.txt")
    try:
        answer = ReferenceAnswer(**json.loads((work / ANSWER).read_text()))
    except (OSError, ValueError, TypeError):
        answer = ReferenceAnswer("tf-keras", find_end(ended, work / "reference_noise.txt"))
    if answer.why_not:
        note = f"a file of Keras 2 whose reference is {question.loaded_by}, which loaded it: {answer.why_not}"
        return replace(facts, reference=question.loaded_by, notes=(*facts.notes, note))
    largest, where = compare_outputs(work, work / ANSWERS, len(request.images))
    if not largest <= TOLERANCE:
        why = f"{question.loaded_by} makes another function of it than {answer.name}: outputs differ by {largest:.3g}"
        fix = "save it as a SavedModel with the Keras that trained it, and convert that"
        raise ModelError(request.model, f"{why} on {where}, more than {TOLERANCE:g}", fix)
    (work / ANSWERS / DRAWN_FILE).replace(work / DRAWN_FILE)
    shutil.rmtree(work / FOLDER, ignore_errors=True)
    (work / ANSWERS / FOLDER).replace(work / FOLDER)
    note = f"{answer.name} gives the same outputs as {question.loaded_by}, within {largest:.1g}"
    return replace(facts, reference=answer.name, notes=(*facts.notes, note))


def compare_outputs(ours: Path, theirs: Path, images: int) -> tuple[float, str]:
    """Return the largest difference between the outputs in two folders, by their size where it is over 1, and where."""
    drawn = [read_drawn_outputs(folder) for folder in (ours, theirs)]
    found = [
        (measure_difference(a, b), f"drawn image {i + 1}")
        for kind in ("masks", "classes")
        for i, (a, b) in enumerate(zip(getattr(drawn[0], kind), getattr(drawn[1], kind), strict=True))
    ]
    for i in range(images):
        a, b = (np.load(name_output(folder / FOLDER, i), allow_pickle=False) for folder in (ours, theirs))
        found.append((measure_difference(a, b), f"image {i + 1} of those to check on"))
    return max(found, key=lambda one: one[0])


def measure_difference(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Return the largest |a - b|, by the largest |b| where over 1; infinite for other shapes or finite parts."""
    if a.shape != b.shape or (np.isfinite(a) != np.isfinite(b)).any():
        return float("inf")
    finite = np.isfinite(a)
    scale = max(1.0, float(np.abs(b[finite]).max(initial=0)))
    return float(np.abs(a[finite] - b[finite]).max(initial=0)) / scale
