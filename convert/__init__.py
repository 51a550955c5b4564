"""A trained Keras model → one stamped .tflite file, audited and compared with the original before it is written."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edge_runtime.contract import Contract, near_miss, stamp_contract
from edge_runtime.errors import AuditError, OutputError, UsageError

from .archive import find_kind
from .audit import FINDINGS, Audit, audit_model, find_differences
from .balance import float_variants, leave_float
from .child import run_worker
from .recipes import RECIPES
from .report import to_report, to_table
from .settings import Settings, build_contract, find_settings, read_settings
from .upsample import UPSAMPLES
from .verify import Checks, compare_outputs, open_engine, run_model, time_models

__all__ = ["Conversion", "convert_model"]

TARGETS = ("litert", "tflite-runtime")


@dataclass(frozen=True)
class Conversion:
    """A finished conversion: the file, its report beside it, what is in it and how close it is to the original."""

    path: Path
    report_path: Path
    contract: Contract
    audit: Audit
    checks: Checks
    report: dict[str, Any]
    table: str


def convert_model(
    path: str | Path,
    recipe: str = "drq",
    out: str | Path | None = None,
    *,
    input_size: tuple[int, int] | None = None,
    contract: str | Path | None = None,
    upsample: str = "auto",
    target: str = "litert",
    keep_float: int | None = None,
    trust_custom: str = "",
    allow: Collection[str] = (),
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Convert a .keras, .h5 or SavedModel to a .tflite file with its contract inside and a JSON report beside it.

    out defaults to STEM.RECIPE.tflite beside the model. contract is a TOML file (see convert.settings); without it,
    STEM.contract.toml beside the model is taken if there. keep_float: convolutions of fewer filters x taps are not
    quantized; None measures which of balance.LIMITS is fastest, if int8 throughout is no faster than float. `say` gets
    a word now and then on what is going on.

    Raises:
        EdgeSegError: its subclasses say what to do; AuditError where the file is refused. No file is left behind then.
    """
    model = Path(path)
    check_choices(recipe, upsample, target, allow)
    find_kind(model)
    result = Path(out) if out is not None else model.with_name(f"{model.stem}.{recipe}.tflite")
    beside = result.with_suffix(".json")
    check_outputs(model, result, beside, force)
    settings = read_settings(Path(contract)) if contract is not None else find_settings(model)
    if settings.path:
        say(f"contract fields from {settings.path}")
    request = {
        "model": str(model),
        "recipe": recipe,
        "input_size": list(input_size) if input_size else None,
        "upsample": upsample,
        "target": target,
        "keep_float": keep_float,
        "trust": trust_custom,
        "activation": settings.activation,
        "scale": settings.scale,
        "offset": settings.offset,
    }
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        say(f"converting {model} ({recipe})")
        facts = run_worker(Path(folder), request)
        say("auditing the result")
        flatbuffer, done = examine(Path(folder), facts, settings, request, allow)
    data = stamp_contract(flatbuffer, done.contract)
    done.report["model"]["sha256"] = hashlib.sha256(data).hexdigest()
    text = json.dumps(done.report, indent=1, allow_nan=False) + "\n"
    write_all({beside: text.encode(), result: data})
    return replace(done, path=result, report_path=beside)


def check_choices(recipe: str, upsample: str, target: str, allow: Collection[str]) -> None:
    """Refuse, before any work, an argument that is none of its known values."""
    check_choice("recipe", recipe, RECIPES)
    check_choice("upsample", upsample, UPSAMPLES)
    check_choice("target", target, TARGETS)
    for finding in allow:
        check_choice("finding", finding, FINDINGS)


def check_choice(what: str, value: str, known: Collection[str]) -> None:
    """Refuse a value that is not among the known ones, naming the near miss."""
    if value not in known:
        raise UsageError(f"{what} {value!r}", f"it is not one of {', '.join(known)}", near_miss(value, known))


def check_outputs(model: Path, result: Path, beside: Path, force: bool) -> None:
    """Refuse, before any work, to overwrite something or to write where nothing can be written."""
    if result.suffix != ".tflite":
        raise UsageError(str(result), "the output's name does not end in .tflite", "rename it")
    if not result.parent.is_dir():
        raise OutputError(str(result), "its folder does not exist", f"mkdir -p {result.parent}")
    if not os.access(result.parent, os.W_OK):
        raise OutputError(str(result), "its folder is not writable", "choose another with -o")
    for path in (result, beside):
        if path.is_dir():
            raise OutputError(str(path), "it is a folder", "choose another name with -o")
        if path.exists() and not force:
            raise OutputError(str(path), "it exists already", "say --force to overwrite it")


def examine(
    work: Path, facts: dict[str, Any], settings: Settings, request: dict[str, Any], allow: Collection[str]
) -> tuple[bytes, Conversion]:
    """Return the flatbuffer and the conversion, not yet written, after audit and comparison.

    Raises:
        AuditError: a finding that was not allowed.
    """
    model, recipe = Path(request["model"]), RECIPES[request["recipe"]]
    fp32_bytes = (work / "fp32.tflite").stat().st_size
    audit = audit_model(work / "model.tflite", fp32_bytes, facts, recipe, request["target"])
    refuse(model, audit, allow)
    facts["versions"] |= {"edge-seg": read_version("edge-seg"), "ai-edge-litert": read_version("ai-edge-litert")}
    contract = build_contract(facts, settings, model, recipe.name, hash_model(model), ())
    with np.load(work / "checks.npz", allow_pickle=False) as arrays:
        inputs = [arrays[f"input{i}"] for i in range(len(arrays.files) // 2)]
        expected = [arrays[f"output{i}"] for i in range(len(inputs))]
    clock: dict[str, list[float]] = {}
    if facts["rewritten"] or recipe.weights != "float32":
        clock, limit = balance(work, inputs[-1], request["keep_float"] if recipe.weights == "int8" else 0)
        if limit:
            facts["notes"].append(
                f"convolutions of fewer than {limit} filters x taps left float (--keep-float {limit})"
            )
            audit = audit_model(work / "model.tflite", fp32_bytes, facts, recipe, request["target"], limit)
            refuse(model, audit, allow)
    engine = open_engine(work / "model.tflite")
    checks = compare_outputs(expected, [run_model(engine, x) for x in inputs], contract.threshold.value)
    audit = replace(audit, findings=(*audit.findings, *find_differences(checks, recipe)))
    refuse(model, audit, allow)
    contract = replace(contract, allowed=tuple(sorted({finding.name for finding in audit.findings})))
    report = to_report(audit, checks, contract, clock, facts, "")
    table = to_table(audit, checks, contract, clock, facts)
    return (work / "model.tflite").read_bytes(), Conversion(Path(), Path(), contract, audit, checks, report, table)


def balance(work: Path, tensor: Any, limit: int | None) -> tuple[dict[str, list[float]], int]:
    """Time the result against its float32 original; return the milliseconds and the limit of `leave_float` applied.

    limit None: a result that is no faster is replaced by the fastest variant with some layers float, if one is faster.
    """
    fp32, result = work / "fp32.tflite", work / "model.tflite"
    if limit:
        result.write_bytes(leave_float(result.read_bytes(), limit) or result.read_bytes())
    best, best_limit = time_models({"fp32": open_engine(fp32), "result": open_engine(result)}, tensor), limit or 0
    if limit is not None or speed_ratio(best) < 1:
        return best, best_limit
    for step, flatbuffer in float_variants(result.read_bytes(), fp32.stat().st_size):
        variant = work / f"float{step}.tflite"
        variant.write_bytes(flatbuffer)
        timed = time_models({"fp32": open_engine(fp32), "result": open_engine(variant)}, tensor)
        if speed_ratio(timed) < min(1, speed_ratio(best)):
            best, best_limit = timed, step
    if best_limit:
        (work / f"float{best_limit}.tflite").replace(result)
    return best, best_limit


def speed_ratio(clock: dict[str, list[float]]) -> float:
    """Return the result's median time as a share of its float32 original's."""
    return median(clock["result"]) / median(clock["fp32"])


def refuse(model: Path, audit: Audit, allow: Collection[str]) -> None:
    """Raise AuditError for the findings that were not allowed."""
    left = [finding for finding in audit.findings if finding.name not in allow]
    if left:
        why = "; ".join(f"{finding.name} ({finding.where}): {FINDINGS[finding.name]}" for finding in left)
        allowing = " ".join(f"--allow {finding.name}" for finding in left)
        raise AuditError(
            str(model), f"the audit refused the result: {why}", f"no file was written; {allowing} overrides"
        )


def read_version(package: str) -> str:
    """Return an installed distribution's version; "unknown" when it runs from a checkout."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def hash_model(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' relative names and digests, sorted."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = [f"{file.relative_to(path).as_posix()}\0{hash_model(file)}\n" for file in path.rglob("*") if file.is_file()]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def write_all(files: dict[Path, bytes]) -> None:
    """Write the files whole or not at all: all temporary files first, then the renames.

    Unlike write_file one by one: a disk that fills up during the second must not leave the first behind.
    """
    waiting: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            waiting[path] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)  # mkstemp's 600 is for secrets
        for path, temporary in waiting.items():
            temporary.replace(path)
    except OSError as error:
        raise OutputError(str(next(reversed(files))), f"it cannot be written ({error.strerror})") from error
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
