"""Was the model made for a series? Verdict and reason, always both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge_runtime.contract.fields import Acquisition
from edge_runtime.hospital.headers.header import Header

from .geometry import has_geometry, name_plane
from .group import Series, count_orientations
from .sequence import find_contrast, find_sequence

ASSUMED = Acquisition("MR", "T1", "yes", 3)  # what this project's nets are trained on
MIN_SLICES = 3
FEW_SLICES = 3  # fewer in each of two orientations: a localizer
FORMS = {"classic": "image", "multi-frame": "multi-frame", "nifti": "NIfTI", "other": "object"}


@dataclass(frozen=True)
class Verdict:
    """`verdict` is yes, no (certain) or unsure; `reason` a word of the table in docs/hospital.md, `why` a sentence."""

    verdict: str
    reason: str
    why: str


@dataclass(frozen=True)
class Judged:
    """A series with its number, verdict and what was found of it."""

    number: int
    series: Series
    verdict: Verdict
    sequence: str
    contrast: str
    flags: tuple[str, ...]
    plane: str


@dataclass(frozen=True)
class Case:
    """All that a rule may look at."""

    series: Series
    header: Header
    wanted: Acquisition
    orientations: int  # of the scanner's series
    most_slices: int  # in one of these orientations
    contrast: str  # "yes", "no" or "": whether an agent was given


Rule = Callable[[Case], Verdict | None]


def judge(series: Sequence[Series], wanted: Acquisition) -> list[Judged]:
    """Return all series with their verdicts, numbered from 1 in the order given."""
    left_over = {item.first.header.study for item in series if names_agent_in_localizer(item.first.header)}
    since, parts = find_contrast_start(series, left_over), collect_siblings(series)
    result = []
    for number, item in enumerate(series, start=1):
        header = to_common_header(item)
        siblings = parts.get((header.study, header.series)) or [item]
        start = since.get(header.study)
        after = start is not None and header.seconds is not None and header.seconds > start
        most = max(len(other.slices) for other in siblings)
        contrast = find_contrast(header, after, header.study in left_over)
        case = Case(item, header, wanted, count_orientations(siblings), most, contrast)
        verdict = next(found for rule in RULES if (found := rule(case)) is not None)
        is_scan = header.modality == "MR" and header.form != "other" and "screenshot" not in header.marks
        sequence = find_sequence(header).weighting if is_scan else ""
        frame = item.first.frame
        plane = name_plane(frame.orientation) if has_geometry(frame) and frame.orientation else ""
        shown = contrast if is_scan else ""
        result.append(Judged(number, item, verdict, sequence, shown, find_flags(item, header), plane))
    return result


def collect_siblings(series: Sequence[Series]) -> dict[tuple[str, str], list[Series]]:
    """Return the parts of each of the scanner's series, by study and series."""
    siblings: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for item in series:
        header = item.first.header
        if header.series and header.form != "other":
            siblings[header.study, header.series].append(item)
    return siblings


def to_common_header(series: Series) -> Header:
    """Return the first slice's header, with all marks that any of its slices has."""
    header = series.first.header
    own = set(header.marks) - set(header.frames[0].marks if header.frames else ())  # of the object, not of a frame
    marks = own.union(*(item.header.marks if item.number == 0 else () for item in series.slices))
    if header.form == "multi-frame":
        marks = own.union(*(item.frame.marks for item in series.slices))
    return replace(header, marks=tuple(sorted(marks)))


def names_agent_in_localizer(header: Header) -> bool:
    """Tell whether a localizer names a contrast agent: the field was filled in before any was given."""
    return header.agent and ("localizer" in header.marks or "localizer" in header.words)


def find_contrast_start(series: Sequence[Series], left_over: set[str]) -> dict[str, float]:
    """Return, by study, when the first image was acquired that shows or names a contrast agent."""
    starts: dict[str, float] = {}
    for item in series:
        header = item.first.header
        given = find_contrast(header, left_over=header.study in left_over) == "yes"
        if given and header.seconds is not None and header.modality == "MR":
            starts[header.study] = min(header.seconds, starts.get(header.study, header.seconds))
    return starts


def find_flags(series: Series, header: Header) -> tuple[str, ...]:
    """Return what a user should know of a series, whatever its verdict."""
    flags = {
        "gapped": series.steps.missing > 0,
        "uneven": series.steps.uneven > 0,
        "duplicates": series.duplicates > 0,
        "damaged": series.damaged > 0,
        "part": series.part,
        "reformatted": "reformatted" in header.marks,
        "lossy": "lossy" in header.marks,
        "no-position": header.form != "other" and not has_geometry(series.first.frame),
        "qform": "qform" in header.marks,
        "ends?": may_lack_ends(series),
    }
    return tuple(name for name, found in flags.items() if found)


def may_lack_ends(series: Series) -> bool:
    """Tell whether InstanceNumber says that slices are missing before the first: it begins beyond 1, without holes."""
    numbers = [item.header.number for item in series.slices if item.header.form == "classic"]
    known = sorted(number for number in numbers if number is not None)
    if series.part or len(known) < 2 or len(known) != len(series.slices):
        return False
    contiguous = known[-1] - known[0] + 1 == len(known) + series.steps.missing
    return contiguous and len(set(known)) == len(known) and known[0] > 1


# ---------------------------------------------------------------- rules, in the order in which they are asked


def judge_object(case: Case) -> Verdict | None:
    """What is no image, and what this program wrote."""
    if "own-result" in case.header.marks:
        return Verdict("no", "own-result", "edge-seg wrote it")
    if case.header.form == "other":
        return Verdict("no", "not-image", "it holds no image")
    return None


def judge_kind(case: Case) -> Verdict | None:
    """Images of another kind."""
    if case.header.modality != case.wanted.modality:
        return Verdict("no", "modality", f"it is not {case.wanted.modality}")
    for mark, why in (
        ("screenshot", "it is a secondary capture"),
        ("colour", "it is a colour image"),
        ("burned-in", "text is burned into the image"),
    ):
        if mark in case.header.marks:
            return Verdict("no", mark, why)
    return None


def judge_state(case: Case) -> Verdict | None:
    """What cannot be read."""
    if all(item.header.damaged for item in case.series.slices):
        return Verdict("no", "unreadable", "it is damaged or cut short")
    if package := case.header.package:
        why = "nothing here reads its transfer syntax" if package == "?" else f"its transfer syntax needs {package}"
        return Verdict("no", "syntax", why)
    return None


def judge_localizer(case: Case) -> Verdict | None:
    """Localizers, told by their type, by their words or by their planes."""
    if "localizer" in case.header.marks or "localizer" in case.header.words:
        return Verdict("no", "localizer", "it is said to be a localizer")
    if case.orientations >= 2 and case.most_slices < FEW_SLICES:
        return Verdict("no", "localizer", f"{case.orientations} orientations of fewer than {FEW_SLICES} slices each")
    return None


def judge_derived(case: Case) -> Verdict | None:
    """Projections, maps and mosaics; DERIVED alone is none of them."""
    for mark, why in (
        ("projection", "it is a projection of a volume"),
        ("map", "it is a map, not an image of the scanner"),
        ("mosaic", "its slices are tiles of one image"),
    ):
        if mark in case.header.marks:
            return Verdict("no", mark, why)
    if case.series.repeats or "4-d" in case.header.marks:
        return Verdict("no", "4-d", "several times, echoes or b-values at one position")
    return None


def judge_sequence(case: Case) -> Verdict | None:
    """Another weighting, or one that is not known."""
    wanted = case.wanted.weighting
    if wanted is None:
        return None
    if {"map", "projection", "label"} & set(case.header.words):
        name = next(word for word in ("map", "projection", "label") if word in case.header.words)
        return Verdict("unsure", {"label": "map"}.get(name, name), "only a word of its description says so")
    sequence = find_sequence(case.header)
    if not sequence.weighting:
        return Verdict("unsure", "sequence", f"nothing says whether it is {wanted}")
    if sequence.weighting != wanted:
        return Verdict("no", "sequence", f"{sequence.weighting} by {sequence.source}, not {wanted}")
    if sequence.doubt:
        return Verdict("unsure", "sequence", f"{wanted} by numbers, {sequence.doubt} by words")
    return None


def judge_slices(case: Case) -> Verdict | None:
    """Slices that contradict each other, too few of them, or none that says where it lies."""
    if count := case.series.conflicts:
        return Verdict("no", "conflict", f"different images of one position, {count} time{'s' * (count > 1)}")
    wanted = case.wanted.min_slices or MIN_SLICES
    if len(case.series.slices) < wanted:
        return Verdict("no", "few-slices", f"{len(case.series.slices)} of at least {wanted} slices")
    return None


def judge_contrast(case: Case) -> Verdict | None:
    """Whether a contrast agent was given, where the model wants it or wants none."""
    wanted = case.wanted.contrast
    if wanted is None:
        return None
    if not case.contrast:
        return Verdict("unsure", "contrast", "nothing says whether contrast agent was given")
    if case.contrast != wanted:
        return Verdict("no", "contrast", "without contrast agent" if case.contrast == "no" else "with contrast agent")
    return None


def judge_position(case: Case) -> Verdict | None:
    """Slices whose order only their numbers say."""
    if not has_geometry(case.series.first.frame):
        return Verdict("unsure", "position", "its slices do not say where they lie")
    return None


def accept(case: Case) -> Verdict:
    """All that the model wants."""
    words = [case.wanted.modality, case.wanted.weighting]
    contrast = {"yes": "with contrast agent", "no": "without contrast agent"}.get(case.wanted.contrast or "")
    return Verdict("yes", "wanted", " ".join(filter(None, [*words, contrast])))


RULES: tuple[Rule, ...] = (
    judge_object,
    judge_kind,
    judge_state,
    judge_localizer,
    judge_derived,
    judge_sequence,
    judge_slices,
    judge_contrast,
    judge_position,
    accept,
)
