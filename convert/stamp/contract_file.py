"""What does the user state about a model beyond its graph? A TOML file of contract fields, strictly read.

id = "brain-2"                      # default: the model file's stem
version = "3"                       # default: the first 12 digits of the model file's SHA-256
threshold = 0.4                     # or {value = 0.4, from = "validation patients"}; default 0.5
scale = 0.00392156862745098         # the model's input is pixel * scale + offset; default: found in the graph
offset = 0.0                        # either may be a list with a number for each channel
intensity = "bit-depth"             # how stored values become pixels; or {images = ..., series = ...}: docs/contract.md
channels = ["T1"]                   # what each channel shows
acquisition = {modality = "MR", weighting = "T1", contrast = "yes", min_slices = 3}
colour = "grey"                     # must fit the model's channels
activation = "sigmoid"              # of logits: it is appended to the graph
labels = [{name = "lesion", colour = [255, 0, 0]}]  # of a softmax the first is the background; colour may be left out
mask = "mask"                       # the output that is the mask, where a model has several
classes = ["none", "glioma"]        # names for the output that classifies the image; or {output = "kind", labels =
                                    # [...]}, where a model has several; or false to leave it out
intended_use = "Research only."
quality = {n = 80, split = "validation patients", dice = 0.71}
triage = {images = "training/images"}  # limits of the device's flags, measured there; see convert/stamp/flag_limits.py
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.contract.fields import (
    ACQUISITION_FIELDS,
    ACTIVATIONS,
    COLOURS,
    Acquisition,
    ClassSpec,
    Contract,
    Factor,
    InputSpec,
    Intensity,
    Label,
    ModelFacts,
    OutputSpec,
    SourceModel,
    Threshold,
    check_channels,
    check_choice,
    check_factor,
    check_fields,
    check_quality,
    check_text,
)
from edge_runtime.contract.json_text import read_rule
from edge_runtime.errors import ContractError, near_miss

from .flag_limits import check_flag_limits

NAME = ".contract.toml"  # after the model's stem, beside the model
INTENDED_USE = "Research and evaluation only; not a medical device."
LESION = (255, 64, 64)
# Okabe and Ito's palette: distinct for colour-blind readers too.
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


@dataclass(frozen=True)
class Settings:
    """The contract fields that a user may set; None is "not given"."""

    id: str | None = None
    version: str | None = None
    threshold: float | dict[str, Any] | None = None
    scale: Factor | None = None
    offset: Factor | None = None
    intensity: Intensity | None = None
    channels: tuple[str, ...] | None = None
    acquisition: Acquisition | None = None
    colour: str | None = None
    activation: str | None = None
    labels: list[dict[str, Any]] | None = None
    mask: str | None = None
    classes: list[str] | dict[str, Any] | bool | None = None
    intended_use: str | None = None
    quality: dict[str, Any] | None = None
    triage: dict[str, Any] | bool | None = None
    path: str = ""  # of the file


KEYS = tuple(item.name for item in fields(Settings) if item.name != "path")


def read_settings(path: Path) -> Settings:
    """Return the settings of a TOML file.

    Raises:
        ContractError: unreadable, not TOML, an unknown key (the near miss is named), or a value of the wrong type.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ContractError(str(path), f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
    for key in data:
        if key not in KEYS:
            hint = near_miss(key, KEYS) or f"the fields here are {', '.join(KEYS)}"
            raise ContractError(str(path), f"unknown contract field {key!r}", hint)
    if "mask" in data and not isinstance(data["mask"], str):
        raise ContractError(str(path), "contract field 'mask' is not the name of an output")
    check_classes(path, data.get("classes", False))
    check_flag_limits(path, data.get("triage", False))
    try:
        settings = Settings(**{**data, **read_values(data)}, path=str(path))
        check_settings(settings)
    except ContractError as error:
        raise ContractError(str(path), error.why, error.fix) from error
    return settings


def read_values(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields whose TOML values are not yet those of a contract. Raises: ContractError."""
    found: dict[str, Any] = {}
    for key in ("scale", "offset", "channels"):
        if key in data:
            found[key] = tuple(data[key]) if isinstance(data[key], list) else data[key]
    if "intensity" in data:
        given = data["intensity"]
        rules = given if isinstance(given, dict) and set(given) & {"images", "series"} else None
        if rules is None:
            found["intensity"] = Intensity(read_rule(given), read_rule(given))
        else:
            rules = check_fields("intensity", rules, (), optional=("images", "series"))
            found["intensity"] = Intensity(**{name: read_rule(rule) for name, rule in rules.items()})
    if "acquisition" in data:
        given = check_fields("acquisition", data["acquisition"], ("modality",), optional=ACQUISITION_FIELDS)
        found["acquisition"] = Acquisition(given["modality"], *(given.get(name) for name in ACQUISITION_FIELDS[1:]))
    return found


def check_settings(settings: Settings) -> None:
    """Refuse, before any conversion, values that no contract can have. Raises: ContractError."""
    for name, value in (("scale", settings.scale), ("offset", settings.offset)):
        if value is not None:
            if any(type(one) not in (int, float) for one in (value if isinstance(value, tuple) else (value,))):
                raise ContractError("contract", f"contract field {name!r} is not a number, or a list of numbers")
            many = len(value) if isinstance(value, tuple) else 1
            numbers = check_factor(name, value, many)
            if name == "scale" and min(numbers) <= 0:
                raise ContractError("contract", f"contract field 'scale' is {value!r}, not above 0")
    texts = {"model.id": settings.id, "model.version": settings.version, "intended_use": settings.intended_use}
    for name, text in texts.items():
        if text is not None:
            check_text(name, text, 1000 if name == "intended_use" else 200)
    if settings.activation is not None:
        check_choice("activation", settings.activation, ACTIVATIONS)
    if settings.colour is not None:
        check_choice("colour", settings.colour, COLOURS)
    if settings.channels is not None:
        check_channels(settings.channels, len(settings.channels) if isinstance(settings.channels, tuple) else 1)
    check_quality(settings.quality)
    choose_threshold(settings)
    if settings.labels is not None:
        many = len(settings.labels) if isinstance(settings.labels, list) else 0
        activation = settings.activation or ("sigmoid" if many <= 1 else "softmax")
        OutputSpec((1, 1, 1, many), "float32", activation, choose_labels(settings, many, activation))


def check_classes(path: Path, given: Any) -> None:
    """Raise ContractError for a `classes` that is no list of names, no {output, labels} and not false."""
    fields = given if isinstance(given, dict) else {"labels": given}
    for key in fields:
        if key not in ("output", "labels"):
            hint = near_miss(key, ("output", "labels")) or "the fields here are output, labels"
            raise ContractError(str(path), f"unknown contract field 'classes.{key}'", hint)
    labels, output = fields.get("labels", []), fields.get("output", "")
    if given is not False and (not isinstance(labels, list) or not isinstance(output, str)):
        raise ContractError(str(path), "contract field 'classes' is not [names], {output, labels = [names]} or false")


def find_settings(model: Path) -> Settings:
    """Return the settings of `STEM.contract.toml` beside the model, or none."""
    beside = model.with_name(model.stem + NAME)
    return read_settings(beside) if beside.is_file() else Settings()


class GraphFacts(Protocol):
    """What a contract contains of the facts of a model's graph."""

    @property
    def input(self) -> InputSpec: ...
    @property
    def output_shape(self) -> tuple[int, ...]: ...
    @property
    def activation(self) -> str: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def classes(self) -> ClassFacts | None: ...


class ClassFacts(Protocol):
    """What a contract contains of the facts of the output that classifies the image."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def activation(self) -> str: ...


def build_contract(facts: GraphFacts, settings: Settings, model: Path, sha256: str) -> Contract:
    """Return the contract of a model's static float32 file, not yet stamped. sha256: of the model.

    Raises:
        ContractError: a setting is of the wrong type, out of range or contradicts the model.
    """
    try:
        return Contract(
            model=ModelFacts(settings.id or model.stem, settings.version or sha256[:12]),
            input=replace(
                facts.input,
                colour=settings.colour or facts.input.colour,
                intensity=replace(settings.intensity or Intensity(), images=facts.input.intensity.images),
                channels=settings.channels,
            ),
            output=OutputSpec(
                shape=facts.output_shape,
                dtype="float32",
                activation=facts.activation,
                labels=choose_labels(settings, facts.output_shape[-1], facts.activation),
            ),
            threshold=choose_threshold(settings),
            recipe="fp32",
            calibration=None,
            source=SourceModel(sha256, facts.versions),
            quality=settings.quality and {"series": None, **settings.quality},
            intended_use=settings.intended_use or INTENDED_USE,
            allowed=(),
            classes=choose_classes(settings, facts.classes),
            acquisition=settings.acquisition,
        )
    except ContractError as error:
        raise ContractError(settings.path or str(model), error.why, error.fix) from error


def choose_labels(settings: Settings, classes: int, activation: str) -> tuple[Label, ...]:
    """Return the user's labels, or the lesion, or background and classes by number; a palette's colours by default."""
    if settings.labels is not None:
        many = len(settings.labels) if isinstance(settings.labels, list) else 0
        palette = [(0, 0, 0), *PALETTE] if activation == "softmax" and many > 1 else [LESION] if many == 1 else PALETTE
        try:
            return tuple(
                Label(item["name"], tuple(item.get("colour", palette[i % len(palette)])))
                for i, item in enumerate(settings.labels)
            )
        except (KeyError, TypeError, AttributeError) as error:
            why = "contract field 'labels' is not a list of {name, colour = [r, g, b]}"
            raise ContractError(settings.path, why) from error
    if classes == 1:
        return (Label("lesion", LESION),)
    if activation == "sigmoid":  # the child has checked this before the conversion
        raise ContractError(settings.path, "several sigmoids need labels that say which lesion is which")
    named = (Label(f"class {i}", PALETTE[(i - 1) % len(PALETTE)]) for i in range(1, classes))
    return (Label("background", (0, 0, 0)), *named)


def choose_classes(settings: Settings, classes: ClassFacts | None) -> ClassSpec | None:
    """Return the contract of the output that classifies the image, its classes named by the user or by number."""
    if classes is None:
        if settings.classes:
            why = "contract field 'classes' names classes, but no sigmoid or softmax output says any"
            raise ContractError(settings.path, why, "take it out")
        return None
    given = settings.classes.get("labels") if isinstance(settings.classes, dict) else settings.classes
    names = given if isinstance(given, list) else [f"class {i}" for i in range(max(2, classes.shape[1]))]
    return ClassSpec(classes.shape, classes.activation, tuple(names))


def choose_threshold(settings: Settings) -> Threshold:
    """Return the user's threshold, or one half."""
    given = settings.threshold
    if given is None:
        return Threshold(0.5, "default")
    if isinstance(given, dict):
        if set(given) != {"value", "from"}:
            raise ContractError(settings.path, "contract field 'threshold' is not a number or {value, from}")
        return Threshold(given["value"], given["from"])
    return Threshold(given, Path(settings.path).name)
