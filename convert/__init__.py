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
from typing import Any

from edge_runtime.contract import Contract, near_miss, stamp_contract
from edge_runtime.errors import OutputError, UsageError
from edge_runtime.images import write_file

from .archive import find_kind
from .audit import FINDINGS, Audit
from .candidate import Job, make_candidate, read_checks
from .child import run_worker
from .recipes import RECIPES
from .report import to_report, to_table
from .settings import find_settings, read_settings
from .surgery import name_apart
from .tune import read_choice
from .upsample import UPSAMPLES
from .verify import Checks

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
    choices: str | Path | None = None,
    retune: bool = False,
    trust_custom: str = "",
    allow: Collection[str] = (),
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Convert a .keras, .h5 or SavedModel to a .tflite file with its contract inside and a JSON report beside it.

    out defaults to STEM.RECIPE.tflite beside the model. contract is a TOML file (see convert.settings); without it,
    STEM.contract.toml beside the model is taken if there. keep_float: convolutions of fewer filters x taps are not
    quantized; None measures which layers to leave float. choices: the report of another conversion, whose layout is
    taken without measuring; retune: measure again what an earlier conversion on this machine chose. `say` gets a word
    now and then on what is going on.

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
    told = read_choice(Path(choices), recipe) if choices is not None else None
    request = {
        "model": str(model),
        "input_size": list(input_size) if input_size else None,
        "trust": trust_custom,
        "activation": settings.activation,
        "scale": settings.scale,
        "offset": settings.offset,
    }
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        work = Path(folder)
        say(f"converting {model}")
        facts = run_worker(work, request)
        facts["versions"] |= {"edge-seg": read_version("edge-seg"), "ai-edge-litert": read_version("ai-edge-litert")}
        write_file(work / "fp32.tflite", name_apart((work / "fp32.tflite").read_bytes()))
        inputs, expected = read_checks(work)
        sha256 = hash_model(model)
        job = Job(model, sha256, work, facts, settings, upsample, target, keep_float, told, retune, allow, say)
        job = replace(job, inputs=inputs, expected=expected)
        candidate = make_candidate(job, RECIPES[recipe])
    data = stamp_contract(candidate.flatbuffer, candidate.contract)
    report = to_report(candidate, facts, hashlib.sha256(data).hexdigest())
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    write_all({beside: text.encode(), result: data})
    table = to_table(report)
    return Conversion(result, beside, candidate.contract, candidate.audit, candidate.checks, report, table)


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
