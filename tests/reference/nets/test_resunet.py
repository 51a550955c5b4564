"""The nets: sizes, skips, shapes and blocks as the paper has them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from reference.nets.attention import cbam, gate_attention, squeeze_excite  # noqa: E402
from reference.nets.resunet import build_resunet  # noqa: E402
from reference.recipe import ATTENTIONS  # noqa: E402

MIB = 2**20 / 4  # float32 weights in a MiB
# Fitted FP32 file sizes in MiB, and the share by which the parameters may differ.
FITTED = {"none": (126.22, 0.005), "ag": (126.94, 0.005), "se": (126.78, 0.005), "cbam": (127.36, 0.015)}


@pytest.fixture(scope="module", params=ATTENTIONS)
def net(request: pytest.FixtureRequest) -> tuple[str, keras.Model]:
    return request.param, build_resunet(request.param)


def test_parameters_fit_the_papers_file_sizes(net: tuple[str, keras.Model]) -> None:
    """Each variant has as many parameters as its published file has room for."""
    attention, model = net
    size, tolerance = FITTED[attention]
    assert model.count_params() == pytest.approx(size * MIB, rel=tolerance)


def test_skips_and_shapes_are_the_papers(net: tuple[str, keras.Model]) -> None:
    """Four named encoder layers meet five decoder stages, from 7 x 7 to a mask of the input's size."""
    _, model = net
    shapes = {
        "conv1_conv": (112, 112, 64),
        "conv2_block3_1_conv": (56, 56, 64),
        "conv3_block4_1_conv": (28, 28, 128),
        "conv4_block5_out": (14, 14, 1024),
        "post_bn": (7, 7, 2048),
        "dec1_out": (14, 14, 256),
        "dec2_out": (28, 28, 128),
        "dec3_out": (56, 56, 64),
        "dec4_out": (112, 112, 32),
        "dec5_out": (224, 224, 16),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 224, 224, 1)
    assert model.get_layer("dec1_concat").output.shape[-1] == 256 + 1024
    assert model.get_layer("dec4_concat").output.shape[-1] == 32 + 64
    assert "dec5_concat" not in {layer.name for layer in model.layers}  # the last stage has no skip


def test_attention_is_where_the_paper_puts_it(net: tuple[str, keras.Model]) -> None:
    """Gates sit in the four skips; SE and CBAM in the skips and the five residual blocks."""
    attention, model = net
    names = [layer.name for layer in model.layers]
    found = {
        "ag": sum(name.endswith("_ag_out") for name in names),
        "se": sum(name.endswith("_se_out") for name in names),
        "cbam": sum(name.endswith("_cbam_out") for name in names),
    }
    assert found == {key: {"ag": 4, "se": 9, "cbam": 9}[key] if key == attention else 0 for key in found}


def test_encoder_takes_resnet50v2_weights() -> None:
    """The encoder's weights are those of keras.applications.ResNet50V2, one for one and with its names."""
    theirs = keras.applications.ResNet50V2(include_top=False, weights=None, input_shape=(224, 224, 3)).weights
    ours = build_resunet().weights[: len(theirs)]
    assert [w.shape for w in ours] == [w.shape for w in theirs]
    assert [w.path for w in ours] == [w.path for w in theirs]


@pytest.mark.parametrize(("attention", "channels"), list(zip(ATTENTIONS, (1, 3, 1, 3), strict=True)))
def test_saved_net_loads_in_safe_mode_without_this_package(tmp_path: Path, attention: str, channels: int) -> None:
    """A saved slim net holds no class of ours, loads in safe mode and answers the same."""
    model = build_resunet(attention, width=0.125, size=64, channels=channels)
    path = tmp_path / "net.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        assert b"reference" not in archive.read("config.json")
    x = np.random.default_rng(0).random((1, 64, 64, channels), np.float32)
    again = keras.saving.load_model(path, safe_mode=True, compile=False)
    assert np.array_equal(again(x), model(x))


def test_slim_net_gives_a_mask_of_the_inputs_size() -> None:
    """The slim net works at half the input's size inside and still answers for every pixel."""
    model = build_resunet("ag", width=0.25, size=96, channels=1)
    assert model.output_shape == (None, 96, 96, 1)
    assert model.get_layer("dec4_out").output.shape[1:3] == (48, 48)
    answer = np.asarray(model(np.zeros((2, 96, 96, 1), np.float32)))
    assert answer.min() >= 0 and answer.max() <= 1


def test_unknown_attention_is_named() -> None:
    """A misspelt attention is refused by name."""
    with pytest.raises(ValueError, match="'seg' is not one of none, ag, se, cbam"):
        build_resunet("seg")


def by_name(model: keras.Model, part: str) -> list[np.ndarray]:
    return [weight.numpy() for weight in model.weights if part in weight.path]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_gate_is_equations_1_to_4() -> None:
    """The gate multiplies x with sigmoid(W_f * LeakyReLU(W_x * x + W_g * g)), place by place."""
    rng = np.random.default_rng(1)
    x, g = rng.normal(size=(1, 3, 4, 6)).astype("f"), rng.normal(size=(1, 3, 4, 5)).astype("f")
    a, b = keras.Input((3, 4, 6)), keras.Input((3, 4, 5))
    model = keras.Model([a, b], gate_attention(a, b, 2, "t"))
    (wx, bx), (wg, bg), (wf, bf) = (by_name(model, part) for part in ("t_theta", "t_phi", "t_alpha"))
    f = x @ wx[0, 0] + bx + g @ wg[0, 0] + bg
    f = np.where(f > 0, f, 0.1 * f)
    assert np.allclose(model([x, g]), x * sigmoid(f @ wf[0, 0] + bf), atol=1e-5)


def test_squeeze_excite_is_equations_5_to_8() -> None:
    """SE multiplies each channel with sigmoid(W2 * ReLU(W1 * mean))."""
    x = np.random.default_rng(2).normal(size=(2, 4, 4, 32)).astype("f")
    a = keras.Input((4, 4, 32))
    model = keras.Model(a, squeeze_excite(a, "t"))
    (w1, b1), (w2, b2) = by_name(model, "t_reduce"), by_name(model, "t_excite")
    assert w1.shape == (32, 2)  # ratio 16
    s = sigmoid(np.maximum(x.mean((1, 2)) @ w1 + b1, 0) @ w2 + b2)
    assert np.allclose(model(x), x * s[:, None, None, :], atol=1e-5)


def test_cbam_is_equations_9_to_13() -> None:
    """CBAM weighs by channel from mean and maximum, then by place with a 7 x 7 convolution."""
    x = np.random.default_rng(3).normal(size=(1, 8, 9, 16)).astype("f")
    a = keras.Input((8, 9, 16))
    model = keras.Model(a, cbam(a, "t"))
    (w1, b1), (w2, b2), (k, bk) = (by_name(model, part) for part in ("t_reduce", "t_expand", "t_place"))

    def mlp(z: np.ndarray) -> np.ndarray:
        return np.maximum(z @ w1 + b1, 0) @ w2 + b2

    weighed = x * sigmoid(mlp(x.mean((1, 2))) + mlp(x.max((1, 2))))[:, None, None, :]
    pooled = np.stack([weighed.mean(-1), weighed.max(-1)], -1)[0]  # (8, 9, 2)
    padded = np.pad(pooled, ((3, 3), (3, 3), (0, 0)))
    spatial = np.array([[(padded[i : i + 7, j : j + 7] * k[..., 0]).sum() for j in range(9)] for i in range(8)]) + bk
    assert np.allclose(model(x)[0], weighed[0] * sigmoid(spatial)[..., None], atol=1e-4)
