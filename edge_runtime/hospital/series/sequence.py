"""Which MR sequence was it, and was a contrast agent given? Numbers count before words, words before nothing."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.hospital.headers.header import Header

LONG_ECHO_MS = 60.0  # from there on T2 decides what is bright
SHORT_ECHO_MS = 30.0  # below it T1 may decide
FLUID_MS = 1500.0  # an inversion beyond it darkens fluid: FLAIR
LONG_REPETITION_MS = 2000.0  # of a spin echo, beyond which T1 no longer tells: proton density
GRADIENT_ECHO_MS = 12.0  # of a gradient echo, beyond which T2* decides
WORDS = ("flair", "susceptibility", "t2", "pd", "t1")  # of `words.WORDS`, in this order
NEITHER = {  # words for what numbers cannot tell from a T1 gradient echo
    "angio": "angiography",
    "perfusion": "perfusion",
    "steady-state": "steady state",
    "spectroscopy": "spectroscopy",
    "susceptibility": "T2*",
}
NAMES = {"flair": "FLAIR", "susceptibility": "T2*", "t2": "T2", "pd": "PD", "t1": "T1"}


@dataclass(frozen=True)
class Sequence:
    """A weighting such as T1, and what told it: "numbers", "words" or "" for nothing."""

    weighting: str
    source: str
    doubt: str = ""  # a word that contradicts what numbers cannot tell


def find_sequence(header: Header) -> Sequence:
    """Return what an image shows."""
    words = set(header.words)
    if "epi" in header.marks or words & {"diffusion", "functional"}:
        return Sequence("EP", "numbers" if "epi" in header.marks else "words")
    if "angio" in header.marks:
        return Sequence("angiography", "numbers")
    by_numbers = find_by_numbers(header)
    if by_numbers:
        doubt = next((name for word, name in NEITHER.items() if word in words), "") if by_numbers == "T1" else ""
        return Sequence(by_numbers, "numbers", doubt)
    named = next((NAMES[word] for word in WORDS if word in words), "")
    if named:
        return Sequence(named, "words")
    other = next((name for word, name in NEITHER.items() if word in words), "")
    return Sequence(other, "words" if other else "")


def find_by_numbers(header: Header) -> str:
    """Return the weighting that the times of a sequence mean; "" where they do not tell."""
    times = header.timing
    if times.echo is None:
        return ""
    gradient = "GR" in times.scanning
    if times.inversion is not None and times.inversion > FLUID_MS and times.echo > LONG_ECHO_MS:
        return "FLAIR"
    if times.echo > LONG_ECHO_MS:
        return "T2"
    if gradient:
        return "T2*" if times.echo > GRADIENT_ECHO_MS else "T1"
    if times.echo >= SHORT_ECHO_MS or times.repetition is None:
        return ""
    inverted = times.inversion is not None and 300 <= times.inversion <= FLUID_MS
    if times.repetition <= LONG_REPETITION_MS or inverted:
        return "T1"
    return "PD" if "SE" in times.scanning and times.inversion is None else ""


def find_contrast(header: Header, after: bool = False, left_over: bool = False) -> str:
    """Return "yes", "no" or "" for unknown: whether a contrast agent was given before the image.

    after: whether the study has a series with contrast that was acquired earlier. left_over: whether the study's
    localizer names an agent too, so that the field tells nothing. Words count before it: it is often empty.
    """
    given, none = "contrast" in header.words, "no-contrast" in header.words
    if given and none:
        return ""
    if none:
        return "no"
    return "yes" if given or (header.agent and not left_over) or after else ""
