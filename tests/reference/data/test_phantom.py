"""What drawn slices promise: determinism, masks that fit their kind, sizes, folders and demo files."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.errors import OutputError
from reference.data.phantom import (
    KINDS,
    LESION_AREAS,
    Head,
    Lesion,
    Phantom,
    draw_demo,
    draw_folder,
    draw_phantom,
    lay_out_head,
    place_lesion,
)

TUMOURS = [kind for kind in KINDS if kind != "none"]


def draw(kind: str, seed: int = 0, size: int | tuple[int, int] = 128) -> Phantom:
    return draw_phantom(np.random.default_rng(seed), kind, size)


def place_drawn(kind: str, seed: int) -> tuple[Head, Lesion]:
    rng = np.random.default_rng(seed)
    head = lay_out_head(rng, kind, (128, 128))
    return head, place_lesion(rng, head, kind)


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, f"{path.name} cannot be read"
    return picture


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_slice(kind: str) -> None:
    """The same seed gives the same slice bit for bit, another seed another one."""
    first, again, other = draw(kind, 5), draw(kind, 5), draw(kind, 6)
    assert np.array_equal(first.image, again.image) and np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("kind", KINDS)
def test_mask_is_empty_for_none_only(kind: str) -> None:
    """The mask is empty if and only if there is no tumour."""
    for seed in range(6):
        assert draw(kind, seed).mask.any() == (kind != "none")


@pytest.mark.parametrize("size", [64, 101, 256, (200, 320), (301, 257), 1024])
def test_any_size(size: int | tuple[int, int]) -> None:
    """Every size from 64 to 1024, odd and oblong ones too, gives arrays of that size and of the promised types."""
    shape = (size, size) if isinstance(size, int) else size
    phantom = draw("glioma", size=size)
    assert phantom.image.shape == shape and phantom.image.dtype == np.uint8
    assert phantom.mask.shape == shape and phantom.mask.dtype == np.bool_
    assert phantom.kind == "glioma" and phantom.mask.any()


@pytest.mark.parametrize("kind", TUMOURS)
def test_one_drawing_at_every_size(kind: str) -> None:
    """A larger frame shows the same anatomy and lesion, only finer."""
    small, large = draw(kind, 3, 128), draw(kind, 3, 512)
    shrunk = cv2.resize(large.mask.astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA) > 0.5
    assert (small.mask & shrunk).sum() / (small.mask | shrunk).sum() > 0.8
    apart = np.abs(cv2.resize(large.image, (128, 128), interpolation=cv2.INTER_AREA).astype(int) - small.image)
    assert apart.mean() < 8


@pytest.mark.parametrize(("kind", "size"), [("tumor", 128), ("glioma", 63), ("glioma", (128, 1025))])
def test_refuses_what_it_cannot_draw(kind: str, size: int | tuple[int, int]) -> None:
    """An unknown kind or a size outside 64 to 1024 is refused."""
    with pytest.raises(ValueError, match=r"unknown kind|outside"):
        draw(kind, size=size)


@pytest.mark.parametrize("kind", TUMOURS)
def test_lesion_areas_are_realistic(kind: str) -> None:
    """Lesions cover 0.2 to 6 % of the slice, and half of them about as much as real ones."""
    areas = [100 * float(place_drawn(kind, seed)[1].mask.mean()) for seed in range(60)]
    assert min(areas) >= 0.2 and max(areas) <= 6
    assert LESION_AREAS[kind][0] * 0.7 < np.median(areas) < LESION_AREAS[kind][0] * 1.3


@pytest.mark.parametrize("kind", TUMOURS)
def test_lesion_is_one_piece_inside_the_skull(kind: str) -> None:
    """A lesion is one connected piece and does not reach beyond the inner skull."""
    for seed in range(30):
        head, lesion = place_drawn(kind, seed)
        assert cv2.connectedComponents(lesion.mask.astype(np.uint8))[0] == 2
        assert (head.depth[lesion.mask] > 0).all()


def test_pituitary_lies_near_the_midline() -> None:
    """A pituitary tumour's middle lies within 5 % of the brain's length of the midline, at the sella's level."""
    for seed in range(30):
        head, lesion = place_drawn("pituitary", seed)
        assert head.level == "sella"
        assert abs(float(head.x[lesion.mask].mean())) < 0.1


def test_meningioma_grows_from_skull_or_falx() -> None:
    """A meningioma reaches the inner skull or the falx to within two pixels, and a glioma stays in the brain."""
    seen = set()
    for seed in range(40):
        head, lesion = place_drawn("meningioma", seed)
        border = np.abs(head.x) if lesion.falx else head.depth
        assert float(border[lesion.mask].min()) < 2 * head.pixel + 0.01
        seen.add(lesion.falx)
        head, lesion = place_drawn("glioma", seed)
        assert (head.brain[lesion.mask] > 0).all()
    assert seen == {True, False}


def test_glioma_has_a_ring_around_a_darker_core() -> None:
    """A glioma's rim is on average brighter than its middle and than the tissue around it."""
    for seed in range(8):
        phantom = draw("glioma", seed, 256)
        far = cv2.distanceTransform(phantom.mask.astype(np.uint8), cv2.DIST_L2, 5)
        near = cv2.distanceTransform((~phantom.mask).astype(np.uint8), cv2.DIST_L2, 5)
        rim = phantom.image[(far > 1) & (far < 0.3 * far.max())].mean()
        assert rim > phantom.image[far > 0.8 * far.max()].mean()
        assert rim > np.median(phantom.image[(near > 3) & (near < 7)])


@pytest.mark.parametrize("kind", TUMOURS)
def test_brightness_alone_does_not_separate_tumours(kind: str) -> None:
    """No threshold on brightness comes near the masks: scalp, sinuses and vessels are as bright as tumours."""
    phantoms = [draw(kind, seed) for seed in range(12)]
    images, masks = np.stack([p.image for p in phantoms]), np.stack([p.mask for p in phantoms])
    bright = [images >= threshold for threshold in range(40, 256, 8)]
    assert max((b & masks).sum() / (b | masks).sum() for b in bright) < 0.3


def test_none_has_bright_distractors() -> None:
    """A slice without a tumour has bright spots inside the head, not only on its scalp."""
    for seed in range(8):
        image = draw("none", seed).image
        inside = image[24:-24, 40:-40]
        assert inside.max() > 1.4 * np.median(inside)


def test_looks_like_a_scan() -> None:
    """The frame's corners are nearly black with faint noise, the head is not, and little is burnt out."""
    for seed in range(8):
        image = draw(KINDS[seed % 4], seed).image
        corner = image[:8, :8]
        assert corner.mean() < 16 and corner.std() > 0
        assert 20 < image.mean() < 80 and (image == 255).mean() < 0.1


def test_folder_layout(tmp_path: Path) -> None:
    """A drawn folder holds images, {0, 255} masks of the same names, and a row for each; kinds rotate."""
    ids = draw_folder(8, tmp_path / "drawn", seed=1, size=64)
    rows = list(csv.DictReader((tmp_path / "drawn" / "labels.csv").open(newline="", encoding="utf-8")))
    assert ids == [row["id"] for row in rows] == [row["patient"] for row in rows] == [f"d{n:04d}" for n in range(1, 9)]
    assert [row["class"] for row in rows] == list(KINDS) * 2
    for part in ("images", "masks"):
        assert sorted(path.name for path in (tmp_path / "drawn" / part).iterdir()) == [f"{name}.png" for name in ids]
    for row in rows:
        image, mask = (read(tmp_path / "drawn" / part / f"{row['id']}.png") for part in ("images", "masks"))
        assert image.shape == mask.shape == (64, 64) and image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) == ({0} if row["class"] == "none" else {0, 255})


def test_folder_is_reproducible_and_grows(tmp_path: Path) -> None:
    """A longer folder of the same seed starts with the shorter one, byte for byte."""
    draw_folder(2, tmp_path / "short", seed=4, size=64)
    draw_folder(3, tmp_path / "long", seed=4, size=64)
    for path in (tmp_path / "short").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "long" / path.relative_to(tmp_path / "short")).read_bytes()


def test_folder_refuses_to_overwrite(tmp_path: Path) -> None:
    """A folder that already holds images is refused and left as it was; an empty one is used."""
    (tmp_path / "images").mkdir()
    draw_folder(1, tmp_path, size=64)
    before = (tmp_path / "images" / "d0001.png").read_bytes()
    with pytest.raises(OutputError, match="not empty"):
        draw_folder(1, tmp_path, seed=9, size=64)
    assert (tmp_path / "images" / "d0001.png").read_bytes() == before


def test_demo_files(tmp_path: Path) -> None:
    """The demo is twelve readable images and nothing else, as varied in type, channels and size as promised."""
    paths = draw_demo(tmp_path / "demo")
    assert sorted(paths) == sorted((tmp_path / "demo").iterdir()) and len(paths) == 12
    pictures = {path: read(path) for path in paths}
    assert {path.suffix for path in paths} == {".png", ".jpg", ".bmp", ".tif"}
    assert {(picture.dtype.name, picture.ndim, picture.shape[2:]) for picture in pictures.values()} >= {
        ("uint8", 2, ()),
        ("uint8", 3, (3,)),
        ("uint8", 3, (4,)),
        ("uint16", 2, ()),
    }
    assert {picture.shape[:2] for picture in pictures.values()} >= {(256, 256), (512, 512), (301, 257), (200, 320)}
    deep = sorted(int(picture.max()) for picture in pictures.values() if picture.dtype == np.uint16)
    assert len(deep) == 4 and deep[1] <= 4095 < deep[2]
    assert all(any(kind in path.name for path in paths) for kind in (*TUMOURS, "no-tumour"))
