"""A conversion checked on drawn slices through the command, its numbers recomputed by another road."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fakes import make_session
from keras_nets import build_unet, spread

from convert.__main__ import main
from convert.report import output_files
from convert.report.markdown import to_markdown
from convert.search import job
from convert.source.answers import FOLDER, name_output
from convert.source.process import ConversionRequest, SourceFacts, read_result
from convert.verify.check_images import CheckImage, CheckImages
from convert.verify.compare_on_images import ReferenceImages
from edge_runtime.errors import OutputError
from edge_runtime.images import read_image
from edge_runtime.inference.preprocess import to_tensor
from edge_runtime.inference.session import Session
from reference.data.phantom import draw_folder

COUNT, SIDE = 16, 96
FAST = ("--keep-float", "0", "--upsample", "keep", "--allow", "slower")


@dataclass(frozen=True)
class Room:
    """A folder with a net, net.keras, drawn images, and masks that resemble what the net finds."""

    folder: Path
    net: Any

    @property
    def images(self) -> list[Path]:
        return sorted((self.folder / "images").iterdir())


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    import keras

    folder = tmp_path_factory.mktemp("check")
    draw_folder(COUNT, folder, size=SIDE)
    draw_folder(12, folder / "others", seed=1, size=SIDE)
    images = [read_image(path) for path in sorted((folder / "images").iterdir())]
    keras.utils.clear_session()  # layers are numbered from the start, whatever ran before
    net = plant(aim(spread(build_unet((48, 64), 1, filters=(16, 32))), images))
    net.save(folder / "net.keras")
    for path, image in zip(sorted((folder / "masks").iterdir()), images, strict=True):
        found = find_mask(net, image)
        found[:, : SIDE // 3] = False  # what the net finds on the left is wrong
        cv2.imwrite(str(path), found.astype(np.uint8) * 255)
    return Room(folder, net)


def aim(net: Any, images: list[Any]) -> Any:
    """Scale a net's last layer so that it marks about a sixth of these images, with some decision."""
    import keras

    head = net.get_layer("mask")
    head.activation = keras.activations.linear
    logits = np.asarray(net(np.concatenate([to_tensor(image, 48, 64) for image in images])))
    head.activation = keras.activations.sigmoid
    kernel, bias = head.get_weights()
    scale = 4 / logits.std()
    head.set_weights([kernel * scale, (bias - np.percentile(logits, 85)) * scale])
    return net


def plant(net: Any) -> Any:
    """Give each filter of conv2d_2 huge weights for a channel that is always 0: float is unchanged, int8 is ruined."""
    convolutions, norms = (
        [layer for layer in net._flatten_layers(recursive=True) if type(layer).__name__ == kind]
        for kind in ("Conv2D", "BatchNormalization")
    )
    gamma, beta, mean, variance = norms[1].get_weights()
    gamma[0], beta[0] = 0, -1  # ReLU makes 0 of it
    norms[1].set_weights([gamma, beta, mean, variance])
    (kernel,) = convolutions[2].get_weights()
    kernel[:, :, 0, :] = 300 * np.abs(kernel).max()
    convolutions[2].set_weights([kernel])
    return net


def find_mask(net: Any, image: Any) -> Any:
    """Return Keras' mask (H, W) bool at the image's own size: bilinear, as the device stretches what grows."""
    probability = np.asarray(net(to_tensor(image, 48, 64)))[0, :, :, 0]
    return cv2.resize(probability, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR) >= 0.5


@pytest.fixture
def command(room: Room, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, its child run once for each request and remembered."""
    run = job.run_source_process

    def remember(work: Path, request: ConversionRequest) -> SourceFacts:
        kept = room.folder / f"child-{abs(hash(request))}"
        if not kept.exists():
            run(work, request)
            shutil.copytree(work, kept, ignore=shutil.ignore_patterns("source.*", "static"))
        shutil.copytree(kept, work, dirs_exist_ok=True)
        facts = read_result(kept)
        assert facts is not None
        return facts

    monkeypatch.setattr(job, "run_source_process", remember)

    def call(out: Path, *options: str, masks: bool = True) -> int:
        given = ["--check", str(room.folder / "images")]
        given += ["--masks", str(room.folder / "masks")] if masks else []
        return main([str(room.folder / "net.keras"), "-o", str(out), *FAST, *given, *options])

    return call


def score_by_hand(pairs: list[tuple[Any, Any]]) -> dict[str, float]:
    """Mean IoU of both labels and mean Dice of (truth, mask) pairs, summed pixel by pixel."""
    tp = fp = fn = tn = 0
    dice = []
    for truth, mask in pairs:
        h = f = m = 0
        for t, a in zip(truth.ravel().tolist(), mask.ravel().tolist(), strict=True):
            h, f, m = h + (t and a), f + (a and not t), m + (t and not a)
        tp, fp, fn, tn = tp + h, fp + f, fn + m, tn + truth.size - h - f - m
        dice += [2 * h / (2 * h + f + m)] if h + m else []
    iou = (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2
    return {"mean_iou": iou, "dice": sum(dice) / len(dice)}


def test_the_report_agrees_with_another_road(room: Room, command: Callable[..., int], tmp_path: Path) -> None:
    """Scores of Keras and of the result, recomputed from the files with plain loops, agree to 1e-6; drops too."""
    out = tmp_path / "net.tflite"
    assert command(out) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    check = report["check"]
    session = Session.load(out, engine="litert")
    rows = []
    for path in room.images:
        image = read_image(path)
        truth = cv2.imread(str(room.folder / "masks" / path.name), cv2.IMREAD_UNCHANGED) > 0
        rows.append((truth, find_mask(room.net, image), session.segment(image).mask))
    keras = score_by_hand([(truth, mask) for truth, mask, _ in rows])
    result = score_by_hand([(truth, mask) for truth, _, mask in rows])
    scores = {score["name"]: score for score in check["scores"]}
    for name, value in keras.items():
        assert scores[name]["keras"] == pytest.approx(value, abs=1e-6)
        assert scores[name]["fp32"] == pytest.approx(value, abs=1e-3)
        assert scores[name]["result"] == pytest.approx(result[name], abs=1e-6)
        assert scores[name]["drop"] == pytest.approx(value - result[name], abs=1e-6)
        assert scores[name]["low"] <= scores[name]["drop"] <= scores[name]["high"]
    changed = np.mean([(mask != other).mean() for _, mask, other in rows])
    assert check["result"]["changed_pixels"] == pytest.approx(changed, abs=1e-6)
    assert scores["mean_iou"]["drop"] > 0.01  # int8 ruins this net, so there is something to agree on
    assert (check["images"], check["truth"], check["left_out"]) == (
        COUNT,
        "masks",
        [],
    )
    quality = read_quality(out)
    assert (quality["n"], quality["split"]) == (COUNT, f"edge-convert --check {room.folder.name}/images")
    assert quality["n_lesions"] == sum(bool(truth.any()) for truth, _, _ in rows)
    assert {name: quality[name] for name in result} == pytest.approx(result, abs=1e-4)
    assert quality["lesion_iou"] == pytest.approx(scores["iou_lesion"]["result"], abs=1e-4)


def read_quality(model: Path) -> Any:
    """The contract's quality, as an unzip tool reads it."""
    with zipfile.ZipFile(model) as archive:
        return json.loads(archive.read("contract.json"))["quality"]


def test_a_stated_quality_stays(
    room: Room, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quality that the contract file states is kept, with a line; without masks nothing is claimed."""
    toml = tmp_path / "c.toml"
    toml.write_text('quality = {n = 9, split = "others", dice = 0.5}\n')
    assert command(tmp_path / "a.tflite", "--contract", str(toml)) == 0
    assert read_quality(tmp_path / "a.tflite") == {"n": 9, "split": "others", "dice": 0.5, "series": None}
    assert f"quality stays as {toml} states it" in capsys.readouterr().err
    assert command(tmp_path / "b.tflite", masks=False) == 0
    assert read_quality(tmp_path / "b.tflite") is None


def test_the_worst_are_ranked_and_drawn(room: Room, command: Callable[..., int], tmp_path: Path) -> None:
    """Ten pictures lie beside the report, the worst first: truth, Keras and result side by side at the image's size."""
    out = tmp_path / "net.tflite"
    assert command(out) == 0
    check = json.loads(out.with_suffix(".json").read_text())["check"]
    to_list = [Path(item["picture"]) for item in check["worst"]]
    assert [path.name for path in to_list] == sorted(path.name for path in (tmp_path / "net.worst").iterdir())
    assert len(to_list) == 10
    drops = [check["rows"][item["row"]]["drop"] for item in check["worst"]]
    assert drops == sorted(drops, reverse=True)
    assert drops[0] == max(row["drop"] for row in check["rows"])
    for path, item in zip(to_list, check["worst"], strict=True):
        row = check["rows"][item["row"]]
        truth, image = (read_image(room.folder / what / row["file"]) for what in ("masks", "images"))
        picture = read_image(tmp_path / path)
        assert picture.shape == (SIDE, 3 * SIDE + 16, 3)
        outside, inside = cv2.dilate(truth, np.ones((5, 5))) == 0, cv2.erode(truth, np.ones((5, 5))) > 0
        assert (picture[:, :SIDE, 0][outside] == image[outside]).all()
        assert (picture[:, :SIDE, 0][inside] != image[inside]).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.json", "net.tflite", "net.worst"]


def test_without_masks_keras_is_the_truth(room: Room, command: Callable[..., int], tmp_path: Path) -> None:
    """Without masks Keras scores 1, the drop is what the result's masks differ from its, and the report says so."""
    out = tmp_path / "net.tflite"
    assert command(out, "--recipe", "fp16", "--max-iou-drop", "0.05", masks=False) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    (iou,) = (score for score in report["check"]["scores"] if score["name"] == "mean_iou")
    assert (report["check"]["truth"], iou["keras"]) == ("keras", 1.0)
    assert iou["result"] == pytest.approx(report["check"]["result"]["mean_iou"])
    assert "Keras' own masks taken for the truth" in report["policy"]["why"]
    assert read_image(tmp_path / report["check"]["worst"][0]["picture"]).shape == (SIDE, 2 * SIDE + 8, 3)


def test_a_planted_outlier_is_found_and_kept_float(
    room: Room, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One layer that int8 ruins is found by name; with it alone in float the file passes, and its growth is told."""
    out = tmp_path / "mixed.tflite"
    assert command(out, "--max-iou-drop", "0.03", "--markdown") == 0
    report = json.loads(out.with_suffix(".json").read_text())
    found_layers = report["drill_down"]["drq"]
    (name,) = found_layers["kept"]
    assert "conv2d" in name
    elements = next(int(np.prod(w.shape)) for w in room.net.weights if tuple(w.shape) == (3, 3, 32, 64))
    growth = found_layers["size_bytes"] - found_layers["before_bytes"]
    assert 2.9 * elements < growth < 3.1 * elements
    lost, taken = report["tournament"]
    assert (lost["outcome"], taken["outcome"], taken["kept"]) == ("lost", "taken", 1)
    assert lost["drop"] > 0.05
    assert taken["drop"] <= 0.03
    assert report["choice"]["kept"] == [name]
    assert report["size_bytes"] == found_layers["size_bytes"] == taken["size_bytes"]
    table = capsys.readouterr().out
    assert "kept float" in table
    assert f"{growth / 1e6:.2f} MB more" in table
    words = out.with_suffix(".md").read_text()
    assert words == to_markdown(report)
    assert f"1 of {found_layers['layers']} layers kept float" in words
    assert all((tmp_path / link).is_file() for link in re.findall(r"\]\((.+?)\)", words))
    again = tmp_path / "again.tflite"
    assert command(again, "--max-iou-drop", "0.03", "--choices", str(out.with_suffix(".json"))) == 0
    assert again.read_bytes() == out.read_bytes()


def test_to_be_sure_more_is_kept_float(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the drop meets the limit and its interval does not, --sure leaves layers float until that does too."""
    # in so small a net every layer is much of the file
    monkeypatch.setattr("convert.search.tournament.MAX_MIXED_SHARE", 0.95)
    plain, sure = tmp_path / "plain.tflite", tmp_path / "sure.tflite"
    assert command(plain, "--max-iou-drop", "0.03") == 0
    policy = json.loads(plain.with_suffix(".json").read_text())["policy"]
    limit = (max(policy["drop"], 0.0) + policy["high"]) / 2
    assert policy["drop"] < limit < policy["high"]
    assert command(sure, "--max-iou-drop", str(limit), "--sure", "--markdown") == 0
    report = json.loads(sure.with_suffix(".json").read_text())
    found_layers, (lost, taken) = report["drill_down"]["drq"], report["tournament"]
    assert len(found_layers["kept"]) > 1 and lost["high"] > limit
    assert taken["high"] <= limit and found_layers["drop"] == pytest.approx(taken["high"])
    assert report["policy"]["met"] and report["policy"]["sure"]
    assert f"mean IoU loses no more than {found_layers['drop']:+.5f}" in sure.with_suffix(".md").read_text()


def test_layers_are_left_float_before_the_audit_decides(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file too far from the original for the audit is refused; under a policy, its layers get their chance first."""
    monkeypatch.setattr("convert.verify.audit.QUANTIZED_MEAN_DIFFERENCE", 0.015)
    assert command(tmp_path / "m.tflite") == 4
    assert "unfaithful" in capsys.readouterr().err
    assert command(tmp_path / "m.tflite", "--max-iou-drop", "0.03") == 0
    report = json.loads((tmp_path / "m.json").read_text())
    assert len(report["drill_down"]["drq"]["kept"]) == 1
    assert {finding["name"] for finding in report["audit"]["findings"]} <= {"slower"}
    assert report["allowed"] == ["slower"]


def test_layers_left_float_in_a_full_integer_file(room: Room, command: Callable[..., int], tmp_path: Path) -> None:
    """The outlier is found among all operations that compute on integers; images it was calibrated with are refused."""
    out = tmp_path / "mixed.tflite"
    others = ("--calibrate", str(room.folder / "others" / "images"), "--recipe", "int8")
    assert command(out, *others, "--max-iou-drop", "0.06") == 0
    report = json.loads(out.with_suffix(".json").read_text())
    found_layers = report["drill_down"]["int8"]
    assert found_layers["layers"] > 9  # more than the layers with weights
    assert any("conv2d_2" in name for name in found_layers["kept"])
    assert len(found_layers["kept"]) <= 3
    assert report["tournament"][0]["drop"] > 0.06 >= report["tournament"][-1]["drop"]
    assert command(out, "--force", "--calibrate", str(room.folder / "images"), "--recipe", "int8") == 2


def test_auto_takes_the_fastest_that_meets_the_policy(
    room: Room, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """auto lists every recipe with its size, its outcome and why; its file is what the table says was taken."""
    out = tmp_path / "auto.tflite"
    assert command(out, "--recipe", "auto", "--max-iou-drop", "0.001") == 0
    report = json.loads(out.with_suffix(".json").read_text())
    entries = report["tournament"]
    (taken,) = (entry for entry in entries if entry["outcome"] == "taken")
    assert {entry["recipe"] for entry in entries} == {"drq", "weight-only", "fp16", "fp32"}
    assert report["recipe"] == taken["recipe"] != "drq"
    assert taken["drop"] <= 0.001
    assert all(entry["why"] for entry in entries)
    assert "not needed" in {entry["outcome"] for entry in entries} or taken["recipe"] == "fp32"


@pytest.mark.parametrize("recipe", ["drq", "auto"])
def test_an_impossible_policy_leaves_nothing(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str
) -> None:
    """A policy that nothing can meet ends in exit 6, one line that names what was reached, and no file."""
    assert command(tmp_path / "never.tflite", "--recipe", recipe, "--max-iou-drop", "-0.5") == 6
    out, err = capsys.readouterr()
    assert not out
    last = err.strip().splitlines()[-1]
    assert last.startswith("edge-convert: error: ")
    assert "policy" in last
    assert "no file was written" in last
    assert recipe == "drq" or all(name in last for name in ("drq", "weight-only", "fp16", "fp32"))
    assert not list(tmp_path.iterdir())


def test_few_images_cannot_tell(
    room: Room, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too few images meet no policy, however lenient; without a policy they are still scored, without intervals."""
    torn = room.folder / "images" / "torn.png"
    torn.write_bytes(room.images[0].read_bytes()[:999])
    with pytest.MonkeyPatch.context() as patch:
        for module in ("compare_on_images", "iou_policy"):
            patch.setattr(f"convert.verify.{module}.MIN_IMAGES", COUNT + 1)
        assert command(tmp_path / "few.tflite", "--max-iou-drop", "0.9") == 6
        assert "not enough images to tell: 16, at least 17" in capsys.readouterr().err
        assert command(tmp_path / "few.tflite") == 0
    torn.unlink()
    assert "1 left out, the first is torn.png: damaged PNG" in capsys.readouterr().err
    check = json.loads((tmp_path / "few.json").read_text())["check"]
    assert check["images"] == COUNT
    assert {score["low"] for score in check["scores"]} == {"nan"}
    assert [item["file"] for item in check["left_out"]] == ["torn.png"]


def test_an_output_that_is_no_number_is_refused(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that answers NaN on one image is refused with that image's name: it is not scored around."""
    from convert.verify import compare_on_images

    class Broken:
        def __init__(self, engine: Any) -> None:
            self.engine, self.count = engine, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

        def infer(self, tensor: Any) -> Any:
            self.count += 1
            output = self.engine.infer(tensor)
            return np.full_like(output, np.nan) if 4 <= self.count <= 5 else output

    def broken(model: Path, *_: Any) -> Any:
        return opened(model) if model.name == "fp32.tflite" else Broken(opened(model))

    opened = compare_on_images.open_engine
    monkeypatch.setattr(compare_on_images, "open_engine", broken)
    assert command(tmp_path / "nan.tflite") == 4
    assert "not-finite (on d0004.png)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert command(tmp_path / "nan.tflite", "--allow", "not-finite", "--max-iou-drop", "0.9") == 6
    assert "no number" in capsys.readouterr().err
    assert command(tmp_path / "nan.tflite", "--allow", "not-finite") == 0
    check_ = json.loads((tmp_path / "nan.json").read_text())["check"]
    assert next(score for score in check_["scores"] if score["name"] == "mean_iou")["result"] == "nan"
    assert check_["rows"][check_["worst"][0]["row"]]["file"] == "d0004.png"


def test_pictures_are_written_with_the_file_or_not_at_all(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--force replaces the pictures, and only ours; when the file cannot be written, the old ones are back."""
    out, worst = tmp_path / "m.tflite", tmp_path / "m.worst"
    worst.mkdir()
    (worst / "01-old.png").write_bytes(b"old")
    assert command(out) == 1
    assert "m.worst: it exists already; say --force" in capsys.readouterr().err

    def full(files: Any) -> None:
        assert not (worst / "01-old.png").exists()
        raise OutputError(str(out), "it cannot be written (No space left on device)")

    with monkeypatch.context() as patch:
        patch.setattr(output_files, "write_files", full)
        assert command(out, "--force") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.worst"]
    assert [path.read_bytes() for path in worst.iterdir()] == [b"old"]
    assert command(out, "--force") == 0
    assert len(list(worst.iterdir())) == 10
    (worst / "notes.txt").write_text("mine")
    assert command(out, "--force") == 1
    assert "notes.txt: it is none of the pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--masks", "m"], "--masks: there are no images to check on"),
        (["--max-iou-drop", "0.1"], "--max-iou-drop: there are no images to check on"),
        (["--check", ".", "--sure"], "--sure: there is no policy to be sure of"),
        (["--check", "gone"], "--check gone: no such file or folder"),
        (["--check", ".", "--max-iou-drop", "nan"], "not between -1 and 1"),
        (["--check", ".", "--max-iou-drop", "little"], "invalid float value"),
    ],
)
def test_usage(room: Room, options: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What cannot be meant is exit 2 and one line, before any work."""
    assert main([str(room.folder / "net.keras"), "-o", str(tmp_path / "m.tflite"), *options]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_several_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A softmax over three labels is scored label by label, its masks' values being the labels, from outputs alone."""
    rng, labels, cases = np.random.default_rng(1), 3, []
    (tmp_path / FOLDER).mkdir()
    truths = rng.integers(0, 2, (12, 8, 8)).astype(np.uint8)  # label 2 never occurs
    keras = np.eye(labels, dtype=np.float32)[np.where(rng.random(truths.shape) < 0.1, 2, truths)]
    for i, truth in enumerate(truths):
        paths = [tmp_path / f"{what}{i}.png" for what in ("image", "mask")]
        cv2.imwrite(str(paths[0]), np.full((8, 8), 20 * i, np.uint8))
        cv2.imwrite(str(paths[1]), truth)
        np.save(name_output(tmp_path / FOLDER, i), keras[i : i + 1])
        cases.append(CheckImage(paths[0], paths[0].name, paths[1]))

    def answer(tensor: Any) -> Any:  # the image's brightness tells which it is; label 1 is never answered
        wrong = keras[int(np.rint(tensor.max() * 255 / 20))].copy()
        wrong[..., 0] += 2 * wrong[..., 1]
        return (wrong / wrong.sum(axis=-1, keepdims=True))[None]

    session = make_session(answer, 8, labels)
    monkeypatch.setattr("convert.verify.compare_on_images.open_session", lambda *_: session)
    check = ReferenceImages(CheckImages(tuple(cases), (), True), tmp_path, session.contract).check(
        Path(), session.contract
    )
    assert (check.labels, check.absent) == (("background", "edema", "core"), ("core",))
    found = {score.name: score for score in check.scores}
    answers = keras.argmax(axis=-1)
    for k, name in enumerate(check.labels[:2]):
        union = ((answers == k) | (truths == k)).sum()
        assert found[f"iou_{name}"].keras == pytest.approx(((answers == k) & (truths == k)).sum() / union)
    assert np.isnan(found["iou_core"].keras)
    assert found["mean_iou"].keras == pytest.approx((found["iou_background"].keras + found["iou_edema"].keras) / 2)
    assert found["iou_edema"].result == 0
    assert check.result.changed_pixels == pytest.approx((answers == 1).mean())


def test_a_convolution_set_to_zero_does_not_pass(room: Room, command: Callable[..., int], tmp_path: Path) -> None:
    """A file with one convolution's weights wiped out loses mean IoU and meets no sensible policy."""
    from convert.flatbuffer.edit import find_operators, pack, unpack
    from convert.search import candidate

    def wiped(*given: Any) -> bytes:
        model = unpack(stored(*given))
        op = list(find_operators(model, "CONV_2D"))[1]
        buffer = model.buffers[model.subgraphs[0].tensors[op.inputs[1]].buffer]
        buffer.data = np.zeros(len(buffer.data), np.uint8)
        return pack(model)

    stored = candidate.quantize_graph
    allow = ("--allow", "unfaithful", "--allow", "arithmetic")  # the audit saw it before the images did
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidate, "quantize_graph", wiped)
        assert command(tmp_path / "m.tflite", "--recipe", "fp32", *allow, "--max-iou-drop", "0.05") == 6
    assert not list(tmp_path.iterdir())
