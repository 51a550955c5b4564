"""How is a contract written as canonical JSON, and read from it strictly?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

from edge_runtime.errors import ContractError

from .fields import (
    ACQUISITION_FIELDS,
    CONVERT_AGAIN,
    FIELDS,
    FIELDS_1,
    FLAG_FEATURES,
    FLAG_LIMIT_FIELDS,
    FORMAT,
    FORMAT_1,
    INPUT_FIELDS,
    INPUT_FIELDS_1,
    MAX_JSON_BYTES,
    OPTIONAL,
    OUTPUT_FIELDS,
    Acquisition,
    Calibration,
    ClassSpec,
    Contract,
    FlagLimits,
    GoldenFacts,
    InputSpec,
    Intensity,
    Label,
    ModelFacts,
    OutputSpec,
    SourceModel,
    Threshold,
    check_fields,
    fail,
    fail_format,
    to_tuple,
)


def to_json(contract: Contract) -> bytes:
    """Return the contract's canonical JSON, its `digest` computed.

    Raises:
        ContractError: a text cannot be written as UTF-8, or the JSON is longer than 64 kB.
    """
    fields = to_fields(contract)
    fields["digest"] = compute_digest(fields)
    text = to_canonical(fields)
    if len(text) > MAX_JSON_BYTES:
        fail(f"the contract has {len(text)} bytes, more than {MAX_JSON_BYTES}", "shorten 'quality' or the texts")
    return text


def from_json(text: bytes) -> Contract:
    """Return the contract of a canonical JSON text.

    Raises:
        ContractError: not canonical JSON, a field unknown, missing, of the wrong type or out of range, or a `digest`
            that does not fit the other fields.
    """
    fields = parse(text)
    contract = from_fields(fields)
    if contract.digest != compute_digest(fields):
        fail("the contract was edited after it was written (its digest does not fit)", CONVERT_AGAIN)
    if to_canonical(to_fields(contract)) != text:
        fail("the contract is not canonical JSON", CONVERT_AGAIN)
    return contract


def to_fields(contract: Contract) -> dict[str, Any]:
    """Return the contract's JSON object, without the optional fields that it has not."""
    found = to_plain(contract)
    if contract.format == FORMAT_1:
        found = {name: value for name, value in found.items() if name in (*FIELDS_1, *OPTIONAL)}
        found["input"] = {name: found["input"][name] for name in INPUT_FIELDS_1}
    return {name: value for name, value in found.items() if value is not None or name not in OPTIONAL}


def to_plain(value: Any, kind: str = "") -> Any:
    """Return a value in JSON's types. kind: its annotation: 1 in a field of floats is written as 1.0."""
    if is_dataclass(value):
        return {
            field.name.rstrip("_"): to_plain(getattr(value, field.name), str(field.type)) for field in fields(value)
        }
    if isinstance(value, Mapping):
        return {name: to_plain(inner, kind) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [to_plain(inner, kind) for inner in value]
    numbers = any(name in kind for name in ("float", "Factor", "IntensityRule"))
    return float(value) if numbers and value is not None and not isinstance(value, str) else value


def from_fields(fields: Any) -> Contract:
    """Return the contract of a JSON object. Raises: ContractError."""
    found = fields.get("format", FORMAT) if isinstance(fields, dict) else FORMAT
    if found not in (FORMAT, FORMAT_1):  # another format has other fields
        fail_format(found)
    top = check_fields("", fields, FIELDS if found == FORMAT else FIELDS_1, optional=OPTIONAL)
    output_spec = check_fields("output", top["output"], OUTPUT_FIELDS)
    threshold = check_fields("threshold", top["threshold"], ("value", "from"))
    calibration = top["calibration"]
    if calibration is not None:
        calibration = Calibration(**check_fields("calibration", calibration, ("count", "sha256")))
    return Contract(
        format=top["format"],
        model=ModelFacts(**check_fields("model", top["model"], ("id", "version", "bytes", "sha256"))),
        input=read_input(top["input"], found),
        output=OutputSpec(
            shape=to_tuple("output.shape", output_spec["shape"]),
            dtype=output_spec["dtype"],
            activation=output_spec["activation"],
            labels=tuple(map(read_label, to_tuple("output.labels", output_spec["labels"]))),
        ),
        threshold=Threshold(threshold["value"], threshold["from"]),
        recipe=top["recipe"],
        calibration=calibration,
        source=SourceModel(**check_fields("source", top["source"], ("sha256", "versions"))),
        quality=top["quality"],
        intended_use=top["intended_use"],
        allowed=to_tuple("allowed", top["allowed"]),
        digest=top["digest"],
        classes=read_classes(top["classes"]) if "classes" in top else None,
        triage=read_limits(top["triage"]) if "triage" in top else None,
        golden=GoldenFacts(**check_fields("golden", top["golden"], ("bytes", "sha256"))) if "golden" in top else None,
        acquisition=read_acquisition(top.get("acquisition")),
    )


def read_input(fields: Any, form: str) -> InputSpec:
    """Return the input of a JSON object in a contract of a format."""
    given = check_fields("input", fields, INPUT_FIELDS if form == FORMAT else INPUT_FIELDS_1)
    given = {**given, "shape": to_tuple("input.shape", given["shape"])}
    if form == FORMAT_1:
        return InputSpec(**given, scale_from=None)
    rules = check_fields("input.intensity", given["intensity"], ("images", "series"))
    given["intensity"] = Intensity(read_rule(rules["images"]), read_rule(rules["series"]))
    for name in ("scale", "offset", "channels"):
        given[name] = tuple(given[name]) if isinstance(given[name], list) else given[name]
    if given["scale_from"] is None:
        given["scale_from"] = ""  # null is what format 1 says
    return InputSpec(**given)


def read_rule(rule: Any) -> Any:
    """Return a rule for intensities with its two numbers as a tuple."""
    if isinstance(rule, dict):
        return {name: tuple(pair) if isinstance(pair, list) else pair for name, pair in rule.items()}
    return rule


def read_acquisition(fields: Any) -> Acquisition | None:
    """Return the acquisition of a JSON object; None for null."""
    return None if fields is None else Acquisition(**check_fields("acquisition", fields, ACQUISITION_FIELDS))


def read_label(fields: Any) -> Label:
    """Return a label of the mask from its JSON object."""
    given = check_fields("output.labels", fields, ("name", "colour"))
    return Label(given["name"], to_tuple("output.labels.colour", given["colour"]))


def read_classes(fields: Any) -> ClassSpec:
    """Return the classes of a JSON object."""
    given = check_fields("classes", fields, ("shape", "activation", "labels"))
    shape = to_tuple("classes.shape", given["shape"])
    return ClassSpec(shape, given["activation"], to_tuple("classes.labels", given["labels"]))


def read_limits(fields: Any) -> FlagLimits:
    """Return the flags' limits of a JSON object."""
    given = check_fields("triage", fields, FLAG_LIMIT_FIELDS)
    ranges = check_fields("triage.ranges", given["ranges"], (), optional=FLAG_FEATURES)
    return FlagLimits(**{**given, "ranges": {name: to_tuple(f"triage.ranges.{name}", ranges[name]) for name in ranges}})


def compute_digest(fields: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of all fields but `digest`."""
    return hashlib.sha256(to_canonical({name: value for name, value in fields.items() if name != "digest"})).hexdigest()


def to_canonical(fields: Mapping[str, Any]) -> bytes:
    """Return canonical JSON. Raises: ContractError."""
    try:
        text = json.dumps(fields, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise ContractError("contract", f"it cannot be written as JSON ({error})") from error


def parse(text: bytes) -> Any:
    """Return the value of a JSON text. Raises: ContractError."""

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not allowed")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a field stands twice")
        return found

    if len(text) > MAX_JSON_BYTES:
        fail(f"the contract has {len(text)} bytes, more than {MAX_JSON_BYTES}", CONVERT_AGAIN)
    try:
        return json.loads(text.decode("utf-8"), parse_constant=constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise ContractError("contract", f"it is not valid JSON ({error})", CONVERT_AGAIN) from error
