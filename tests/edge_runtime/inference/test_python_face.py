"""The Python face as a notebook uses it: paths, arrays of all kinds, what is printed, drawn and saved."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from fakes import FakeEngine, echo, make_contract, make_session

import edge_runtime
from edge_runtime import EdgeSegError, Session
from edge_runtime.errors import ImageError, OutputError, UsageError

ROOT = Path(__file__).parents[3]
LESION = (255, 0, 0)  # of make_contract


def three_labels(tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    core, edema = (tensor > 0.6).astype(np.float32), ((tensor > 0.3) & (tensor <= 0.6)).astype(np.float32)
    return np.concatenate([1 - core - edema, edema, core], axis=3)


@pytest.fixture
def image(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Two squares on noise, so that some pixels are lesion for `echo` and for `three_labels`."""
    image = rng.integers(0, 60, (40, 50)).astype(np.uint8)
    image[5:20, 8:25], image[25:35, 30:45] = 120, 220
    return image


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_a_path_is_read(tmp_path: Path, image: npt.NDArray[np.uint8], suffix: str) -> None:
    """A path, as text or Path, gives what its pixels give."""
    path = tmp_path / f"slice{suffix}"
    cv2.imwrite(str(path), image)
    expected = make_session().segment(image)
    for given in (path, str(path)):
        assert (make_session().segment(given).probability == expected.probability).all()


def test_a_path_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """No file, a folder, no image, and one file for a model of volumes: each names the path."""
    (tmp_path / "text.png").write_text("no image")
    for path in (tmp_path / "gone.png", tmp_path, tmp_path / "text.png"):
        with pytest.raises(ImageError, match=re.escape(str(path))):
            make_session().segment(path)
    volumes = Session(make_contract(depth=3), FakeEngine(echo, 32, 1))
    with pytest.raises(ImageError, match="it is one image, this model takes volumes of 3 slices"):
        volumes.segment("slice.png")


class Lazy:
    """An object that NumPy can read, such as a picture of Pillow or a tensor of PyTorch."""

    def __init__(self, pixels: Any) -> None:
        self.pixels = pixels

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.pixels


GREY = np.full((8, 9), 7, np.uint8)


@pytest.mark.parametrize(
    "given",
    [
        GREY / 255.0,
        GREY > 3,
        GREY[None],
        np.stack([GREY] * 3, axis=2)[None],
        GREY[:, :, None],
        np.stack([GREY] * 4, axis=2),
        np.stack([GREY] * 3),
        GREY.astype(np.int64),
        GREY.astype(">u2"),
        Lazy(GREY),
    ],
)
def test_the_advice_makes_an_image(given: Any) -> None:
    """Of an array of another kind, one line says what to give, and that is taken."""
    with pytest.raises(ImageError) as caught:
        make_session().segment(given)
    assert "\n" not in str(caught.value)
    advice = re.search(r"(?:: |give )((?:image|numpy)[^;]*?)(?:, (?:as|if|which) .*)?$", caught.value.fix)
    assert advice, caught.value.fix
    made = eval(advice[1], {"numpy": np, "image": given})
    assert make_session().segment(made).mask.shape == GREY.shape


@pytest.mark.parametrize("given", [[[1, 2], [3, 4]], b"bytes", None, 3, {"a": 1}])
def test_no_array_at_all_is_one_line(given: Any) -> None:
    """Lists, bytes and None: the type is named, and what to give."""
    with pytest.raises(ImageError, match=r"^image: it is of type \w+; give .*\(H, W\)"):
        make_session().segment(given)


def test_what_is_printed_says_something(image: npt.NDArray[np.uint8]) -> None:
    """A session's repr has model, input, threshold and engine; a result's the counts of a plain loop."""
    session = make_session(threshold=0.25)
    assert repr(session) == "<Session fake 1, grey 32 × 32, threshold 0.25, fake with 1 thread>"
    many = make_session(three_labels, labels=3)
    assert "the most probable label" in repr(many)
    result = many.segment(image)
    counts = [sum(int(value == label) for row in result.labels.tolist() for value in row) for label in (1, 2)]
    said = repr(result)
    assert said.startswith(
        f"<Result 40 × 50, edema {counts[0]} pixels ({counts[0] / 20:.2f}%), core {counts[1]} pixels"
    )
    assert said.endswith(" ms on fake>") and "\n" not in said
    assert "nothing found" in repr(make_session(lambda tensor: tensor * 0).segment(image))


def test_the_overlay_is_drawn_on_the_image(tmp_path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Outside a lesion the image's grey, inside the grey mixed with the lesion's colour; from an array or a path."""
    result = make_session().segment(image)
    drawn = result.overlay(image)
    assert (drawn.shape, drawn.dtype) == ((40, 50, 3), np.uint8)
    outside = cv2.dilate(result.mask.astype(np.uint8), np.ones((3, 3))) == 0
    inside = cv2.erode(result.mask.astype(np.uint8), np.ones((5, 5))) > 0
    assert outside.any() and inside.any()
    for row, column in np.argwhere(outside).tolist():
        assert drawn[row, column].tolist() == [image[row, column]] * 3
    for row, column in np.argwhere(inside).tolist():
        mixed = [0.65 * int(image[row, column]) + 0.35 * part for part in LESION]
        assert np.abs(drawn[row, column] - np.array(mixed)).max() <= 1
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert (result.overlay(tmp_path / "a.png") == drawn).all()
    with pytest.raises(ImageError, match="it is 40 × 49, the result is 40 × 50; give the image that was segmented"):
        result.overlay(image[:, 1:])


def test_a_volumes_overlay_is_drawn_slice_by_slice(image: npt.NDArray[np.uint8]) -> None:
    """(D, H, W, 3), each slice as an image of its own."""
    volume = np.stack([image, image[::-1]])
    result = Session(make_contract(depth=2), FakeEngine(echo, 32, 1)).segment(volume)
    drawn = result.overlay(volume)
    assert drawn.shape == (2, 40, 50, 3)
    assert (drawn[1] == make_session().segment(volume[1]).overlay(volume[1])).all()
    with pytest.raises(UsageError, match="no single picture"):
        result.save("mask.png")


@pytest.mark.parametrize(("labels", "values"), [(1, {0, 255}), (3, {0, 1, 2})])
def test_a_mask_is_saved_as_the_command_writes_it(
    tmp_path: Path, image: npt.NDArray[np.uint8], labels: int, values: set[int]
) -> None:
    """An 8-bit grey PNG, read back by OpenCV: 0 and 255, or label values where there are several lesions."""
    result = make_session(echo if labels == 1 else three_labels, labels=labels).segment(image)
    path = result.save(tmp_path / "mask.png")
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert (read.dtype, set(np.unique(read).tolist())) == (np.uint8, values)
    assert ((read > 0) == result.mask).all()
    with pytest.raises(OutputError, match="exists already"):
        result.save(path)
    result.save(str(path), force=True)
    for bad, words in ((tmp_path / "mask.jpg", "saved as PNG"), (tmp_path / "no" / "mask.png", "does not exist")):
        with pytest.raises(EdgeSegError, match=words):
            result.save(bad)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mask.png"]


def test_the_version_is_the_projects() -> None:
    """`edge_runtime.__version__` is what pyproject.toml says, where the package is installed."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert edge_runtime.__version__ in (stated, "source")
