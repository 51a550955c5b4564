"""Which words of a scanner's texts and codes mean something here? Texts are matched, never copied out."""

from __future__ import annotations

import re
from collections.abc import Iterable

MODALITIES = ("MR", "CT", "PT", "US", "CR", "DX", "MG", "XA", "RF", "NM", "OT", "SR", "PR", "KO", "SEG", "RTSTRUCT")
MARKS = (
    "localizer", "projection", "map", "mosaic", "screenshot", "colour", "burned-in", "own-result", "not-image",
    "derived", "reformatted", "angio", "epi", "lossy",
)  # fmt: skip
IMAGE_TYPES = {  # a value of ImageType or FrameType: what it makes of an image
    "LOCALIZER": "localizer",
    "MIP": "projection", "MINIP": "projection", "MNIP": "projection", "MAX_IP": "projection", "MIN_IP": "projection",
    "PROJECTION IMAGE": "projection", "PROJECTION_IMAGE": "projection", "MPR_THICK": "reformatted",
    "MPR": "reformatted", "REFORMATTED": "reformatted",
    "ADC": "map", "EADC": "map", "FA": "map", "TRACEW": "map", "TRACE": "map", "TENSOR": "map", "COLFA": "map",
    "CBV": "map", "RCBV": "map", "CBF": "map", "RCBF": "map", "MTT": "map", "TTP": "map", "KTRANS": "map",
    "PHASE": "map", "P": "map", "PHASE MAP": "map", "PHASE_MAP": "map", "R": "map", "I": "map", "REAL": "map",
    "IMAGINARY": "map", "VELOCITY": "map", "SUB": "map", "SUBTRACTION": "map", "SUBTRACT": "map",
    "T1 MAP": "map", "T2 MAP": "map", "T2_STAR MAP": "map", "FIELD_MAP": "map", "B0 MAP": "map", "DIFFUSION_MAP": "map",
    "MOSAIC": "mosaic", "DERIVED": "derived", "SCREEN SAVE": "screenshot", "SCREEN_SAVE": "screenshot",
}  # fmt: skip
# Words of descriptions, in the scanners' languages: English, German, French. Between words stands what is no letter.
WORDS = {
    "localizer": r"localizers?|localisers?|loc|scouts?|survey|3[ -]?plane|topogram|rep[eé]rage",
    "t1": r"t1w?(ce|gd|c|km|gado|post|pre)?|mp2?rage|b?ravo|spgr|vibe|thrive|bravo",
    "t2": r"t2w?",
    "flair": r"flair|tirm|darkfluid|dark[ -]fluid",
    "pd": r"pdw?|proton[ -]?density|dp",
    "susceptibility": r"swi|swan|t2\*|t2star|t2[ -]star|hemo|h[aä]mo|gre[ -]t2|venobold",
    "diffusion": r"dwi|dti|diff(usion)?|ep2d|b1000|resolve|trace",
    "perfusion": r"perf(usion)?|dsc|dce|asl|pcasl|pasl|ktrans",
    "functional": r"bold|fmri|rs-?fmri|resting",
    "angio": r"tof|mra|angio(graphy|graphie)?|pca|venography",
    "steady-state": r"ciss|fiesta|trufi|balanced|bffe|drive",
    "spectroscopy": r"mrs|csi|svs|press",
    "map": r"adc|fa|cbv|rcbv|cbf|mtt|ttp|colfa|subtraction|subtr|phase",
    "projection": r"mip|minip",
    "label": r"seg|segmentation|mask|labels?|lesion|dseg|roi",
    "contrast": r"t1w?(ce|gd|c|km|gado|post)|ce|gd|gado\w*|kontrast(mittel)?|km|post|postcontrast|\+c|\+km|\+gd|c\+|"
    r"contrast|enhanced|inj(ect[eé]e?)?|magnevist|dotarem|prohance|multihance|clariscan|avec|mit",
    "no-contrast": r"t1w?pre|pre|precontrast|ohne|sans|nativ|native|without|w/o|non|noncontrast|non-contrast|plain|-c|"
    r"unenhanced",
}  # fmt: skip
PATTERNS = {name: re.compile(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9*])") for name, pattern in WORDS.items()}
NEGATED = re.compile(
    r"(?<![a-z0-9])(ohne|sans|without|w/o|no|non)[ _.-]*(km|gd|gado\w*|kontrast\w*|contrast\w*|ce|inj\w*)(?![a-z])"
)
NO_AGENT = re.compile(r"\s*(no|none|non|nein|n|0|-|not given|without( contrast)?|ohne|sans|no contrast|unknown)?\s*")
OWN = "edge-seg"  # begins what we write into SeriesDescription and Manufacturer
TEXT_CHARS = 1000  # of a description that are searched


def find_words(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the names in WORDS that a text has a word of."""
    text = " | ".join(item[:TEXT_CHARS].lower().replace("_", " ") for item in texts)
    found = {name for name, pattern in PATTERNS.items() if pattern.search(text)}
    if negated := NEGATED.search(text):  # "ohne KM" holds a word of either kind
        rest = text[: negated.start()] + text[negated.end() :]
        found = {name for name in found if name != "contrast" or PATTERNS["contrast"].search(rest)} | {"no-contrast"}
    if "susceptibility" in found:  # "T2*" is no T2
        found.discard("t2")
    return tuple(sorted(found))


def find_marks(values: Iterable[str]) -> tuple[str, ...]:
    """Return what the values of an image type say; a single letter counts from the third value on, where it is one."""
    found = set()
    for number, value in enumerate(values):
        word = value.strip().upper()
        if word in IMAGE_TYPES and (len(word) > 1 or number >= 2):
            found.add(IMAGE_TYPES[word])
    return tuple(sorted(found))


def names_agent(text: str) -> bool:
    """Tell whether a ContrastBolusAgent names an agent: "NONE" does not."""
    return NO_AGENT.fullmatch(text[:TEXT_CHARS].lower()) is None
