"""Models as users bring them: they convert, run through the device's own session, and agree with Keras."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_nets import build_unet, functional, layer, spread, write_archive

from convert import Conversion, convert_model
from convert.__main__ import main
from convert.quantize.recipes import RECIPES
from convert.search.candidate import find_slowness
from convert.source.process import ConversionRequest, SourceFacts
from edge_runtime.checks.selftest import run_selftest
from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import AuditError, EdgeSegError, ModelError, OutputError, UnsafeModelError, UsageError
from edge_runtime.inference.session import Session

SLOW = ("slower",)  # how fast a tiny net is on a busy machine is not what these tests are about


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def keras_net(folder: Path) -> Any:
    """A U-Net with nested Conv2DTranspose, Rescaling inside, 3 channels; saved as net.keras."""
    model = spread(build_unet((64, 64), filters=(32, 64, 128), rescale=True))
    model.save(folder / "net.keras")
    return model


@pytest.fixture(scope="session")
def drq(folder: Path, keras_net: Any) -> Conversion:
    return convert_model(folder / "net.keras", keep_float=0, allow=SLOW)


def draw(height: int, width: int, channels: int) -> Any:
    shape = (height, width, 3) if channels == 3 else (height, width)
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def test_the_default_conversion(folder: Path, keras_net: Any, drq: Conversion) -> None:
    """A .keras U-Net becomes one static quantized file beside it, at most 28 % of FP32, close to Keras."""
    assert drq.path == folder / "net.drq.tflite"
    assert {finding.name for finding in drq.audit.findings} <= set(SLOW)
    assert drq.audit.size_bytes <= 0.28 * drq.audit.fp32_bytes
    assert drq.audit.partitions == 1, drq.audit.outside
    # Whatever form was fastest for the transposed convolutions.
    assert {weight.dtype for weight in drq.audit.weights if weight.elements >= 1024} == {"INT8"}
    assert drq.checks.finite
    assert drq.checks.largest_difference < 0.05
    contract = read_contract(drq.path, verify=True)
    assert (contract.input.scale, contract.input.offset, contract.input.colour) == (1.0, 0.0, "rgb")
    assert contract.recipe == "drq"
    assert contract.model.id == "net"
    report = json.loads(drq.report_path.read_text())
    assert report == json.loads(json.dumps(drq.report))
    assert "of static FP32" in drq.table


def test_a_live_model_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keras_net: Any) -> None:
    """A model in memory becomes a file named after it in the working directory, with Keras' own answers, unchanged."""
    monkeypatch.chdir(tmp_path)
    before = [weight.copy() for weight in keras_net.get_weights()]
    done = convert_model(keras_net, "fp32", allow=SLOW)
    name = keras_net.name
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.fp32.json", f"{name}.fp32.tflite"]
    assert done.contract.model.id == name and read_contract(done.path, verify=True) == done.contract
    image = draw(64, 64, 3)
    answer = np.asarray(keras_net(image[None].astype(np.float32)))[0, :, :, 0]
    np.testing.assert_allclose(Session.load(done.path, engine="litert").segment(image).probability, answer, atol=1e-4)
    assert all((old == new).all() for old, new in zip(before, keras_net.get_weights(), strict=True))
    with pytest.raises(OutputError, match="it exists already"):
        convert_model(keras_net, "fp32", allow=SLOW)


@pytest.mark.parametrize("model", [None, 3, [1], object()])
def test_what_is_no_model_is_one_line(model: Any) -> None:
    """What is neither a path nor a Keras model is refused by its type."""
    with pytest.raises(UsageError, match=r"model: it is of type builtins.\w+; give a Keras model, or the path"):
        convert_model(model)


def test_the_result_tests_itself(drq: Conversion) -> None:
    """The file carries golden vectors that hold on the machine that made it, and what the device is to doubt."""
    assert run_selftest(drq.path).diverged is None
    contract = read_contract(drq.path)
    assert contract.triage is not None and contract.triage == drq.contract.triage
    assert contract.golden is not None and contract.golden.bytes < 60_000


def test_the_session_agrees_with_keras(keras_net: Any, drq: Conversion) -> None:
    """The device's session, fed an image, gives Keras' probabilities."""
    image = draw(64, 64, 3)
    expected = np.asarray(keras_net(image[None].astype(np.float32)))[0, :, :, 0]
    found = Session.load(drq.path, engine="litert").segment(image).probability
    assert np.abs(found - expected).max() < 0.05


def test_float_for_an_old_runtime(folder: Path, keras_net: Any) -> None:
    """The fp32 recipe agrees to 1e-4, and the old runtime's target has no Conv2DTranspose left."""
    done = convert_model(folder / "net.keras", "fp32", folder / "old.tflite", target="tflite-runtime", allow=SLOW)
    assert done.checks.largest_difference < 1e-4
    assert "TRANSPOSE_CONV" not in done.audit.operations
    assert len(done.report["rewritten"]) == 3
    assert done.audit.quantized == 0


def test_h5_softmax_grey_not_square(folder: Path) -> None:
    """An .h5 U-Net of one channel and three classes, bilinear upsampling, 48x80, converts and runs."""
    model = spread(build_unet((48, 80), 1, 3, "bilinear"))
    model.save(folder / "soft.h5")
    done = convert_model(folder / "soft.h5", allow=SLOW)
    assert done.contract.output.activation == "softmax"
    assert [label.name for label in done.contract.output.labels] == ["background", "class 1", "class 2"]
    assert done.contract.input.scale == pytest.approx(1 / 255)
    image = draw(48, 80, 1)
    expected = np.asarray(model(image[None, :, :, None] / np.float32(255)))[0].argmax(axis=-1)
    found = Session.load(done.path, engine="litert").segment(image).labels
    assert (found != expected).mean() < 0.05


def test_saved_model_folder(folder: Path, keras_net: Any) -> None:
    """A SavedModel with an open batch becomes the same static file."""
    keras_net.export(folder / "exported", verbose=False)
    done = convert_model(folder / "exported", allow=SLOW)
    assert done.path == folder / "exported.drq.tflite"
    assert done.audit.partitions == 1, done.audit.outside
    assert done.checks.largest_difference < 0.05


def test_open_size_bfloat16_logits_and_a_contract_file(folder: Path) -> None:
    """A mixed_bfloat16 net of open size ending in logits converts with --input-size and a contract file."""
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_unet((None, None), 1, up="nearest", activation="linear")
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(folder / "open.keras")
    for size, words in ((None, "--input-size"), ((32, 32), "logits")):
        with pytest.raises(ModelError, match=words):
            convert_model(folder / "open.keras", input_size=size)
    lines = (
        'activation = "sigmoid"',
        'id = "mine"',
        "threshold = 0.3",
        'labels = [{name = "cyst", colour = [1, 2, 3]}]',
    )
    (folder / "open.contract.toml").write_text("\n".join(lines))
    words: list[str] = []
    done = convert_model(folder / "open.keras", input_size=(32, 48), say=words.append, allow=SLOW)
    assert any("open.contract.toml" in word for word in words)
    contract = done.contract
    assert (contract.model.id, contract.threshold.value, contract.output.labels[0].name) == ("mine", 0.3, "cyst")
    assert contract.input.shape == (1, 32, 48, 1)
    assert done.checks.probability
    assert {"sigmoid appended to the graph", "rebuilt in float32 from a 16-bit policy"} <= set(done.report["notes"])


CUSTOM = """
import keras

@keras.saving.register_keras_serializable("{package}")
class Gate(keras.layers.Layer):
    def call(self, x):
        return x * keras.ops.sigmoid(x)
"""


def test_a_custom_layer_needs_trust(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered custom layer is named in the error, and converts once its module is trusted."""
    import importlib

    import keras

    (folder / "stranger_layers.py").write_text(CUSTOM.format(package="stranger"))
    monkeypatch.syspath_prepend(folder)
    gate = importlib.import_module("stranger_layers").Gate
    image = keras.Input((16, 16, 1))
    x = gate(name="my_gate")(keras.layers.Conv2D(4, 3, padding="same")(image))
    keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(x)).save(folder / "custom.keras")
    with pytest.raises(EdgeSegError, match=r"'my_gate'.*'stranger>Gate'.*--trust-custom"):
        convert_model(folder / "custom.keras")
    done = convert_model(folder / "custom.keras", "fp32", trust_custom="stranger_layers", allow=SLOW)
    assert done.checks.largest_difference < 1e-4


@pytest.mark.parametrize("op", ["EagerPyFunc", "ReadFile"])
def test_a_hostile_graph_is_refused_unloaded(tmp_path: Path, op: str) -> None:
    """A SavedModel whose graph calls Python or reads a file is refused with the node's name."""
    import tensorflow as tf

    from convert.source.load.saved_model import load_graph

    def serve(x: Any) -> Any:
        if op == "ReadFile":
            return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)
        return tf.py_function(lambda y: y, [x], tf.float32)

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[tf.TensorSpec((1, 8, 8, 1))])
    tf.saved_model.save(module, str(tmp_path / "m"))
    with pytest.raises(UnsafeModelError, match=op):
        load_graph(tmp_path / "m", tmp_path, None)


def test_two_outputs_are_refused(folder: Path) -> None:
    """A net with two outputs is refused, its outputs named."""
    import keras

    image = keras.Input((16, 16, 1))
    heads = [keras.layers.Conv2D(1, 1, activation="sigmoid", name=name)(image) for name in ("mask", "edge")]
    keras.Model(image, heads).save(folder / "two.keras")
    with pytest.raises(ModelError, match="2 outputs"):
        convert_model(folder / "two.keras")


def test_the_audit_refuses_and_allow_overrides(folder: Path) -> None:
    """A net whose output is NaN is refused without a file; allowed, the finding is written into the contract."""
    import keras

    image = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", bias_initializer=keras.initializers.Constant(float("nan")))(image)
    keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(x)).save(folder / "nan.keras")
    with pytest.raises(AuditError, match="not-finite") as caught:
        convert_model(folder / "nan.keras", "fp32")
    assert caught.value.exit_code == 4
    assert not list(folder.glob("nan.fp32.*"))
    done = convert_model(folder / "nan.keras", "fp32", allow=["not-finite", "slower"])
    assert read_contract(done.path).allowed == ("not-finite",)


def test_nothing_is_overwritten_and_choices_are_checked(folder: Path, drq: Conversion) -> None:
    """An existing file, a folder that is not there, and near misses are refused before any work is done."""
    started = time.monotonic()
    with pytest.raises(OutputError, match="--force"):
        convert_model(folder / "net.keras")
    with pytest.raises(OutputError, match="does not exist"):
        convert_model(folder / "net.keras", out=folder / "no" / "m.tflite")
    with pytest.raises(UsageError, match="did you mean 'drq'"):
        convert_model(folder / "net.keras", "dqr")
    with pytest.raises(UsageError, match="did you mean 'not-finite'"):
        convert_model(folder / "net.keras", allow=["not-finit"])
    assert time.monotonic() - started < 5


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 5 for code in the file, 1 for no model, 2 for usage; nothing on stdout, one line on stderr."""
    evil = write_archive(folder / "evil.keras", functional(layer("Lambda", "boom")))
    text = folder / "text.keras"
    text.write_text("hello")
    for arguments, code, words in (
        ([str(evil)], 5, "layer 'boom' is a Lambda"),
        ([str(text)], 1, "not a Keras model"),
        ([str(folder / "gone.keras")], 1, "does not exist"),
        ([str(text), "--recipe", "int9"], 2, "int9"),
        ([], 2, "MODEL"),
    ):
        assert main(arguments) == code
        out, err = capsys.readouterr()
        assert not out
        last = err.strip().splitlines()[-1]
        assert last.startswith("edge-convert: error: ")
        assert words in last
    assert not list(folder.glob("evil.*.*"))


def test_json_in_a_clean_process(folder: Path, keras_net: Any, tmp_path: Path) -> None:
    """--json prints the report on stdout alone, and the process that asks never imports TensorFlow."""
    code = (
        "import sys; from convert.__main__ import main; code = main(sys.argv[1:]); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules); sys.exit(code)"
    )
    out = tmp_path / "again.tflite"
    command = [sys.executable, "-c", code, str(folder / "net.keras"), "--json", "--allow", "slower", "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recipe"] == "drq"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.json", "again.tflite"]


def test_the_same_input_gives_the_same_bytes(folder: Path, keras_net: Any, tmp_path: Path) -> None:
    """Two processes give the same file, bit for bit; so does one that takes the first one's layout from its report."""

    def convert(name: str, *more: str, cache: str = "cache") -> bytes:
        command = [sys.executable, "-m", "convert", str(folder / "net.keras"), "--allow", "slower", *more]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / cache)}
        subprocess.run([*command, "-o", str(tmp_path / name)], check=True, capture_output=True, env=environment)
        return (tmp_path / name).read_bytes()

    first = convert("first.tflite")
    assert convert("second.tflite") == first
    assert convert("third.tflite", "--choices", str(tmp_path / "first.json"), cache="none") == first


def test_choices_of_another_model_are_refused(folder: Path, drq: Conversion, tmp_path: Path) -> None:
    """--choices takes a report of the same recipe and model, and names what does not fit."""
    other = json.loads(drq.report_path.read_text())
    other["choice"]["forms"] = {"elsewhere": "phases"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    (tmp_path / "no.json").write_text("{}")
    for name, recipe, words in (
        ("other", "drq", "elsewhere"),
        ("no", "drq", "no conversion"),
        ("other", "fp32", "drq"),
    ):
        with pytest.raises(UsageError, match=words):
            out = tmp_path / "m.tflite"
            convert_model(folder / "net.keras", recipe, out, choices=tmp_path / f"{name}.json")


@pytest.mark.parametrize(("recipe", "ratio", "refused"), [
    ("drq", 1.02, True), ("fp16", 1.02, False),
])  # fmt: skip
def test_a_slow_result_is_refused(
    folder: Path,
    drq: Conversion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: str,
    ratio: float,
    refused: bool,
) -> None:
    """A file no faster than its float32 original is refused by name and ratio; allowed, the contract says so."""
    import convert.search.candidate

    monkeypatch.setattr(
        convert.search.candidate, "time_result", lambda *_: {"fp32": [2.0] * 9, "result": [2 * ratio] * 9}
    )
    out = tmp_path / "m.tflite"
    if refused:
        with pytest.raises(AuditError, match=f"slower.*{ratio:.2f} of its time") as caught:
            convert_model(folder / "net.keras", recipe, out, keep_float=0)
        assert caught.value.exit_code == 4
        assert not out.exists()
    done = convert_model(folder / "net.keras", recipe, out, keep_float=0, allow=SLOW)
    assert read_contract(done.path).allowed == SLOW


def test_too_slow_files_are_findings() -> None:
    """A quantized file must be faster than float32, a 16-bit one, computed in float, only not clearly slower."""
    for recipe, ratio, found in (("drq", 0.9, 0), ("drq", 1.02, 1), ("fp16", 1.02, 0), ("fp16", 1.2, 1)):
        clock = {"fp32": [2.0] * 9, "result": [2 * ratio] * 9}
        assert len(find_slowness(clock, RECIPES[recipe])) == found


@pytest.mark.parametrize(("recipe", "share", "dtype"), [("fp16", 0.52, "FLOAT16"), ("weight-only", 0.28, "INT8")])
def test_small_weights_computed_in_float(folder: Path, keras_net: Any, recipe: str, share: float, dtype: str) -> None:
    """fp16 and weight-only files are small, hold their large weights in that type, and agree with Keras."""
    done = convert_model(folder / "net.keras", recipe, allow=SLOW)
    assert done.audit.size_bytes <= share * done.audit.fp32_bytes
    assert {weight.dtype for weight in done.audit.weights if weight.elements >= 1024} == {dtype}
    assert done.checks.largest_difference < 0.05
    assert done.audit.partitions == 1, done.audit.outside
    assert Session.load(done.path, engine="litert").segment(draw(64, 64, 3)).mask.shape == (64, 64)


def test_ctrl_c_leaves_nothing(folder: Path, keras_net: Any, tmp_path: Path) -> None:
    """An interrupted conversion exits 130, ends its child and leaves no file."""
    out = tmp_path / "never.tflite"
    command = [sys.executable, "-m", "convert", str(folder / "net.keras"), "-o", str(out)]
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    while not list(tmp_path.glob("edge-convert-*/noise.txt")):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    assert not list(tmp_path.iterdir())


def test_a_killed_conversion_takes_its_child_along(folder: Path, keras_net: Any, tmp_path: Path) -> None:
    """SIGKILL of the parent, which no handler sees, ends the child too, and leaves no file beside the model."""
    import psutil

    out = tmp_path / "never.tflite"
    command = [sys.executable, "-m", "convert", str(folder / "net.keras"), "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)})
    while len(children := psutil.Process(process.pid).children()) < 2:  # one loads, one removes the folder in the end
        time.sleep(0.05)
        assert process.poll() is None
    time.sleep(1)  # long enough for the child to have asked for it
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert not list(tmp_path.iterdir())


def test_ten_conversions_do_not_grow_the_process(
    folder: Path, keras_net: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converting again and again in one process keeps its memory: from the third on, less than 2 MB each."""
    import psutil

    from convert.search import job

    kept: list[SourceFacts] = []
    real = job.run_source_process

    def run_once(work: Path, request: ConversionRequest) -> SourceFacts:
        """Let the child work once: what it does is gone with it, only the parent can grow."""
        if not kept:
            kept.append(real(work, request))
            shutil.copytree(work, tmp_path / "kept")
        for name in ("fp32.tflite", "checks.npz"):
            shutil.copy(tmp_path / "kept" / name, work / name)
        return kept[0]

    monkeypatch.setattr(job, "run_source_process", run_once)
    sizes = []
    for i in range(10):
        convert_model(folder / "net.keras", out=tmp_path / f"{i}.tflite", keep_float=0, upsample="keep", allow=SLOW)
        sizes.append(psutil.Process().memory_info().rss)
    assert sizes[9] - sizes[2] < 7 * 2e6, sizes


def test_the_original_answers_without_onednn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment asks for, the child's TensorFlow runs without oneDNN: its outputs may be off by 0.03."""
    from convert.search import job

    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    keras = pytest.importorskip("keras")
    notice = "oneDNN custom operations are on"
    plain = subprocess.run([sys.executable, "-c", "import tensorflow"], capture_output=True, text=True)
    if notice not in plain.stderr:
        pytest.skip("this TensorFlow has no oneDNN to turn on")
    noise = []
    real = job.run_source_process

    def listen(work: Path, request: ConversionRequest) -> SourceFacts:
        facts = real(work, request)
        noise.append((work / "noise.txt").read_text())
        return facts

    monkeypatch.setattr(job, "run_source_process", listen)
    net = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")])
    net.save(tmp_path / "net.keras")
    convert_model(tmp_path / "net.keras", "fp32", tmp_path / "net.tflite", allow=SLOW)
    assert len(noise) == 1 and notice not in noise[0]
