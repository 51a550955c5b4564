"""The engines: chosen by name, found where installed, one line where not."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime import Session
from edge_runtime.errors import EngineError, ModelError, UsageError
from edge_runtime.inference.engines.registry import (
    ACCELERATED,
    ENGINES,
    count_cores,
    import_engine,
    is_installed,
    load_engine,
)
from edge_runtime.inference.engines.tflite_interpreter import InterpreterEngine
from edge_runtime.models import DEFAULT

# A GPU's engine may be installed where no GPU is.
INSTALLED = [name for name in ENGINES if is_installed(name) and name not in ACCELERATED]
PACKAGES = (
    "ai_edge_litert",
    "ai_edge_litert.interpreter",
    "ai_edge_litert.compiled_model",
    "tflite_runtime",
    "openvino",
)


def test_one_engine_is_installed() -> None:
    """These tests need one interpreter, whichever."""
    assert INSTALLED


@pytest.mark.parametrize("name", ["auto", *INSTALLED])
def test_an_engine_keeps_its_promises(name: str) -> None:
    """Shapes, types, name and version are set, and the output is float32 of the promised shape."""
    engine = load_engine(name, DEFAULT, 1)
    assert engine.name == (INSTALLED[0] if name == "auto" else name)
    assert engine.version[0].isdigit()
    assert engine.threads == 1
    output = engine.infer(np.zeros(engine.input_shape, engine.input_dtype))
    assert output.shape == engine.output_shape
    assert output.dtype == np.float32


def test_the_callers_output_is_not_overwritten() -> None:
    """An output stays what it was when the engine runs again."""
    engine = load_engine("auto", DEFAULT, 1)
    first = engine.infer(np.zeros(engine.input_shape, np.float32))
    kept = first.copy()
    engine.infer(np.ones(engine.input_shape, np.float32))
    assert (first == kept).all()


@pytest.mark.parametrize("name", INSTALLED[1:])
def test_engines_agree(name: str, drawn: npt.NDArray[np.uint8]) -> None:
    """The embedded model's masks are the same on every engine for the CPU, but for a pixel in a thousand."""
    first, other = (Session.load(engine=engine, threads=1).segment(drawn) for engine in (INSTALLED[0], name))
    assert other.engine == name
    assert (first.mask == other.mask).mean() >= 0.999
    assert abs(first.probability - other.probability).mean() < 0.01


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is not LiteRT's text, a line number of its source, but has a fix."""
    compiled = pytest.importorskip("edge_runtime.inference.engines.compiled_model")

    def refuse(*_: object) -> None:
        raise RuntimeError("ERROR: [litert_compiled_model.h:1961]\n└ ERROR")

    monkeypatch.setattr(compiled, "compile_model", refuse)
    with pytest.raises(EngineError, match=r"no GPU here.*Vulkan driver") as caught:
        load_engine("gpu", DEFAULT, 1)
    assert "\n" not in str(caught.value) and "1961" not in str(caught.value)


def test_what_is_no_model_is_no_missing_gpu(tmp_path: Path) -> None:
    """A file that LiteRT cannot read is named, whether there is a GPU or not."""
    pytest.importorskip("edge_runtime.inference.engines.compiled_model")
    (tmp_path / "m.tflite").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"m\.tflite: gpu refuses it"):
        load_engine("gpu", tmp_path / "m.tflite", 1)


def test_stdout_is_for_data(capfd: pytest.CaptureFixture[str]) -> None:
    """What a C library prints there while a GPU's engine is made goes to stderr, and nothing else does."""
    gpu = pytest.importorskip("edge_runtime.inference.engines.gpu")
    print("before")
    with gpu.redirect_stdout():
        ctypes.CDLL(None).puts(b"text of a library")
    print("after")
    out, err = capfd.readouterr()
    assert (out, err) == ("before\nafter\n", "text of a library\n")


def test_a_package_that_is_broken_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a package raises when it is imported, the engine counts as not installed, with the reason."""
    (tmp_path / "planted_torn").mkdir()
    (tmp_path / "planted_torn" / "torn.py").write_text("raise SystemError('half an update')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ENGINES, "torn", ("planted_torn.torn", "torn-package"))
    assert not is_installed("torn")
    with pytest.raises(EngineError, match=r"needs torn-package \(SystemError: half an update\); pip install"):
        load_engine("torn", DEFAULT, 1)


@pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed")
@pytest.mark.parametrize(("flags", "precision"), [({"avx2"}, "f32"), ({"avx512_vnni", "amx_bf16"}, "bf16")])
def test_openvino_computes_in_bf16_only_where_tiles_do(flags: set[str], precision: str) -> None:
    """The lower precision is used only where it is faster."""
    config = import_engine("openvino").make_config(2, frozenset(flags))
    assert (config["INFERENCE_PRECISION_HINT"], config["INFERENCE_NUM_THREADS"]) == (precision, 2)


def test_a_tensor_that_does_not_fit_is_an_engine_error() -> None:
    """What the interpreter refuses is one line with a way out."""
    engine = load_engine("auto", DEFAULT, 1)
    with pytest.raises(EngineError) as caught:
        engine.infer(np.zeros((1, 3, 3, 1), np.float32))
    assert "\n" not in str(caught.value)


def test_an_unknown_engine_is_a_usage_error() -> None:
    """The error lists the names."""
    with pytest.raises(UsageError, match="litert"):
        load_engine("onnx", DEFAULT)


def block_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no interpreter import, as where none is installed."""
    for module in ("compiled_model", *(module for module, _ in ENGINES.values())):
        monkeypatch.delitem(sys.modules, f"edge_runtime.inference.engines.{module}", raising=False)
    for package in (*PACKAGES, "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("name", list(ENGINES))
def test_an_engine_that_is_not_installed_names_its_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is one message with the command that installs it."""
    package = ENGINES[name][1]
    block_packages(monkeypatch)
    with pytest.raises(EngineError, match=f"pip install {package}"):
        load_engine(name, DEFAULT)


def test_auto_without_any_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any engine, the error of auto names the one to install."""
    block_packages(monkeypatch)
    with pytest.raises(EngineError, match="pip install"):
        load_engine("auto", DEFAULT)


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("data", [b"", b"no model", b"\x1c\0\0\0TFL3" + bytes(100)])
def test_what_is_no_model_is_a_model_error(tmp_path: Path, name: str, data: bytes) -> None:
    """An engine that refuses a file names the file."""
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        load_engine(name, path, 1)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


class FakeInterpreter:
    """One quantized output; counts as the library's class does."""

    def __init__(self, outputs: int = 1) -> None:
        self.outputs = outputs

    def get_input_details(self) -> list[dict[str, object]]:
        return [{"shape": np.array([1, 2, 2, 1]), "dtype": np.float32, "index": 0}]

    def get_output_details(self) -> list[dict[str, object]]:
        detail = {"shape": np.array([1, 2, 2, 1]), "dtype": np.int8, "index": 1, "quantization": (1 / 256, -128)}
        return [detail] * self.outputs

    def set_tensor(self, index: int, tensor: object) -> None: ...

    def invoke(self) -> None: ...

    def get_tensor(self, index: int) -> object:
        return np.array([-128, -64, 0, 127], np.int8).reshape(1, 2, 2, 1)


def test_an_integer_output_is_brought_back_to_probabilities() -> None:
    """(value - zero point) * scale, in float, so that int8 does not wrap."""
    engine = InterpreterEngine("fake", "1", 1, FakeInterpreter(), "m")
    assert engine.output_dtype == "int8"
    found = engine.infer(np.zeros((1, 2, 2, 1), np.float32))
    assert found.dtype == np.float32
    assert found.ravel().tolist() == [0, 0.25, 0.5, 255 / 256]


def test_a_second_output_is_the_classes() -> None:
    """Both come back as floats, the mask first, in the order of the graph; one output has no classes."""
    engine = InterpreterEngine("fake", "1", 1, FakeInterpreter(2), "m")
    assert engine.class_shape == (1, 2, 2, 1)
    mask, classes = engine.infer_both(np.zeros((1, 2, 2, 1), np.float32))
    assert (mask == engine.infer(np.zeros((1, 2, 2, 1), np.float32))).all()
    assert classes.ravel().tolist() == [0, 0.25, 0.5, 255 / 256]
    assert InterpreterEngine("fake", "1", 1, FakeInterpreter(), "m").class_shape is None


def test_a_model_of_more_outputs_is_refused() -> None:
    """A mask and classes are all that a contract can name."""
    with pytest.raises(ModelError, match="3 outputs"):
        InterpreterEngine("fake", "1", 1, FakeInterpreter(3), "m")


def test_cores_are_those_this_process_may_use() -> None:
    """At least one."""
    assert count_cores() >= 1
