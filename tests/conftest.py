"""What all tests share: the import path, the drawn images, which tests are slow, and which need TensorFlow."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from reference.data.phantom import draw_phantom

# A run in the background of a shell without job control (`make test &`, nohup) ignores Ctrl-C, and what it starts would
# too: the tests that interrupt a command need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Commands that tests start find the packages of this checkout too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
)

# Minutes each. They come first, so that no process is left with one when all others are done (`make test` gives each
# file to the next free process).
LONG = ("test_convert_models.py", "test_keras2_meaning.py", "test_train.py", "test_table.py")

# Left out by `make check`: files and single tests that take seconds of processor time each.
SLOW = {
    "test_choose.py",
    "test_damaged_bytes_are_one_line",
    "test_deploy_damage.py",
    "test_deploy_hostile.py",
    "test_deploy_own_wheel.py",
    "test_deploy_trust.py",
    "test_disk.py",
    "test_evaluate.py",
    "test_every_name_that_passes_only_computes",
    "test_hostile_pixels.py",
    "test_isolation.py",
    "test_kills.py",
    "test_loading.py",
    "test_long_runs.py",
    "test_needs.py",
    "test_phantom.py",
    "test_planted.py",
    "test_run.py",
    "test_series_run.py",
    "test_series_safety.py",
    "test_taken_away.py",
    "test_throughput.py",
    "test_timed_rounds.py",
    "test_watch_service.py",
    "test_a_chart_of_many_candidates_fits_its_page",
    "test_a_damaged_file_is_named",
    "test_a_folder_of_all_of_them_is_run_through",
    "test_a_full_disk_stops_the_run_and_can_be_resumed",
    "test_a_lock_fixes_the_versions",
    "test_a_real_slot_is_built_and_tested",
    "test_a_run_that_is_stopped_goes_on",
    "test_a_second_run_keeps_all",
    "test_a_tenth_is_found",
    "test_bad_images_fail_alone",
    "test_closed_streams_and_a_poor_terminal",
    "test_damaged_weights_are_packed_again",
    "test_drawn_classes_lie_where_they_were_drawn",
    "test_every_id_resolves",
    "test_it_finds_drawn_lesions",
    "test_killed_at_any_change_of_the_disk_a_working_slot_stays",
    "test_names_cannot_fool_the_terminal",
    "test_nasty_names_in_the_pdf",
    "test_progress_is_shown_on_a_terminal_only",
    "test_stopped_at_any_step_a_working_slot_stays",
    "test_the_interval_has_its_coverage",
    "test_the_manylinux2014_trap",
    "test_the_median_s_interval_covers_it",
    "test_the_output_folder_has_the_inputs_name",
    "test_the_same_inputs_give_the_same_bytes",
    "test_the_same_result_gives_the_same_bytes",
    "test_there_are_hundreds_of_cases",
    "test_two_runs_at_once_are_refused",
    "test_two_runs_of_the_same_are_no_difference",
    "test_what_cannot_be_made_is_one_line",
}

# Where TensorFlow is not installed, this file is left out; any other test that imports TensorFlow or Keras is skipped.
collect_ignore = [] if find_spec("tensorflow") else ["convert/test_convert_models.py"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)
    met = set()
    for item in items:
        if names := SLOW & {item.path.name, item.name.partition("[")[0]}:
            item.add_marker(pytest.mark.slow)
            met |= names
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS and SLOW - met:
        warnings.warn(f"tests/conftest.py: SLOW has what is no test: {sorted(SLOW - met)}", stacklevel=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    return (yield from skip_without_tensorflow())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from skip_without_tensorflow())


def skip_without_tensorflow() -> Generator[None, object, object]:
    """Skip what imports TensorFlow or Keras where TensorFlow is not installed, as `pytest.importorskip` would."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("tensorflow", "keras") and not find_spec("tensorflow"):
            pytest.skip(f"{error.name} is not installed")
        raise


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def drawn() -> npt.NDArray[np.uint8]:
    """One drawn slice (96, 120) uint8; not to be written to."""
    image = draw_phantom(np.random.default_rng(1), "meningioma", (96, 120)).image
    image.flags.writeable = False
    return image


@pytest.fixture
def folder(tmp_path: Path, drawn: npt.NDArray[np.uint8]) -> Path:
    """A folder `in` with three readable images, PNG, JPEG and 16-bit TIFF, of odd sizes."""
    place = tmp_path / "in"
    place.mkdir()
    save(place / "a.png", drawn)
    save(place / "b.jpg", drawn[:-5, 7:])
    save(place / "c.tif", drawn[3:].astype(np.uint16) * 16)
    return place


def save(path: Path, pixels: npt.NDArray[np.generic]) -> None:
    ok, data = cv2.imencode(path.suffix, pixels)
    assert ok
    path.write_bytes(data.tobytes())


@pytest.fixture
def save_image() -> Callable[[Path, npt.NDArray[np.generic]], None]:
    return save
