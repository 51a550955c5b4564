"""Shapes are measured correctly, verdicts follow from the figures, and the picture shows no patient's slice."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from evidence.document import Heading, Picture, Points, Table, to_html, to_markdown
from reference.data.lesion_shape import Shape, find_axis, find_head, measure_form, measure_shape, to_grey8
from reference.data.phantom import draw_phantom
from reference.evaluation.appearance import (
    CLAIMS,
    ShapePair,
    check_claim,
    compare_classes,
    format_agreement,
    format_claim,
    pair_shapes,
)
from reference.evaluation.centroids import MeanOutline, draw_centroids

ROWS, COLUMNS = np.mgrid[:200, :160]


def draw_disc(row: float, column: float, radius: float) -> np.ndarray:
    return np.hypot(ROWS - row, COLUMNS - column) <= radius


@pytest.fixture
def head() -> np.ndarray:
    """A grey ellipse of 141 by 121 pixels, from row 30 and column 20 on."""
    return (np.hypot((ROWS - 100) / 70, (COLUMNS - 80) / 60) <= 1).astype(np.uint8) * 100


def test_a_disc_in_a_head_is_measured_as_drawn(head: np.ndarray) -> None:
    """Position, area, distances to outline and axis, and contrast of a drawn disc are those it was drawn with."""
    lesion = draw_disc(80, 100, 12)
    head[lesion] = 200
    found = find_head(head)
    assert found is not None
    assert found.box == pytest.approx((20, 30, 121, 141), abs=3)
    assert find_axis(head, found, lesion) == pytest.approx(80, abs=1)
    shape = measure_shape(lesion, head, found, 80.0)
    assert shape is not None
    assert (shape.x, shape.y) == pytest.approx((80 / 121, 50 / 141), abs=0.015)
    assert shape.area == pytest.approx(12**2 / (70 * 60), rel=0.05)
    gaps = [np.hypot(ROWS - y, COLUMNS - x)[~found.mask].min() for y, x in np.argwhere(lesion)]
    assert shape.edge * found.size == pytest.approx(min(gaps), abs=0.01)
    assert shape.midline is not None and shape.midline * found.size == pytest.approx(20, abs=0.01)
    assert shape.roundness > 0.95 and shape.solidity > 0.98 and shape.components == 1
    assert shape.contrast == pytest.approx(100 / head[found.mask].std(), rel=0.02)
    assert measure_shape(lesion & False, head, found, None) is None
    assert find_head(np.zeros((40, 40), np.uint8)) is None


def test_roundness_and_solidity_order_forms_as_the_eye_does() -> None:
    """A disc is rounder than a square, that than a bar and a star; only the star is not solid; size hardly matters."""
    square = (abs(ROWS - 99.5) < 15) & (abs(COLUMNS - 79.5) < 15)
    bar = (abs(ROWS - 99.5) < 5) & (abs(COLUMNS - 79.5) < 40)
    angle = np.arctan2(ROWS - 100, COLUMNS - 80)
    star = np.hypot(ROWS - 100, COLUMNS - 80) <= 22 + 12 * np.cos(6 * angle)
    forms = [measure_form(form) for form in (draw_disc(100, 80, 20), square, bar, star)]
    roundness, solidity = zip(*forms, strict=True)
    assert roundness[0] > 0.95 > roundness[1] > 0.7 > roundness[2] and roundness[1] > roundness[3]
    assert roundness[1] == pytest.approx(np.pi / 4, abs=0.06)
    assert min(solidity[:3]) > 0.98 > 0.85 > solidity[3]
    assert all(measure_form(draw_disc(100, 80, radius))[0] > 0.93 for radius in (2, 4, 8, 30))
    single = np.zeros((9, 9), bool)
    single[4, 4] = single[0, 0] = True  # also at the frame's corner
    assert all(0 <= value <= 1 for value in measure_form(single))


def test_images_of_any_kind_become_grey() -> None:
    """16 bits go by the depth they use, colour by its luma; grey of 8 bits is left as it is."""
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    assert to_grey8(grey) is grey or np.array_equal(to_grey8(grey), grey)
    assert np.array_equal(to_grey8(np.repeat(grey[:, :, None], 3, axis=2)), grey)
    deep = grey.astype(np.uint16) * 16
    assert np.abs(to_grey8(deep).astype(int) - deep / 4095 * 255).max() <= 0.51


BASE = Shape(x=0.5, y=0.5, area=0.01, roundness=0.8, solidity=0.9, edge=0.1, midline=0.1, components=1, contrast=1.0)


def make_pairs(kind: str, true: float, found: float, count: int = 8) -> list[ShapePair]:
    """Slices of `count` patients whose lesions have these roundnesses, spread a little."""
    return [
        ShapePair(
            f"{kind}{k}", f"{kind}{k}", kind, replace(BASE, roundness=true + k / 1000), replace(BASE, roundness=found)
        )
        for k in range(count)
    ]


@pytest.mark.parametrize(
    ("true", "found", "verdicts"),
    [
        ((0.9, 0.7), (0.9, 0.7), ("holds", "holds")),
        ((0.7, 0.9), (0.9, 0.7), ("the reverse holds", "holds")),
        ((0.8, 0.8), (0.6, 0.9), ("not shown", "the reverse holds")),
    ],
)
def test_verdicts_follow_from_the_figures(
    true: tuple[float, float], found: tuple[float, float], verdicts: tuple[str, str]
) -> None:
    """A claim's verdict follows from its interval, and the sentence has both verdicts, for truth and found."""
    pairs = make_pairs("meningioma", true[0], found[0]) + make_pairs("glioma", true[1], found[1])
    facts = compare_classes(pairs)
    checked = next(claim for claim in facts["claims"] if claim["measure"] == "roundness")
    assert (checked["true"]["verdict"], checked["found"]["verdict"]) == verdicts
    sentence = format_claim(checked)
    assert sentence.startswith("Meningiomas are rounder than gliomas") and all(
        verdict in sentence for verdict in verdicts
    )
    agreement = format_agreement(facts["claims"])
    assert ("meningiomas are rounder" in agreement) == (verdicts[0] != verdicts[1])


def test_claims_on_too_few_patients_have_no_verdict() -> None:
    """One patient, or no found lesion, is too few; a class that is absent has no claims."""
    lone = make_pairs("meningioma", 0.9, 0.9, 1) + [
        replace(pair, found=None) for pair in make_pairs("glioma", 0.7, 0.7)
    ]
    checked = check_claim(CLAIMS[0], lone, {"meningioma": (0.5, 0.5), "glioma": (0.5, 0.5)})
    assert checked["true"]["verdict"] == checked["found"]["verdict"] == "too few"
    assert "too few patients" in format_claim(checked)
    facts = compare_classes(lone)
    assert facts["classes"]["glioma"]["found"]["roundness"] == {"value": None, "interval": None, "n": 0}
    assert compare_classes(make_pairs("glioma", 0.7, 0.7))["claims"] == []


def test_drawn_classes_lie_where_they_were_drawn() -> None:
    """On drawn slices the claims hold as drawn: pituitary tumours are at the midline, and deep."""
    pairs, outline = [], MeanOutline()
    for seed in range(45):
        kind = ("glioma", "meningioma", "pituitary")[seed % 3]
        drawn = draw_phantom(np.random.default_rng(seed), kind, 128)
        pairs.append(pair_shapes(f"s{seed}", f"p{seed}", kind, drawn.image, drawn.mask, drawn.mask))
        outline.add(drawn.image, kind)
    facts = compare_classes(pairs)
    assert all(group["true"] == group["found"] and group["error"]["value"] == 0 for group in facts["classes"].values())
    verdicts = {claim["claim"]: claim["true"]["verdict"] for claim in facts["claims"]}
    assert verdicts["pituitary tumours lie deeper than meningiomas"] == "holds"
    assert verdicts["pituitary tumours lie nearer to the midline than gliomas"] == "holds"
    assert "say the same as the true ones in 8 of 8" in format_agreement(facts["claims"])
    assert outline.mean("glioma").min() >= 0 and outline.mean("glioma").max() == 1
    picture = cv2.imdecode(np.frombuffer(draw_centroids(pairs, outline), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] > 400 and len(np.unique(picture)) > 20


def test_a_page_is_the_same_in_both_forms() -> None:
    """Every block is in the Markdown and in the HTML, where text cannot become a tag and the picture is inside."""
    blocks = [
        Heading("Über <b>", 1),
        "a & b",
        Table(("x", "y|z"), [["1", "2"]]),
        Points(["one"]),
        Picture("p.png", "it"),
    ]
    page, markdown = to_html(blocks, {"p.png": b"png"}), to_markdown(blocks)
    assert "<h1>Über &lt;b&gt;</h1>" in page and "<p>a &amp; b</p>" in page and "base64,cG5n" in page
    assert "<td>1</td><td>2</td>" in page and "<li>one</li>" in page and "<b>" not in page
    assert "| x | y\\|z |\n| --- | ---: |\n| 1 | 2 |" in markdown and "![it](p.png)" in markdown and "- one" in markdown
