"""Which candidates do the given models make? Converted if needed, each on every engine and thread count."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.subjects.interpreters import run_command
from edge_runtime.contract.fields import Contract
from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import EdgeSegError, ModelError
from edge_runtime.inference.engines.registry import ENGINES

TFLITE = b"TFL3"  # at byte 4
SUFFIXES = {b"PK\x03\x04": ".keras", b"\x89HDF": ".h5"}  # by content; Keras goes by the suffix
ENGINE_NAMES = {
    "litert": "LiteRT",
    "tflite-runtime": "tflite-runtime",
    "gpu": "LiteRT on the GPU",
    "keras": "Keras",
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
}
MEASURED_ENGINES = (*ENGINES, *({"openvino"} - ENGINES.keys()))  # for stamped .tflite files
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """One model file on one engine with a number of threads in one interpreter; `why_not` if it cannot be measured.

    `path` is what the engine loads, `file` its name for readers; `contract` specifies its input and output.
    """

    key: str
    name: str
    role: str  # "subject" | "baseline" | "peer"
    engine: str
    threads: int
    recipe: str
    path: Path
    file: str
    contract: Contract
    python: str
    trust: str = ""
    append: str = ""  # the activation that conversion appended and that this file lacks
    why_not: str = ""
    failed: bool = False  # its package is installed, but its file could not be made


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, and the two files that `python -m convert` made of it."""

    path: Path  # with the suffix that Keras expects
    file: str
    drq: Path
    fp32: Path
    append: str


@dataclass(frozen=True)
class Grid:
    """The engines and thread counts that every stamped file is measured with."""

    engines: tuple[str, ...]
    threads: tuple[int, ...]
    pythons: dict[str, str]  # engine: interpreter
    trust: str = ""


def is_tflite(path: Path) -> bool:
    """Return whether a file is a .tflite, by content. Raises: ModelError if it cannot be read."""
    if not path.exists():
        raise ModelError(str(path), "it does not exist", "give a .keras, .h5, SavedModel folder or .tflite")
    if path.is_dir():
        return False
    try:
        with path.open("rb") as file:
            return file.read(8)[4:] == TFLITE
    except OSError as error:
        raise ModelError(str(path), f"it cannot be read ({error.strerror})", "check its permissions") from None


def list_candidates(
    models: Sequence[Path], grid: Grid, work: Path, notify: Notify
) -> tuple[list[Candidate], list[TrainedModel]]:
    """Return the candidates of the given models, subjects first, and the trained models among them.

    An FP32 .tflite is a baseline if there is another model. A trained model is not converted to the recipe of a .tflite
    that was made from it and is given beside it: that file is measured instead.
    Raises: ModelError, ContractError: a file that is no model or has no contract, or that convert refuses.
    """
    kinds = [is_tflite(path) for path in models]  # all are checked before the first is converted
    contracts = [read_contract(path, verify=True) if kind else None for path, kind in zip(models, kinds, strict=True)]
    existing = {
        (contract.source.sha256, contract.recipe): path
        for path, contract in zip(models, contracts, strict=True)
        if contract and has_report(path)
    }
    found: list[Candidate] = []
    sources = []
    for number, (path, contract) in enumerate(zip(models, contracts, strict=True)):
        if contract:
            only_fp32 = all(one and one.recipe == "fp32" for one in contracts)
            is_subject = contract.recipe != "fp32" or (number == 0 and only_fp32)
            found += expand_grid(path, path.name, contract, "subject" if is_subject else "baseline", grid)
            continue
        source = convert_model(path, work / f"source{number}", grid.trust, existing, notify)
        sources.append(source)
        stem, drq = path.stem, read_contract(source.drq)
        # At the DRQ file's threshold, which may have been set after conversion.
        fp32 = replace(read_contract(source.fp32), threshold=drq.threshold)
        found += expand_grid(source.drq, f"{stem}.drq.tflite", drq, "subject", grid)
        found += expand_grid(source.fp32, f"{stem}.fp32.tflite", fp32, "baseline", grid)
    found.sort(key=lambda candidate: candidate.role == "baseline")
    return make_unique(drop_duplicates(found)), sources


def expand_grid(path: Path, file: str, contract: Contract, role: str, grid: Grid) -> list[Candidate]:
    """Return a .tflite as a candidate for every engine and thread count."""
    maker = "edge-seg" if role == "subject" else "static"
    return [
        Candidate(
            key=make_key(contract.recipe, engine, str(threads)),
            name=f"{maker} {contract.recipe.upper()} on {ENGINE_NAMES[engine]}, {format_threads(threads)}",
            role=role,
            engine=engine,
            threads=threads,
            recipe=contract.recipe,
            path=path,
            file=file,
            contract=contract,
            python=grid.pythons[engine],
        )
        for engine in grid.engines
        for threads in grid.threads
    ]


def make_key(*parts: str) -> str:
    """Return a subject's key of the characters [a-z0-9-]."""
    return re.sub("[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def format_threads(threads: int) -> str:
    """Return "1 thread" or "2 threads"."""
    return f"{threads} thread" + "s" * (threads != 1)


def drop_duplicates(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates without duplicates of the same bytes, engine and threads."""
    seen: dict[tuple[str, str, int], Candidate] = {}
    for item in found:
        seen.setdefault((item.contract.digest, item.engine, item.threads), item)
    return list(seen.values())


def make_unique(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates with unique keys and names: where keys are equal, the file's name is added."""
    keys = [item.key for item in found]
    unique: list[Candidate] = []
    for item in found:
        if keys.count(item.key) > 1:
            stem = re.sub(r"(\.(drq|fp32|fp16|int8|weight-only))?\.tflite$", "", item.file)
            item = replace(item, key=make_key(stem, item.key), name=f"{stem}: {item.name}")
        same = sum(other.key == item.key for other in unique)
        unique.append(replace(item, key=f"{item.key}-{same + 1}") if same else item)
    return unique


def has_report(path: Path) -> bool:
    """Return whether the conversion report beside a .tflite is of that file."""
    try:
        digest = json.loads(path.with_suffix(".json").read_text())["model"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(digest == describe_file(path, str(path))["sha256"])


def convert_model(
    path: Path, work: Path, trust: str, existing: Mapping[tuple[str, str], Path], notify: Notify
) -> TrainedModel:
    """Convert a trained model as a user does, to DRQ and to FP32, unless the file exists.

    existing: files by the trained model's SHA-256 and recipe. Raises: ModelError if convert refuses it.
    """
    work.mkdir()
    digest = "" if path.is_dir() else str(describe_file(path, str(path))["sha256"])
    made = {}
    for recipe in ("drq", "fp32"):
        if (digest, recipe) in existing:
            made[recipe] = existing[digest, recipe]
            continue
        notify(f"converting {path} ({recipe})")
        made[recipe] = run_convert(path, work / f"{recipe}.tflite", recipe, trust)
    notes = json.loads(made["drq"].with_suffix(".json").read_text()).get("notes", [])
    append = next((word for word in ("sigmoid", "softmax") if f"{word} appended to the graph" in notes), "")
    return TrainedModel(link_for_keras(path, work), path.name, made["drq"], made["fp32"], append)


def run_convert(path: Path, out: Path, recipe: str, trust: str, *more: str) -> Path:
    """Run `python -m convert`. Raises: ModelError with its error message."""
    trusting = ["--trust-custom", trust] if trust else []
    command = ["convert", str(path), "-o", str(out), "--recipe", recipe, *trusting, *more]
    status, last = run_command(command, out.parent)
    if status:
        why = last.removeprefix("edge-convert: error: ").removeprefix(f"{path}: ")
        raise ModelError(str(path), f"edge-convert refuses it: {why}")
    return out


def link_for_keras(path: Path, work: Path) -> Path:
    """Return a link to a trained model whose suffix fits its content; a folder's own path."""
    if path.is_dir():
        return path.resolve()
    with path.open("rb") as file:
        suffix = SUFFIXES.get(file.read(4), path.suffix)
    link = work / f"source{suffix}"
    link.symlink_to(path.resolve())
    return link


def describe_file(path: Path, name: str) -> dict[str, object]:
    """Return a file's or folder's name, bytes and SHA-256. Raises: EdgeSegError."""
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    digest, size = hashlib.sha256(), 0
    try:
        for file in files:
            data = file.read_bytes()
            if file != path:
                digest.update(f"{file.relative_to(path).as_posix()}\0{len(data)}\0".encode())
            digest.update(data)
            size += len(data)
    except OSError as error:
        raise EdgeSegError(name, f"it cannot be read ({error.strerror})", "check its permissions") from None
    return {"name": name, "bytes": size, "sha256": digest.hexdigest()}
