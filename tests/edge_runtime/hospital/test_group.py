"""Which slices make a series, in which order, and what is said of holes, copies and conflicts; without files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.fields import Acquisition
from edge_runtime.hospital.headers.header import Frame, Header, Timing
from edge_runtime.hospital.headers.scan import Found
from edge_runtime.hospital.headers.words import find_marks, find_words, names_agent
from edge_runtime.hospital.series.geometry import measure_steps, name_plane
from edge_runtime.hospital.series.group import Series, group
from edge_runtime.hospital.series.sequence import find_contrast, find_sequence
from edge_runtime.hospital.series.verdict import Judged, judge

WANTED = Acquisition("MR", "T1", "yes", 3)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
T1 = Timing(repetition=500.0, echo=10.0, scanning=("SE",))


def make(depth: float, instance: str = "", orientation: tuple[float, ...] = AXIAL, **changes: object) -> Found:
    """One slice at a depth along the normal; its digest of pixels is its path's name."""
    normal = np.cross(orientation[:3], orientation[3:])
    frame = Frame(tuple(depth * normal + (5.0, -7.0, 0.0)), orientation, (1.0, 1.0), 2.0)
    frame = replace(frame, **{name: changes.pop(name) for name in list(changes) if name in vars(frame)})  # type: ignore[arg-type]
    header = Header(
        "classic", "study", "series", "frame", instance or f"{depth} {frame} {changes}", "MR", 64, 64,
        words=("contrast",), timing=T1, frames=(frame,),
    )  # fmt: skip
    pixels = str(changes.pop("pixels", f"{depth}"))
    return Found(replace(header, **changes), Path(pixels))  # type: ignore[arg-type]


def collect(found: Sequence[Found]) -> list[Series]:
    return group(found, lambda item: item.path.name)


def judge_all(found: Sequence[Found]) -> list[Judged]:
    return judge(collect(found), WANTED)


def shuffled(depths: Sequence[float], **changes: object) -> list[Found]:
    return [make(depths[place], **changes) for place in np.random.default_rng(1).permutation(len(depths))]


@pytest.mark.parametrize("tilt", [0, 20])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_order_is_that_of_the_positions(tilt: int, sign: int) -> None:
    """Along the normal, whatever the order of files and InstanceNumber."""
    angle = math.radians(tilt)
    turned = (1.0, 0.0, 0.0, 0.0, sign * math.cos(angle), sign * math.sin(angle))
    (series,) = collect(shuffled([3.0 * n for n in range(9)], orientation=turned))
    assert series.depths == pytest.approx(sorted(series.depths))
    steps = np.diff([np.array(item.frame.position) for item in series.slices], axis=0)
    normal = np.cross(turned[:3], turned[3:])
    assert np.allclose(steps, 3.0 * normal) and series.steps.step_mm == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("depths", "missing", "uneven", "flags"),
    [
        ([0, 3, 6, 9, 12], 0, 0, ()),
        ([0, 3, 9, 12, 15], 1, 0, ("gapped",)),
        ([0, 3, 12, 15, 18], 2, 0, ("gapped",)),
        ([0, 3, 9, 12, 18, 21, 24], 2, 0, ("gapped",)),
        ([0, 3, 6.5, 9.5, 12.5], 0, 1, ("uneven",)),
        ([0, 3.005, 6, 9.004, 12], 0, 0, ()),
        ([0, 3, 6, 10.5, 13.5], 1, 0, ("gapped",)),
        ([0, 3, 6, 10.4, 13.4], 0, 1, ("uneven",)),
    ],
)
def test_holes_and_uneven_steps(depths: list[float], missing: int, uneven: int, flags: tuple[str, ...]) -> None:
    """Counted by hand; the verdict stays."""
    (item,) = judge_all(shuffled(depths))
    assert (item.series.steps.missing, item.series.steps.uneven, item.flags) == (missing, uneven, flags)
    assert item.verdict.verdict == "yes"


def test_copies_are_left_out() -> None:
    """The same object twice, and the same place and pixels twice: of these the higher AcquisitionNumber stays."""
    found = [make(depth, instance=f"{depth}") for depth in (0.0, 3.0, 6.0)]
    again = make(3.0, instance="another", acquisition=2, pixels="3.0")
    (item,) = judge_all([*found, found[0], again])
    assert (item.series.duplicates, len(item.series.slices), item.verdict.verdict) == (2, 3, "yes")
    assert item.series.slices[1].header.acquisition == 2


def test_other_pixels_at_one_place_are_a_conflict() -> None:
    """Nothing tells the two apart: the series fails, with how often."""
    (item,) = judge_all([*shuffled([0.0, 3.0, 6.0]), make(3.0, instance="other", pixels="else")])
    assert (item.verdict.verdict, item.verdict.reason) == ("no", "conflict") and "1 time" in item.verdict.why


def test_the_same_object_with_other_pixels_is_a_conflict() -> None:
    """One UID, two images."""
    (item,) = judge_all([*shuffled([0.0, 3.0, 6.0]), make(9.0, instance="x"), make(9.0, instance="x", pixels="else")])
    assert item.verdict.reason == "conflict"


@pytest.mark.parametrize(
    "key", [{"echo_ms": 1}, {"kind": 1}, {"temporal": 1}, {"b_value": 1}, {"acquisition": 1}], ids=str
)
def test_series_that_share_positions_are_split(key: dict[str, int]) -> None:
    """By echo, image type, time, b-value and acquisition; only where positions collide."""
    (name,) = key
    values: list[object] = ["a", "b"] if name == "kind" else [1, 2]
    both = [make(depth, pixels=f"{depth}{value}", **{name: value}) for value in values for depth in (0.0, 3.0, 6.0)]
    parts = judge_all(both)
    assert [(len(part.series.slices), part.verdict.verdict, part.flags) for part in parts] == [
        (3, "yes", ("part",))
    ] * 2
    apart = [make(depth, **{name: values[depth > 4]}) for depth in (0.0, 3.0, 6.0, 9.0)]
    assert len(collect(apart)) == 1


def test_many_times_are_four_dimensions() -> None:
    """Five times at each position stay one series."""
    (item,) = judge_all([make(d, temporal=t, pixels=f"{d}{t}") for t in range(5) for d in (0.0, 3.0, 6.0)])
    assert (item.verdict.verdict, item.verdict.reason, len(item.series.slices)) == ("no", "4-d", 15)


def test_orientation_spacing_and_size_part_series() -> None:
    """A milliradian is one orientation, two are not; so is spacing within a thousandth."""
    near = (1.0, 0.0, 0.0, 0.0, math.cos(0.0009), math.sin(0.0009))
    far = (1.0, 0.0, 0.0, 0.0, math.cos(0.0021), math.sin(0.0021))
    assert len(collect([make(0.0), make(3.0, orientation=near)])) == 1
    for other in (make(3.0, orientation=far), make(3.0, rows=32), make(3.0, spacing=(1.0, 1.01))):
        assert len(collect([make(0.0), other])) == 2
    assert len(collect([make(0.0), make(3.0, reference_frame="other")])) == 2


def test_three_planes_of_few_slices_are_a_localizer() -> None:
    """By planes alone; three slices in a plane are none."""
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    scout = [make(d, orientation=o) for d in (0.0, 9.0) for o in (AXIAL, CORONAL, sagittal)]
    assert [item.verdict.reason for item in judge_all(scout)] == ["localizer"] * 3
    volume = [*scout, make(18.0), make(27.0)]
    assert "yes" in [item.verdict.verdict for item in judge_all(volume)]


@pytest.mark.parametrize("numbers", [(4, 5, 6), (3, 2, 1), (1, 2, 3)])
def test_numbers_tell_of_missing_ends(numbers: tuple[int, ...]) -> None:
    """InstanceNumber that begins beyond 1 is the evidence."""
    (item,) = judge_all([make(3.0 * place, number=number) for place, number in enumerate(numbers)])
    assert item.flags == (("ends?",) if min(numbers) > 1 else ())


def test_few_damaged_and_unplaced_slices() -> None:
    """Each with its reason."""
    assert judge_all(shuffled([0.0, 3.0]))[0].verdict.reason == "few-slices"
    (item,) = judge_all([*shuffled([0.0, 3.0, 9.0]), make(6.0, damaged=True)])
    assert (item.flags, item.series.steps.missing, item.verdict.verdict) == (("gapped", "damaged"), 1, "yes")
    (item,) = judge_all([make(depth, damaged=True) for depth in (0.0, 3.0, 6.0)])
    assert (item.verdict.verdict, item.verdict.reason) == ("no", "unreadable")
    nowhere = [make(d, position=None, number=n) for n, d in enumerate((6.0, 3.0, 0.0))]
    (item,) = judge_all(nowhere)
    assert (item.verdict.verdict, item.verdict.reason, item.flags) == ("unsure", "position", ("no-position",))


@pytest.mark.parametrize(("package", "text"), [("python-gdcm", "needs python-gdcm"), ("?", "nothing here reads")])
def test_a_transfer_syntax_names_its_package(package: str, text: str) -> None:
    (item,) = judge_all([make(depth, package=package) for depth in (0.0, 3.0, 6.0)])
    assert item.verdict.reason == "syntax" and text in item.verdict.why


@pytest.mark.parametrize(
    "bad", [(math.nan,) * 6, (0.0,) * 6, (1.0, 0.0, 0.0, 1.0, 0.0, 0.0), (9.0, 0.0, 0.0, 0.0, 9.0, 0.0)]
)
def test_directions_that_cannot_be_are_none(bad: tuple[float, ...]) -> None:
    """NaN, zero, parallel and of a length far from 1."""
    found = [replace(item, header=replace(item.header, frames=(replace(item.header.frames[0], orientation=bad),)))
             for item in shuffled([0.0, 3.0, 6.0])]  # fmt: skip
    (item,) = judge_all(found)
    assert item.verdict.reason == "position"


def test_planes_have_names() -> None:
    assert [name_plane(o) for o in (AXIAL, CORONAL, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))] == [
        "axial",
        "coronal",
        "sagittal",
    ]
    assert name_plane((1.0, 0.0, 0.0, 0.0, math.cos(0.3), math.sin(0.3))) == "axial oblique"
    assert measure_steps([4.0]).step_mm is None


SE, GR = ("SE",), ("GR",)


@pytest.mark.parametrize(
    ("timing", "words", "weighting", "source"),
    [
        (Timing(9000.0, 120.0, 2500.0, 90.0, ("SE", "IR")), (), "FLAIR", "numbers"),
        (Timing(4500.0, 100.0, None, 90.0, SE), (), "T2", "numbers"),
        (Timing(500.0, 10.0, None, 90.0, SE), ("t2",), "T1", "numbers"),  # described as T2 (clinica#930)
        (Timing(4500.0, 100.0, None, 90.0, SE), ("t1",), "T2", "numbers"),
        (Timing(2300.0, 2.98, 900.0, 9.0, ("GR", "IR")), (), "T1", "numbers"),  # MPRAGE
        (Timing(2000.0, 20.0, 800.0, 90.0, ("SE", "IR")), (), "T1", "numbers"),  # T1 FLAIR
        (Timing(600.0, 20.0, None, 20.0, GR), (), "T2*", "numbers"),
        (Timing(3000.0, 15.0, None, 90.0, SE), (), "PD", "numbers"),
        (Timing(), ("flair", "t2"), "FLAIR", "words"),
        (Timing(), ("contrast", "t1"), "T1", "words"),
        (Timing(), ("diffusion",), "EP", "words"),
        (Timing(), (), "", ""),
        (Timing(3000.0, 40.0, None, 90.0, SE), (), "", ""),
    ],
)
def test_the_sequence(timing: Timing, words: tuple[str, ...], weighting: str, source: str) -> None:
    """By hand; numbers before words, words before nothing."""
    found = find_sequence(Header("classic", timing=timing, words=words))
    assert (found.weighting, found.source) == (weighting, source)


@pytest.mark.parametrize(
    ("words", "agent", "after", "left_over", "contrast"),
    [
        ((), False, False, False, ""),
        ((), True, False, False, "yes"),
        ((), True, False, True, ""),  # the localizer names it too
        (("no-contrast",), True, False, False, "no"),  # left over
        (("contrast",), False, False, False, "yes"),
        (("contrast", "no-contrast"), True, False, False, ""),
        ((), False, True, False, "yes"),
        (("no-contrast",), False, True, False, "no"),
    ],
)
def test_contrast(words: tuple[str, ...], agent: bool, after: bool, left_over: bool, contrast: str) -> None:
    assert find_contrast(Header("classic", words=words, agent=agent), after, left_over) == contrast


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("t1_mprage_sag_p2_iso KM", {"t1", "contrast"}),
        ("AX T1 POST GAD", {"t1", "contrast"}),
        ("T1 SE ohne KM", {"t1", "no-contrast"}),
        ("T1 tra nativ", {"t1", "no-contrast"}),
        ("Ax T1 FSE w/o contrast", {"t1", "no-contrast"}),
        ("AX T1 +C", {"t1", "contrast"}),
        ("T1 sans injection", {"t1", "no-contrast"}),
        ("t1 avec gado", {"t1", "contrast"}),
        ("T1 SPIR sagittal", {"t1"}),
        ("t2_tirm_tra_dark-fluid", {"t2", "flair"}),
        ("AXIAL T2* GRE", {"susceptibility"}),
        ("BRAIN PREP", set()),  # no "pre"
        ("sub-01_ses-02_T1ce", {"t1", "contrast"}),
        ("3-plane localizer", {"localizer"}),
        ("ep2d_diff_3scan_trace_ADC", {"diffusion", "map"}),
    ],
)
def test_words_of_descriptions(text: str, words: set[str]) -> None:
    assert set(find_words([text])) - {"label"} == words


def test_image_types() -> None:
    """P is a phase as the third value; DERIVED and SECONDARY are kept as such."""
    assert find_marks(["ORIGINAL", "PRIMARY", "P", "ND"]) == ("map",)
    assert find_marks(["P", "PRIMARY", "M"]) == ()
    assert find_marks(["DERIVED", "SECONDARY"]) == ("derived",)
    assert find_marks(["DERIVED", "PRIMARY", "PROJECTION IMAGE", "MIP"]) == ("derived", "projection")


@pytest.mark.parametrize(("text", "named"), [("Gadovist 7.5 ml", True), ("NONE", False), ("no", False), ("", False)])
def test_an_agent_is_named(text: str, named: bool) -> None:
    assert names_agent(text) is named
