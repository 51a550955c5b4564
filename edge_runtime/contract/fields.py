"""Which fields does a contract have, and which values are valid? The specification is the package's docstring."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from edge_runtime.errors import ContractError, near_miss

FORMAT, FORMAT_1 = "edge-seg/2", "edge-seg/1"
MAX_JSON_BYTES = MAX_GOLDEN_BYTES = 65536
MAX_SIDE = 16384
MAX_LABELS = 256  # with the background: a mask is 8-bit
MAX_CLASSES = 1000
DTYPES = ("float32", "int8", "uint8")
COLOURS = {"grey": 1, "rgb": 3}  # name: channels
RESIZES = ("stretch-area",)
ACTIVATIONS = ("sigmoid", "softmax")
INTENSITIES = ("bit-depth", "slice-min-max", "z-score")
INTENSITY_RANGES = ("percentiles", "window")  # each with two numbers
SCALE_SOURCES = ("graph", "told", "masks", "assumed")
CONTRASTS = ("yes", "no")
FLAG_SHARES = ("blank", "saturated", "largest", "margin")
FLAG_FEATURES = ("side", "aspect", "mean", "contrast", "border", "dark", "edges", "symmetry", "colour")
UNSTAMPED = "0" * 64  # stands for a SHA-256 that `stamp_contract` fills in
CONVERT_AGAIN = "convert the model again"


@dataclass(frozen=True)
class ModelFacts:
    """Which model this is; `bytes` and `sha256` are of the flatbuffer and are filled in by `stamp_contract`."""

    id: str
    version: str
    bytes: int = 0
    sha256: str = UNSTAMPED

    def __post_init__(self) -> None:
        check_text("model.id", self.id)
        check_text("model.version", self.version)
        check_integer("model.bytes", self.bytes, 0, 2**40)
        check_sha256("model.sha256", self.sha256)


IntensityRule = str | Mapping[str, tuple[float, float]]  # one of INTENSITIES, or one of INTENSITY_RANGES: two numbers
Factor = float | tuple[float, ...]  # one number for all channels, or one for each


@dataclass(frozen=True)
class Intensity:
    """How stored values become pixels: of an image file, and of a slice of a series (DICOM, NIfTI)."""

    images: IntensityRule = "bit-depth"
    series: IntensityRule = "slice-min-max"

    def __post_init__(self) -> None:
        check_intensity("input.intensity.images", self.images)
        check_intensity("input.intensity.series", self.series)


@dataclass(frozen=True)
class InputSpec:
    """The model's input: shape (1, H, W, C) or (1, D, H, W, C), values pixel * scale + offset."""

    shape: tuple[int, ...]
    dtype: str
    colour: str
    resize: str
    scale: Factor
    offset: Factor
    intensity: Intensity = field(default_factory=Intensity)
    scale_from: str | None = "told"  # None: a contract of format 1 does not say
    channels: tuple[str, ...] | None = None  # what each channel shows, such as a sequence

    def __post_init__(self) -> None:
        check_choice("input.dtype", self.dtype, DTYPES)
        check_choice("input.colour", self.colour, COLOURS)
        check_choice("input.resize", self.resize, RESIZES)
        check_shape("input.shape", self.shape, COLOURS[self.colour], f"colour {self.colour!r}")
        if min(check_factor("input.scale", self.scale, self.shape[-1])) <= 0:
            fail(f"contract field 'input.scale' is {self.scale!r}, not above 0")
        check_factor("input.offset", self.offset, self.shape[-1])
        if not isinstance(self.intensity, Intensity):
            fail("contract field 'input.intensity' is not {images, series}")
        if self.scale_from is not None:
            check_choice("input.scale_from", self.scale_from, SCALE_SOURCES)
        check_channels(self.channels, self.shape[-1])

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
        check_text("output.labels.name", self.name)
        if not isinstance(self.colour, tuple) or len(self.colour) != 3:
            fail("contract field 'output.labels.colour' is not three numbers [r, g, b]")
        for value in self.colour:
            check_integer("output.labels.colour", value, 0, 255)


@dataclass(frozen=True)
class OutputSpec:
    """The model's mask output: shape (1, h, w, K) or (1, D, h, w, K), and what the K channels mean."""

    shape: tuple[int, ...]
    dtype: str
    activation: str
    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        check_choice("output.dtype", self.dtype, DTYPES)
        check_choice("output.activation", self.activation, ACTIVATIONS)
        if not isinstance(self.labels, tuple) or not all(isinstance(label, Label) for label in self.labels):
            fail("contract field 'output.labels' is not a list of {name, colour}")
        names = [label.name for label in self.labels]
        if len(set(names)) != len(names):
            fail("contract field 'output.labels' has a name twice")
        minimum, maximum = (1, MAX_LABELS - 1) if self.activation == "sigmoid" else (2, MAX_LABELS)
        if not minimum <= len(names) <= maximum:
            wanted = f"{minimum} to {maximum} labels"
            fail(f"contract field 'output.labels' has {len(names)} entries, but {self.activation} takes {wanted}")
        if self.activation == "sigmoid" and len(names) > 1 and names[0].lower() == "background":
            why = "contract field 'output.labels' begins with a background, but each label of a sigmoid is a lesion"
            fail(why, "train it with softmax, or with the lesions' channels alone")
        check_shape("output.shape", self.shape, len(names), f"{len(names)} label" + "s" * (len(names) > 1))

    @property
    def lesions(self) -> tuple[Label, ...]:
        """The labels that are not background: of values 1, 2 ... in a mask."""
        return self.labels[1:] if self.activation == "softmax" else self.labels


@dataclass(frozen=True)
class ClassSpec:
    """The model's class output, for the whole image: shape (1, N) and the classes' names."""

    shape: tuple[int, int]
    activation: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        check_choice("classes.activation", self.activation, ACTIVATIONS)
        if not isinstance(self.labels, tuple):
            fail("contract field 'classes.labels' is not a list of names")
        for name in self.labels:
            check_text("classes.labels", name)
        if len(set(self.labels)) != len(self.labels):
            fail("contract field 'classes.labels' has a name twice")
        if not isinstance(self.shape, tuple) or len(self.shape) != 2 or self.shape[0] != 1:
            fail("contract field 'classes.shape' is not two numbers [1, classes]")
        check_integer("classes.shape", self.shape[1], 1 if self.activation == "sigmoid" else 2, MAX_CLASSES)
        wanted = max(2, self.shape[1])
        if len(self.labels) != wanted:
            fail(f"contract field 'classes.labels' has {len(self.labels)} names, the output has {wanted} classes")


@dataclass(frozen=True)
class Threshold:
    """Above which probability a pixel is lesion, and where that value comes from (JSON key "from")."""

    value: float
    from_: str

    def __post_init__(self) -> None:
        if not 0 < check_number("threshold.value", self.value) < 1:
            fail(f"contract field 'threshold.value' is {self.value!r}, not between 0 and 1 (exclusive)")
        check_text("threshold.from", self.from_)


@dataclass(frozen=True)
class FlagLimits:
    """Limits and ranges beyond which an image or a mask is flagged; edge_runtime/inference/flags.py defines each."""

    count: int
    blank: float
    saturated: float
    largest: float
    fragments: int
    margin: float
    ranges: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        check_integer("triage.count", self.count, 0, 2**31)
        check_integer("triage.fragments", self.fragments, 1, 2**31)
        for name in FLAG_SHARES:
            if not 0 <= check_number(f"triage.{name}", getattr(self, name)) <= 1:
                fail(f"contract field 'triage.{name}' is {getattr(self, name)!r}, not from 0 to 1")
        if not isinstance(self.ranges, Mapping):
            fail("contract field 'triage.ranges' is not {feature: [low, high]}")
        check_fields("triage.ranges", dict(self.ranges), (), optional=FLAG_FEATURES)
        for name, span in self.ranges.items():
            if not isinstance(span, tuple) or len(span) != 2:
                fail(f"contract field 'triage.ranges.{name}' is not two numbers [low, high]")
            if not check_number(f"triage.ranges.{name}", span[0]) <= check_number(f"triage.ranges.{name}", span[1]):
                fail(f"contract field 'triage.ranges.{name}' is {list(span)}, not [low, high]")


@dataclass(frozen=True)
class GoldenFacts:
    """Length and SHA-256 of the tail's golden.json."""

    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        check_integer("golden.bytes", self.bytes, 1, MAX_GOLDEN_BYTES)
        check_sha256("golden.sha256", self.sha256)


@dataclass(frozen=True)
class Calibration:
    """The images that set the activation ranges of a full-integer model."""

    count: int
    sha256: str

    def __post_init__(self) -> None:
        check_integer("calibration.count", self.count, 1, 2**31)
        check_sha256("calibration.sha256", self.sha256)


@dataclass(frozen=True)
class Acquisition:
    """Which images the model was trained on; None where that is not said."""

    modality: str  # as in DICOM: "MR"
    weighting: str | None  # "T1"
    contrast: str | None  # whether a contrast agent was given: "yes" | "no"
    min_slices: int | None  # that a series has

    def __post_init__(self) -> None:
        check_text("acquisition.modality", self.modality, maximum=16)
        if self.weighting is not None:
            check_text("acquisition.weighting", self.weighting, maximum=32)
        if self.contrast is not None:
            check_choice("acquisition.contrast", self.contrast, CONTRASTS)
        if self.min_slices is not None:
            check_integer("acquisition.min_slices", self.min_slices, 1, MAX_SIDE)


@dataclass(frozen=True)
class SourceModel:
    """The trained model and the framework versions that converted it."""

    sha256: str
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        check_sha256("source.sha256", self.sha256)
        if not isinstance(self.versions, Mapping) or not self.versions:
            fail("contract field 'source.versions' is not {package: version}")
        for name, version in self.versions.items():
            check_text("source.versions", name)
            check_text(f"source.versions.{name}", version)


@dataclass(frozen=True)
class Contract:
    """All that a device needs to know about a model; it cannot be made with a value out of range."""

    model: ModelFacts
    input: InputSpec
    output: OutputSpec
    threshold: Threshold
    recipe: str  # how the weights were stored
    calibration: Calibration | None  # of a full-integer model
    source: SourceModel
    quality: Mapping[str, Any] | None  # n, split and further figures
    intended_use: str
    allowed: tuple[str, ...]  # findings of the audit
    format: str = FORMAT
    digest: str = UNSTAMPED  # of all other fields
    classes: ClassSpec | None = None  # where the model also classifies the image
    triage: FlagLimits | None = None
    golden: GoldenFacts | None = None  # filled in by `stamp_contract`
    acquisition: Acquisition | None = None

    def __post_init__(self) -> None:
        if self.format not in (FORMAT, FORMAT_1):
            fail_format(self.format)
        for name, kind in REQUIRED_OBJECTS.items():
            if not isinstance(getattr(self, name), kind):
                fail(f"contract field {name!r} is not a {kind.__name__}")
        if self.calibration is not None and not isinstance(self.calibration, Calibration):
            fail("contract field 'calibration' is neither null nor {count, sha256}")
        if self.classes is not None and not isinstance(self.classes, ClassSpec):
            fail("contract field 'classes' is not {shape, activation, labels}")
        if self.triage is not None and not isinstance(self.triage, FlagLimits):
            fail("contract field 'triage' is not {count, blank, saturated, largest, fragments, margin, ranges}")
        if self.golden is not None and not isinstance(self.golden, GoldenFacts):
            fail("contract field 'golden' is not {bytes, sha256}")
        if self.acquisition is not None and not isinstance(self.acquisition, Acquisition):
            fail("contract field 'acquisition' is neither null nor {modality, weighting, contrast, min_slices}")
        if self.input.scale_from is None and self.format == FORMAT:
            fail(f"contract field 'input.scale_from' is not one of {', '.join(SCALE_SOURCES)}")
        if len(self.input.shape) != len(self.output.shape) or self.input.shape[1:-3] != self.output.shape[1:-3]:
            why = f"contract field 'output.shape' {list(self.output.shape)} does not fit {list(self.input.shape)}"
            fail(f"{why}, the input's: both are of images, or of volumes of the same depth")
        check_text("recipe", self.recipe)
        check_text("intended_use", self.intended_use, maximum=1000)
        if not isinstance(self.allowed, tuple):
            fail("contract field 'allowed' is not a list of findings")
        for finding in self.allowed:
            check_text("allowed", finding)
        check_quality(self.quality)
        check_sha256("digest", self.digest)


REQUIRED_OBJECTS = {
    "model": ModelFacts,
    "input": InputSpec,
    "output": OutputSpec,
    "threshold": Threshold,
    "source": SourceModel,
}
OPTIONAL = ("classes", "triage", "golden")
FLAG_LIMIT_FIELDS = ("count", "fragments", *FLAG_SHARES, "ranges")
FIELDS_1 = (*REQUIRED_OBJECTS, "format", "recipe", "calibration", "quality", "intended_use", "allowed", "digest")
FIELDS = (*FIELDS_1, "acquisition")
INPUT_FIELDS_1 = ("shape", "dtype", "colour", "resize", "scale", "offset")
INPUT_FIELDS = (*INPUT_FIELDS_1, "intensity", "scale_from", "channels")
ACQUISITION_FIELDS = ("modality", "weighting", "contrast", "min_slices")
OUTPUT_FIELDS = ("shape", "dtype", "activation", "labels")


def fail(why: str, fix: str = "") -> NoReturn:
    """Raise a ContractError."""
    raise ContractError("contract", why, fix)


def fail_format(found: Any) -> NoReturn:
    """Raise a ContractError for an unknown format."""
    hint = near_miss(found, (FORMAT, FORMAT_1)) if isinstance(found, str) else ""
    fail(f"unknown contract format {found!r}", hint or f"this version reads {FORMAT!r} and {FORMAT_1!r}")


def check_fields(path: str, fields: Any, known: Collection[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """Return `fields` if it is an object with exactly the known fields, and perhaps optional ones."""
    if not isinstance(fields, dict):
        fail(f"contract field {path!r} is not an object" if path else "the contract is not a JSON object")
    prefix = f"{path}." if path else ""
    for name in fields:
        if name not in known and name not in optional:
            hint = near_miss(name, (*known, *optional))
            fields_here = ", ".join(known or optional)
            fail(f"unknown contract field {prefix + name!r}", hint or f"the fields here are {fields_here}")
    for name in known:
        if name not in fields:
            fail(f"contract field {prefix + name!r} is missing", CONVERT_AGAIN)
    return fields


def to_tuple(path: str, value: Any) -> tuple[Any, ...]:
    """Return a JSON list as a tuple."""
    if not isinstance(value, list):
        fail(f"contract field {path!r} is not a list")
    return tuple(value)


def check_text(path: str, value: Any, maximum: int = 200) -> None:
    """Refuse what is not a printable text."""
    if not isinstance(value, str) or not value.strip() or len(value) > maximum or not value.isprintable():
        fail(f"contract field {path!r} is not a printable text of 1 to {maximum} characters")


def check_integer(path: str, value: Any, minimum: int, maximum: int) -> None:
    """Refuse what is not a whole number in a range."""
    if type(value) is not int or not minimum <= value <= maximum:  # type(): True is an int to isinstance
        fail(f"contract field {path!r} is {value!r}, not a whole number from {minimum} to {maximum}")


def check_number(path: str, value: Any) -> float:
    """Return a finite number; refuse anything else."""
    if (
        type(value) not in (int, float) or not -1e300 < value < 1e300
    ):  # false for NaN; type(): True is an int to isinstance
        fail(f"contract field {path!r} is {value!r}, not a finite number")
    return float(value)


def check_sha256(path: str, value: Any) -> None:
    """Refuse what is not a SHA-256."""
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        fail(f"contract field {path!r} is not a SHA-256 in lower-case hexadecimal")


def check_choice(path: str, value: Any, known: Collection[str]) -> None:
    """Refuse what is not one of the known texts."""
    if not isinstance(value, str) or value not in known:
        hint = near_miss(value, known) if isinstance(value, str) else ""
        fail(f"contract field {path!r} is {value!r}, not one of {', '.join(known)}", hint)


def check_shape(path: str, value: Any, channels: int, reason: str) -> None:
    """Refuse what is not the shape of a batch of one with so many channels."""
    if not isinstance(value, tuple) or len(value) not in (4, 5):
        fail(f"contract field {path!r} is not four numbers [1, H, W, channels], or five, of a volume")
    for size in value:
        check_integer(path, size, 1, MAX_SIDE)
    if value[0] != 1:
        fail(f"contract field {path!r} begins with {value[0]}, but the batch is 1")
    if value[-1] != channels:
        fail(f"contract field {path!r} has {value[-1]} channels, but {reason} means {channels}")


def check_factor(path: str, value: Any, channels: int) -> tuple[float, ...]:
    """Return a number, or the numbers of a tuple with one for each channel; refuse anything else."""
    if not isinstance(value, tuple):
        return (check_number(path, value),)
    if len(value) != channels or channels == 1:
        fail(f"contract field {path!r} has {len(value)} numbers, not one, or one for each of {channels} channels")
    return tuple(check_number(path, item) for item in value)


def check_intensity(path: str, rule: Any) -> None:
    """Refuse what is no rule for intensities."""
    if isinstance(rule, Mapping) and len(rule) == 1 and isinstance(pair := next(iter(rule.values())), tuple):
        (name,) = rule
        if name not in INTENSITY_RANGES or len(pair) != 2:
            fail(f"contract field {path!r} is not {{percentiles: [low, high]}} or {{window: [centre, width]}}")
        low, high = (check_number(f"{path}.{name}", value) for value in pair)
        if name == "percentiles" and not 0 <= low < high <= 100:
            fail(f"contract field '{path}.percentiles' is {list(pair)}, not two percentiles in ascending order")
        if name == "window" and high <= 0:
            fail(f"contract field '{path}.window' is {list(pair)}, and a width is above 0")
    elif not isinstance(rule, str) or rule not in INTENSITIES:
        known = ", ".join(INTENSITIES)
        hint = near_miss(rule, INTENSITIES) if isinstance(rule, str) else ""
        fail(f"contract field {path!r} is {rule!r}, not {known}, {{percentiles}} or {{window}}", hint)


def check_channels(channels: Any, count: int) -> None:
    """Refuse channels that are neither None nor a name for each."""
    if channels is None:
        return
    if not isinstance(channels, tuple) or len(channels) != count:
        fail(f"contract field 'input.channels' is not null or {count} name{'s' * (count != 1)}")
    for name in channels:
        check_text("input.channels", name)
    if len(set(channels)) != len(channels):
        fail("contract field 'input.channels' has a name twice")


def check_quality(quality: Any) -> None:
    """Refuse what is neither null nor {n, split, further figures}."""
    if quality is None:
        return
    if not isinstance(quality, Mapping):
        fail("contract field 'quality' is neither null nor an object")
    for name in ("n", "split"):
        if name not in quality:
            fail(f"contract field 'quality.{name}' is missing")
    check_integer("quality.n", quality["n"], 1, 2**31)
    check_text("quality.split", quality["split"])
    if quality.get("series") is not None:
        series = check_fields("quality.series", quality["series"], ("count", "false_ml_max"))
        check_integer("quality.series.count", series["count"], 1, 2**31)
        if check_number("quality.series.false_ml_max", series["false_ml_max"]) < 0:
            fail("contract field 'quality.series.false_ml_max' is below 0")
    check_figures("quality", quality, depth=4)


def check_figures(path: str, value: Any, depth: int) -> None:
    """Allow texts, finite numbers, true and false, null, and objects of these, `depth` levels deep."""
    if isinstance(value, Mapping):
        if depth == 0:
            fail(f"contract field {path!r} is nested too deep")
        for name, inner in value.items():
            check_text(path, name)
            check_figures(f"{path}.{name}", inner, depth - 1)
    elif isinstance(value, str):
        check_text(path, value, maximum=1000)
    elif value is not None and not isinstance(value, bool):
        check_number(path, value)
