"""What is the subject compared with? Baselines, and with --peers other runtimes and converters.

None of them is a dependency: each runs in a child process, in an interpreter that has it. Absent ones are listed with
what they lack.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.subjects.interpreters import run_command
from edge_runtime.contract.fields import Contract
from edge_runtime.errors import ModelError

from .candidates import Candidate, Notify, TrainedModel, format_threads, run_convert

PEERS_PYTHON = "EDGE_SEG_PEERS_PYTHON"  # an interpreter for all peers that this one cannot run
MODULES = {
    "litert": "ai_edge_litert",
    "tflite-runtime": "tflite_runtime",
    "keras": "keras",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "tensorflow": "tensorflow",
    "tf2onnx": "tf2onnx",
}
NO_SOURCE = "it is made from the trained model: give that as another MODEL"
NO_CALIBRATION = "full int8 needs images to calibrate with that are not the test images: --calibrate DIR"


@dataclass(frozen=True)
class Peer:
    """A baseline or peer: it `reads` an existing file, or its file is `made` by stock_converters or convert.

    `maker` is the package that makes the file, as a key of MODULES.
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
class PeerBuild:
    """What peers are built from: files by `Peer.reads`, tensors, and interpreters by engine."""

    files: Mapping[str, Path]
    file: str  # the model's name for readers
    contract: Contract
    append: str
    threads: int
    pythons: Mapping[str, str]
    trust: str
    tensors: Path  # of the timed images
    calibration: Path | None  # tensors of the calibration images
    work: Path
    notify: Notify


def list_peer_files(source: TrainedModel | None, subject: Candidate) -> dict[str, Path]:
    """Return the files that peers can read, by `Peer.reads`."""
    if source is None:
        return {subject.recipe: subject.path}
    return {"trained": source.path, "drq": source.drq, "fp32": source.fp32}


def make_peer(peer: Peer, role: str, build: PeerBuild) -> Candidate:
    """Return a peer as a candidate with its file, or with the reason why it cannot be measured."""
    key = f"{peer.key}-{peer.engine}-{build.threads}" if peer.engine == "litert" else peer.key
    python, why = find_python(peer.engine, build.pythons)
    path, failed = Path(), False
    if not why:
        try:
            path, why = find_file(peer, build)
        except ModelError as error:
            why, failed = error.why, True
    as_trained = peer.reads == "trained" or peer.made not in ("", "convert")  # without an appended activation
    return Candidate(
        key=key,
        name=f"{peer.name}, {format_threads(build.threads)}",
        role=role,
        engine=peer.engine,
        threads=build.threads,
        recipe=peer.recipe,
        path=path,
        file=build.file if peer.reads == "trained" else path.name,
        contract=build.contract,
        python=python,
        trust=build.trust if peer.engine == "keras" else "",
        append=build.append if as_trained else "",
        why_not=why,
        failed=failed,
    )


def find_file(peer: Peer, build: PeerBuild) -> tuple[Path, str]:
    """Return a peer's file, or the reason why there is none. Raises: ModelError if its converter fails."""
    if peer.reads:
        found = build.files.get(peer.reads)
        return (found, "") if found else (Path(), NO_SOURCE)
    if "trained" not in build.files:
        return Path(), NO_SOURCE
    if peer.made == "convert":
        build.notify("converting for tflite-runtime")
        out = build.work / f"{peer.key}.tflite"
        return run_convert(build.files["trained"], out, peer.recipe, build.trust, "--target", "tflite-runtime"), ""
    if peer.made == "stock-int8" and build.calibration is None:
        return Path(), NO_CALIBRATION
    python, why = find_python(peer.maker, build.pythons)
    return (Path(), why) if why else (run_stock(peer.made, build, python), "")


def run_stock(kind: str, build: PeerBuild, python: str) -> Path:
    """Make a file by stock_converters, once. Raises: ModelError with the converter's last line."""
    out = build.work / f"{kind}{'.onnx' if kind.startswith('onnx') else '.tflite'}"
    if out.is_file():
        return out
    source = run_stock("onnx-fp32", build, python) if kind == "onnx-int8" else build.files["trained"]
    tensors = build.calibration if kind == "stock-int8" else build.tensors
    build.notify(f"making {out.name}")
    command = ["benchmarks.subjects.stock_converters", kind, str(source), str(out), str(tensors), build.trust]
    status, last = run_command(command, build.work, python)
    if status or not out.is_file():
        raise ModelError(kind, f"its converter failed ({last})")
    return out


def find_python(name: str, pythons: Mapping[str, str]) -> tuple[str, str]:
    """Return the first interpreter that has an engine's package, or the reason why there is none.

    pythons: {engine: interpreter}; "" is for all engines. The order: the engine's, the common one, this one.
    """
    module = MODULES[name]
    for python in (pythons.get(name), pythons.get(""), sys.executable):
        if python and has_module(python, module):
            return python, ""
    package = module.replace("_", "-")
    return "", f"{package} is not installed: pip install {package}, or name an interpreter: --peer-python {name}=PATH"


@cache
def has_module(python: str, module: str) -> bool:
    """Return whether an interpreter finds a module."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def choose_peers(wanted: bool, source: TrainedModel | None, engines: Sequence[str]) -> list[tuple[Peer, str]]:
    """Return the baselines of a trained model and, if wanted, the peers on engines that are not measured anyway."""
    baselines = [(peer, "baseline") for peer in BASELINES] if source else []
    peers = (
        [(peer, "peer") for peer in PEERS if peer.engine == "litert" or peer.engine not in engines] if wanted else []
    )
    return baselines + peers
