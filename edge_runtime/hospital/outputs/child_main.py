"""What does the child process do? It measures the masks of one series after another and writes their files.

Lines of JSON on both pipes. In: {memory}, then a SeriesRequest for each series. Out, for each: {answer}, then {done}.
It reads the sources anew, which are hostile; what a library does with them ends this process alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_runtime.errors import EdgeSegError
from edge_runtime.hospital.headers.child_loop import serve
from edge_runtime.hospital.headers.source import RefusedError
from edge_runtime.hospital.pixels.display import Array, to_display
from edge_runtime.hospital.series.geometry import name_plane
from edge_runtime.system.files import write_file

from .objects import ObjectCounter, measure_diameter
from .request import OutputSlice, SeriesAnswer, SeriesRequest, to_fields, to_request

DataSet = Any  # pydicom's, which is imported at use


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    serve(lambda _: lambda request: [{"answer": to_fields(Writer(to_request(request)).write())}])


@dataclass
class Writer:
    """Measures and writes one series."""

    request: SeriesRequest
    labels: dict[int, Array] = field(default_factory=dict)  # by place: masks with a lesion, in the source's order
    files: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    sources: list[DataSet] | None = None

    def write(self) -> SeriesAnswer:
        """Write what is asked for; return what was measured and written. An output that fails is named."""
        counter, largest, digest = ObjectCounter(), 0.0, hashlib.sha256()
        for place, item in enumerate(self.request.slices):
            mask = self.read_mask(item)
            digest.update(mask.tobytes())
            counter.add(mask, item.joined)
            if mask.any():
                self.labels[place] = mask
                if item.spacing is not None:
                    largest = max(largest, measure_diameter(mask, (item.spacing[0], item.spacing[1])))
        for kind, make in (("seg", self.write_segmentation), ("sc", self.write_captures), ("nifti", self.write_volume)):
            if kind in self.request.kinds:
                self.attempt(kind, lambda make=make: make(digest.hexdigest()))  # type: ignore[misc]
        links: list[tuple[str, str, str, str, str]] = []
        if self.request.links:
            self.attempt("links", lambda: links.extend(self.list_links()))
        known = all(item.spacing for item in self.request.slices)
        return SeriesAnswer(
            lesion_slices=len(self.labels),
            objects=counter.count,
            largest_mm=largest if known else None,
            files=tuple(self.files),
            errors=tuple(self.errors),
            links=tuple(links),
        )

    def attempt(self, kind: str, action: Callable[[], None]) -> None:
        """Run an action; where it fails, note why, in words that hold nothing of the sources."""
        try:
            action()
        except RefusedError as error:
            self.errors.append((kind, str(error)))
        except EdgeSegError as error:
            self.errors.append((kind, error.why))
        except MemoryError:
            self.errors.append((kind, "not enough memory for it"))
        except Exception:  # what libraries raise of a hostile file is without end
            self.errors.append((kind, "it cannot be made of what the sources say"))

    def read_mask(self, item: OutputSlice) -> Array:
        """Return a mask's labels, in the source's order."""
        data = np.fromfile(Path(self.request.out, item.mask), np.uint8)
        mask = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if mask is None:
            raise RefusedError("a mask was removed meanwhile")
        labels = np.asarray(mask, np.uint8)
        return np.minimum(labels, 1) if len(self.request.labels) == 1 else labels

    def find_sources(self) -> list[DataSet]:
        """Return the data sets of the slices, each file's once."""
        if self.sources is None:
            from .sources import read_sources

            self.sources = read_sources(self.request.slices)
        return self.sources

    def name(self, masks: str) -> str:
        """Return what UIDs are made of: the sources' objects, the model and its options, and the masks."""
        objects = [str(item.SOPInstanceUID) for item in self.find_sources()]
        return hashlib.sha256("\0".join([self.request.identity, *objects, masks]).encode()).hexdigest()

    def save(self, name: str, data: bytes) -> None:
        """Write a file of OUT."""
        write_file(Path(self.request.out, name), data, root=Path(self.request.out))
        self.files.append(name)

    def write_segmentation(self, masks: str) -> None:
        """Write seg.dcm, where there is a lesion."""
        if not self.labels:
            return
        from .segmentation import make_segmentation

        data = make_segmentation(self.request, self.find_sources(), self.labels, self.name(masks))
        self.save(f"dicom/{self.request.alias}/seg.dcm", data)

    def write_captures(self, masks: str) -> None:
        """Write a Secondary Capture of each slice with a lesion, and of those beside them."""
        from edge_runtime.hospital.pixels.dicom_pixels import ImageFile
        from edge_runtime.hospital.pixels.read_slice import SliceReader

        from .capture import draw_capture, make_capture
        from .sources import find_newest

        slices, sources, reader = self.request.slices, self.find_sources(), SliceReader()
        moment, name = find_newest(sources), self.name(masks)
        shown = sorted({near for place in self.labels for near in (place - 1, place, place + 1)})
        for place in (place for place in shown if 0 <= place < len(slices)):
            item = slices[place]
            opened = reader.open_file(Path(item.path), item.entry, self.request.form)
            assert isinstance(opened, ImageFile)
            values = opened.read_frame(item.frame, MAX_PIXELS)
            labels = self.labels.get(place)
            mask = labels if labels is not None else self.read_mask(item)
            picture = draw_capture(values, mask, self.request, lambda pixels, item=item: to_display(pixels, item.turn))
            source = sources[0] if self.request.form == "multi-frame" else sources[place]
            plane = name_plane(item.orientation).split()[0] if item.orientation else ""
            data = make_capture(self.request, source, picture, place + 1, name, moment, plane)
            self.save(f"dicom/{self.request.alias}/sc-{place + 1:04d}.dcm", data)

    def write_volume(self, _: str) -> None:
        """Write the volume of all masks."""
        from .nifti_mask import make_volume_like, make_volume_of_slices

        make = make_volume_like if self.request.form == "nifti" else make_volume_of_slices
        self.save(f"nifti/{self.request.alias}.nii.gz", make(self.request, self.read_mask))

    def list_links(self) -> list[tuple[str, str, str, str, str]]:
        """Return path, Patient ID and UIDs of each source."""
        files = list(dict.fromkeys(item.path for item in self.request.slices))
        if self.request.form == "nifti":
            return [(path, "", "", "", "") for path in files]
        from edge_runtime.hospital.headers.dicom import get_text

        names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        places = list(dict.fromkeys((item.path, item.entry) for item in self.request.slices))
        rows = []
        for (path, _), item in zip(places, self.find_sources(), strict=True):
            patient, study, series, instance = (get_text(item, name) for name in names)
            rows.append((path, patient, study, series, instance))
        return rows


MAX_PIXELS = 65535 * 65535  # they were read within the run's limit before

if __name__ == "__main__":
    main()
