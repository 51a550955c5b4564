"""Training and scoring: a small run learns, resumes after a kill, and its numbers are right."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from edge_runtime.errors import UsageError  # noqa: E402
from reference.data.phantom import draw_folder  # noqa: E402
from reference.evaluation.predict import evaluate, find_slices, load_predictor  # noqa: E402
from reference.evaluation.slice_scores import Scores  # noqa: E402
from reference.nets.pretrained import load_weights  # noqa: E402
from reference.nets.resunet import build_resunet  # noqa: E402
from reference.recipe import Recipe  # noqa: E402
from reference.training.loss import add_heads, deep_loss, segmentation_loss  # noqa: E402
from reference.training.train import check_run, save_float32, train  # noqa: E402

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_folder(60, folder, seed=5, size=128)
    return folder


def command(drawn: Path, model: Path, epochs: int) -> list[str]:
    # Float32, since emulated bfloat16 is slow where the CPU lacks it; the size grows after the first epoch.
    text = f"-m reference train --attention ag --width 0.125 --size 64 --colour grey --epochs {epochs} --batch 8"
    text += f" --small-epochs 1 --small-size 32 --rate 3e-3 --precision float32 --data {drawn} -o {model}"
    return [sys.executable, *text.split()]


def read_log(model: Path) -> list[dict[str, str]]:
    with (model.with_suffix(".run") / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose training was killed after its first epoch or later and then resumed."""
    model = tmp_path_factory.mktemp("model") / "tiny.keras"
    process = subprocess.Popen(command(drawn, model, 3), cwd=ROOT, stderr=subprocess.DEVNULL)
    state = model.with_suffix(".run") / "state.npz"
    deadline = time.monotonic() + 300
    while not state.is_file() and process.poll() is None:
        assert time.monotonic() < deadline, "no epoch was finished"
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(command(drawn, model, 3), cwd=ROOT, capture_output=True, text=True, check=True)
    assert "resumed after epoch" in again.stderr
    assert again.stdout.strip() == str(model)
    return model


def test_killed_training_resumes(trained: Path) -> None:
    """Every epoch is in the log once, at its size, with falling loss; curve and split are written."""
    rows = read_log(trained)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["size"] for row in rows] == ["32", "64", "64"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    run = trained.with_suffix(".run")
    assert (run / "curve.png").stat().st_size > 1000
    assert (run / "validation-patients.txt").read_text().count("\n") == 12  # a fifth of 15 in each of four classes
    assert keras.saving.load_model(trained, compile=False).input_shape == (None, 64, 64, 1)


def test_a_net_of_bfloat16_is_saved_as_float32(tmp_path: Path) -> None:
    """What is trained in mixed_bfloat16 is saved as float32 throughout, with the same weights."""
    recipe = Recipe(attention="cbam", width=0.125, size=32, colour="rgb", precision="mixed_bfloat16")
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        net = build_resunet("cbam", 0.125, 32, 3)
        assert {layer.compute_dtype for layer in net.layers} > {"bfloat16"}
        save_float32(net.get_weights(), recipe, tmp_path / "half.keras")
        assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_global_policy("float32")
    saved = keras.saving.load_model(tmp_path / "half.keras", compile=False)
    assert saved.input_shape == (None, 32, 32, 3)
    assert {layer.compute_dtype for layer in saved.layers} == {"float32"}
    for found, expected in zip(saved.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_another_recipe_does_not_resume(tmp_path: Path) -> None:
    """A run's folder begun with another recipe is refused with what differs; only the number of epochs may change."""
    check_run(tmp_path / "a.run", Recipe(width=0.5))
    check_run(tmp_path / "a.run", Recipe(width=0.5, epochs=60))
    with pytest.raises(UsageError, match="begun with another width"):
        check_run(tmp_path / "a.run", Recipe(width=0.25))


def test_training_starts_from_given_weights(trained: Path) -> None:
    """`--weights FILE` gives each layer of the same name and shapes its weights; a file of another net is one line."""
    expected = keras.saving.load_model(trained, compile=False)
    same = build_resunet("ag", 0.125, None, 1)
    load_weights(str(trained), same)
    assert all(np.array_equal(a, b) for a, b in zip(expected.get_weights(), same.get_weights(), strict=True))
    other = build_resunet("se", 0.125, None, 1)
    gates = [layer.get_weights() for layer in other.layers if "se" in layer.name.split("_") and layer.weights]
    load_weights(str(trained), other)
    assert np.array_equal(
        expected.get_layer("conv1_conv").get_weights()[0], other.get_layer("conv1_conv").get_weights()[0]
    )
    after = [layer.get_weights() for layer in other.layers if "se" in layer.name.split("_") and layer.weights]
    assert gates and all(
        np.array_equal(a, b) for x, y in zip(gates, after, strict=True) for a, b in zip(x, y, strict=True)
    )
    with pytest.raises(UsageError, match="14 of 143 layers"):
        load_weights(str(trained), build_resunet("ag", 0.25, None, 3))
    with pytest.raises(UsageError, match="cannot be read"):
        load_weights(__file__, same)


def test_a_run_records_what_it_trained_on(trained: Path, drawn: Path) -> None:
    """Each slice is either in the record, by the SHA-256 of its file, or held out."""
    run = trained.with_suffix(".run")
    lines = [line.split("  ") for line in (run / "training-slices.txt").read_text().splitlines()]
    for digest, name in lines:
        assert digest == hashlib.sha256((drawn / "images" / name.split("/")[1]).read_bytes()).hexdigest()
    held_out = [line for part in ("validation", "test") for line in (run / f"{part}-slices.txt").read_text().split()]
    assert sorted([*held_out, *(name for _, name in lines)]) == sorted(
        f"{drawn.name}/{path.name}" for path in (drawn / "images").iterdir()
    )


def test_evaluation_agrees_with_a_naive_count(trained: Path, drawn: Path) -> None:
    """Scores from the .keras file are those of a plain loop over pixels."""
    slices = find_slices(drawn / "images", drawn / "masks", drawn / "labels.csv")[:6]
    predict, threshold = load_predictor(trained)
    found = evaluate(predict, slices, [threshold])[threshold]
    import cv2

    tp = fp = fn = tn = 0
    dice, alarms = [], []
    for item in slices:
        p = predict(cv2.imread(str(item.image), 0)) >= 0.5
        t = cv2.imread(str(item.mask), 0) > 127
        a, b, c = (p & t).sum(), (p & ~t).sum(), (~p & t).sum()
        tp, fp, fn, tn = tp + a, fp + b, fn + c, tn + (~p & ~t).sum()
        if t.any():
            dice.append(2 * a / (2 * a + b + c))
        else:
            alarms.append(p.any())
    assert found["lesion_iou"] == pytest.approx(tp / (tp + fp + fn))
    assert found["mean_iou"] == pytest.approx((tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2)
    assert found["dice"] == pytest.approx(np.mean(dice))
    assert found["false_alarms"] == pytest.approx(np.mean(alarms))


def test_mean_iou_is_keras_binary_iou() -> None:
    """Our sum over slices equals keras.metrics.BinaryIoU on the same masks."""
    rng = np.random.default_rng(0)
    truth, predicted = rng.random((5, 16, 16)) > 0.7, rng.random((5, 16, 16)) > 0.6
    scores = Scores()
    for p, t in zip(predicted, truth, strict=True):
        scores.add(p, t, "glioma")
    metric = keras.metrics.BinaryIoU(threshold=0.5)
    metric.update_state(truth.astype("f"), predicted.astype("f"))
    assert scores.summary()["mean_iou"] == pytest.approx(float(metric.result()), abs=1e-6)


def test_loss_rewards_the_right_mask() -> None:
    """The loss is near zero for the true mask, finite for the opposite, and defined without any tumour."""
    masks = np.zeros((2, 8, 8, 1), "f")
    masks[0, 2:5, 2:5] = 1
    right, wrong = (float(segmentation_loss(masks, p, 1.0)) for p in (masks, 1 - masks))
    assert right < 0.01 < 1 < wrong < 100
    empty = np.zeros_like(masks)
    assert float(segmentation_loss(empty, empty, 1.0)) < 0.01


def naive_loss(masks: np.ndarray, p: np.ndarray) -> float:
    """Cross-entropy plus soft Dice, pixel by pixel."""
    pairs = [(float(t), min(max(float(q), 1e-6), 1 - 1e-6)) for t, q in zip(masks.ravel(), p.ravel(), strict=True)]
    entropy = -sum(t * np.log(q) + (1 - t) * np.log(1 - q) for t, q in pairs) / len(pairs)
    overlap = (2 * sum(t * q for t, q in pairs) + 1) / (sum(t for t, _ in pairs) + sum(q for _, q in pairs) + 1)
    return float(entropy + 1 - overlap)


def test_deep_supervision_weighs_each_stage_half_as_much_as_the_finer_one() -> None:
    """It is the mask's loss, 0.6 of the next stage's, 0.3 of the one after; a coarse pixel's truth is its share."""
    rng = np.random.default_rng(3)
    masks = (rng.random((2, 8, 8, 1)) > 0.7).astype("f")
    outputs = [rng.random((2, side, side, 1)).astype("f") for side in (8, 4, 2)]
    halved = masks.reshape(2, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    quartered = masks.reshape(2, 2, 4, 2, 4, 1).mean(axis=(2, 4))
    expected = naive_loss(masks, outputs[0]) + 0.6 * naive_loss(halved, outputs[1])
    expected += 0.3 * naive_loss(quartered, outputs[2])
    assert float(deep_loss(masks, outputs, 1.0, 0.6)) == pytest.approx(expected, rel=1e-5)


def test_heads_are_added_beside_the_net() -> None:
    """A full-size decoder gets three more masks, a slim one two; the net's own mask and weights stay what they are."""
    x = np.random.default_rng(0).random((1, 64, 64, 1)).astype("f")
    for slim, sides in ((False, [64, 32, 16, 8]), (True, [64, 16, 8])):
        net = build_resunet("ag", 0.125, 64, 1, slim=slim)
        weights = len(net.weights)
        deep = add_heads(net)
        assert [shape[1] for shape in deep.output_shape] == sides
        assert len(net.weights) == weights == len(deep.weights) - 2 * (len(sides) - 1)
        np.testing.assert_array_equal(deep(x)[0], net(x))


def test_a_net_trained_deep_is_saved_without_its_heads(drawn: Path, tmp_path: Path) -> None:
    """A run with deep supervision resumes after its first epoch, and what it saves has one output and no new layer."""
    recipe = Recipe(width=0.125, size=32, colour="grey", epochs=2, batch=8, deep=0.5)
    model = tmp_path / "deep.keras"
    train(recipe, [drawn], [], model, until=1)
    train(recipe, [drawn], [], model)
    assert [row["epoch"] for row in read_log(model)] == ["1", "2"]
    saved = keras.saving.load_model(model, compile=False)
    plain = build_resunet("ag", 0.125, 32, 1)
    assert saved.output_shape == (None, 32, 32, 1)
    assert [layer.name for layer in saved.layers] == [layer.name for layer in plain.layers]


def run_reference(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "reference", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train", "--data", "nowhere", "-o", "m.keras"], "no such folder"),
        (["train", "--data", "few", "-o", "m.keras", "--batch", "4"], "none of the 0 held-out slices has a tumour"),
        (["train", "--data", "few", "-o", "m.keras"], "fewer than one batch of 16"),
        (["train", "--data", "few", "-o", "m.h5"], "does not end in .keras"),
        (["train", "--data", "few", "-o", "there.keras"], "exists already"),
        (["train", "--data", "few", "-o", "m.keras", "--size", "100"], "not a multiple of 32"),
        (["evaluate", "m.keras", "--images", "no"], "no such folder"),
        (["evaluate", "m.keras", "--images", "few/images", "--masks", "few/masks"], "does not exist"),
        (["train", "--data", "few", "-o", "m.keras", "--recipe", "ous"], "invalid choice"),
        (["table", "--data", "nowhere", "-o", "runs"], "no such folder"),
        (["table", "--data", "few", "-o", "runs", "--beside", "none.json"], "cannot be read as a table"),
        (["table", "--data", "few", "-o", "runs", "--variants", "ag,x"], "'x' is not one of none, ag, se, cbam"),
        (["ablate", "--data", "nowhere", "-o", "runs"], "no such folder"),
        (["draw", "few", "--size", "10", "4"], "argument N"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], word: str, tmp_path: Path) -> None:
    """Unusable input is refused before any training, in one line, with exit 2 and nothing written."""
    draw_folder(4, tmp_path / "few", size=64)
    (tmp_path / "there.keras").touch()
    run = run_reference(*arguments, cwd=tmp_path)
    assert run.returncode == 2
    lines = [line for line in run.stderr.splitlines() if "error: " in line]
    assert len(lines) == 1 and word in lines[0] and "Traceback" not in run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few", "there.keras"]
