"""Recipes: the paper's has the published numbers, ours is compared choice by choice, both start from given weights."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")

from edge_runtime.errors import UsageError  # noqa: E402
from reference.__main__ import make_parser  # noqa: E402
from reference.data.folders import Slice, split_by_patient, split_by_slice  # noqa: E402
from reference.data.phantom import draw_folder  # noqa: E402
from reference.nets import pretrained  # noqa: E402
from reference.nets.resunet import build_resunet  # noqa: E402
from reference.options import make_recipe  # noqa: E402
from reference.paper import PAPER, follow_plateau  # noqa: E402
from reference.recipe import Recipe  # noqa: E402
from reference.training import ablation  # noqa: E402
from reference.training.held_out import check_start, write_split  # noqa: E402
from reference.training.train import train  # noqa: E402


def test_the_papers_recipe_has_the_published_numbers() -> None:
    """Section II.F: 224 pixels, batch 16, 50 epochs, Adam at 1e-3, cross-entropy alone, 60/20/20, and two callbacks."""
    assert (PAPER.size, PAPER.batch, PAPER.epochs, PAPER.rate) == (224, 16, 50, 0.001)
    assert (PAPER.weight_decay, PAPER.dice, PAPER.ema, PAPER.augment, PAPER.small_epochs) == (0, 0, 0, False, 0)
    assert (PAPER.split, PAPER.share, PAPER.test_share) == ("slice", 0.2, 0.2)
    assert (PAPER.schedule, PAPER.factor, PAPER.patience, PAPER.least_rate) == ("plateau", 0.2, 4, 1e-6)
    assert PAPER.stop_patience == 7


@pytest.mark.parametrize("seed", range(6))
def test_the_plateau_does_what_keras_callbacks_do(seed: int) -> None:
    """Rate and stop are those of ReduceLROnPlateau and EarlyStopping, asked anew after every epoch."""
    rng = np.random.default_rng(seed)
    scores = [float(s) for s in np.round(0.5 + rng.normal(0, 0.02, 60) + np.linspace(0, 0.04 * (seed % 3), 60), 4)]
    recipe = replace(PAPER, stop_patience=(7, 60)[seed % 2])  # also so long that the least rate is reached
    net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    net.compile(keras.optimizers.Adam(recipe.rate))
    drop = keras.callbacks.ReduceLROnPlateau("s", factor=0.2, patience=4, mode="max", min_lr=1e-6)
    stop = keras.callbacks.EarlyStopping("s", patience=recipe.stop_patience, mode="max")
    for callback in (drop, stop):
        callback.set_model(net)
        callback.on_train_begin()
    for epoch, score in enumerate(scores):
        for callback in (drop, stop):
            callback.on_epoch_end(epoch, {"s": score})
        rate, stopped = follow_plateau(scores[: epoch + 1], recipe)
        assert rate == pytest.approx(float(net.optimizer.learning_rate), rel=1e-5)
        assert stopped == bool(net.stop_training)
        if stopped:
            break


def test_flags_override_the_named_recipe() -> None:
    """A recipe is named, and only what the command line gives differs from it."""

    def read(text: str) -> Recipe:
        return make_recipe(make_parser().parse_args(["train", "--data", "d", "-o", "m.keras", *text.split()]))

    assert read("--precision float32") == Recipe()
    assert read("--recipe paper") == PAPER
    given = read("--recipe paper --split patient --epochs 3 --attention se --test-share 0")
    assert given == replace(PAPER, split="patient", epochs=3, attention="se", test_share=0.0)
    assert read("--precision float32 --deep 0.5 --match 1 --cover 0") == Recipe(deep=0.5, match=1.0)
    for text in ("--deep -1", "--match 1.5", "--cover nan", "--test-share 0.6"):
        with pytest.raises(SystemExit):
            read(text)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_folder(40, folder, seed=3, size=64)
    return folder


def build_small(recipe: Recipe, size: int | None) -> Any:
    """A net of two layers: the recipe is what is tested here."""
    image = keras.Input((size, size, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(image)
    return keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid", name="last")(x))


def test_the_papers_recipe_trains_and_resumes(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops at --until, resumes from there, and writes the log and the held-out slices, split by slice."""
    monkeypatch.setattr("reference.training.train.build_net", build_small)
    recipe = replace(PAPER, attention="none", width=0.125, size=32, colour="grey", batch=8, epochs=2)
    model = tmp_path / "p.keras"
    train(recipe, [drawn], [], model, until=1)
    run = model.with_suffix(".run")
    with (run / "log.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
    train(recipe, [drawn], [], model)
    with (run / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["rate"]) for row in rows] == [("1", "0.001"), ("2", "0.001")]
    assert len((run / "test-slices.txt").read_text().split()) == 8  # a fifth of 40
    assert not (run / "test-patients.txt").exists()
    with pytest.raises(UsageError, match="begun with another dice"):
        train(replace(recipe, dice=1.0), [drawn], [], model)


def make_slices(patients: int, each: int) -> list[Slice]:
    return [
        Slice(Path(f"p{p}-{i}.png"), Path("mask.png"), ("a", "b")[p % 2], f"set/p{p}")
        for p in range(patients)
        for i in range(each)
    ]


def test_a_split_by_slice_ignores_patients() -> None:
    """Every slice is in one part, the shares are those asked for, and patients lie on both sides."""
    slices = make_slices(20, 10)
    parts = split_by_slice(slices, (0.2, 0.2), seed=4)
    assert [len(part) for part in parts] == [120, 40, 40]
    assert sorted(item.image for part in parts for item in part) == sorted(item.image for item in slices)
    assert parts == split_by_slice(slices, (0.2, 0.2), seed=4) != split_by_slice(slices, (0.2, 0.2), seed=5)
    known = {item.patient for item in parts[0]}
    assert sum(item.patient in known for item in parts[2]) > 30


def test_a_net_that_has_seen_the_test_starts_none(tmp_path: Path) -> None:
    """A start is taken if it held out what is held out now; from another split it is refused with how much it saw."""
    slices = make_slices(20, 10)
    _, validation, test = split_by_patient(slices, (0.2, 0.2), seed=1)
    start = tmp_path / "start.keras"
    assert check_start(start, validation, test) is False  # nothing is known of it
    write_split(start.with_suffix(".run"), "patient", validation, test)
    assert check_start(start, validation, test) is True
    _, other_validation, other = split_by_patient(slices, (0.2, 0.2), seed=2)
    with pytest.raises(UsageError, match=r"it has seen \d+ of the slices"):
        check_start(start, other_validation, other)
    with pytest.raises(UsageError, match="it has seen"):  # its epoch was chosen by these
        check_start(start, test, validation)
    for part in ("validation", "test"):
        (start.with_suffix(".run") / f"{part}-slices.txt").unlink()
    assert check_start(start, validation, test) is True  # by patients alone
    _, by_slice, tested = split_by_slice(slices, (0.2, 0.2), seed=1)
    with pytest.raises(UsageError, match="of the patients"):
        check_start(start, by_slice, tested)
    elsewhere = [replace(item, patient=item.patient.replace("set/", "drawn/")) for item in other]
    assert check_start(start, [], elsewhere) is True  # it never saw that folder


def test_a_run_goes_on_with_the_data_that_it_was_begun_with(tmp_path: Path) -> None:
    """The same split is written again; another one, by new slices or an older file, is refused and nothing changes."""
    slices = make_slices(20, 10)
    _, validation, test = split_by_patient(slices, (0.2, 0.2), seed=1)
    for _ in range(2):
        write_split(tmp_path, "patient", validation, test)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert len(before) == 4 and before["test-slices.txt"].count("\n") == len(test)
    _, more, more_test = split_by_patient(make_slices(24, 10), (0.2, 0.2), seed=1)
    with pytest.raises(UsageError, match="others than --data now gives"):
        write_split(tmp_path, "patient", more, more_test)
    (tmp_path / "validation-slices.txt").unlink()  # as runs were written once
    with pytest.raises(UsageError, match=r"validation-patients\.txt has others"):
        write_split(tmp_path, "patient", test, validation)
    assert {name: before[name] for name in before if name != "validation-slices.txt"} == {
        path.name: path.read_text() for path in tmp_path.iterdir()
    }


def write_h5(path: Path, net: Any, rng: np.random.Generator, root: str = "") -> dict[str, list[np.ndarray]]:
    """A file in the layout of Keras's own weights: groups by layer, names in attributes; layers without weights too."""
    written = {}
    with h5py.File(path, "w") as file:
        top = file.create_group(root) if root else file
        encoder = [layer for layer in net.layers if layer.name.startswith(("conv", "post", "pool"))]
        top.attrs["layer_names"] = [layer.name.encode() for layer in encoder]
        for layer in encoder:
            group = top.create_group(layer.name)
            names = [f"{layer.name}/{i}:0" for i in range(len(layer.weights))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            written[layer.name] = [rng.random(w.shape, np.float32) for w in layer.weights]
            for name, value in zip(names, written[layer.name], strict=True):
                group.create_dataset(name, data=value)
    return {name: values for name, values in written.items() if values}


@pytest.mark.parametrize("root", ["", "model_weights"])
def test_an_encoder_takes_a_weights_file(root: str, tmp_path: Path) -> None:
    """Keras's .h5 layout gives every encoder layer its weights, leaves the decoder alone, and refuses another width."""
    net = build_resunet("ag", 0.125, None, 3)
    expected = write_h5(tmp_path / "w.h5", net, np.random.default_rng(0), root)
    before = {layer.name: layer.get_weights() for layer in net.layers if layer.weights and layer.name not in expected}
    assert sorted(pretrained.load_weights(str(tmp_path / "w.h5"), net)) == sorted(expected)
    assert len(expected) == 102  # ResNet50V2 without its classifier: 53 convolutions and 49 normalizations
    for layer in net.layers:
        for found, value in zip(layer.get_weights(), expected.get(layer.name, before.get(layer.name, [])), strict=True):
            np.testing.assert_array_equal(found, value)
    with pytest.raises(UsageError, match=r"of 102 layers.*--width 1 and --colour rgb"):
        pretrained.load_weights(str(tmp_path / "w.h5"), build_resunet("ag", 0.25, None, 3))
    (tmp_path / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\nnot really")
    with pytest.raises(UsageError, match="cannot be read"):
        pretrained.load_weights(str(tmp_path / "bad.h5"), net)
    with pytest.raises(UsageError, match="no such file"):
        pretrained.load_weights(str(tmp_path / "none.h5"), net)


def test_imagenet_without_a_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be downloaded, one line names the address, the file, and the option that takes it."""
    monkeypatch.setattr(pretrained, "IMAGENET_URL", "http://127.0.0.1:9/refused/weights.h5")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    net = build_resunet("none", 0.125, None, 3)
    with pytest.raises(UsageError, match="cannot be downloaded") as caught:
        pretrained.load_weights("imagenet", net)
    message = str(caught.value)
    assert "\n" not in message and "http://127.0.0.1:9/refused/weights.h5" in message
    assert f"--weights {pretrained.IMAGENET_FILE}" in message and "--weights none" in message


def test_imagenet_is_what_keras_itself_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Address, hash, layer names and shapes are those of keras.applications.ResNet50V2."""
    from keras.src.applications import resnet

    assert f"{resnet.BASE_WEIGHTS_PATH}{pretrained.IMAGENET_FILE}" == pretrained.IMAGENET_URL
    assert resnet.WEIGHTS_HASHES["resnet50v2"][1] == pretrained.IMAGENET_HASH
    theirs = keras.applications.ResNet50V2(include_top=False, weights=None)
    ours = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in build_resunet("none").layers}
    for layer in theirs.layers:
        if layer.weights:
            assert ours[layer.name] == [tuple(w.shape) for w in layer.weights]


def test_every_ablation_changes_its_own_fields() -> None:
    """A choice differs from ours in its own fields alone."""
    base = Recipe(width=0.125, size=64, epochs=8)
    ours = asdict(base)
    for choice, changes in ablation.CHOICES.items():
        found = asdict(ablation.apply_choice(base, changes, seed=1))
        changed = {key for key in ours if ours[key] != found[key]}
        assert changed == ({"small_epochs", "small_size"} if "small" in changes else set(changes)), choice
    assert ablation.apply_choice(base, {"small": True}, 2) == replace(base, small_epochs=4, small_size=32, seed=2)


def test_an_ablation_resumes_and_reports_its_own_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in ablation.json is not trained again, and the table holds means and differences seed by seed."""
    calls: list[tuple[str, int]] = []

    def measure(recipe: Recipe, folders: Any, path: Path) -> dict[str, Any]:
        if len(calls) == 3 and not (tmp_path / "interrupted").exists():
            (tmp_path / "interrupted").touch()
            raise KeyboardInterrupt
        calls.append((path.stem, recipe.seed))
        score = 0.5 + 0.1 * recipe.augment + 0.01 * recipe.seed * recipe.augment
        return {"test_slices": 9, "cpu_seconds": 10.0, "mean_iou": score, "lesion_iou": 0.1, "dice": 0.2}

    monkeypatch.setattr(ablation, "measure_choice", measure)
    counts = [3, 1, 1]
    monkeypatch.setattr(ablation, "split_folders", lambda recipe, folders: [[None] * count for count in counts])
    base = Recipe(width=0.125, size=64, epochs=8)
    with pytest.raises(KeyboardInterrupt):
        ablation.ablate(base, [tmp_path], tmp_path / "out", 2, None, lambda text: None)
    facts = ablation.ablate(base, [tmp_path], tmp_path / "out", 2, None, lambda text: None)
    assert len(calls) == len(set(calls)) == 2 * len(ablation.CHOICES)
    with pytest.raises(UsageError, match="begun with another recipe"):
        ablation.ablate(replace(base, size=96), [tmp_path], tmp_path / "out", 2, None, lambda text: None)
    counts[0] += 1
    with pytest.raises(UsageError, match="or other data"):
        ablation.ablate(base, [tmp_path], tmp_path / "out", 2, None, lambda text: None)
    line = next(line for line in ablation.to_markdown(facts).splitlines() if line.startswith("| without augmentation"))
    assert "| 2 | 0.500 | -0.115 (-0.120 to -0.110) |" in line


def test_an_ablation_of_one_choice_trains_ours_and_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--only deep` trains two nets; a name that no choice has is one line, before anything is written."""
    scores = {"test_slices": 9, "cpu_seconds": 1.0, "mean_iou": 0.5, "lesion_iou": 0.1, "dice": 0.2}
    monkeypatch.setattr(ablation, "measure_choice", lambda recipe, folders, path: dict(scores))
    monkeypatch.setattr(ablation, "split_folders", lambda recipe, folders: [[], [], []])
    base = Recipe(width=0.125, size=64, epochs=8)
    with pytest.raises(UsageError, match="no choice has this in its name"):
        ablation.ablate(base, [tmp_path], tmp_path / "out", 1, "depth", lambda text: None)
    assert not (tmp_path / "out").exists()
    facts = ablation.ablate(base, [tmp_path], tmp_path / "out", 1, "deep", lambda text: None)
    assert [run["choice"] for run in facts["runs"].values()] == ["ours", "with deep supervision"]
