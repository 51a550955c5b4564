"""A trained Keras model → one stamped .tflite file, audited and compared with the original before it is written."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_runtime.contract import Contract, near_miss, stamp_contract
from edge_runtime.errors import OutputError, UsageError

from .account import to_account
from .archive import find_kind
from .audit import FINDINGS, Audit
from .calibrate import FEWEST, MOST, Calibrated, find_calibration, refuse_overlap
from .candidate import Job, read_checks
from .cases import Cases, find_cases
from .check import Check, Evidence
from .child import run_worker
from .golden import make_golden
from .integer import IO, Integers
from .markdown import to_markdown
from .policy import check_limit, refuse_few
from .recipes import RECIPES
from .report import to_report, to_table
from .scratch import scratch
from .settings import Settings, build_contract, find_settings, read_settings
from .surgery import name_apart, pack, unpack
from .tidy import tidy
from .tournament import AUTO, Tournament, list_recipes
from .triage import choose_triage
from .tune import read_choice
from .upsample import UPSAMPLES
from .verify import Checks
from .worst import check_folder, draw_worst, replaced

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
    check: Check | None = None  # on images, where some were given


def convert_model(
    path: str | Path,
    recipe: str = "drq",
    out: str | Path | None = None,
    *,
    input_size: tuple[int, ...] | None = None,
    contract: str | Path | None = None,
    upsample: str = "auto",
    target: str = "litert",
    keep_float: int | None = None,
    choices: str | Path | None = None,
    retune: bool = False,
    calibrate: str | Path | None = None,
    int8_io: str = "float32",
    check: str | Path | None = None,
    masks: str | Path | None = None,
    max_iou_drop: float | None = None,
    sure: bool = False,
    markdown: bool = False,
    trust_custom: str = "",
    allow: Collection[str] = (),
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Convert a .keras, .h5 or SavedModel to a .tflite file with its contract inside and a JSON report beside it.

    out defaults to STEM.RECIPE.tflite beside the model. contract is a TOML file (see convert.settings); without it,
    STEM.contract.toml beside the model is taken if there. keep_float: convolutions of fewer filters x taps are not
    quantized; None measures which layers to leave float. choices: the report of another conversion, whose layout is
    taken without measuring; retune: measure again what an earlier conversion on this machine chose. calibrate: a folder
    of 100 to 500 representative images for "int8", int8_io: that file's type of input and output. check: a folder of
    images to compare the original, its static FP32 file and the result on, masks: of their true masks, max_iou_drop:
    how much mean IoU the result may lose, sure: with the whole 95 % interval of its loss; the worst images are drawn
    into a folder beside the file. markdown: write the report as Markdown too. `say` gets a word now and then on what is
    going on.

    Raises:
        EdgeSegError: its subclasses say what to do; AuditError where the file is refused, PolicyError where it loses
            too much. No file is left behind then.
    """
    model = Path(path)
    check_choices(recipe, upsample, target, allow)
    find_kind(model)
    result = Path(out) if out is not None else model.with_name(f"{model.stem}.{recipe}.tflite")
    beside, words, pictures = (result.with_suffix(suffix) for suffix in (".json", ".md", ".worst"))
    check_outputs(model, result, [result, beside, *([words] if markdown else [])], force)
    check_limit(max_iou_drop, check, masks, sure)
    if check is not None or force:
        check_folder(pictures, force)
    found = find_checked(model, check, masks, pictures, max_iou_drop, say)
    calibrated = find_calibrated(recipe, calibrate, int8_io, found)
    settings = read_settings(Path(contract)) if contract is not None else find_settings(model)
    if settings.path:
        say(f"contract fields from {settings.path}")
    triage = choose_triage(settings.triage, settings.path, list_images(found, calibrated))
    told = read_choice(Path(choices), recipe) if choices is not None else None
    with scratch() as work:
        say(f"converting {model}")
        facts = run_worker(work, to_request(model, input_size, trust_custom, settings, found))
        facts["versions"] |= {"edge-seg": read_version("edge-seg"), "ai-edge-litert": read_version("ai-edge-litert")}
        facts["tidied"] = prepare(work)
        inputs, expected = read_checks(work)
        sha256 = hash_model(model)
        job = Job(model, sha256, work, facts, settings, upsample, target, keep_float, told, retune, allow, say)
        job = replace(job, inputs=inputs, expected=expected)
        if calibrated is not None:
            spec = build_contract(facts, settings, model, recipe, sha256, ()).input
            job = replace(job, integers=Integers(calibrated, spec, int8_io, target == "tflite-runtime"))
            facts["notes"] += calibrated.notes
        evidence = gather(job, found)
        outcome = Tournament(job, evidence, max_iou_drop, sure).run(list_recipes(recipe, calibrated is not None))
        candidate = outcome.candidate
        worst = draw_worst(evidence, outcome.check, candidate) if evidence and outcome.check else {}
        stamped = replace(candidate.contract, triage=triage if candidate.contract.input.depth is None else None)
        candidate = replace(candidate, contract=stamped)
        golden = make_golden(candidate.flatbuffer, stamped, work, say)
    data = stamp_contract(candidate.flatbuffer, candidate.contract, golden)
    report = to_report(candidate, facts, hashlib.sha256(data).hexdigest()) | to_account(outcome, pictures.name)
    files = {beside: (json.dumps(report, indent=1, allow_nan=False) + "\n").encode(), result: data}
    if markdown:
        files[words] = to_markdown(report).encode()
    with replaced(pictures, worst) if worst or force else nullcontext():
        write_all(files)
    audit, checks = candidate.audit, candidate.checks
    return Conversion(result, beside, candidate.contract, audit, checks, report, to_table(report), outcome.check)


def find_checked(
    model: Path, check: str | Path | None, masks: str | Path | None, pictures: Path, drop: float | None,
    say: Callable[[str], None],
) -> Cases | None:  # fmt: skip
    """Return the images to compare on, if a folder of them is given. Raises: EdgeSegError for what cannot serve."""
    if check is None:
        return None
    found = find_cases(Path(check), None if masks is None else Path(masks), pictures)
    say(found.summary())
    refuse_few(str(model), len(found.cases), drop)
    return found


def find_calibrated(recipe: str, calibrate: str | Path | None, int8_io: str, found: Cases | None) -> Calibrated | None:
    """Return the images to calibrate with, if a folder of them is given, none of which is compared on.

    Raises: EdgeSegError for what cannot serve.
    """
    check_calibration(recipe, calibrate, int8_io)
    if calibrate is None:
        return None
    calibrated = find_calibration(Path(calibrate))
    if found is not None:
        refuse_overlap([case.image for case in found.cases], calibrated)
    return calibrated


def list_images(found: Cases | None, calibrated: Calibrated | None) -> list[Path]:
    """Return all images that were given, to know the usual ones by."""
    images = [case.image for case in found.cases] if found is not None else []
    return images + [sample.path for sample in calibrated.samples] if calibrated is not None else images


def to_request(
    model: Path, input_size: tuple[int, ...] | None, trust: str, settings: Settings, found: Cases | None
) -> dict[str, Any]:
    """Return what the child is asked to do."""
    return {
        "model": str(model),
        "input_size": list(input_size) if input_size else None,
        "trust": trust,
        "activation": settings.activation,
        "scale": settings.scale,
        "offset": settings.offset,
        "mask": settings.mask,
        "classes": settings.classes,
        "labels": settings.labels is not None,
        "images": [str(case.image) for case in found.cases] if found is not None else [],
    }


def gather(job: Job, found: Cases | None) -> Evidence | None:
    """Return what the result is held against, if there are images: them, their truth and the original's answers."""
    if found is None:
        return None
    contract = build_contract(job.facts, job.settings, job.model, "fp32", job.sha256, ())
    return Evidence(found, job.work, contract)


def prepare(work: Path) -> dict[str, int]:
    """Give every tensor of fp32.tflite a name of its own, write graph.tflite, tidied, and return what was tidied."""
    original = name_apart((work / "fp32.tflite").read_bytes())
    model = unpack(original)
    done = tidy(model)
    (work / "fp32.tflite").write_bytes(original)
    (work / "graph.tflite").write_bytes(pack(model) if done else original)
    return done


def check_choices(recipe: str, upsample: str, target: str, allow: Collection[str]) -> None:
    """Refuse, before any work, an argument that is none of its known values."""
    check_choice("recipe", recipe, [*RECIPES, AUTO])
    check_choice("upsample", upsample, UPSAMPLES)
    check_choice("target", target, TARGETS)
    for finding in allow:
        check_choice("finding", finding, FINDINGS)


def check_choice(what: str, value: str, known: Collection[str]) -> None:
    """Refuse a value that is not among the known ones, naming the near miss."""
    if value not in known:
        raise UsageError(f"{what} {value!r}", f"it is not one of {', '.join(known)}", near_miss(value, known))


def check_calibration(recipe: str, calibrate: str | Path | None, int8_io: str) -> None:
    """Refuse, before any work, int8 without calibration images, and what is for int8 where it cannot come to that."""
    check_choice("int8-io", int8_io, IO)
    if recipe == "int8" and calibrate is None:
        fix = f"--calibrate DIR with {FEWEST} to {MOST} representative images"
        raise UsageError("recipe int8", "it needs images to set its activations' ranges", fix)
    if recipe not in ("int8", AUTO):
        for option, given in (("--calibrate", calibrate is not None), ("--int8-io int8", int8_io != "float32")):
            if given:
                raise UsageError(option, f"the recipe {recipe} has nothing to do with it", "take --recipe int8 or auto")


def check_outputs(model: Path, result: Path, files: Collection[Path], force: bool) -> None:
    """Refuse, before any work, to overwrite one of the files or to write where nothing can be written."""
    if result.suffix != ".tflite":
        raise UsageError(str(result), "the output's name does not end in .tflite", "rename it")
    if not result.parent.is_dir():
        raise OutputError(str(result), "its folder does not exist", f"mkdir -p {result.parent}")
    if not os.access(result.parent, os.W_OK):
        raise OutputError(str(result), "its folder is not writable", "choose another with -o")
    for path in files:
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
