"""The contract: what a model eats and gives, in the tail of its own .tflite file.

Specification, edge-seg/1
=========================
A stamped model is a TFLite flatbuffer (bytes 4 to 8 are `TFL3`) followed at once by a ZIP archive with the entry
`contract.json`, and before it perhaps `golden.json`. TFLite interpreters ignore what follows the flatbuffer; every ZIP
reader finds the archive.

The tail, for a JSON text of N bytes (N <= 65536), little-endian, 124 + N bytes in all:

    at        bytes  what
    0             4  50 4B 03 04       local header
    4            10  14 00, 00 00, 00 00, 00 00, 21 00: version 2.0, no flags, stored, 00:00:00, 1980-01-01
    14           12  CRC-32 of the JSON, N, N
    26            4  0D 00, 00 00: the name has 13 bytes, there is no extra field
    30           13  contract.json
    43            N  the JSON
    43 + N        4  50 4B 01 02       central directory
    47 + N       12  14 00, then the 10 bytes of the local header's second row
    59 + N       12  CRC-32 of the JSON, N, N
    71 + N       18  0D 00, then 16 zero bytes: no extra field, comment, attributes; header at 0 of the tail
    89 + N       13  contract.json
    102 + N      22  50 4B 05 06, 00 00, 00 00, 01 00, 01 00, 3B 00 00 00, 43 + N (four bytes), 00 00: the end record

Offsets count from the start of the tail. With a golden.json of G bytes (G <= 65536) the tail has 222 + G + N bytes, all
integers as above:

    at            bytes   what
    0             41 + G  golden.json's local header, its name of 0B 00 bytes, and its G bytes
    41 + G        43 + N  contract.json's, as above
    84 + G + N        57  golden.json's central directory, its header at 0
    141 + G + N       59  contract.json's, its header at 41 + G
    200 + G + N       22  the end record: 02 00, 02 00, 74 00 00 00, 84 + G + N (four bytes), 00 00

A reader rebuilds the tail from the JSON texts and wants it byte for byte.

The JSON is canonical: UTF-8, keys sorted, no spaces, no NaN or infinity, no key twice, floats as Python's repr.
Every field but `classes`, `triage` and `golden` is required, none has a default, what is not known is written as null,
and no other field is allowed:

    format        "edge-seg/1"
    model         id, version; bytes, sha256 of the flatbuffer before the tail
    input         shape [1, H, W, C], of a model of volumes [1, D, H, W, C]; dtype float32|int8|uint8; colour grey
                  (C = 1) | rgb (C = 3); resize "stretch-area"; scale > 0 and offset: the net eats
                  pixel * scale + offset, pixel in 0...255
    output        shape [1, h, w, K], of a model of volumes [1, D, h, w, K]; dtype; activation sigmoid (K labels, each
                  a lesion by itself; where several reach the threshold, the last of them is the pixel's label) |
                  softmax (K labels, the first is the background); labels: K of {name, colour [r, g, b]}, names differ
    classes       only where the model also says what the whole image shows: shape [1, N]; activation softmax | sigmoid;
                  labels: N names, the most probable counts; of a single sigmoid two, the first below one half
    threshold     value in (0, 1), exclusive; from: where it comes from
    triage        only where it is known what to doubt, else nothing is: count, of the images that were measured; blank,
                  saturated, largest, margin in [0, 1] and fragments >= 1: limits of the flags of these names; ranges:
                  {feature: [low, high]}, any of side, aspect, mean, contrast, border, dark, edges, symmetry, colour,
                  in which images lie that are like those the model was made for. What they mean: edge_runtime/triage.py
    golden        only where the tail has a golden.json: bytes, sha256 of it. What it holds: edge_runtime/golden.py
    recipe        how the weights were stored, by its name in convert
    calibration   null | count, sha256 of the images that set the activation ranges
    source        sha256 of the trained model; versions {package: version} that converted it
    quality       null | n (images), split (which), and any further figures
    intended_use  one sentence
    allowed       findings of the audit that were explicitly allowed
    digest        sha256 of the canonical JSON of all the other fields

Sizes D, H, W, h, w are 1 to 16384. The graph has one input; its outputs are the mask and then, where there is
`classes`, the classes. Integrity is not authenticity: whoever edits a contract can compute a new digest;
signatures belong to the deployment kit. Standard library only.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

from .errors import ContractError, ModelError

T = TypeVar("T")

FORMAT = "edge-seg/1"
ENTRY, GOLDEN_ENTRY = b"contract.json", b"golden.json"
MAX_JSON_BYTES = MAX_GOLDEN_BYTES = 65536
TAIL_OVERHEAD, GOLDEN_OVERHEAD = 124, 98
MAX_SIDE = 16384
MAX_LABELS = 256  # with the background: a mask is 8-bit
MAX_CLASSES = 1000
DTYPES = ("float32", "int8", "uint8")
COLOURS = {"grey": 1, "rgb": 3}  # name: channels
RESIZES = ("stretch-area",)
ACTIVATIONS = ("sigmoid", "softmax")
TRIAGE_LIMITS = ("blank", "saturated", "largest", "margin")
TRIAGE_RANGES = ("side", "aspect", "mean", "contrast", "border", "dark", "edges", "symmetry", "colour")
UNSTAMPED = "0" * 64  # stands for a SHA-256 that `stamp_contract` fills in
CONVERT = "convert it with python -m convert"
AGAIN = "convert the model again"


@dataclass(frozen=True)
class ModelFacts:
    """Which model this is; `bytes` and `sha256` are of the flatbuffer and are filled in by `stamp_contract`."""

    id: str
    version: str
    bytes: int = 0
    sha256: str = UNSTAMPED

    def __post_init__(self) -> None:
        _text("model.id", self.id)
        _text("model.version", self.version)
        _integer("model.bytes", self.bytes, 0, 2**40)
        _sha256("model.sha256", self.sha256)


@dataclass(frozen=True)
class InputSpec:
    """What the model eats: shape (1, H, W, C) or (1, D, H, W, C), values pixel * scale + offset."""

    shape: tuple[int, ...]
    dtype: str
    colour: str
    resize: str
    scale: float
    offset: float

    def __post_init__(self) -> None:
        _choice("input.dtype", self.dtype, DTYPES)
        _choice("input.colour", self.colour, COLOURS)
        _choice("input.resize", self.resize, RESIZES)
        _shape("input.shape", self.shape, COLOURS[self.colour], f"colour {self.colour!r}")
        if _number("input.scale", self.scale) <= 0:
            _fail(f"contract field 'input.scale' is {self.scale!r}, not above 0")
        _number("input.offset", self.offset)

    @property
    def depth(self) -> int | None:
        """How many slices a volume has; None for a model of single images."""
        return self.shape[1] if len(self.shape) == 5 else None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[-3], self.shape[-2]


@dataclass(frozen=True)
class Label:
    """One class of the mask and the colour (r, g, b) it is drawn in."""

    name: str
    colour: tuple[int, int, int]

    def __post_init__(self) -> None:
        _text("output.labels.name", self.name)
        if not isinstance(self.colour, tuple) or len(self.colour) != 3:
            _fail("contract field 'output.labels.colour' is not three numbers [r, g, b]")
        for value in self.colour:
            _integer("output.labels.colour", value, 0, 255)


@dataclass(frozen=True)
class OutputSpec:
    """What the model gives: shape (1, h, w, K) or (1, D, h, w, K), and what the K channels mean."""

    shape: tuple[int, ...]
    dtype: str
    activation: str
    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        _choice("output.dtype", self.dtype, DTYPES)
        _choice("output.activation", self.activation, ACTIVATIONS)
        if not isinstance(self.labels, tuple) or not all(isinstance(label, Label) for label in self.labels):
            _fail("contract field 'output.labels' is not a list of {name, colour}")
        names = [label.name for label in self.labels]
        if len(set(names)) != len(names):
            _fail("contract field 'output.labels' has a name twice")
        least, most = (1, MAX_LABELS - 1) if self.activation == "sigmoid" else (2, MAX_LABELS)
        if not least <= len(names) <= most:
            wanted = f"{least} to {most} labels"
            _fail(f"contract field 'output.labels' has {len(names)} entries, but {self.activation} wants {wanted}")
        if self.activation == "sigmoid" and len(names) > 1 and names[0].lower() == "background":
            why = "contract field 'output.labels' begins with a background, but each label of a sigmoid is a lesion"
            _fail(why, "train it with softmax, or with the lesions' channels alone")
        _shape("output.shape", self.shape, len(names), f"{len(names)} label" + "s" * (len(names) > 1))

    @property
    def lesions(self) -> tuple[Label, ...]:
        """The labels that are not background: of values 1, 2 ... in a mask."""
        return self.labels[1:] if self.activation == "softmax" else self.labels


@dataclass(frozen=True)
class ClassSpec:
    """What the model says of the whole image: shape (1, N) and the classes' names."""

    shape: tuple[int, int]
    activation: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        _choice("classes.activation", self.activation, ACTIVATIONS)
        if not isinstance(self.labels, tuple):
            _fail("contract field 'classes.labels' is not a list of names")
        for name in self.labels:
            _text("classes.labels", name)
        if len(set(self.labels)) != len(self.labels):
            _fail("contract field 'classes.labels' has a name twice")
        if not isinstance(self.shape, tuple) or len(self.shape) != 2 or self.shape[0] != 1:
            _fail("contract field 'classes.shape' is not two numbers [1, classes]")
        _integer("classes.shape", self.shape[1], 1 if self.activation == "sigmoid" else 2, MAX_CLASSES)
        wanted = max(2, self.shape[1])
        if len(self.labels) != wanted:
            _fail(f"contract field 'classes.labels' has {len(self.labels)} names, the output has {wanted} classes")


@dataclass(frozen=True)
class Threshold:
    """Above which probability a pixel is lesion, and where that value comes from (JSON key "from")."""

    value: float
    from_: str

    def __post_init__(self) -> None:
        if not 0 < _number("threshold.value", self.value) < 1:
            _fail(f"contract field 'threshold.value' is {self.value!r}, not between 0 and 1 (exclusive)")
        _text("threshold.from", self.from_)


@dataclass(frozen=True)
class Triage:
    """Where an image or a mask is to be doubted; what each means stands in edge_runtime/triage.py."""

    count: int
    blank: float
    saturated: float
    largest: float
    fragments: int
    margin: float
    ranges: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        _integer("triage.count", self.count, 0, 2**31)
        _integer("triage.fragments", self.fragments, 1, 2**31)
        for name in TRIAGE_LIMITS:
            if not 0 <= _number(f"triage.{name}", getattr(self, name)) <= 1:
                _fail(f"contract field 'triage.{name}' is {getattr(self, name)!r}, not from 0 to 1")
        if not isinstance(self.ranges, Mapping):
            _fail("contract field 'triage.ranges' is not {feature: [low, high]}")
        _take("triage.ranges", dict(self.ranges), (), optional=TRIAGE_RANGES)
        for name, span in self.ranges.items():
            if not isinstance(span, tuple) or len(span) != 2:
                _fail(f"contract field 'triage.ranges.{name}' is not two numbers [low, high]")
            if not _number(f"triage.ranges.{name}", span[0]) <= _number(f"triage.ranges.{name}", span[1]):
                _fail(f"contract field 'triage.ranges.{name}' is {list(span)}, not [low, high]")


@dataclass(frozen=True)
class GoldenFacts:
    """Length and SHA-256 of the tail's golden.json."""

    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        _integer("golden.bytes", self.bytes, 1, MAX_GOLDEN_BYTES)
        _sha256("golden.sha256", self.sha256)


@dataclass(frozen=True)
class Calibration:
    """The images that set the activation ranges of a full-integer model."""

    count: int
    sha256: str

    def __post_init__(self) -> None:
        _integer("calibration.count", self.count, 1, 2**31)
        _sha256("calibration.sha256", self.sha256)


@dataclass(frozen=True)
class Source:
    """The trained model and the framework versions that converted it."""

    sha256: str
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        _sha256("source.sha256", self.sha256)
        if not isinstance(self.versions, Mapping) or not self.versions:
            _fail("contract field 'source.versions' is not {package: version}")
        for name, version in self.versions.items():
            _text("source.versions", name)
            _text(f"source.versions.{name}", version)


@dataclass(frozen=True)
class Contract:
    """All that a device must know about a model; impossible to build with a value out of range."""

    model: ModelFacts
    input: InputSpec
    output: OutputSpec
    threshold: Threshold
    recipe: str
    calibration: Calibration | None
    source: Source
    quality: Mapping[str, Any] | None
    intended_use: str
    allowed: tuple[str, ...]
    format: str = FORMAT
    digest: str = UNSTAMPED
    classes: ClassSpec | None = None
    triage: Triage | None = None
    golden: GoldenFacts | None = None  # filled in by `stamp_contract`

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            _fail_format(self.format)
        for name, kind in _PARTS.items():
            if not isinstance(getattr(self, name), kind):
                _fail(f"contract field {name!r} is not a {kind.__name__}")
        if self.calibration is not None and not isinstance(self.calibration, Calibration):
            _fail("contract field 'calibration' is neither null nor {count, sha256}")
        if self.classes is not None and not isinstance(self.classes, ClassSpec):
            _fail("contract field 'classes' is not {shape, activation, labels}")
        if self.triage is not None and not isinstance(self.triage, Triage):
            _fail("contract field 'triage' is not {count, blank, saturated, largest, fragments, margin, ranges}")
        if self.golden is not None and not isinstance(self.golden, GoldenFacts):
            _fail("contract field 'golden' is not {bytes, sha256}")
        if len(self.input.shape) != len(self.output.shape) or self.input.shape[1:-3] != self.output.shape[1:-3]:
            why = f"contract field 'output.shape' {list(self.output.shape)} does not fit {list(self.input.shape)}"
            _fail(f"{why}, the input's: both are of images, or of volumes of the same depth")
        _text("recipe", self.recipe)
        _text("intended_use", self.intended_use, most=1000)
        if not isinstance(self.allowed, tuple):
            _fail("contract field 'allowed' is not a list of findings")
        for finding in self.allowed:
            _text("allowed", finding)
        _check_quality(self.quality)
        _sha256("digest", self.digest)


_PARTS = {"model": ModelFacts, "input": InputSpec, "output": OutputSpec, "threshold": Threshold, "source": Source}


# --- pure: contract <-> JSON -----------------------------------------------------------------------------------


def to_json(contract: Contract) -> bytes:
    """Return the contract's canonical JSON, its `digest` computed.

    Raises:
        ContractError: a text cannot be written as UTF-8, or the JSON is longer than 64 kB.
    """
    fields = _to_fields(contract)
    fields["digest"] = _digest(fields)
    text = _dump(fields)
    if len(text) > MAX_JSON_BYTES:
        _fail(f"the contract has {len(text)} bytes, more than {MAX_JSON_BYTES}", "shorten 'quality' or the texts")
    return text


def from_json(text: bytes) -> Contract:
    """Return the contract that a canonical JSON text says.

    Raises:
        ContractError: not canonical JSON, a field unknown, missing, of the wrong type or out of range, or a `digest`
            that does not fit the other fields.
    """
    fields = _parse(text)
    contract = _from_fields(fields)
    if contract.digest != _digest(fields):
        _fail("the contract was edited after it was written (its digest does not fit)", AGAIN)
    if _dump(_to_fields(contract)) != text:
        _fail("the contract is not canonical JSON", AGAIN)
    return contract


def _to_fields(contract: Contract) -> dict[str, Any]:
    facts, eats, gives, source = contract.model, contract.input, contract.output, contract.source
    calibration = contract.calibration
    own = {} if contract.classes is None else {"classes": _to_class_fields(contract.classes)}
    own |= {} if contract.triage is None else {"triage": _to_triage_fields(contract.triage)}
    own |= {} if contract.golden is None else {"golden": {**vars(contract.golden)}}
    return {
        **own,
        "format": contract.format,
        "model": {"id": facts.id, "version": facts.version, "bytes": facts.bytes, "sha256": facts.sha256},
        "input": {
            "shape": list(eats.shape),
            "dtype": eats.dtype,
            "colour": eats.colour,
            "resize": eats.resize,
            "scale": float(eats.scale),
            "offset": float(eats.offset),
        },
        "output": {
            "shape": list(gives.shape),
            "dtype": gives.dtype,
            "activation": gives.activation,
            "labels": [{"name": label.name, "colour": list(label.colour)} for label in gives.labels],
        },
        "threshold": {"value": float(contract.threshold.value), "from": contract.threshold.from_},
        "recipe": contract.recipe,
        "calibration": calibration and {"count": calibration.count, "sha256": calibration.sha256},
        "source": {"sha256": source.sha256, "versions": dict(source.versions)},
        "quality": None if contract.quality is None else dict(contract.quality),
        "intended_use": contract.intended_use,
        "allowed": list(contract.allowed),
        "digest": contract.digest,
    }


def _to_class_fields(classes: ClassSpec) -> dict[str, Any]:
    return {"shape": list(classes.shape), "activation": classes.activation, "labels": list(classes.labels)}


def _to_triage_fields(triage: Triage) -> dict[str, Any]:
    limits = {name: float(getattr(triage, name)) for name in TRIAGE_LIMITS}
    ranges = {name: [float(low), float(high)] for name, (low, high) in triage.ranges.items()}
    return {"count": triage.count, "fragments": triage.fragments, **limits, "ranges": ranges}


def _from_fields(fields: Any) -> Contract:
    if isinstance(fields, dict) and fields.get("format", FORMAT) != FORMAT:  # another format has other fields
        _fail_format(fields["format"])
    top = _take("", fields, FIELDS, optional=OPTIONAL)
    eats, gives = _take("input", top["input"], INPUT_FIELDS), _take("output", top["output"], OUTPUT_FIELDS)
    threshold, source = top["threshold"], top["source"]
    threshold = _take("threshold", threshold, ("value", "from"))
    labels = [_take("output.labels", label, ("name", "colour")) for label in _list("output.labels", gives["labels"])]
    calibration = top["calibration"]
    if calibration is not None:
        calibration = Calibration(**_take("calibration", calibration, ("count", "sha256")))
    return Contract(
        format=top["format"],
        model=ModelFacts(**_take("model", top["model"], ("id", "version", "bytes", "sha256"))),
        input=InputSpec(**{**eats, "shape": _list("input.shape", eats["shape"])}),
        output=OutputSpec(
            shape=_list("output.shape", gives["shape"]),
            dtype=gives["dtype"],
            activation=gives["activation"],
            labels=tuple(Label(x["name"], _list("output.labels.colour", x["colour"])) for x in labels),
        ),
        threshold=Threshold(threshold["value"], threshold["from"]),
        recipe=top["recipe"],
        calibration=calibration,
        source=Source(**_take("source", source, ("sha256", "versions"))),
        quality=top["quality"],
        intended_use=top["intended_use"],
        allowed=_list("allowed", top["allowed"]),
        digest=top["digest"],
        classes=_read_classes(top["classes"]) if "classes" in top else None,
        triage=_read_triage(top["triage"]) if "triage" in top else None,
        golden=GoldenFacts(**_take("golden", top["golden"], ("bytes", "sha256"))) if "golden" in top else None,
    )


def _read_classes(fields: Any) -> ClassSpec:
    taken = _take("classes", fields, ("shape", "activation", "labels"))
    shape = _list("classes.shape", taken["shape"])
    return ClassSpec(shape, taken["activation"], _list("classes.labels", taken["labels"]))


def _read_triage(fields: Any) -> Triage:
    taken = _take("triage", fields, TRIAGE_FIELDS)
    ranges = _take("triage.ranges", taken["ranges"], (), optional=TRIAGE_RANGES)
    return Triage(**{**taken, "ranges": {name: _list(f"triage.ranges.{name}", ranges[name]) for name in ranges}})


OPTIONAL = ("classes", "triage", "golden")
TRIAGE_FIELDS = ("count", "fragments", *TRIAGE_LIMITS, "ranges")
FIELDS = (*_PARTS, "format", "recipe", "calibration", "quality", "intended_use", "allowed", "digest")
INPUT_FIELDS = ("shape", "dtype", "colour", "resize", "scale", "offset")
OUTPUT_FIELDS = ("shape", "dtype", "activation", "labels")


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(_dump({name: value for name, value in fields.items() if name != "digest"})).hexdigest()


def _dump(fields: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(fields, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise ContractError("contract", f"it cannot be written as JSON ({error})") from error


def _parse(text: bytes) -> Any:
    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not allowed")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a field stands twice")
        return found

    if len(text) > MAX_JSON_BYTES:
        _fail(f"the contract has {len(text)} bytes, more than {MAX_JSON_BYTES}", AGAIN)
    try:
        return json.loads(text.decode("utf-8"), parse_constant=constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise ContractError("contract", f"it is not valid JSON ({error})", AGAIN) from error


# --- checks of one field ---------------------------------------------------------------------------------------


def near_miss(name: str, known: Collection[str]) -> str:
    """Return "did you mean 'X'?" for the known name closest to `name`; "" where none is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""


def _fail(why: str, fix: str = "") -> NoReturn:
    raise ContractError("contract", why, fix)


def _fail_format(found: Any) -> NoReturn:
    hint = near_miss(found, (FORMAT,)) if isinstance(found, str) else ""
    _fail(f"unknown contract format {found!r}", hint or f"this version reads {FORMAT!r}")


def _take(path: str, fields: Any, known: Collection[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """Return `fields` if it is an object with exactly the known fields, and perhaps optional ones."""
    if not isinstance(fields, dict):
        _fail(f"contract field {path!r} is not an object" if path else "the contract is not a JSON object")
    prefix = f"{path}." if path else ""
    for name in fields:
        if name not in known and name not in optional:
            hint = near_miss(name, (*known, *optional))
            fields_here = ", ".join(known or optional)
            _fail(f"unknown contract field {prefix + name!r}", hint or f"the fields here are {fields_here}")
    for name in known:
        if name not in fields:
            _fail(f"contract field {prefix + name!r} is missing", AGAIN)
    return fields


def _list(path: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _fail(f"contract field {path!r} is not a list")
    return tuple(value)


def _text(path: str, value: Any, most: int = 200) -> None:
    if not isinstance(value, str) or not value.strip() or len(value) > most or not value.isprintable():
        _fail(f"contract field {path!r} is not a printable text of 1 to {most} characters")


def _integer(path: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:  # type(): True is an int to isinstance
        _fail(f"contract field {path!r} is {value!r}, not a whole number from {least} to {most}")


def _number(path: str, value: Any) -> float:
    if type(value) not in (int, float) or not -1e300 < value < 1e300:  # false for NaN; true would be no number
        _fail(f"contract field {path!r} is {value!r}, not a finite number")
    return float(value)


def _sha256(path: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        _fail(f"contract field {path!r} is not a SHA-256 in lower-case hexadecimal")


def _choice(path: str, value: Any, known: Collection[str]) -> None:
    if not isinstance(value, str) or value not in known:
        hint = near_miss(value, known) if isinstance(value, str) else ""
        _fail(f"contract field {path!r} is {value!r}, not one of {', '.join(known)}", hint)


def _shape(path: str, value: Any, channels: int, reason: str) -> None:
    if not isinstance(value, tuple) or len(value) not in (4, 5):
        _fail(f"contract field {path!r} is not four numbers [1, H, W, channels], or five, of a volume")
    for size in value:
        _integer(path, size, 1, MAX_SIDE)
    if value[0] != 1:
        _fail(f"contract field {path!r} begins with {value[0]}, but the batch is 1")
    if value[-1] != channels:
        _fail(f"contract field {path!r} has {value[-1]} channels, but {reason} means {channels}")


def _check_quality(quality: Any) -> None:
    if quality is None:
        return
    if not isinstance(quality, Mapping):
        _fail("contract field 'quality' is neither null nor an object")
    for name in ("n", "split"):
        if name not in quality:
            _fail(f"contract field 'quality.{name}' is missing")
    _integer("quality.n", quality["n"], 1, 2**31)
    _text("quality.split", quality["split"])
    _check_figures("quality", quality, depth=4)


def _check_figures(path: str, value: Any, depth: int) -> None:
    """Allow texts, finite numbers, true and false, null, and objects of these, `depth` levels deep."""
    if isinstance(value, Mapping):
        if depth == 0:
            _fail(f"contract field {path!r} is nested too deep")
        for name, inner in value.items():
            _text(path, name)
            _check_figures(f"{path}.{name}", inner, depth - 1)
    elif isinstance(value, str):
        _text(path, value, most=1000)
    elif value is not None and not isinstance(value, bool):
        _number(path, value)


# --- pure: the tail --------------------------------------------------------------------------------------------


def build_tail(text: bytes, golden: bytes | None = None) -> bytes:
    """Return the ZIP archive that holds `text` as contract.json, perhaps after golden.json, as specified above."""
    entries = [(ENTRY, text)] if golden is None else [(GOLDEN_ENTRY, golden), (ENTRY, text)]
    local = central = b""
    for name, data in entries:
        common = struct.pack("<5H3I2H", 20, 0, 0, 0, 0x21, zlib.crc32(data), len(data), len(data), len(name), 0)
        place = struct.pack("<10xI", len(local))
        central += b"PK\x01\x02" + struct.pack("<H", 20) + common + place + name
        local += b"PK\x03\x04" + common + name + data
    counts = len(entries), len(entries)
    return local + central + b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, *counts, len(central), len(local), 0)


@dataclass(frozen=True)
class _Tail:
    """What was found at a file's end: its length, contract.json and golden.json."""

    length: int
    text: bytes
    golden: bytes | None


def split_tail(data: bytes) -> tuple[bytes, bytes | None]:
    """Return a .tflite file's flatbuffer and its contract's JSON; None where there is no tail.

    Raises:
        ContractError: there are traces of a contract, but no tail as this format specifies it.
        ModelError: `data` is not a TFLite model.
    """
    _check_magic("model", data[:8])
    tail = _find_tail(lambda count: data[-count:])
    return (data, None) if tail is None else (data[: -tail.length], tail.text)


def stamp_contract(flatbuffer: bytes, contract: Contract, golden: bytes | None = None) -> bytes:
    """Return the flatbuffer with contract and golden.json in the tail.

    `model.bytes`, `model.sha256`, `golden` and `digest` are computed.
    Raises:
        ContractError: the flatbuffer is already stamped (`split_tail` takes the old tail off), golden.json is too long,
            or `to_json` fails.
        ModelError: it is not a TFLite model.
    """
    if split_tail(flatbuffer)[1] is not None:
        _fail("the model already has a contract", "take it off with split_tail first")
    facts = replace(contract.model, bytes=len(flatbuffer), sha256=hashlib.sha256(flatbuffer).hexdigest())
    extra = None if golden is None else GoldenFacts(len(golden), hashlib.sha256(golden).hexdigest())
    return flatbuffer + build_tail(to_json(replace(contract, model=facts, golden=extra)), golden)


def _check_magic(what: str, head: bytes) -> None:
    if head[4:8] != b"TFL3":
        raise ModelError(what, "it is not a TFLite model", "give a .tflite file made by python -m convert")


def _find_tail(read_end: Callable[[int], bytes]) -> _Tail | None:
    """Return the tail of a file whose last bytes `read_end(count)` gives; None where there is no trace of one.

    Raises: ContractError if it is damaged.
    """
    end = read_end(MAX_JSON_BYTES + TAIL_OVERHEAD)
    if ENTRY not in end:
        return None
    if len(end) >= TAIL_OVERHEAD and end[-22:-18] == b"PK\x05\x06":
        count, size, start = struct.unpack("<HII", end[-12:-2])  # of the central directory
        length = start + size + 22
        if count == 2 and len(end) < length <= len(end) + MAX_GOLDEN_BYTES + GOLDEN_OVERHEAD:
            end = read_end(length)
        tail = _cut_tail(end[-length:], start, golden=count == 2)
        if len(end) >= length and build_tail(tail.text, tail.golden) == end[-length:]:
            return tail
    return _fail("its contract is damaged (the file was cut, re-zipped or appended to)", AGAIN)


def _cut_tail(tail: bytes, central: int, golden: bool) -> _Tail:
    """Return the texts of a tail whose central directory is said to be at `central`; whether it holds is not known."""
    if not golden:
        return _Tail(len(tail), tail[43:central], None)
    end = 41 + int.from_bytes(tail[18:22], "little")  # of golden.json
    return _Tail(len(tail), tail[end + 43 : central], tail[41:end])


# --- the disk --------------------------------------------------------------------------------------------------


def read_contract(path: str | Path, verify: bool = False) -> Contract:
    """Return the contract of a .tflite file, reading its last 64 kB, 128 kB with golden vectors.

    verify: check all of the model too.

    Raises:
        ContractError: no contract, one that is damaged, edited or malformed, or that does not fit the model.
        ModelError: the file cannot be read or is not a TFLite model.
    """

    contract, _ = _open(path, _read_stamp)
    if verify:
        check_model(path, contract)
    return contract


def read_golden(path: str | Path) -> bytes | None:
    """Return a .tflite file's golden.json, which is the one its contract names; None where it has none.

    Raises: as `read_contract`.
    """
    return _open(path, _read_stamp)[1]


def _read_stamp(file: BinaryIO) -> tuple[Contract, bytes | None]:
    """Return the contract and golden.json of an open file."""
    size = file.seek(0, 2)
    file.seek(0)
    _check_magic(str(file.name), file.read(8))

    def read_end(count: int) -> bytes:
        file.seek(max(0, size - count))
        return file.read()

    tail = _find_tail(read_end)
    if tail is None:
        _fail("it has no contract", CONVERT)
    contract = from_json(tail.text)
    before = size - tail.length
    if before != contract.model.bytes:
        _fail(f"its contract is for a model of {contract.model.bytes} bytes, but this one has {before}", AGAIN)
    found = None if tail.golden is None else GoldenFacts(len(tail.golden), hashlib.sha256(tail.golden).hexdigest())
    if found != contract.golden:
        _fail("its golden vectors are not those that its contract names", AGAIN)
    return contract, tail.golden


def check_model(path: str | Path, contract: Contract) -> None:
    """Check that the file's flatbuffer has the length and SHA-256 that the contract says.

    Raises:
        ContractError: it has not.
        ModelError: the file cannot be read.
    """

    def check(file: BinaryIO) -> None:
        digest, left = hashlib.sha256(), contract.model.bytes
        while left:
            block = file.read(min(left, 1 << 20))
            if not block:
                break
            digest.update(block)
            left -= len(block)
        if left or digest.hexdigest() != contract.model.sha256:
            _fail("the model is not the one its contract was made for (its SHA-256 differs)", AGAIN)

    _open(path, check)


def _open(path: str | Path, use: Callable[[BinaryIO], T]) -> T:
    """Return use(the open file), its errors naming the file."""
    try:
        if not Path(path).is_file():
            why = "it is not a file" if Path(path).exists() else "it does not exist"
            raise ModelError(str(path), why, "give a .tflite file made by python -m convert")
        with Path(path).open("rb") as file:
            return use(file)
    except ContractError as error:
        raise ContractError(str(path), error.why, error.fix) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise ModelError(str(path), f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
