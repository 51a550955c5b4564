"""Copies of a slice are found after common changes, and no other slices are found as copies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from published_sets import draw

from reference.data.same_slice import (
    MIN_LIKENESS,
    TURNS,
    Fingerprints,
    compare_pairwise,
    find_copies,
    group_linked,
    hash_coarse,
    make_fingerprint,
    stack_fingerprints,
    turn_fields,
)

DATA = Path(os.environ.get("EDGE_SEG_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [draw(number, size=128).image for number in range(24)]


def make_fingerprints(images: list[np.ndarray]) -> Fingerprints:
    return stack_fingerprints(make_fingerprint(image) for image in images)


def turn_image(image: np.ndarray, turn: int) -> np.ndarray:
    """The image turned so that TURNS[turn] brings it back, by naive means."""
    back = {
        "as it is": image,
        "mirrored": np.fliplr(image),
        "upside down": np.flipud(image),
        "turned by 180 degrees": np.rot90(image, 2),
        "transposed": image.T,
        "turned by 90 degrees": np.rot90(image, 1),  # counterclockwise; a clockwise turn brings it back
        "turned by 270 degrees": np.rot90(image, 3),
        "transposed, turned by 180 degrees": np.rot90(image.T, 2),
    }[TURNS[turn]]
    return np.ascontiguousarray(back)


def compress(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE)


def stretch(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda image: image,
    "smaller": lambda image: stretch(image, 64, 64),
    "larger": lambda image: cv2.resize(image, (300, 300)),
    "another aspect": lambda image: stretch(image, 100, 120),
    "JPEG": compress,
    "darker": lambda image: (image * 0.5 + 20).astype(np.uint8),
    "burnt out": lambda image: np.clip(image * 1.5, 0, 255).astype(np.uint8),
    "gamma": lambda image: (255 * (image / 255) ** 1.5).astype(np.uint8),
    "noise": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255).astype(np.uint8),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 0.8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(change: str, images: list[np.ndarray]) -> None:
    """Each changed slice is a copy of the one that it was made of, as it is, and of no other."""
    copies = find_copies(make_fingerprints(images), make_fingerprints([CHANGES[change](image) for image in images]))
    assert [(copy.first, copy.second, copy.turn) for copy in copies] == [(i, i, 0) for i in range(len(images))]


@pytest.mark.parametrize("turn", range(len(TURNS)))
def test_turned_copies_are_found_with_their_turn(turn: int, images: list[np.ndarray]) -> None:
    """A copy in any of the eight turns is found, and the turn that brings it back is named."""
    copies = find_copies(
        make_fingerprints(images), make_fingerprints([compress(turn_image(image, turn)) for image in images])
    )
    assert [(copy.first, copy.second, copy.turn) for copy in copies] == [(i, i, turn) for i in range(len(images))]


def test_the_hash_misses_nothing_that_all_pairs_show(images: list[np.ndarray]) -> None:
    """Within one set, the pairs are those that comparing every two slices in every turn finds, each once."""
    every = images[:12] + [turn_image(images[i], i % 8) for i in range(6)] + [compress(images[3]), images[5]]
    fingerprints = make_fingerprints(every)
    naive = set()
    for first in range(len(every)):
        for second in range(first + 1, len(every)):
            for turn in range(len(TURNS)):
                turned = turn_fields(fingerprints.detail[second : second + 1], turn)[0]
                if float((fingerprints.detail[first] * turned).sum()) >= MIN_LIKENESS:
                    naive.add((first, second))
    found = [(copy.first, copy.second) for copy in find_copies(fingerprints)]
    assert len(found) == len(set(found)) and set(found) == naive
    assert {(0, 12), (1, 13), (3, 18), (5, 19)} <= naive


def test_the_hash_is_that_of_the_cosine_transform(images: list[np.ndarray]) -> None:
    """The 64 bits are those of OpenCV's DCT coefficients above their median."""
    fingerprints = make_fingerprints(images[:4])
    scale = np.ones(8)
    scale[0] = np.sqrt(2)  # OpenCV's is orthonormal, which makes the first row and column smaller
    for coarse, bits in zip(fingerprints.coarse, hash_coarse(fingerprints.coarse), strict=True):
        waves = (cv2.dct(coarse)[:8, :8] * scale * scale[:, None]).ravel()
        assert np.array_equal(bits > 0, waves > np.median(waves[1:]))


def test_blank_images_are_no_copies() -> None:
    """Images without any contrast are no copies of each other."""
    blank = [np.full((50, 60), value, np.uint8) for value in (0, 0, 200)]
    assert find_copies(make_fingerprints(blank)) == []


def test_no_images_have_no_copies(images: list[np.ndarray]) -> None:
    """An empty set has no copies and raises no error."""
    assert (
        find_copies(make_fingerprints([])) == []
        and find_copies(make_fingerprints(images[:2]), make_fingerprints([])) == []
    )


def test_pairwise_likeness_is_that_of_the_best_turn(images: list[np.ndarray]) -> None:
    """Image i is compared with image i alone, in whatever turn."""
    theirs = [turn_image(images[0], 3), turn_image(images[1], 6), images[5]]
    alike = compare_pairwise(make_fingerprints(images[:3]), make_fingerprints(theirs))
    assert alike[0] > 0.99 and alike[1] > 0.99 and alike[2] < MIN_LIKENESS


def test_links_join_what_is_connected() -> None:
    """Groups are those that a flood fill over the links finds."""
    rng = np.random.default_rng(5)
    for count in (1, 6, 30):
        links = [tuple(map(int, rng.integers(0, count, 2))) for _ in range(count // 2)]
        near = {i: {i} | {b for a, b in links if a == i} | {a for a, b in links if b == i} for i in range(count)}
        for i, lowest in enumerate(group_linked(count, links)):
            seen = {i}
            while more := set().union(*(near[j] for j in seen)) - seen:
                seen |= more
            assert lowest == min(seen)


@pytest.mark.skipif(not (DATA / "t1ce_512").is_dir(), reason="no published slices here, see EDGE_SEG_DATA")
def test_published_slices_at_two_sizes() -> None:
    """Each of 80 published slices is found at half its size; what else is found is a neighbour of the same patient."""
    files = sorted((DATA / "t1ce_512" / "images").glob("*.png"))
    large = make_fingerprints([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in files])
    small = make_fingerprints(
        [cv2.imread(str(DATA / "t1ce_tumor" / "images" / path.name), cv2.IMREAD_GRAYSCALE)[:, ::-1] for path in files]
    )
    rows = [line.split(",") for line in (DATA / "t1ce_tumor" / "labels.csv").read_text().split()]
    patient = {row[0]: row[2] for row in rows}
    copies = find_copies(large, small)
    assert {copy.first for copy in copies if copy.first == copy.second and TURNS[copy.turn] == "mirrored"} == set(
        range(len(files))
    )
    assert all(patient[files[copy.first].stem] == patient[files[copy.second].stem] for copy in copies)
