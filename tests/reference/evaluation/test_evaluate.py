"""`python -m reference evaluate`: numbers as by naive loops, the right threshold, a report with the figures."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import cv2
import naive_scores
import numpy as np
import pytest

from edge_runtime.cli import main as edge_seg
from edge_runtime.errors import UsageError
from edge_runtime.models import DEFAULT
from reference.__main__ import main
from reference.data.folders import Slice
from reference.data.phantom import draw_folder
from reference.evaluation.failures import describe_failures, format_failures
from reference.evaluation.intervals import compare, median_draws, summarize
from reference.evaluation.predict import evaluate, find_slices, flip_average
from reference.evaluation.slice_scores import SliceRow, score_slice
from reference.evaluation.threshold import choose_threshold

SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four small drawn slices, two of each patient."""
    data = tmp_path_factory.mktemp("patients")
    names = draw_folder(24, data, seed=3, size=SIDE)
    with (data / "labels.csv").open(newline="") as file:
        kinds = {row["id"]: row["class"] for row in csv.DictReader(file)}
    rows = [f"{name},{kinds[name]},p{(k % 4) + 4 * (k // 8)}" for k, name in enumerate(names)]
    (data / "labels.csv").write_text("id,class,patient\n" + "\n".join(rows) + "\n")
    return data


def run_evaluate(model: Path, folder: Path, *more: str, capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    where = ["--images", f"{folder}/images", "--masks", f"{folder}/masks", "--labels", f"{folder}/labels.csv"]
    assert main(["evaluate", str(model), *where, "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def check_scores(facts: dict, naive: dict) -> None:
    scores = facts["thresholds"][0]["scores"]
    for name in ("mean_iou", "lesion_iou", "dice", "hd95_px", "overlooked", "false_alarms"):
        assert (name in scores) == (name in naive), name
        if name in naive:
            assert scores[name]["value"] == pytest.approx(naive[name]["value"], abs=2e-6), name
            assert scores[name]["interval"] == pytest.approx(naive[name]["interval"], abs=2e-6), name
    assert set(facts["classes"]) == {"glioma", "meningioma", "pituitary"}
    for kind, group in facts["classes"].items():
        for name, value in naive[kind].items():
            assert (value is None and name not in group) or group[name]["value"] == pytest.approx(value, abs=2e-6)


def test_the_default_models_scores_are_those_of_naive_loops(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All scores and intervals of a .tflite are recomputed from the masks that edge-seg writes."""
    assert edge_seg([f"{folder}/images", "-o", f"{tmp_path}/out", "--quiet", "--no-overlay", "--no-gallery"]) == 0
    naive = naive_scores.score(tmp_path / "out" / "masks", folder / "masks", folder / "labels.csv")
    assert "hd95_px" in naive and "false_alarms" in naive
    check_scores(run_evaluate(DEFAULT, folder, capsys=capsys), naive)


@pytest.mark.parametrize("run", ["net.run", "liteunet-ag.run", None])
def test_slices_that_were_trained_on_are_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], run: str | None
) -> None:
    """By the bytes of their files, whatever their names; on stderr, in the JSON and first of all on the page."""
    model = tmp_path / "net.drq.tflite"
    shutil.copy(DEFAULT, model)
    images = sorted((folder / "images").iterdir())
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in images[:5]] + ["0" * 64]
    if run is not None:
        (tmp_path / run).mkdir()
        text = "".join(f"{digest}  elsewhere/{k}.png\n" for k, digest in enumerate(digests))
        (tmp_path / run / "training-slices.txt").write_text(text)
    where = ["--images", f"{folder}/images", "--masks", f"{folder}/masks", "--labels", f"{folder}/labels.csv"]
    assert main(["evaluate", str(model), *where]) == 0
    page, said = capsys.readouterr()
    warning = f"5 of these {len(images)} slices were trained on"
    assert (warning in said, warning in page) == (run is not None, run is not None)
    facts = run_evaluate(model, folder, capsys=capsys)
    expected = {"slices": 5, "scored": len(images), "record": "training-slices.txt"}
    assert facts["trained_on"] == (expected if run else None)
    unseen = tmp_path / "unseen.txt"
    with (folder / "labels.csv").open(newline="") as file:
        patients = {row["id"]: row["patient"] for row in csv.DictReader(file)}
    seen = {patients[path.stem] for path in images[:5]}
    unseen.write_text("".join(f"{name}\n" for name in sorted(set(patients.values()) - seen)))
    assert main(["evaluate", str(model), *where, "--patients", str(unseen)]) == 0
    page, said = capsys.readouterr()
    assert "trained on" not in said + page


def test_a_keras_models_scores_are_those_of_naive_loops(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All scores and intervals of a .keras are recomputed from masks that Keras itself makes."""
    keras = pytest.importorskip("keras")
    inputs = keras.Input((SIDE, SIDE, 1))
    bright = keras.layers.Conv2D(1, 5, padding="same", activation="sigmoid")
    model = keras.Model(inputs, bright(inputs))
    bright.set_weights([np.full((5, 5, 1, 1), 1.2, "f"), np.array([-16.0], "f")])  # marks what is bright around
    model.save(tmp_path / "bright.keras")
    (tmp_path / "found").mkdir()
    for path in sorted((folder / "images").iterdir()):
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype("f") / 255
        mask = model(pixels[None, :, :, None]).numpy()[0, :, :, 0] >= 0.5
        cv2.imwrite(str(tmp_path / "found" / path.name), mask.astype(np.uint8) * 255)
    naive = naive_scores.score(tmp_path / "found", folder / "masks", folder / "labels.csv")
    assert 0 < naive["lesion_iou"]["value"] < 1
    check_scores(run_evaluate(tmp_path / "bright.keras", folder, capsys=capsys), naive)


def make_row(patient: str, tp: int, fp: int, fn: int, kind: str = "glioma", name: str = "") -> SliceRow:
    return SliceRow(tp, fp, fn, 100 - tp - fp - fn, name or f"{patient}-{tp}", patient, kind)


def test_slices_of_a_patient_are_drawn_together() -> None:
    """Copies of every slice widen nothing and narrow nothing: patients are what is drawn."""
    rows = [make_row(f"p{k}", k, 2, 9 - k) for k in range(1, 9)]
    once, often = summarize(rows), summarize(rows * 5)
    assert often["slices"] == 40 and often["patients"] == once["patients"] == 8
    for name in ("lesion_iou", "dice", "overlooked"):
        assert once[name]["interval"] == pytest.approx(often[name]["interval"])
    assert compare(rows, rows)["dice"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert summarize(rows[:1])["dice"]["interval"] is None


def test_medians_of_draws_are_those_of_a_loop() -> None:
    """The vectorised lower median of each draw is what sorting the drawn patients' slices gives."""
    rng = np.random.default_rng(1)
    values, patients = rng.random(23), [f"p{k}" for k in rng.integers(0, 6, 23)]
    names = sorted(set(patients))
    drawn = np.random.default_rng(20251121).integers(0, len(names), (2000, len(names)))
    found = median_draws(values, patients)
    for draw, median in list(zip(drawn, found, strict=True))[::97]:
        pooled = sorted(v for k in draw for v, p in zip(values, patients, strict=True) if p == names[k])
        assert median == pooled[(len(pooled) - 1) // 2]


def predict_column(image: np.ndarray) -> np.ndarray:
    """A net for tests: a pixel's brightness is its probability."""
    return image.astype("f") / 255


def save_slice(folder: Path, name: str, image: np.ndarray, mask: np.ndarray | None) -> Slice:
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.png"), image)
    if mask is not None:
        cv2.imwrite(str(folder / f"{name}-mask.png"), mask.astype(np.uint8) * 255)
    return Slice(
        folder / f"{name}.png",
        None if mask is None else folder / f"{name}-mask.png",
        "glioma" if name else "none",
        name,
    )


def test_the_threshold_is_the_best_that_few_alarms_allow(tmp_path: Path) -> None:
    """Dice is best at low thresholds, false alarms forbid them; where none is low enough the fewest count."""
    lesion = np.zeros((16, 16), np.uint8)
    lesion[4:8, 4:8], lesion[4:6, 4:8] = 90, 240  # half of it is faint
    free = np.full((16, 16), 70, np.uint8)
    slices = [save_slice(tmp_path, "a", lesion, lesion > 0), save_slice(tmp_path, "b", free, None)]
    chosen = choose_threshold(predict_column, slices, max_alarms=0.0)
    assert chosen["threshold"] == 0.35  # the highest of those at which the faint half is still found
    assert [row["false_alarms"] for row in chosen["table"]][:7] == [1, 1, 1, 1, 1, 0, 0]
    bright = save_slice(tmp_path, "c", np.full((16, 16), 255, np.uint8), None)
    desperate = choose_threshold(predict_column, [slices[0], bright], max_alarms=0.1)
    assert "none reached" in desperate["rule"] and desperate["threshold"] == 0.35
    with pytest.raises(UsageError, match="none of its patients has a lesion"):
        choose_threshold(predict_column, slices[1:], 0.1)


def test_the_threshold_is_not_chosen_on_whom_is_scored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--calibrate leaves its patients out of the scores, and refuses to share any with --patients."""
    (tmp_path / "some.txt").write_text("p0\np1\np2\np3\n")
    facts = run_evaluate(DEFAULT, folder, "--calibrate", f"{tmp_path}/some.txt", capsys=capsys)
    assert facts["data"]["patients"] == 8 and facts["calibration"]["patients"] == 4
    assert facts["threshold"] == facts["calibration"]["threshold"]
    where = ["--images", f"{folder}/images", "--masks", f"{folder}/masks", "--labels", f"{folder}/labels.csv"]
    both = ["--calibrate", f"{tmp_path}/some.txt", "--patients", f"{tmp_path}/some.txt"]
    assert main(["evaluate", str(DEFAULT), *where, *both]) == 2
    assert "4 of its patients are scored too" in capsys.readouterr().err


def test_a_report_has_the_figures_of_its_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Page and Markdown hold the JSON's figures; everything asked for is in them; nothing is overwritten unasked."""
    free = tmp_path / "free"
    draw_folder(4, tmp_path / "others", seed=9, size=SIDE)
    shutil.copytree(tmp_path / "others" / "images", free)
    more = ["--tumour-free", str(free), "--flip", "--stress", "--report", f"{tmp_path}/report"]
    facts = run_evaluate(DEFAULT, folder, *more, capsys=capsys)
    assert facts["data"]["tumour_free"] == 4
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {"evaluation.json", "evaluation.md", "evaluation.html", "centroids.png"}
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text()) == facts
    page, markdown = ((tmp_path / "report" / f"evaluation.{kind}").read_text() for kind in ("html", "md"))
    for group in (facts["thresholds"][0]["scores"], *facts["classes"].values(), *facts["sizes"].values()):
        figure = (
            f"{group['dice']['value']:.3f} ({group['dice']['interval'][0]:.3f} to" if group["dice"]["interval"] else ""
        )
        assert figure in page and figure in markdown
    for title in ("By class", "Test-time flip", "source instead of the tumour", "appropriate", "Failure cases"):
        assert title in page and title in markdown
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    assert [row["change"] for row in facts["stress"]["changes"]][:2] == ["mirrored", "rescaled by 0.75"]
    assert facts["flip"]["time_ratio"] > 0
    where = ["--images", f"{folder}/images", "--report", f"{tmp_path}/report"]
    assert main(["evaluate", str(DEFAULT), *where]) == 2
    assert "add --force" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["evaluate", str(DEFAULT), "--images", f"{folder}/images", "--report", f"{tmp_path}/file"]) == 1
    assert "File exists; choose another --report" in capsys.readouterr().err


def test_without_masks_only_false_alarms_are_scored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is tumour-free by definition has no IoU, not one of 0."""
    assert main(["evaluate", str(DEFAULT), "--images", f"{folder}/images", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["thresholds"][0]["scores"]) == {"slices", "patients", "false_alarms"}
    assert facts["classes"] is None and facts["sizes"] == {}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--patients", "nowhere.txt"], "no readable text file"),
        (["--calibrate", "empty.txt"], "it names no patient"),
        (["--patients", "strangers.txt"], "there is nothing to evaluate"),
        (["--tumour-free", "nowhere"], "no such folder"),
        (["--calibrate", "all.txt"], "it names all patients"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    arguments: list[str], word: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, empty and foreign lists of patients are one line with exit 2."""
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "strangers.txt").write_text("nobody\n")
    (tmp_path / "all.txt").write_text("".join(f"p{k}\n" for k in range(12)))
    option, name = arguments
    where = ["--images", f"{folder}/images", "--masks", f"{folder}/masks", "--labels", f"{folder}/labels.csv"]
    assert main(["evaluate", str(DEFAULT), *where, option, str(tmp_path / name)]) == 2
    output = capsys.readouterr().err
    assert output.count("\n") == 1 and word in output


def test_a_threshold_is_a_probability(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A threshold outside (0, 1) is refused by name."""
    for text in ("0", "1.5", "half", "nan"):
        with pytest.raises(SystemExit):
            main(["evaluate", str(DEFAULT), "--images", f"{folder}/images", "--thresholds", text])
        assert "is not between 0 and 1" in capsys.readouterr().err


def test_averaging_with_the_mirror_image_is_symmetric(folder: Path) -> None:
    """The averaged probability of a mirrored image is the mirrored one; a net without a side gains nothing."""
    image = np.random.default_rng(2).integers(0, 255, (20, 31)).astype(np.uint8)

    def lean(pixels: np.ndarray) -> np.ndarray:
        return predict_column(pixels) * np.linspace(0, 1, pixels.shape[1], dtype="f")

    averaged = flip_average(lean)
    np.testing.assert_allclose(averaged(image[:, ::-1])[:, ::-1], averaged(image), rtol=1e-6)
    np.testing.assert_array_equal(flip_average(predict_column)(image), predict_column(image))
    slices = find_slices(folder / "images", folder / "masks", folder / "labels.csv")[:4]
    assert evaluate(predict_column, slices, [0.5]) == evaluate(flip_average(predict_column), slices, [0.5])


def test_failures_are_counted() -> None:
    """Missed lesions are counted by class and patient, half of them held by the fewest patients, worst ones named."""
    rows = [make_row("p1", 0, 0, 5, name=f"a{k}") for k in range(6)]
    rows += [make_row("p2", 0, 3, 2, "pituitary", "b"), make_row("p3", 9, 1, 0, "pituitary", "c")]
    rows += [make_row("free1", 0, 4, 0, "none", "d"), make_row("free2", 0, 0, 0, "none", "e")]
    found = describe_failures(rows)
    missed = found["missed"]
    assert (missed["slices"], missed["of"], missed["patients"], missed["patients_with_half"]) == (7, 8, 2, 1)
    assert missed["overlooked"] == 6 and missed["classes"]["pituitary"] == {"slices": 1, "of": 2}
    assert missed["worst"][0]["area"] == 0.05 and missed["worst"][-1]["slice"] == "b"
    assert found["false_alarms"] == {"slices": 1, "of": 2, "area": 0.04, "worst": ["d"]}
    text = " ".join(format_failures(found))
    assert "7 of 8 lesions" in text and "1 of 2 slices without a lesion are marked" in text
    assert score_slice(np.zeros((2, 2), bool), np.zeros((2, 2), bool), "none").dice is None
