"""What are golden vectors? A few drawn images as files, and the output of each stage where the model was converted.

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
        postprocess  {labels, probability} at the image's size of `draw_ramp`, not of the model's output: every stage is
                     checked by itself; null of a JPEG

A Sample: shape, dtype, `values` of at most 256 elements at `pick_indices`, of an output 1024 (a lesion covers some 2 %
of a map: of 256 values five lay in one, and a mask eight rows off passed), the `average` of all, and how far the values
found here may be from them: `largest` for one value, `mean` for their mean and for the average, and `logit`, null but
for an output, for the mean distance of their logits, of probabilities within [0.00001, 0.99999]. `labels` is a list of
values at the same indices, -1 for a pixel whose label depends on the last digits.

Tolerances and their reasons:

    pixels of a lossless file   none
    pixels of a JPEG            4 levels, 1 in the mean: the standard lets a decoder's transform be off by one level,
                                the colour conversion adds one, and decoders that are off by these two exist
    a tensor                    0.02 levels: builds of OpenCV add in another order; of a JPEG 4 and 1; integers one more
    an output                   0.3 of a quantized file, 0.1 of a float one, 0.005 in the mean. On the embedded model
                                LiteRT 2.3 on an ARM Cortex-A72 (emulated) differed by 0.13 and 0.0001 from LiteRT on
                                x86, tflite-runtime 2.14 by 0.17 and 0.0001 (the rounding of one activation moves those
                                after it), float files by 1e-6; bfloat16 has steps of 0.004 below 1
    its logits                  0.5 in the mean: most of a map is next to 0 or 1, and only the logits separate a net
                                with a broken layer from a sound one. Those runtimes differed by 0.07 to 0.20; with the
                                weights of one layer negated, 61 of 67 layers are found. A few wrong weights change less
                                than another processor does: these the file's SHA-256 finds
    a probability               0.001

The contract guards their integrity: it holds the SHA-256 of golden.json.
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

from edge_runtime.contract.fields import Contract, InputSpec
from edge_runtime.errors import ContractError
from edge_runtime.images.arrays import Image, full_scale
from edge_runtime.images.read import decode_image
from edge_runtime.inference.postprocess import check_probability, to_labels, to_probability
from edge_runtime.inference.preprocess import find_levels
from edge_runtime.inference.session import Session

FORMAT = "edge-seg-golden/2"
COUNT = 256  # values of a Sample
OUTPUT_COUNTS = {FORMAT: 1024, "edge-seg-golden/1": COUNT}  # of an output, by the format that is read
STRIDE = 2654435761  # prime: indices spread over rows and columns whatever their number
JPEG_LARGEST, JPEG_MEAN = 4.0, 1.0  # levels
TENSOR_LEVELS = 0.02
LARGEST = {"fp32": 0.1, "fp16": 0.1, "weight-only": 0.1}  # of an output in [0, 1], by recipe; others compute in int8
LARGEST_INTEGER, OUTPUT_MEAN, OUTPUT_LOGIT, LOGIT_END = 0.3, 0.005, 0.5, 1e-5
PROBABILITY = 0.001
CONVERT_AGAIN = "convert the model again"
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """Some of an array's values, and how far those of another array may be from them."""

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
        values = pick_values(found, len(self.values))
        apart = np.abs(values.astype(np.float64) - np.array(self.values, np.float64))
        largest, mean = float(apart.max()), float(apart.mean())
        drift = abs(average(found) - self.average)
        reasons = []
        if not largest <= self.largest:  # also where one is no number
            reasons.append(f"values are {largest:.3g} apart where {self.largest:.3g} is allowed")
        if not mean <= self.mean:
            reasons.append(f"{mean:.3g} apart in the mean where {self.mean:.3g} is allowed")
        if not drift <= self.mean:
            reasons.append(f"their average is {drift:.3g} off where {self.mean:.3g} is allowed")
        if self.logit is not None:
            far = float(np.abs(to_logits(values) - to_logits(np.array(self.values))).mean())
            if not far <= self.logit:
                reasons.append(f"their logits are {far:.3g} apart in the mean where {self.logit:.3g} is allowed")
        return ", ".join(reasons)


@dataclass(frozen=True)
class GoldenCase:
    """One image, and the output that each stage should give."""

    name: str
    file: bytes
    decode: Sample | Mapping[str, Any]
    preprocess: Sample
    infer: Sequence[Sample] | None
    postprocess: Mapping[str, Any] | None


def make_case(session: Session, name: str, file: bytes) -> GoldenCase:
    """Return a case with the outputs of this session's stages for an image file.

    Raises: EdgeSegError as the stages do.
    """
    lossless = not name.endswith(".jpg")
    spec = session.contract.input
    image = decode_image(file, name)
    tensor = session.preprocess(to_input(image, session.contract))
    step = 0.0 if spec.dtype == "float32" else 1.0
    near, mean = (TENSOR_LEVELS, TENSOR_LEVELS) if lossless else (JPEG_LARGEST, JPEG_MEAN)
    level = measure_level(image, spec)
    inputs = take_sample(tensor, level * near + step, level * mean + step * 0.1)
    if not lossless:
        return GoldenCase(name, file, take_sample(image, JPEG_LARGEST, JPEG_MEAN), inputs, None, None)
    outputs = run_model(session, tensor)
    for output in outputs:
        check_probability(output)  # nothing can be compared with NaN
    largest = LARGEST.get(session.contract.recipe, LARGEST_INTEGER)
    samples = [take_sample(output, largest, OUTPUT_MEAN, OUTPUT_COUNTS[FORMAT]) for output in outputs]
    samples = [replace(sample, logit=OUTPUT_LOGIT) for sample in samples]
    labels, probability = segment_ramp(session, image)
    ramp = {"labels": labels, "probability": asdict(take_sample(probability, PROBABILITY, PROBABILITY))}
    return GoldenCase(name, file, hash_pixels(image), inputs, samples, ramp)


def measure_level(image: Image, spec: InputSpec) -> float:
    """Return by how much the model's input changes where an image changes by 1 of 255 levels.

    Twice that where the levels come from the image's own values, which then change too.
    """
    largest = max(spec.scale) if isinstance(spec.scale, tuple) else spec.scale
    if spec.intensity.images == "bit-depth":
        return largest
    return largest * 2 * find_levels([image], spec.colour, spec.intensity.images).factor * full_scale(image) / 255


def to_input(image: Image, contract: Contract) -> Image:
    """Return the image, or for a model of volumes slices, each the image rolled by one more row."""
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


def segment_ramp(session: Session, image: Image) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Return the ramp's labels at COUNT indices, -1 where the last digits decide, and its probability (H, W)."""
    contract = session.contract
    probability = to_probability(draw_ramp(contract), *image.shape[:2])
    labels, lesion = to_labels(probability, session.threshold, contract.output.activation)
    unstable = find_unstable(probability, session.threshold, contract.output.activation)
    return [int(label) for label in pick_values(np.where(unstable, -1, labels.astype(int)))], lesion


def find_unstable(probability: npt.NDArray[np.float32], threshold: float, activation: str) -> npt.NDArray[np.bool_]:
    """Return (..., H, W): where a change of PROBABILITY in (..., H, W, K) gives another label."""
    if probability.shape[-1] == 1 or activation == "sigmoid":
        return np.asarray((np.abs(probability - threshold) < PROBABILITY).any(axis=-1))
    ranked = np.sort(probability, axis=-1)
    return np.asarray(ranked[..., -1] - ranked[..., -2] < 2 * PROBABILITY)


def draw_ramp(contract: Contract) -> npt.NDArray[np.float32]:
    """Return an output of the model's shape that takes all probabilities; of a softmax they add up to 1."""
    shape = contract.output.shape
    indices = np.indices(shape[1:])  # (axes, h, w, K) or (axes, D, h, w, K)
    rise = max(1, 512 // (shape[-3] + shape[-2]))  # up and down at least once over the map, whatever its size
    strides = (29, 2 * rise + 1, rise, 83)[5 - len(shape) :]
    steps = np.sum([stride * index for stride, index in zip(strides, indices, strict=True)], axis=0)
    ramp = (np.abs(steps % 256 - 128) / 128).astype(np.float32)
    if contract.output.activation == "softmax":
        ramp = (ramp + np.float32(0.01)) / (ramp + np.float32(0.01)).sum(axis=-1, keepdims=True)
    return np.asarray(ramp[None], np.float32)


def take_sample(array: Array, largest: float, mean: float, count: int = COUNT) -> Sample:
    """Return a sample of at most `count` values of an array with its tolerances."""
    values = [round_number(value) for value in pick_values(array, count)]
    return Sample(
        list(array.shape),
        array.dtype.name,
        values,
        round_number(average(array)),
        round_number(largest),
        round_number(mean),
    )


def pick_values(array: Array, count: int = COUNT) -> Array:
    """Return the values at `pick_indices`."""
    return np.ascontiguousarray(array).reshape(-1)[pick_indices(array.size, count)]


def pick_indices(size: int, count: int = COUNT) -> npt.NDArray[np.int64]:
    """Return the indices of a Sample's values in an array of that size, its last axis running fastest."""
    return np.arange(min(count, size), dtype=np.int64) * STRIDE % size


def to_logits(values: Array) -> npt.NDArray[np.float64]:
    """Return the logits of probabilities, clipped at both ends."""
    inner = np.clip(values.astype(np.float64), LOGIT_END, 1 - LOGIT_END)
    return np.asarray(np.log(inner / (1 - inner)))


def average(array: Array) -> float:
    """Return the mean of all values."""
    return float(array.mean(dtype=np.float64))


def round_number(value: Any) -> float:
    """Return a number of six digits: short, and without the last bits, in which machines differ."""
    return float(f"{float(value):.6g}")


def to_json(cases: Sequence[GoldenCase]) -> bytes:
    """Return golden.json."""
    rows = [{**asdict(case), "file": base64.b64encode(case.file).decode()} for case in cases]
    fields = {"format": FORMAT, "cases": rows}
    return json.dumps(fields, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def from_json(text: bytes) -> list[GoldenCase]:
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
        raise ContractError(
            "golden vectors", f"they are malformed ({type(error).__name__}: {error})", CONVERT_AGAIN
        ) from None


def read_case(
    count: int, name: str, file: str, decode: Any, preprocess: Any, infer: Any, postprocess: Any
) -> GoldenCase:
    """Return a case from its fields, `count` values of each output. Raises: ValueError, TypeError, KeyError."""
    exact = {key: decode[key] for key in ("shape", "dtype", "sha256")} if "sha256" in decode else None
    outputs = None if infer is None else [read_sample(**one, count=count) for one in infer]
    if postprocess is not None:
        probability, labels = read_sample(**postprocess["probability"]), [int(label) for label in postprocess["labels"]]
        if len(labels) != len(probability.values):
            raise ValueError(f"{len(labels)} labels of {len(probability.values)} pixels")
        postprocess = {"labels": labels, "probability": probability}
    data = base64.b64decode(file, validate=True)
    return GoldenCase(str(name), data, exact or read_sample(**decode), read_sample(**preprocess), outputs, postprocess)


def read_sample(
    shape: Any, dtype: Any, values: Any, average: Any, largest: Any, mean: Any, logit: Any = None, count: int = COUNT
) -> Sample:
    """Return a sample from its fields. Raises: ValueError, TypeError."""
    sides, numbers = [int(side) for side in shape], [float(value) for value in values]
    if len(numbers) != min(count, math.prod(sides)):
        raise ValueError(f"{len(numbers)} values of an array of shape {sides}")
    own = None if logit is None else float(logit)
    return Sample(sides, str(dtype), numbers, float(average), float(largest), float(mean), own)
