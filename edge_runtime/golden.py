"""Golden vectors: a few drawn images as files, and what each stage made of them where the model was converted.

Specification, edge-seg-golden/2: the tail's golden.json
=========================================================
Canonical JSON, as the contract's, of at most 64 kB:

    format       "edge-seg-golden/2"; of "edge-seg-golden/1", which is read too, an output's Sample has 256 values
    cases        one or more, in the order in which they are run, of
        name         the file's name, by its kind
        file         the encoded image, base64
        decode       {shape, dtype, sha256} of the pixels of a lossless file, or a Sample of a JPEG's
        preprocess   a Sample of the tensor
        infer        Samples of the outputs, the mask's and then perhaps the classes'; null of a JPEG
        postprocess  {labels, probability} at the image's size of `draw_ramp`, not of what the model answered: every
                     stage is judged by itself; null of a JPEG

A Sample: shape, dtype, `values` of at most 256 elements at `pick_places`, of an output 1024 (a lesion covers some 2 %
of a map: of 256 values five lay in one, and a mask eight rows off passed), the `average` of all, and how far what is
found here may lie from them, `largest` for one value, `mean` for their mean and for the average, and `logit`, null but
for an output, for the mean distance of their logits, of probabilities within [0.00001, 0.99999]. In `labels`, a list of
values at these places, -1 stands for a pixel whose label hangs on the last digits.

What is allowed, and why: pixels of a lossless file, nothing. Of a JPEG, 4 levels and 1 in the mean: its standard lets a
decoder's transform be off by one level, the colour conversion adds one, and decoders that are off by these two exist.
Of a tensor, 0.02 levels: builds of OpenCV add in another order; of a JPEG's, its pixels' 4 and 1; integers one step
more. Of an output, 0.3 of a quantized file and 0.1 of a float one, 0.005 in the mean: on the embedded model LiteRT 2.3
on an ARM Cortex-A72 (emulated) was seen 0.13 and 0.0001 from itself on an x86 one, tflite-runtime 2.14 0.17 and 0.0001
(the rounding of one activation moves those after it), float files 1e-6, and bfloat16 has steps of 0.004 below 1. Of
logits 0.5 in the mean: most of a map is next to 0 or 1, and only its logits tell a net with a broken layer from a sound
one. Those runtimes were 0.07 to 0.20 apart; with the weights of one layer negated, 61 of 67 layers show. A few wrong
weights do not, more than another processor does: these the file's SHA-256 finds. Of a probability, 0.001.

Integrity is the contract's: it names the SHA-256 of golden.json.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .contract import Contract
from .errors import ContractError
from .images import decode_image
from .postprocess import check_probability, to_labels, to_probability
from .preprocess import Image
from .session import Session

FORMAT = "edge-seg-golden/2"
COUNT = 256  # values of a Sample
OUTPUT_COUNTS = {FORMAT: 1024, "edge-seg-golden/1": COUNT}  # of an output, by the format that is read
STRIDE = 2654435761  # prime: places spread over rows and columns whatever their number
JPEG_LARGEST, JPEG_MEAN = 4.0, 1.0  # levels
TENSOR_LEVELS = 0.02
LARGEST = {"fp32": 0.1, "fp16": 0.1, "weight-only": 0.1}  # of an output in [0, 1], by recipe; others compute in int8
LARGEST_INTEGER, OUTPUT_MEAN, OUTPUT_LOGIT, LOGIT_END = 0.3, 0.005, 0.5, 1e-5
PROBABILITY = 0.001
AGAIN = "convert the model again"
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """Some of an array's values, and how far others may lie from them."""

    shape: Sequence[int]
    dtype: str
    values: Sequence[float]
    average: float
    largest: float
    mean: float
    logit: float | None = None

    def compare(self, found: Array) -> str:
        """Return how `found` differs by more than is allowed; "" if it does not."""
        shape, dtype = list(found.shape), found.dtype.name
        if (shape, dtype) != (list(self.shape), self.dtype):
            return f"{dtype} of shape {shape}, not {self.dtype} of {list(self.shape)}"
        values = pick(found, len(self.values))
        apart = np.abs(values.astype(np.float64) - np.array(self.values, np.float64))
        most, mean = float(apart.max()), float(apart.mean())
        drift = abs(average(found) - self.average)
        words = []
        if not most <= self.largest:  # also where one is no number
            words.append(f"values are {most:.3g} apart where {self.largest:.3g} is allowed")
        if not mean <= self.mean:
            words.append(f"{mean:.3g} apart in the mean where {self.mean:.3g} is allowed")
        if not drift <= self.mean:
            words.append(f"their average is {drift:.3g} off where {self.mean:.3g} is allowed")
        if self.logit is not None:
            far = float(np.abs(to_logits(values) - to_logits(np.array(self.values))).mean())
            if not far <= self.logit:
                words.append(f"their logits are {far:.3g} apart in the mean where {self.logit:.3g} is allowed")
        return ", ".join(words)


@dataclass(frozen=True)
class Case:
    """One image, and what each stage is to make of it."""

    name: str
    file: bytes
    decode: Sample | Mapping[str, Any]
    preprocess: Sample
    infer: Sequence[Sample] | None
    postprocess: Mapping[str, Any] | None


def make_case(session: Session, name: str, file: bytes) -> Case:
    """Return a case with what this session's stages make of an image file.

    Raises: EdgeSegError as the stages do.
    """
    lossless = not name.endswith(".jpg")
    spec = session.contract.input
    image = decode_image(file, name)
    tensor = session.preprocess(to_input(image, session.contract))
    step = 0.0 if spec.dtype == "float32" else 1.0
    near, mean = (TENSOR_LEVELS, TENSOR_LEVELS) if lossless else (JPEG_LARGEST, JPEG_MEAN)
    eaten = take_sample(tensor, spec.scale * near + step, spec.scale * mean + step * 0.1)
    if not lossless:
        return Case(name, file, take_sample(image, JPEG_LARGEST, JPEG_MEAN), eaten, None, None)
    outputs = run_model(session, tensor)
    for output in outputs:
        check_probability(output)  # NaN is no vector to hold others against
    most = LARGEST.get(session.contract.recipe, LARGEST_INTEGER)
    given = [
        replace(take_sample(output, most, OUTPUT_MEAN, OUTPUT_COUNTS[FORMAT]), logit=OUTPUT_LOGIT) for output in outputs
    ]
    labels, probability = judge_ramp(session, image)
    shown = {"labels": labels, "probability": asdict(take_sample(probability, PROBABILITY, PROBABILITY))}
    return Case(name, file, hash_pixels(image), eaten, given, shown)


def to_input(image: Image, contract: Contract) -> Image:
    """Return what a session takes: the image, or for a model of volumes its slices, each the image rolled by a row."""
    depth = contract.input.depth
    return image if depth is None else np.stack([np.roll(image, row, axis=0) for row in range(depth)])


def run_model(session: Session, tensor: Array) -> list[Array]:
    """Return the outputs: the mask, and the classes where the contract has them."""
    if session.contract.classes is None:
        return [session.engine.infer(tensor)]
    return list(session.engine.infer_both(tensor))


def hash_pixels(image: Image) -> dict[str, Any]:
    """Return shape, type and SHA-256 of an image's pixels, little-endian."""
    data = np.ascontiguousarray(image, image.dtype.newbyteorder("<")).tobytes()
    return {"shape": list(image.shape), "dtype": image.dtype.name, "sha256": hashlib.sha256(data).hexdigest()}


def judge_ramp(session: Session, image: Image) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Return labels at COUNT places, -1 where they hang on the last digits, and the probability (H, W), of the ramp."""
    contract = session.contract
    probability = to_probability(draw_ramp(contract), *image.shape[:2])
    labels, lesion = to_labels(probability, session.threshold, contract.output.activation)
    shaky = find_shaky(probability, session.threshold, contract.output.activation)
    return [-1 if doubt else int(label) for label, doubt in zip(pick(labels), pick(shaky), strict=True)], lesion


def find_shaky(probability: npt.NDArray[np.float32], threshold: float, activation: str) -> npt.NDArray[np.bool_]:
    """Return (..., H, W): where a change of PROBABILITY in (..., H, W, K) gives another label."""
    if probability.shape[-1] == 1 or activation == "sigmoid":
        return np.asarray((np.abs(probability - threshold) < PROBABILITY).any(axis=-1))
    ranked = np.sort(probability, axis=-1)
    return np.asarray(ranked[..., -1] - ranked[..., -2] < 2 * PROBABILITY)


def draw_ramp(contract: Contract) -> npt.NDArray[np.float32]:
    """Return an output of the model's shape that goes through all probabilities; of a softmax they add up to 1."""
    shape = contract.output.shape
    places = np.indices(shape[1:])  # (axes, h, w, K) or (axes, D, h, w, K)
    rise = max(1, 512 // (shape[-3] + shape[-2]))  # up and down at least once over the map, whatever its size
    strides = (29, 2 * rise + 1, rise, 83)[5 - len(shape) :]
    steps = np.sum([stride * place for stride, place in zip(strides, places, strict=True)], axis=0)
    ramp = (np.abs(steps % 256 - 128) / 128).astype(np.float32)
    if contract.output.activation == "softmax":
        ramp = (ramp + np.float32(0.01)) / (ramp + np.float32(0.01)).sum(axis=-1, keepdims=True)
    return np.asarray(ramp[None], np.float32)


def take_sample(array: Array, largest: float, mean: float, count: int = COUNT) -> Sample:
    """Return a sample of at most `count` values of an array with what is allowed."""
    values = [shorten(value) for value in pick(array, count)]
    return Sample(list(array.shape), array.dtype.name, values, shorten(average(array)), shorten(largest), shorten(mean))


def pick(array: Array, count: int = COUNT) -> Array:
    """Return the values at `pick_places`."""
    return np.ascontiguousarray(array).reshape(-1)[pick_places(array.size, count)]


def pick_places(size: int, count: int = COUNT) -> npt.NDArray[np.int64]:
    """Return the places of a Sample's values in an array of that size, its last axis running fastest."""
    return np.arange(min(count, size), dtype=np.int64) * STRIDE % size


def to_logits(values: Array) -> npt.NDArray[np.float64]:
    """Return the logits of probabilities, those at the ends cut off."""
    inner = np.clip(values.astype(np.float64), LOGIT_END, 1 - LOGIT_END)
    return np.asarray(np.log(inner / (1 - inner)))


def average(array: Array) -> float:
    """Return the mean of all values."""
    return float(array.mean(dtype=np.float64))


def shorten(value: Any) -> float:
    """Return a number of six digits, so that neither length nor the last bit of another machine shows."""
    return float(f"{float(value):.6g}")


def to_json(cases: Sequence[Case]) -> bytes:
    """Return golden.json."""
    rows = [{**asdict(case), "file": base64.b64encode(case.file).decode()} for case in cases]
    fields = {"format": FORMAT, "cases": rows}
    return json.dumps(fields, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def from_json(text: bytes) -> list[Case]:
    """Return the cases of a golden.json.

    Raises: ContractError if it is not one of this format.
    """
    try:
        fields = json.loads(text)
        if fields["format"] not in OUTPUT_COUNTS:
            why = f"unknown format {fields['format']!r} of its golden vectors"
            raise ContractError("golden vectors", why, f"this version reads {FORMAT!r}")
        return [read_case(OUTPUT_COUNTS[fields["format"]], **row) for row in fields["cases"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ContractError("golden vectors", f"they are malformed ({type(error).__name__}: {error})", AGAIN) from None


def read_case(count: int, name: str, file: str, decode: Any, preprocess: Any, infer: Any, postprocess: Any) -> Case:
    """Return a case from its fields, `count` values of each output. Raises: ValueError, TypeError, KeyError."""
    exact = {key: decode[key] for key in ("shape", "dtype", "sha256")} if "sha256" in decode else None
    given = None if infer is None else [read_sample(**one, count=count) for one in infer]
    if postprocess is not None:
        probability, labels = read_sample(**postprocess["probability"]), [int(label) for label in postprocess["labels"]]
        if len(labels) != len(probability.values):
            raise ValueError(f"{len(labels)} labels of {len(probability.values)} pixels")
        postprocess = {"labels": labels, "probability": probability}
    data = base64.b64decode(file, validate=True)
    return Case(str(name), data, exact or read_sample(**decode), read_sample(**preprocess), given, postprocess)


def read_sample(
    shape: Any, dtype: Any, values: Any, average: Any, largest: Any, mean: Any, logit: Any = None, count: int = COUNT
) -> Sample:
    """Return a sample from its fields. Raises: ValueError, TypeError."""
    sides, numbers = [int(side) for side in shape], [float(value) for value in values]
    if len(numbers) != min(count, math.prod(sides)):
        raise ValueError(f"{len(numbers)} values of an array of shape {sides}")
    own = None if logit is None else float(logit)
    return Sample(sides, str(dtype), numbers, float(average), float(largest), float(mean), own)
