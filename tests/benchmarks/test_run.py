"""The command as a user has it: a whole run of the embedded model on drawn slices, and what goes wrong in one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.options import strip_folders
from benchmarks.result.file import read_result
from edge_runtime import Session
from edge_runtime.images import read_image
from edge_runtime.images.write import encode_png
from edge_runtime.models import DEFAULT
from reference.data.phantom import draw_phantom

SLICES = 5
COMMAND = [sys.executable, "-m", "benchmarks"]


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn slices with their masks, one without a tumour."""
    folder = tmp_path_factory.mktemp("slices")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(SLICES):
        kind = "none" if number == 0 else "meningioma"
        phantom = draw_phantom(np.random.default_rng(number), kind, 256)
        (folder / f"images/{number}.png").write_bytes(encode_png(phantom.image))
        (folder / f"masks/{number}.png").write_bytes(encode_png(phantom.mask.astype(np.uint8) * 255))
    return folder


@pytest.fixture(scope="module")
def done(slices: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run on two thread counts, with a short soak and a price."""
    out = slices / "out"
    args = ["run", str(DEFAULT), "--images", str(slices / "images"), "--masks", str(slices / "masks"), "-o",
            str(out), "--samples", "30", "--threads", "1,2", "--soak", "60", "--price", "80",
            "--studies-per-day", "40"]  # fmt: skip
    return out, subprocess.run([*COMMAND, *args], capture_output=True, text=True)


@pytest.fixture(scope="module")
def result(done: tuple[Path, subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    return read_result(done[0] / "result.json")


def test_a_run_ends_with_its_validity(
    done: tuple[Path, subprocess.CompletedProcess[str]], result: dict[str, Any]
) -> None:
    """Exit 0 if it is valid, else 3 and every reason on stderr; data on stdout, files in the folder."""
    out, process = done
    valid = result["validity"]["status"] == "valid"
    assert process.returncode == (0 if valid else 3), process.stderr
    assert all(reason in process.stderr for reason in result["validity"]["reasons"])
    assert "Traceback" not in process.stderr and "\r" not in process.stderr  # progress is for terminals
    assert process.stdout.startswith("subject ") and "drq-litert-2" in process.stdout
    assert {"result.json", "report.html", "report.pdf", "report.md", "summary.csv"} <= {
        path.name for path in out.iterdir()
    }


def test_figures_stand_on_raw_samples(result: dict[str, Any]) -> None:
    """30 of each, by round; what the pages print can be computed again from them."""
    assert list(result["subjects"]) == ["drq-litert-1", "drq-litert-2"]
    for subject in result["subjects"].values():
        times = [ms for _, ms in subject["latency"]["samples"]]
        assert len(times) == subject["latency"]["n"] == 30
        assert subject["latency"]["p50_ms"] == sorted(times)[14]
        assert subject["latency"]["mean_ms"] == pytest.approx(np.mean(times), abs=1e-3)
        assert subject["file"]["bytes"] == DEFAULT.stat().st_size
        memory = subject["memory"]
        assert 20e6 < memory["baseline_rss_bytes"] < memory["loaded_rss_bytes"] <= memory["peak_rss_bytes"] < 300e6


def test_stages_add_up_to_the_wall_time(result: dict[str, Any]) -> None:
    """Within 5 %; the images are all of them."""
    whole = result["end_to_end"]
    assert (whole["images"], whole["subject"]) == (SLICES, "drq-litert-2")
    total = sum(stage["total_ms"] for stage in whole["stages"].values())
    assert total + whole["other_ms"] == pytest.approx(whole["wall_ms"], abs=0.01)
    assert abs(whole["other_ms"]) < 0.05 * whole["wall_ms"]
    assert all(stage["total_ms"] > 0 for stage in whole["stages"].values())


def test_accuracy_is_that_of_the_device_s_own_masks(result: dict[str, Any], slices: Path) -> None:
    """IoU over all pixels and mean Dice, by the device's Session and a few lines of NumPy."""
    session = Session.load(DEFAULT, threads=2)
    dice, hits, union = [], 0, 0
    for number in range(SLICES):
        found = session.segment(read_image(slices / f"images/{number}.png")).mask
        truth = read_image(slices / f"masks/{number}.png") > 127
        hits, union = hits + (found & truth).sum(), union + (found | truth).sum()
        if truth.any():
            dice.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    entry = result["accuracy"]["drq-litert-2"]
    assert list(result["accuracy"]) == ["drq-litert-2"]  # threads change no mask
    assert entry["lesion_iou"]["value"] == pytest.approx(hits / union if union else None, abs=1e-6)
    assert entry["dice"]["value"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert (entry["dice"]["n"], entry["false_alarms"]["n"], entry["n"]) == (SLICES - 1, 1, SLICES)


def test_a_result_holds_no_path_and_no_estimate(result: dict[str, Any], slices: Path) -> None:
    """No path, no energy that was not measured, no part that was not asked for."""
    text = json.dumps(result)
    assert str(slices) not in text and str(Path.home()) not in text
    assert result["energy"] is not None or "no sensor" in result["energy_why"]
    assert result["sustained"] is None and result["soak"]["rss_bytes"][-1][0] == 60
    assert result["settings"]["price"] == 80 and result["settings"]["studies_per_day"] == 40
    assert result["command"][:4] == ["run", DEFAULT.name, "--images", "images"]
    assert len(result["machine"]["during"]) == 30 and result["machine"]["facts"]["cores"] >= 1


def run_main(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str]:
    try:
        code = main([str(arg) for arg in args])
    except SystemExit as left:
        code = int(left.code or 0)
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return code, message.strip().splitlines()[-1] if message else ""


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"--engines": "litrt"}, 2, "unknown engine 'litrt', did you mean 'litert'?"),
        ({"--threads": "0"}, 2, "'0' is not a whole number above 0"),
        ({"--samples": "10"}, 2, "--samples 10: too few for a result; 30 or more"),
        ({"--mode": "single-stream", "--samples": "100"}, 2, "1024 in single-stream"),
        ({"--images": "nowhere"}, 2, "--images nowhere: no such folder"),
        ({"--masks": "nowhere"}, 2, "--masks nowhere: no such folder"),
        ({"--meter": "nowhere.csv"}, 2, "no such file; start the meter's log first"),
        ({"--sustain": "nan"}, 2, "'nan' is not a number above 0"),
        ({"--peer-python": "openvno=/bin/sh"}, 2, "did you mean 'openvino'?"),
        ({"--peer-python": "openvino=/nowhere"}, 2, "'/nowhere' is not a program"),
        ({"--engines": "tflite-runtime"}, 1, "engine tflite-runtime: tflite-runtime is not installed: pip install"),
        ({"MODEL": "none.keras"}, 1, "none.keras: it does not exist"),
        ({"--calibrate": "IMAGES"}, 2, "of its images are test images"),
    ],
)
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], slices: Path, tmp_path: Path, change: dict[str, str], code: int, words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The right exit code, what is wrong, what to do; and no folder is left behind."""
    monkeypatch.setattr("benchmarks.subjects.peers.has_module", lambda python, module: module != "tflite_runtime")
    images = str(slices / "images")
    args = {"MODEL": str(DEFAULT), "--images": images, "-o": str(tmp_path / "out")} | change
    flat = [word.replace("IMAGES", images) for name, value in args.items() for word in (name, value) if word != "MODEL"]
    found, message = run_main(capsys, "run", *flat)
    assert found == code and words in message and message.startswith("edge-bench") and "error: " in message
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_kept(
    capsys: pytest.CaptureFixture[str], slices: Path, tmp_path: Path
) -> None:
    """Without --force, before anything is measured."""
    (tmp_path / "notes.txt").write_text("mine")
    code, message = run_main(capsys, "run", DEFAULT, "--images", slices / "images", "-o", tmp_path)
    assert code == 1 and "it exists already" in message and [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_that_is_no_result_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """report and compare alike."""
    (tmp_path / "r.json").write_text("{}")
    for args in (("report", tmp_path / "r.json"), ("compare", tmp_path / "r.json", tmp_path / "r.json")):
        code, message = run_main(capsys, *args)
        assert code == 1 and "not a valid edge-seg-benchmark/2 result: field 'format' is missing" in message


def test_a_report_that_is_there_is_kept(
    capsys: pytest.CaptureFixture[str], done: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Without --force; in another folder it is made again from the result alone, with another price."""
    out, _ = done
    before = (out / "report.md").read_bytes()
    code, message = run_main(capsys, "report", out / "result.json", "--price", "500")
    assert code == 1 and "report.html: it exists already" in message and (out / "report.md").read_bytes() == before
    assert run_main(capsys, "report", out / "result.json", "-o", tmp_path / "new")[0] == 0
    assert (tmp_path / "new/report.md").read_bytes() == before


@pytest.mark.parametrize("package", ["jinja2", "matplotlib", "reportlab"])
def test_a_report_that_cannot_be_drawn_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """Each package that it needs is named, with what to install; no image is read and no process started."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("benchmarks.run.read_image_set", refuse)
    code, message = run_main(capsys, "run", DEFAULT, "--images", slices / "images", "-o", tmp_path / "out")
    assert code == 1 and f"report: it needs {package}; pip install '.[benchmarks]'" in message
    assert "--no-report" in message and not (tmp_path / "out").exists()


def refuse(*_: object) -> None:
    raise AssertionError("the run began")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("-o", "FILE/out"), "make room or choose another folder with -o"),
        (("-o", "/proc/edge-seg"), "/proc/edge-seg: "),
        (("--claims", "none.toml"), "none.toml: No such file or directory"),
        (("--claims", "FILE"), "not valid TOML"),
        (("--masks", "IMAGES"), "it is the folder of --images"),
        (("--currency", "12"), "'12' is not a currency; write a code or a sign, such as EUR"),
        (("--currency", "<b> x"), "is not a currency"),
    ],
)
def test_what_would_fail_at_the_end_is_refused_at_the_beginning(
    capsys: pytest.CaptureFixture[str], slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, str], words: str,
) -> None:  # fmt: skip
    """In one line, before an image is read; nothing is left behind."""
    monkeypatch.setattr("benchmarks.run.read_image_set", refuse)
    (tmp_path / "file").write_text("= mine")
    images = slices / "images"
    args = [word.replace("FILE", str(tmp_path / "file")).replace("IMAGES", str(images)) for word in given]
    out = () if "-o" in given else ("-o", tmp_path / "out")
    code, message = run_main(capsys, "run", DEFAULT, "--images", images, *out, *args)
    assert code in (1, 2) and words in message and message.startswith("edge-bench")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_grey_masks_are_refused_before_a_model_is_converted(
    capsys: pytest.CaptureFixture[str], slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images given as masks stop the run with the folder's name, before the first conversion."""
    monkeypatch.setattr("benchmarks.run.list_candidates", refuse)
    (tmp_path / "copy").symlink_to(slices / "images", target_is_directory=True)
    for masks, words in ((tmp_path / "copy", "it is the folder of --images"), (slices / "grey", "grey pictures")):
        (slices / "grey").mkdir(exist_ok=True)
        for image in (slices / "images").iterdir():
            (slices / "grey" / image.name).write_bytes(image.read_bytes())
        code, message = run_main(
            capsys, "run", "m.keras", "--images", slices / "images", "--masks", masks, "-o", tmp_path / "out"
        )
        assert code == 2 and f"--masks {masks}: " in message and words in message
    assert not (tmp_path / "out").exists()


def test_throughput_does_not_overwrite(capsys: pytest.CaptureFixture[str], slices: Path, tmp_path: Path) -> None:
    """A RESULT.json that is there is kept, and found before the work."""
    (tmp_path / "r.json").write_text("mine")
    code, message = run_main(capsys, "throughput", "--images", slices / "images", "-o", tmp_path / "r.json")
    assert code == 1 and "it exists already" in message and (tmp_path / "r.json").read_text() == "mine"


def find_children(pid: int) -> list[int]:
    """Children of a process, by /proc, theirs too."""
    own = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            own.append(int(stat.parent.name))
    return own + [child for one in own for child in find_children(one)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_child_and_no_folder(slices: Path, tmp_path: Path, number: int) -> None:
    """Ctrl-C and a service's stop in the middle of the rounds: exit 130, one line, nothing behind."""
    args = ["run", str(DEFAULT), "--images", str(slices / "images"), "-o", str(tmp_path / "out"), "--samples", "100000"]
    process = subprocess.Popen([*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    message = ""
    while "measuring in" not in message:
        message += process.stderr.readline()
    time.sleep(0.5)
    children = find_children(process.pid)
    assert children
    process.send_signal(number)
    try:
        rest = process.communicate(timeout=30)[1]
    finally:
        process.terminate()  # one that ignored the signal would measure for hours
    assert process.returncode == 130 and "interrupted; nothing was written" in rest and "Traceback" not in rest
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/home/dr.who/model.keras", "model.keras"),
        ("--output=/srv/site 3/out/", "--output=out"),
        ("openvino=/home/x/bin/python", "openvino=python"),
        ("30", "30"),
        ("../a/b", "b"),
    ],
)
def test_arguments_lose_the_folders_above_a_name(given: str, kept: str) -> None:
    """They may name people and sites, and results are passed on."""
    assert strip_folders(given) == kept
