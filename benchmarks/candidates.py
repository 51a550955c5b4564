"""What is measured: the models that were given, converted where need be, each on every engine and thread count."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_runtime.contract import Contract, read_contract
from edge_runtime.engines import ENGINES
from edge_runtime.errors import EdgeSegError, ModelError

from .process import run_command

TFLITE = b"TFL3"  # at byte 4
SUFFIXES = {b"PK\x03\x04": ".keras", b"\x89HDF": ".h5"}  # by content; Keras itself goes by the suffix
ENGINE_NAMES = {
    "litert": "LiteRT",
    "tflite-runtime": "tflite-runtime",
    "gpu": "LiteRT on the GPU",
    "keras": "Keras",
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
}
ENGINES_HERE = (*ENGINES, *({"openvino"} - ENGINES.keys()))  # that a .tflite of ours can be measured on
Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """One model file on one engine with so many threads, and in which interpreter; `why_not` if it cannot be measured.

    `path` is what the engine loads, `file` what it is called; `contract` says what it eats and what its output means.
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
    append: str = ""  # the activation that conversion appended and this file lacks
    why_not: str = ""
    failed: bool = False  # it is there, but its file could not be made


@dataclass(frozen=True)
class Source:
    """A trained model, and the two files that `python -m convert` made of it."""

    path: Path  # with the suffix that Keras wants
    file: str
    drq: Path
    fp32: Path
    append: str


@dataclass(frozen=True)
class Grid:
    """What every file of ours is measured on."""

    engines: tuple[str, ...]
    threads: tuple[int, ...]
    pythons: dict[str, str]  # engine: interpreter
    trust: str = ""


def is_tflite(path: Path) -> bool:
    """Tell whether a file is a .tflite, by content. Raises: ModelError if there is nothing."""
    if not path.exists():
        raise ModelError(str(path), "it does not exist", "give a .keras, .h5, SavedModel folder or .tflite")
    if path.is_dir():
        return False
    try:
        with path.open("rb") as file:
            return file.read(8)[4:] == TFLITE
    except OSError as error:
        raise ModelError(str(path), f"it cannot be read ({error.strerror})", "check its permissions") from None


def list_candidates(models: Sequence[Path], grid: Grid, work: Path, say: Say) -> tuple[list[Candidate], list[Source]]:
    """Return what the given models amount to, subjects first, and the trained models among them.

    An FP32 .tflite is a baseline wherever there is another model to compare with it. A .tflite that was made of a
    trained model given beside it is what is measured of that model: it is not converted to that recipe again.
    Raises: ModelError, ContractError: a file that is no model or has no contract, or that convert refuses.
    """
    kinds = [is_tflite(path) for path in models]  # all of them, before the first is converted
    contracts = [read_contract(path, verify=True) if ready else None for path, ready in zip(models, kinds, strict=True)]
    ready = {
        (contract.source.sha256, contract.recipe): path
        for path, contract in zip(models, contracts, strict=True)
        if contract and has_report(path)
    }
    found: list[Candidate] = []
    sources = []
    for number, (path, contract) in enumerate(zip(models, contracts, strict=True)):
        if contract:
            first = contract.recipe != "fp32" or (
                number == 0 and all(one and one.recipe == "fp32" for one in contracts)
            )
            found += spread_out(path, path.name, contract, "subject" if first else "baseline", grid)
            continue
        source = convert_source(path, work / f"source{number}", grid.trust, ready, say)
        sources.append(source)
        stem, drq = path.stem, read_contract(source.drq)
        # At the threshold of the file that is to be used: it may have been given there one that is not known here.
        fp32 = replace(read_contract(source.fp32), threshold=drq.threshold)
        found += spread_out(source.drq, f"{stem}.drq.tflite", drq, "subject", grid)
        found += spread_out(source.fp32, f"{stem}.fp32.tflite", fp32, "baseline", grid)
    found.sort(key=lambda candidate: candidate.role == "baseline")
    return name_apart(drop_twins(found)), sources


def spread_out(path: Path, file: str, contract: Contract, role: str, grid: Grid) -> list[Candidate]:
    """Return a .tflite as a candidate for every engine and thread count."""
    who = "edge-seg" if role == "subject" else "static"
    return [
        Candidate(
            key=make_key(contract.recipe, engine, str(threads)),
            name=f"{who} {contract.recipe.upper()} on {ENGINE_NAMES[engine]}, {count_threads(threads)}",
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
    """Return a key of [a-z0-9-] for a subject."""
    return re.sub("[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def count_threads(threads: int) -> str:
    """Return "1 thread" or "2 threads"."""
    return f"{threads} thread" + "s" * (threads != 1)


def drop_twins(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates without a second one of the same bytes, engine and threads."""
    seen: dict[tuple[str, str, int], Candidate] = {}
    for item in found:
        seen.setdefault((item.contract.digest, item.engine, item.threads), item)
    return list(seen.values())


def name_apart(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates with keys and names that differ: those of several models get their file's name."""
    keys = [item.key for item in found]
    apart: list[Candidate] = []
    for item in found:
        if keys.count(item.key) > 1:
            stem = re.sub(r"(\.(drq|fp32|fp16|int8|weight-only))?\.tflite$", "", item.file)
            item = replace(item, key=make_key(stem, item.key), name=f"{stem}: {item.name}")
        taken = sum(other.key == item.key for other in apart)
        apart.append(replace(item, key=f"{item.key}-{taken + 1}") if taken else item)
    return apart


def has_report(path: Path) -> bool:
    """Tell whether the report beside a .tflite is that file's: it says what conversion added to the graph."""
    try:
        told = json.loads(path.with_suffix(".json").read_text())["model"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(told == describe_file(path, str(path))["sha256"])


def convert_source(path: Path, work: Path, trust: str, ready: Mapping[tuple[str, str], Path], say: Say) -> Source:
    """Convert a trained model as a user does, to DRQ and to FP32, but for what is ready by its hash and recipe.

    Raises: ModelError if convert refuses it.
    """
    work.mkdir()
    digest = "" if path.is_dir() else str(describe_file(path, str(path))["sha256"])
    made = {}
    for recipe in ("drq", "fp32"):
        if (digest, recipe) in ready:
            made[recipe] = ready[digest, recipe]
            continue
        say(f"converting {path} ({recipe})")
        made[recipe] = run_convert(path, work / f"{recipe}.tflite", recipe, trust)
    notes = json.loads(made["drq"].with_suffix(".json").read_text()).get("notes", [])
    append = next((word for word in ("sigmoid", "softmax") if f"{word} appended to the graph" in notes), "")
    return Source(name_for_keras(path, work), path.name, made["drq"], made["fp32"], append)


def run_convert(path: Path, out: Path, recipe: str, trust: str, *more: str) -> Path:
    """Run `python -m convert`. Raises: ModelError with convert's own words."""
    trusting = ["--trust-custom", trust] if trust else []
    command = ["convert", str(path), "-o", str(out), "--recipe", recipe, *trusting, *more]
    status, last = run_command(command, out.parent)
    if status:
        why = last.removeprefix("edge-convert: error: ").removeprefix(f"{path}: ")
        raise ModelError(str(path), f"python -m convert refuses it: {why}")
    return out


def name_for_keras(path: Path, work: Path) -> Path:
    """Return a path to a trained model whose suffix fits its content."""
    if path.is_dir():
        return path.resolve()
    with path.open("rb") as file:
        suffix = SUFFIXES.get(file.read(4), path.suffix)
    link = work / f"source{suffix}"
    link.symlink_to(path.resolve())
    return link


def describe_file(path: Path, name: str) -> dict[str, object]:
    """Return a file's name, bytes and SHA-256; of a folder, those of all that is in it."""
    parts = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    digest, size = hashlib.sha256(), 0
    try:
        for part in parts:
            data = part.read_bytes()
            digest.update(
                data if part == path else f"{part.relative_to(path).as_posix()}\0{len(data)}\0".encode() + data
            )
            size += len(data)
    except OSError as error:
        raise EdgeSegError(name, f"it cannot be read ({error.strerror})", "check its permissions") from None
    return {"name": name, "bytes": size, "sha256": digest.hexdigest()}
