"""How is one slice of a series read as an image, whatever kind of file it lies in?"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile, ZipInfo

from edge_runtime.contract.fields import IntensityRule
from edge_runtime.errors import ImageError
from edge_runtime.hospital.headers.source import BoundedFile, RefusedError, Source, open_zip
from edge_runtime.images.arrays import Image
from edge_runtime.inference.session import Session

from .display import to_display
from .levels import Stored, flag_brightness, to_image
from .slice_source import SliceSource

if TYPE_CHECKING:
    from .dicom_pixels import ImageFile
    from .nifti_pixels import VolumeFile

COPY_AGAIN = "copy it again from its source"


class SliceReader:
    """Reads slices one after the other; the last file and the last zip stay open. For one thread."""

    def __init__(self) -> None:
        self.zips, self.files = ExitStack(), ExitStack()
        self.archive: tuple[Path, ZipFile] | None = None
        self.entries: dict[int, ZipInfo] = {}  # of the archive, by their offsets
        self.opened: tuple[object, ImageFile | VolumeFile] | None = None
        self.hashed: tuple[object, str] = (None, "")

    def hash_source(self, path: Path, name: str, source: SliceSource) -> str:
        """Return the SHA-256 of the file that a slice lies in. name: for the message. Raises: ImageError."""
        key = (path, source.entry)
        if self.hashed[0] != key:
            with report_errors(name), self.find_file(path, source.entry).open() as file:
                state = hashlib.sha256()
                while part := file.file.read(1 << 20):
                    state.update(part)
            self.hashed = key, state.hexdigest()
        return self.hashed[1]

    def read(
        self, path: Path, name: str, source: SliceSource, rule: IntensityRule, max_pixels: int
    ) -> tuple[Image, tuple[str, ...]]:
        """Return a slice in display orientation, (H, W) uint8 or uint16, of colour (H, W, 3) uint8; and its flags.

        Its values are made by the contract's rule for series. What is "air" is black. Raises: ImageError, MemoryError.
        """
        with report_errors(name):
            found = self.read_stored(path, source, max_pixels)
            if not isinstance(found, Stored):
                return to_display(found, source.turn), ()
            flags, image = flag_brightness(found, source.bright), to_image(found, rule)
            return to_display(image * 0 if "air" in flags else image, source.turn), flags

    def read_stored(self, path: Path, source: SliceSource, max_pixels: int) -> Stored | Image:
        """Return a slice's values as they are stored; of colour, its pixels. Raises: what `report_errors` turns."""
        opened: Any = self.open_file(path, source.entry, source.form)
        if source.form == "nifti":
            stored: Stored = opened.read_slice(source.axis, source.frame, max_pixels)
            return stored
        found: Stored | Image = opened.read_frame(source.frame, max_pixels)
        return found

    def open_file(self, path: Path, entry: int | None, form: str) -> ImageFile | VolumeFile:
        """Return the file of a slice, opened and its header read. Raises: RefusedError, and what libraries raise."""
        key = (path, entry)
        if self.opened is None or self.opened[0] != key:
            self.files.close()
            self.opened = None
            self.files = ExitStack()
            file: BoundedFile = self.files.enter_context(self.find_file(path, entry).open())
            if form == "nifti":
                from .nifti_pixels import VolumeFile

                self.opened = key, VolumeFile(file)
            else:
                from .dicom_pixels import ImageFile

                self.opened = key, ImageFile(file)
        return self.opened[1]

    def find_file(self, path: Path, entry: int | None) -> Source:
        """Return where a slice's file is, its zip opened."""
        if entry is None:
            return Source(path)
        if self.archive is None or self.archive[0] != path:
            self.files.close()
            self.opened = None
            self.zips.close()
            self.zips = ExitStack()
            self.archive = path, self.zips.enter_context(open_zip(path))
            self.entries = {item.header_offset: item for item in self.archive[1].infolist()}
        archive, found = self.archive[1], self.entries.get(entry)
        if found is None:
            raise RefusedError("it is no longer there")
        return Source(path, archive, found)


@contextmanager
def report_errors(name: str) -> Iterator[None]:
    """Turn what reading a slice raises into an ImageError whose text holds nothing of the file."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)  # its messages quote values
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImageError, MemoryError):
        raise
    except RefusedError as error:
        raise ImageError(name, str(error), COPY_AGAIN) from None
    except OSError as error:
        raise ImageError(name, f"it cannot be read ({error.strerror or 'damaged'})", COPY_AGAIN) from None
    except Exception:  # what libraries raise of a hostile file is without end
        raise ImageError(name, "damaged: it does not decode", COPY_AGAIN) from None


def to_series_session(session: Session) -> Session:
    """Return a session on the same engine that takes the images that `SliceReader.read` returns."""
    spec = session.contract.input
    rule: IntensityRule = "z-score" if spec.intensity.series == "z-score" else "bit-depth"
    images = replace(spec, intensity=replace(spec.intensity, images=rule))
    return Session(replace(session.contract, input=images), session.engine, session.threshold)
