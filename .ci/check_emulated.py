"""Compare a wheel on emulated boards with the same wheel on x86: the same slices and models, masks that agree.

All boards at once. What does not depend on the kernels is done once: the first board runs the check that every Python
has to pass and resumes its run, the last one runs the tests.

check_emulated.py SLICES TESTS_SITE BOARD...: run by the Python of an x86 environment with the wheel. A BOARD is an
environment whose bin/python is emulated, TESTS_SITE a folder with pytest. All times are emulated, not a Pi's.

What "agree" means:
- The embedded model's float32 twin, one slice of each file format: the same rows, every pixel of the masks, and the
  probability within 0.001. Reading, resizing, every layer and writing are the same; sums in another order move the
  probability by about 1e-6, and the file that holds it counts in steps of 1.5e-5.
- The embedded model, whose activations are rounded to 8 bits at run time: a float's last bit decides the direction,
  and one step in an early layer moves whole borders. The bound is therefore measured on x86: how far its results move
  when the last bit of the input's pixels is changed. A board may differ by twice the largest of these differences, and
  must agree in everything that is not a measurement. (Other kernels round differently in every layer, not only in the
  first one: therefore twice.)
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from agreement import Agreement, agree, allows, double, take_worst
from float_twin import make_twin

from edge_runtime import Session
from edge_runtime.images import read_image
from edge_runtime.models import DEFAULT

HERE = Path(__file__).resolve().parent
DAMAGED = "slice-damaged.png"
# The same engine and one thread on both sides: boards share the cores, and speed is not compared.
OPTIONS = ("--engine", "litert", "--threads", "1", "--probability")
# Tests whose result may depend on the board: its kernels, OpenCV's, the C library's. Emulation is some 50 times slower.
TESTS = (
    "contract/test_contract.py",
    "folder/test_folder.py",
    "images/test_images.py",
    "images/test_overlay.py",
    "inference/test_engines.py",
    "inference/test_postprocess.py",
    "inference/test_preprocess.py",
    "inference/test_session.py",
)
TOO_SLOW = (
    "images/test_images.py::test_a_bomb_is_refused_before_memory_is_asked_for",  # 30,000 x 30,000 pixels, byte by byte
    "folder/test_folder.py::test_bad_images_fail_alone",  # the same
)
TIMEOUT_S = 900  # qemu's threads can deadlock


FLOAT = Agreement(1.0, 0.001, 0.0001)


class Disagreement(Exception):
    """A board's results differ from those of x86."""


class ShakenEngine:
    """An engine whose input's values are each the next float up, the next one down, or as they were."""

    def __init__(self, engine, rng):
        self.engine, self.rng = engine, rng

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def infer(self, tensor):
        towards = tensor + self.rng.integers(-1, 2, tensor.shape).astype(tensor.dtype)
        return self.engine.infer(np.nextafter(tensor, towards))


def measure_noise(slices, draws=8):
    """Return the largest differences in the embedded model's results on x86 when the last bit of the input changes."""
    session = Session.load(engine="litert", threads=1)
    engine, shaken = session.engine, ShakenEngine(session.engine, np.random.default_rng(0))
    agreements = []
    for image in map(read_image, slices):
        session.engine = engine
        still = session.segment(image)
        session.engine = shaken
        for moved in (session.segment(image) for _ in range(draws)):
            agreements.append(agree(still.mask, moved.mask, still.probability, moved.probability))
    return take_worst(agreements)


def list_images(folder):
    return sorted(path for path in folder.iterdir() if path.is_file())


def take_one_of_each_format(slices):
    """Return the first slice of each file name extension."""
    return sorted({path.suffix: path for path in reversed(slices)}.values())


def copy_images(images, folder):
    folder.mkdir()
    for path in images:
        shutil.copy(path, folder)
    return folder


def run(*command, expect=0, **kwargs):
    """Run a command; return its standard output."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=TIMEOUT_S, **kwargs)
    if done.returncode != expect:
        output = f"{done.stdout}\n{done.stderr}".strip()
        line = " ".join(map(str, command))
        raise Disagreement(f"exit status {done.returncode} instead of {expect}: {line}\n{output}")
    return done.stdout


def read_rows(out):
    """Return results.csv without the times."""
    with (out / "results.csv").open(newline="") as file:
        return [{key: cell for key, cell in row.items() if not key.endswith("_ms")} for row in csv.DictReader(file)]


def read_counts(out):
    return json.loads((out / "run.json").read_text())["counts"]


def compare_rows(expected, found, measurements):
    """Raise Disagreement where rows differ; without `measurements`, columns computed from the mask may differ."""
    kept = ("file", "status", "error", "width", "height", "input_sha256")
    for wanted, row in zip(expected, found, strict=True):
        for key in wanted if measurements else kept:
            if wanted[key] != row[key]:
                raise Disagreement(f"{wanted['file']}: {key} is {row[key]!r}, on x86 {wanted[key]!r}")


def compare_outputs(reference, out, bound):
    """Return the worst agreement of two runs' masks and probabilities; raise Disagreement where `bound` forbids it."""
    names = [path.name for path in list_images(reference / "masks")]
    if names != [path.name for path in list_images(out / "masks")]:
        raise Disagreement(f"other masks than on x86, {', '.join(names)}")
    agreements = []
    for name in names:
        mask, other = (read_grey(run / "masks" / name) > 0 for run in (reference, out))
        probability, another = (read_grey(run / "probability" / name) / 65535 for run in (reference, out))
        agreements.append(agree(mask, other, probability, another))
        if not allows(bound, agreements[-1]):
            raise Disagreement(f"{name}: {agreements[-1]}; allowed: {bound}")
    return take_worst(agreements)


def read_grey(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


class Board:
    """One emulated board and its checks, the most informative first."""

    def __init__(self, environment, work, noise, first, tests_site):
        self.environment, self.work, self.noise = environment, work, noise
        self.first, self.tests_site = first, tests_site
        self.python, self.edge_seg = environment / "bin" / "python", environment / "bin" / "edge-seg"
        self.started = time.monotonic()

    def report(self, text):
        seconds, self.started = time.monotonic() - self.started, time.monotonic()
        print(f"{self.environment.name}, emulated: {text} ({seconds:.0f} s emulated)", flush=True)

    def check(self):
        """Run all checks. Raises: Disagreement; TimeoutExpired if qemu hangs."""
        self.check_float()
        self.check_embedded()
        if self.first:
            self.check_resumed()
            run(self.python, HERE / "check_device.py", self.work / "few")
            self.report("the wheel alone works as on every other Python")
        if self.tests_site:
            self.check_tests()

    def check_float(self):
        out = self.environment / "float"
        run(self.edge_seg, self.work / "few", "-o", out, "--model", self.work / "twin.tflite", *OPTIONS)
        compare_rows(read_rows(self.work / "float"), read_rows(out), measurements=True)
        found = compare_outputs(self.work / "float", out, FLOAT)
        self.report(f"{read_counts(out)['ok']} slices, float32 twin, against x86: {found}")

    def check_embedded(self):
        out = self.environment / "embedded"
        run(self.edge_seg, self.work / "slices", "-o", out, *OPTIONS, expect=3)
        host = json.loads((out / "run.json").read_text())["host"]["machine"]
        if host != "aarch64":
            raise Disagreement(f"it ran on {host}")
        compare_rows(read_rows(self.work / "embedded"), read_rows(out), measurements=False)
        found = compare_outputs(self.work / "embedded", out, double(self.noise))
        counts = read_counts(out)
        if counts["failed"] != 1:
            raise Disagreement(f"{counts['failed']} inputs failed, but one is damaged")
        self.report(f"{counts['ok']} slices and a damaged one, embedded model, against x86: {found}")

    def check_resumed(self):
        out = self.environment / "embedded"
        before = read_rows(out)
        run(self.edge_seg, self.work / "slices", "-o", out, *OPTIONS, expect=3)
        counts = read_counts(out)
        if counts["kept"] != counts["ok"] or read_rows(out) != before:
            raise Disagreement(f"the same command again did not keep what was done: {counts}")
        self.report(f"the same command again keeps all {counts['kept']}")

    def check_tests(self):
        checkout = self.environment / "checkout"  # the tests without the packages, which are in the wheel
        shutil.copytree(HERE.parent / "tests", checkout / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE.parent / "pyproject.toml", checkout)
        folder = "tests/edge_runtime"
        files = [f"{folder}/{name}" for name in TESTS]
        slow = [word for name in TOO_SLOW for word in ("--deselect", f"{folder}/{name}")]
        command = (self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *slow, *files)
        output = run(*command, cwd=checkout, env={**os.environ, "PYTHONPATH": str(self.tests_site)})
        self.report(f"tests/edge_runtime: {output.splitlines()[-1].rsplit(' in ', 1)[0]}")


def make_references(slices, work):
    """Lay out slices and models in `work` and run x86's edge-seg over them; return the noise of its results."""
    edge_seg = Path(sys.executable).with_name("edge-seg")
    whole = copy_images(slices, work / "slices")
    data = next(path for path in slices if path.suffix == ".png").read_bytes()
    (whole / DAMAGED).write_bytes(data[: len(data) // 2])
    few = copy_images(take_one_of_each_format(slices), work / "few")
    make_twin(DEFAULT, work / "twin.tflite")
    run(edge_seg, few, "-o", work / "float", "--model", work / "twin.tflite", *OPTIONS)
    run(edge_seg, whole, "-o", work / "embedded", *OPTIONS, expect=3)
    return measure_noise(slices)


def check_board(board):
    """Return whether a board passes; print the reason if it does not."""
    try:
        board.check()
    except (Disagreement, subprocess.TimeoutExpired) as error:
        print(f"{board.environment.name}, emulated: error: {error}", file=sys.stderr, flush=True)
        return False
    return True


def main():
    slices, tests_site, *environments = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        noise = make_references(list_images(slices), work)
        print(f"x86 against itself, last bit of the input changed: {noise}", flush=True)
        boards = [
            Board(path, work, noise, path == environments[0], tests_site if path == environments[-1] else None)
            for path in environments
        ]
        with ThreadPoolExecutor(len(boards)) as pool:
            passed = list(pool.map(check_board, boards))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
