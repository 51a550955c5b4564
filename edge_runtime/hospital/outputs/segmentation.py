"""How is a series' mask written as a DICOM Segmentation, the same bytes each time?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from edge_runtime.hospital.headers.source import RefusedError

from .request import SeriesRequest
from .sources import find_newest, make_uid, replace_values, set_moment

ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
BRAIN = Code("12738006", "SCT", "Brain")
ARTIFICIAL = Code("123109", "DCM", "Artificial Intelligence")
DESCRIPTION, LABEL, MANUFACTURER = "edge-seg lesion (research)", "EDGE_SEG", "edge-seg"
SERIES_NUMBER, SC_SERIES_NUMBER = 9900, 9901

Labels = npt.NDArray[np.uint8]  # (H, W), in the source's order


def make_segmentation(
    request: SeriesRequest, sources: Sequence[Dataset], labels: Mapping[int, Labels], name: str
) -> bytes:
    """Return the file of a BINARY segmentation, of which a segment is each lesion label.

    sources: a file for each slice, or the one file of all frames. labels: by place in the request's slices, of those
    with a lesion. name: what the UIDs are made of. Raises: RefusedError, and what highdicom raises.
    """
    if not all("FrameOfReferenceUID" in item for item in sources):
        raise RefusedError("the sources name no frame of reference")
    if request.form == "multi-frame" and len(sources) > 1:
        raise RefusedError("its frames lie in several files")
    if request.form == "multi-frame":
        used, shape = list(sources), next(iter(labels.values())).shape
        pixels = np.zeros((int(sources[0].NumberOfFrames), *shape), np.uint8)
        for place, mask in labels.items():
            pixels[request.slices[place].frame] = mask
    else:
        used = [sources[place] for place in sorted(labels)]
        pixels = np.stack([labels[place] for place in sorted(labels)])
    item = Segmentation(
        source_images=used,
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=[describe_segment(n, text, request) for n, text in enumerate(request.labels, 1)],
        series_instance_uid=make_uid(name, "seg series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=make_uid(name, "seg"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=request.model[0],
        software_versions=request.version,
        device_serial_number="-",
        content_description="Lesions found by a model; research, not for diagnosis",
        content_label=LABEL,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    item.SeriesDescription = DESCRIPTION
    set_moment(item, find_newest(sources))
    replace_values(item, "DimensionOrganizationUID", make_uid(name, "dimensions"))
    return to_bytes(item)


def describe_segment(number: int, label: str, request: SeriesRequest) -> SegmentDescription:
    """Return what a segment shows and what made it."""
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=ABNORMAL,
        segmented_property_type=NEOPLASM,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=request.model[0], version=request.model[1], family=ARTIFICIAL
        ),
        anatomic_regions=[BRAIN],
    )


def to_bytes(item: Any) -> bytes:
    """Return an object's file."""
    file = BytesIO()
    item.save_as(file, enforce_file_format=True)
    return file.getvalue()
