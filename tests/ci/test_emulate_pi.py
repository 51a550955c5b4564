"""The emulated Pi's scripts: what counts as agreement, and what is skipped, what fails and what is kept of a build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / ".ci"))

from agreement import Agreement, agree, allows, double, take_worst
from check_emulated import (
    Disagreement,
    ShakenEngine,
    compare_outputs,
    compare_rows,
    take_one_of_each_format,
)
from float_twin import make_twin

from edge_runtime import Session
from edge_runtime.contract.tail import read_contract
from edge_runtime.models import DEFAULT

CI = Path(__file__).parents[2] / ".ci"
ALIKE = Agreement(0.99, 0.01, 0.001)


def test_agreement_is_overlap_and_difference() -> None:
    """IoU, the largest and the mean difference, by hand."""
    mask, other = np.array([[True, True, True, False]]), np.array([[False, True, True, True]])
    found = agree(mask, other, np.array([[0.0, 0.5, 1.0, 0.0]]), np.array([[0.0, 0.75, 1.0, 0.25]]))
    assert found == (0.5, 0.25, 0.125)


def test_two_empty_masks_agree() -> None:
    """Nothing found on both sides is the same finding; something on one side only is not."""
    empty, full, probability = np.zeros((2, 2), bool), np.ones((2, 2), bool), np.zeros((2, 2))
    assert agree(empty, empty, probability, probability) == (1, 0, 0)
    assert agree(empty, full, probability, probability).iou == 0


def test_the_worst_of_several_and_what_it_allows() -> None:
    """Each figure by itself; a bound is twice the noise, and each figure has to keep to it."""
    worst = take_worst([Agreement(0.99, 0.1, 0.001), Agreement(1.0, 0.2, 0.0001)])
    assert worst == (0.99, 0.2, 0.001)
    bound = double(worst)
    assert bound == pytest.approx((0.98, 0.4, 0.002))
    assert allows(bound, worst)
    assert not allows(bound, worst._replace(iou=0.97))
    assert not allows(bound, worst._replace(largest=0.41))
    assert not allows(bound, worst._replace(mean=0.003))


def test_not_a_number_agrees_with_nothing() -> None:
    """A board that answers NaN does not slip through a comparison."""
    mask, probability = np.zeros((2, 2), bool), np.zeros((2, 2))
    assert not allows(Agreement(0, 1, 1), agree(mask, mask, probability, np.full((2, 2), np.nan)))


def test_shaking_moves_each_value_by_one_step_at_most() -> None:
    """The last bit changes, the sign and all before it do not, and some values do move."""
    seen: list[npt.NDArray[np.float32]] = []

    class Engine:
        threads = 3

        def infer(self, tensor: npt.NDArray[np.float32]) -> None:
            seen.append(tensor)

    tensor = np.linspace(0.1, 1, 1000, dtype=np.float32)
    shaken = ShakenEngine(Engine(), np.random.default_rng(0))
    shaken.infer(tensor)
    assert shaken.threads == 3
    assert seen[0].dtype == np.float32
    steps = (seen[0].view(np.int32) - tensor.view(np.int32)).tolist()
    assert set(steps) == {-1, 0, 1}


def test_rows_agree_in_all_that_is_no_measurement() -> None:
    """What follows from a mask may differ by a pixel, a status may not; a missing row is an error."""
    row = {"file": "a", "status": "ok", "error": "", "width": "1", "height": "1", "input_sha256": "0"}
    one, other = {**row, "lesion_pixels": "7"}, {**row, "lesion_pixels": "8"}
    compare_rows([one], [other], measurements=False)
    with pytest.raises(Disagreement, match="lesion_pixels is '8', on x86 '7'"):
        compare_rows([one], [other], measurements=True)
    with pytest.raises(Disagreement, match="a: status is 'failed'"):
        compare_rows([one], [{**one, "status": "failed"}], measurements=False)
    with pytest.raises(ValueError, match="shorter"):
        compare_rows([one, one], [one], measurements=False)


def write_run(out: Path, mask: npt.NDArray[np.uint8], probability: npt.NDArray[np.uint16]) -> Path:
    for name, pixels in (("masks", mask), ("probability", probability)):
        (out / name).mkdir(parents=True)
        assert cv2.imwrite(str(out / name / "a.png"), pixels)
    return out


def test_outputs_are_compared_pixel_by_pixel(tmp_path: Path) -> None:
    """A run agrees with itself; a moved mask, another probability or a missing file is named."""
    mask, probability = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint16)
    mask[5:15, 5:15] = 255
    same = write_run(tmp_path / "same", mask, probability)
    assert compare_outputs(same, same, ALIKE) == (1, 0, 0)
    moved = write_run(tmp_path / "moved", np.roll(mask, 1, 0), probability)
    with pytest.raises(Disagreement, match=r"a\.png: IoU 0\.81"):
        compare_outputs(same, moved, ALIKE)
    doubtful = write_run(tmp_path / "doubtful", mask, probability + np.uint16(2000))
    with pytest.raises(Disagreement, match=r"probability within 0\.031"):
        compare_outputs(same, doubtful, ALIKE)
    (moved / "masks" / "a.png").unlink()
    with pytest.raises(Disagreement, match="other masks"):
        compare_outputs(same, moved, ALIKE)


def test_one_slice_of_each_format() -> None:
    """The first of each file name extension, in order."""
    paths = [Path(name) for name in ("a.png", "b.jpg", "c.png", "d.tif")]
    assert take_one_of_each_format(paths) == [paths[0], paths[1], paths[3]]


def test_the_float_twin_is_the_same_net(tmp_path: Path, drawn: npt.NDArray[np.uint8]) -> None:
    """Its weights are four times as large, its contract differs in recipe alone, and it sees nearly the same."""
    twin = tmp_path / "twin.tflite"
    make_twin(DEFAULT, twin)
    assert twin.stat().st_size > 3 * DEFAULT.stat().st_size
    contract, original = read_contract(twin, verify=True), read_contract(DEFAULT)
    assert (contract.recipe, contract.input, contract.threshold) == ("fp32", original.input, original.threshold)
    ours, theirs = (Session.load(path, threads=1).segment(drawn) for path in (twin, DEFAULT))
    found = agree(ours.mask, theirs.mask, ours.probability, theirs.probability)
    assert found.mean < 0.005
    assert found != (1, 0, 0)


# --- the script, with stand-ins for what it would install or start -----------------------------------------------


def run_script(tmp_path: Path, **commands: str) -> subprocess.CompletedProcess[str]:
    """Run emulate_pi where these commands, besides the usual ones, are shell scripts of that text."""
    place = tmp_path / "bin"
    place.mkdir()
    for name, text in {"qemu_aarch64_static": "exit 1", "apt_get": "exit 100", **commands}.items():
        path = place / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    environment = {
        "PATH": f"{place}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "EDGE_SEG_CI_CACHE": str(tmp_path / "cache"),
    }
    command = [CI / "emulate_pi", "edge_seg.whl", "slices", sys.executable]
    return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)


def list_left(tmp_path: Path) -> list[str]:
    """What a run left in the cache and in the folder for temporary files."""
    return sorted(path.name for place in (tmp_path, tmp_path / "cache") if place.is_dir() for path in place.iterdir())


@pytest.mark.parametrize(
    ("commands", "why"),
    [
        ({"uname": "echo riscv64"}, "x86-64"),
        ({"debootstrap": "echo 'E: Failed getting release file http://a/b'; exit 1"}, "Failed getting release file"),
        ({"debootstrap": "echo 'E: debootstrap can only run as root'; exit 1"}, "only run as root"),
    ],
)
def test_what_is_missing_here_is_one_line(tmp_path: Path, commands: dict[str, str], why: str) -> None:
    """Another architecture, no network, no root: exit 0, one line that says so, and nothing is left behind."""
    done = run_script(tmp_path, **commands)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("emulated Pi: not checked: ")
    assert done.stdout.count("\n") == 1
    assert why in done.stdout
    assert list_left(tmp_path) in (["bin"], ["bin", "cache"])


def test_a_build_that_fails_is_a_failure_and_is_not_kept(tmp_path: Path) -> None:
    """What debootstrap says is shown, the exit status is 1, and no half userland stays in the cache."""
    done = run_script(tmp_path, debootstrap='mkdir -p "$6/usr"; echo "E: it broke"; exit 1')
    assert done.returncode == 1
    assert "it broke" in done.stderr
    assert "emulated Pi: error: debootstrap failed" in done.stderr
    assert list_left(tmp_path) == ["bin", "cache"]


def test_a_terminated_build_is_not_kept(tmp_path: Path) -> None:
    """Stopped in the middle, the script takes its half userland with it."""
    done = run_script(tmp_path, debootstrap='kill -TERM "$PPID"')
    assert done.returncode in (-15, 143)
    assert list_left(tmp_path) == ["bin", "cache"]


def test_the_arguments_are_told() -> None:
    """Anything but three arguments is a usage error."""
    done = subprocess.run([CI / "emulate_pi"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: emulate_pi WHEEL SLICES PYTHON" in done.stderr
