"""What the subject is compared with: baselines, named for what they are, and with --peers other runtimes and files.

None of them is a dependency: each runs in a child, in whichever interpreter has it, and each that is absent is listed
with what it lacks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edge_runtime.contract import Contract
from edge_runtime.errors import ModelError

from .candidates import Candidate, Say, Source, count_threads, run_convert
from .process import run_command

ENVIRONMENT = "EDGE_SEG_PEERS_PYTHON"  # an interpreter for all peers that the present one cannot run
MODULES = {
    "litert": "ai_edge_litert",
    "tflite-runtime": "tflite_runtime",
    "keras": "keras",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "tensorflow": "tensorflow",
    "tf2onnx": "tf2onnx",
}
NO_SOURCE = "it is made from the trained model: give that as a further MODEL"
NO_CALIBRATION = "full int8 needs images to calibrate with that are not the test images: --calibrate DIR"


@dataclass(frozen=True)
class Peer:
    """What to compare with: `made` by one of benchmarks.stock's kinds or by convert, else `reads` a file that is there.

    `maker` is what the making needs, as a key of MODULES.
    """

    key: str
    name: str
    engine: str
    recipe: str
    reads: str = ""  # "trained" | "drq" | "fp32"
    made: str = ""
    maker: str = "tensorflow"


BASELINES = (
    Peer("keras-fp32", "Keras FP32 (tf.function)", "keras", "fp32", reads="trained"),
    Peer("stock-drq", "stock converter DRQ on LiteRT", "litert", "stock-drq", made="stock-drq"),
)
PEERS = (
    Peer("stock-fp32", "stock converter FP32 on LiteRT", "litert", "stock-fp32", made="stock-fp32"),
    Peer("stock-fp16", "stock converter FP16 on LiteRT", "litert", "stock-fp16", made="stock-fp16"),
    Peer("stock-int8", "stock converter INT8 on LiteRT", "litert", "stock-int8", made="stock-int8"),
    Peer("openvino-fp32", "OpenVINO, FP32 .tflite", "openvino", "fp32", reads="fp32"),
    Peer("openvino-drq", "OpenVINO, DRQ .tflite", "openvino", "drq", reads="drq"),
    Peer("onnxruntime-fp32", "ONNX Runtime FP32", "onnxruntime", "fp32", made="onnx-fp32", maker="tf2onnx"),
    Peer("onnxruntime-int8", "ONNX Runtime dynamic INT8", "onnxruntime", "int8", made="onnx-int8", maker="tf2onnx"),
    Peer("tflite-runtime-fp32", "tflite-runtime, FP32 .tflite", "tflite-runtime", "fp32", reads="fp32"),
    Peer("tflite-runtime-drq", "tflite-runtime, DRQ .tflite made for it", "tflite-runtime", "drq", made="convert"),
)


@dataclass(frozen=True)
class Kitchen:
    """What peers are made from and where: files by what `Peer.reads` calls them, tensors, interpreters by engine."""

    files: Mapping[str, Path]
    file: str  # the model's name for readers
    contract: Contract
    append: str
    threads: int
    pythons: Mapping[str, str]
    trust: str
    tensors: Path  # that inference is timed on
    calibration: Path | None  # tensors too
    work: Path
    say: Say


def gather_files(source: Source | None, subject: Candidate) -> dict[str, Path]:
    """Return the files that peers can read."""
    if source is None:
        return {subject.recipe: subject.path}
    return {"trained": source.path, "drq": source.drq, "fp32": source.fp32}


def make_peer(peer: Peer, role: str, kitchen: Kitchen) -> Candidate:
    """Return a peer as a candidate, its file made; or why it cannot be measured."""
    key = f"{peer.key}-{peer.engine}-{kitchen.threads}" if peer.engine == "litert" else peer.key
    python, why = find_python(peer.engine, kitchen.pythons)
    path, failed = Path(), False
    if not why:
        try:
            path, why = find_file(peer, kitchen)
        except ModelError as error:
            why, failed = error.why, True
    as_trained = peer.reads == "trained" or peer.made not in ("", "convert")  # the graph with nothing appended
    return Candidate(
        key=key,
        name=f"{peer.name}, {count_threads(kitchen.threads)}",
        role=role,
        engine=peer.engine,
        threads=kitchen.threads,
        recipe=peer.recipe,
        path=path,
        file=kitchen.file if peer.reads == "trained" else path.name,
        contract=kitchen.contract,
        python=python,
        trust=kitchen.trust if peer.engine == "keras" else "",
        append=kitchen.append if as_trained else "",
        why_not=why,
        failed=failed,
    )


def find_file(peer: Peer, kitchen: Kitchen) -> tuple[Path, str]:
    """Return the file that a peer runs, or why there is none. Raises: ModelError if its converter fails."""
    if peer.reads:
        found = kitchen.files.get(peer.reads)
        return (found, "") if found else (Path(), NO_SOURCE)
    if "trained" not in kitchen.files:
        return Path(), NO_SOURCE
    if peer.made == "convert":
        kitchen.say("converting for tflite-runtime")
        out = kitchen.work / f"{peer.key}.tflite"
        return run_convert(kitchen.files["trained"], out, peer.recipe, kitchen.trust, "--target", "tflite-runtime"), ""
    if peer.made == "stock-int8" and kitchen.calibration is None:
        return Path(), NO_CALIBRATION
    python, why = find_python(peer.maker, kitchen.pythons)
    return (Path(), why) if why else (run_stock(peer.made, kitchen, python), "")


def run_stock(kind: str, kitchen: Kitchen, python: str) -> Path:
    """Make a file by one of benchmarks.stock's kinds, once. Raises: ModelError with the converter's last words."""
    out = kitchen.work / f"{kind}{'.onnx' if kind.startswith('onnx') else '.tflite'}"
    if out.is_file():
        return out
    source = run_stock("onnx-fp32", kitchen, python) if kind == "onnx-int8" else kitchen.files["trained"]
    tensors = kitchen.calibration if kind == "stock-int8" else kitchen.tensors
    kitchen.say(f"making {out.name}")
    command = ["benchmarks.stock", kind, str(source), str(out), str(tensors), kitchen.trust]
    status, last = run_command(command, kitchen.work, python)
    if status or not out.is_file():
        raise ModelError(kind, f"its converter failed ({last})")
    return out


def find_python(name: str, pythons: Mapping[str, str]) -> tuple[str, str]:
    """Return the first interpreter that has an engine's package, or why there is none.

    pythons: {engine: interpreter}; that of "" serves all. Asked in this order, then the present one.
    """
    module = MODULES[name]
    for python in (pythons.get(name), pythons.get(""), sys.executable):
        if python and has_module(python, module):
            return python, ""
    package = module.replace("_", "-")
    return "", f"{package} is not installed: pip install {package}, or name an interpreter: --peer-python {name}=PATH"


@cache
def has_module(python: str, module: str) -> bool:
    """Tell whether an interpreter finds a module."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def choose_peers(wanted: bool, source: Source | None, engines: Sequence[str]) -> list[tuple[Peer, str]]:
    """Return the baselines of a trained model and, if wanted, the peers but for engines that are measured anyway."""
    baselines = [(peer, "baseline") for peer in BASELINES] if source else []
    peers = (
        [(peer, "peer") for peer in PEERS if peer.engine == "litert" or peer.engine not in engines] if wanted else []
    )
    return baselines + peers
