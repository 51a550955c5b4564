"""Puts this folder on the import path, for `fakes` and `malformed`, and gives the tests their drawn images."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from reference.phantom import draw_phantom

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
LONG = ("test_convert_models.py", "test_train.py", "test_table.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


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
