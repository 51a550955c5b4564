"""How is a slice drawn for a PACS that shows no segmentation, as a Secondary Capture?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from highdicom.sc import SCImage
from pydicom.dataset import Dataset

from edge_runtime.hospital.headers.dicom import get_text
from edge_runtime.hospital.pixels.levels import Stored, fill_padding, stretch
from edge_runtime.images.overlay import draw_overlay, to_picture

from .request import SeriesRequest
from .segmentation import DESCRIPTION, MANUFACTURER, SC_SERIES_NUMBER, Labels, to_bytes
from .sources import make_uid, set_moment

WARNING = "RESEARCH, NOT FOR DIAGNOSIS"
SHOWN = (1.0, 99.5)  # percentiles between which a slice is shown: for people alone
SMALLEST = 512  # pixels of the shorter side: below it the text would hide the picture

ORIENTATIONS = {"axial": ("L", "P"), "coronal": ("L", "F"), "sagittal": ("P", "F")}  # as slices are displayed

Picture = npt.NDArray[np.uint8]  # (H, W, 3)


def draw_capture(values: Any, labels: Labels, request: SeriesRequest, display: Any) -> Picture:
    """Return a slice with its lesions and the warning burned in.

    values: a Stored slice or (H, W, 3) colour, in the source's order as the labels are; display: turns it as people
    are used to.
    """
    picture = to_picture(display(show(values) if isinstance(values, Stored) else values))
    drawn = display(labels)
    scale = max(1, -(-SMALLEST // min(drawn.shape)))
    size = (drawn.shape[1] * scale, drawn.shape[0] * scale)
    picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    drawn = cv2.resize(drawn, size, interpolation=cv2.INTER_NEAREST)
    colours = [(int(r), int(g), int(b)) for r, g, b in request.colours]
    picture = draw_overlay(picture, np.asarray(drawn, np.uint8), colours)
    lines = (WARNING, f"edge-seg {request.version}, {request.model[0]} {request.model[1]}")
    return burn(picture, lines)


def show(stored: Stored) -> Picture:
    """Return a slice's values as grey, dark for what is darkest in the image."""
    values = fill_padding(stored)
    values = -values if (stored.slope < 0) != stored.inverted else values
    low, high = (float(end) for end in np.percentile(values, SHOWN))
    return stretch(np.clip(values, low, high), low, high, np.uint8)


def burn(picture: Picture, lines: Sequence[str]) -> Picture:
    """Return a picture with lines of text at its foot, light on a dark rim."""
    drawn, size = picture.copy(), min(picture.shape[:2]) / SMALLEST
    for number, line in enumerate(reversed(lines)):
        place = (round(8 * size), picture.shape[0] - round((10 + 22 * number) * size))
        for colour, width in (((0, 0, 0), 4), ((255, 255, 0), 1)):
            thick = max(1, round(width * size))
            cv2.putText(drawn, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6 * size, colour, thick, cv2.LINE_AA)
    return drawn


def make_capture(
    request: SeriesRequest,
    source: Dataset,
    picture: Picture,
    number: int,
    name: str,
    moment: tuple[str, str],
    plane: str,
) -> bytes:
    """Return the file of a Secondary Capture of the slice `number`.

    name: what the UIDs are made of. moment: date and time. plane: in which it is displayed; "" where none is known.
    """
    item = SCImage.from_ref_dataset(
        source,
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=make_uid(name, "sc series"),
        series_number=SC_SERIES_NUMBER,
        sop_instance_uid=make_uid(name, "sc", str(number)),
        instance_number=number,
        manufacturer=MANUFACTURER,
        patient_orientation=ORIENTATIONS.get(plane, ("L", "P")),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    if not plane:
        item.PatientOrientation = []
    item.SeriesDescription, item.BurnedInAnnotation = DESCRIPTION, "NO"  # no identity is burned in
    item.BodyPartExamined = get_text(source, "BodyPartExamined") or "BRAIN"  # one that is not paired needs no side
    item.ManufacturerModelName, item.SoftwareVersions = request.model[0], request.version
    set_moment(item, moment)
    for tag in ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"):
        if tag in item:
            del item[tag]
    return to_bytes(item)
