"""How is one image of a run read, segmented and written, while other images are in the other steps?"""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edge_runtime.errors import EdgeSegError, EngineError, ImageError, ModelError, OutputError
from edge_runtime.folder.gallery.thumbnails import draw_sprite
from edge_runtime.folder.records.journal import (
    HIGH_PIXELS,
    LOW_PIXELS,
    MODEL,
    JournalEntry,
    Outcome,
    ResultRow,
    name_model,
    outputs_exist,
)
from edge_runtime.folder.records.probabilities import format_highest, format_lead
from edge_runtime.folder.records.results_csv import make_row
from edge_runtime.images.arrays import Image
from edge_runtime.images.overlay import draw_overlay, to_picture
from edge_runtime.images.read import DecodedFile, decode_file, read_bytes
from edge_runtime.images.write import encode_jpeg, encode_mask, encode_png
from edge_runtime.inference.flags import raise_flags
from edge_runtime.inference.postprocess import measure_mask
from edge_runtime.inference.session import Result, Session
from edge_runtime.system.files import NAME_ERRORS, ObstacleError, write_file
from edge_runtime.system.needs import name_limit
from edge_runtime.system.process import keep_freed_memory
from edge_runtime.system.versions import find_own_version

from .inputs import Input
from .outputs import Options, discard_outputs, name_overlay, name_sprite

if TYPE_CHECKING:
    from edge_runtime.hospital.pixels.read_slice import SliceReader
    from edge_runtime.hospital.pixels.slice_source import SliceSource

AIR = "air"  # the flag of a slice of a series that holds nothing
OVERLAY_QUALITY = 90
OBSTACLE_ERRORS = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}


class Pipeline:
    """The three steps of an ImageProcessor, each with threads of its own."""

    def __init__(self, processor: ImageProcessor, workers: int) -> None:
        self.processor = processor
        self.steps = [ThreadPoolExecutor(count) for count in (1, workers, workers)]

    def submit(self, item: Input) -> Future[Outcome]:
        """Queue an image; return its outcome to come."""
        reading, segmenting, writing = self.steps
        read = reading.submit(self.processor.read, item)
        segmented = segmenting.submit(lambda: self.processor.segment(read.result()))
        return writing.submit(lambda: self.processor.finish(segmented.result()))

    def close(self) -> None:
        """Cancel the steps that have not begun and wait for the others."""
        for step in self.steps:
            step.shutdown(wait=False, cancel_futures=True)
        for step in self.steps:
            step.shutdown()


@dataclass
class ImageState:
    """What is known of an image so far; only one thread at a time uses it."""

    item: Input
    row: ResultRow
    key: str
    image: Image | None = None
    file_flags: tuple[str, ...] = ()
    result: Result | None = None
    kept: JournalEntry | None = None  # of an earlier run, and still valid
    error: EdgeSegError | None = None


class ImageProcessor:
    """Processes single images; one Session for each thread that segments."""

    def __init__(
        self,
        out: Path,
        session: Session,
        load: Callable[[], Session],
        options: Options,
        earlier: Mapping[str, JournalEntry],
    ) -> None:
        keep_freed_memory()
        self.out, self.options, self.earlier = out, options, earlier
        self.load, self.sessions = load, threading.local()
        self.unused = [session]
        self.slices: SliceReader | None = None
        self.contract, self.threshold = session.contract, session.threshold
        self.colours = [label.colour for label in session.contract.output.lesions]
        self.key = make_key(session, options)

    def read(self, item: Input) -> ImageState:
        """Read and decode an image, unless its outputs of an earlier run are still valid."""
        row = make_row(self.contract, item.file) | {MODEL: name_model(self.contract.model)}
        state = ImageState(item, row, self.key)
        with capture_errors(state):
            started = time.perf_counter()
            if item.slice is not None:
                row.update(describe_slice(item.slice))
                row["input_sha256"], decode = self.open_slice(item)
            else:
                data = read_bytes(item.path, item.file, self.options.max_pixels)
                row["input_sha256"] = hashlib.sha256(data).hexdigest()
                decode = partial(decode_file, data, item.file, self.options.max_pixels)
            place = f" {item.slice}" if item.slice else ""
            state.key = hashlib.sha256(f"{self.key} {row['input_sha256']}{place}".encode()).hexdigest()
            earlier = self.earlier.get(item.file)
            if earlier and earlier.key == state.key and outputs_exist(self.out, earlier.outputs):
                state.kept = earlier
                return state
            decoded = decode()
            height, width = to_source_order(item, decoded.image).shape[:2]
            row.update(height=str(height), width=str(width), read_ms=format_ms_since(started))
            state.image, state.file_flags = decoded.image, decoded.flags
        return state

    def segment(self, state: ImageState) -> ImageState:
        """Segment an image that was read."""
        if state.image is not None:
            with capture_errors(state):
                started = time.perf_counter()
                state.result = self.get_session(state.item.slice is not None).segment(state.image)
                if AIR in state.file_flags:
                    state.result = clear(state.result)
                state.row["infer_ms"] = format_ms_since(started)
        return state

    def finish(self, state: ImageState) -> Outcome:
        """Write an image's outputs; return what is recorded of it."""
        if state.kept:
            return Outcome(state.kept, fresh=False)
        outputs: dict[str, int] = {}
        if state.image is not None and state.result is not None:
            with capture_errors(state):
                started = time.perf_counter()
                outputs = self.write_outputs(state.item, state.image, state.result)
                state.row.update(self.measure_result(state.image, state.result, state.file_flags))
                if state.item.slice is not None:
                    state.row.update(self.measure_slice(state.item.slice, state.result))
                state.row.update(write_ms=format_ms_since(started), status="ok")
        error, file = state.error, state.item.file
        if error is not None:
            state.row["error"] = str(error) if error.what == file else f"{file}: {error}"
        discard_outputs(self.out, state.item, outputs)
        return Outcome(JournalEntry(state.key, state.row, outputs), fresh=True)

    def get_session(self, of_series: bool = False) -> Session:
        """Return this thread's Session, loading it at first use; of_series: that for slices of a series."""
        if not hasattr(self.sessions, "own"):
            self.sessions.own = self.unused.pop() if self.unused else self.load()
        if of_series and not hasattr(self.sessions, "of_series"):
            from edge_runtime.hospital.pixels.read_slice import to_series_session

            self.sessions.of_series = to_series_session(self.sessions.own)
        own: Session = self.sessions.of_series if of_series else self.sessions.own
        return own

    def open_slice(self, item: Input) -> tuple[str, Callable[[], DecodedFile]]:
        """Return the SHA-256 of a slice's file, and what decodes the slice. Raises: ImageError."""
        if self.slices is None:  # imported at use: pydicom and nibabel are no part of a run of images
            from edge_runtime.hospital.pixels.read_slice import SliceReader

            self.slices = SliceReader()
        source, rule = item.slice, self.contract.input.intensity.series
        assert source is not None
        read = partial(self.slices.read, item.path, item.file, source, rule, self.options.max_pixels)
        return self.slices.hash_source(item.path, item.file, source), lambda: DecodedFile(*read())

    def measure_slice(self, source: SliceSource, result: Result) -> ResultRow:
        """Return a slice's area, and what series.csv needs: lesion pixels with the threshold's margin on both sides."""
        pixels, area = int(np.count_nonzero(result.labels)), source.pixel_mm2
        row = {"area_mm2": "" if area is None else f"{pixels * area:.2f}"}
        if self.contract.triage is not None and self.contract.output.activation == "sigmoid":
            for name, sign in ((LOW_PIXELS, 1), (HIGH_PIXELS, -1)):
                limit = np.float32(self.threshold + sign * self.contract.triage.margin)
                row[name] = str(int(np.count_nonzero(result.probability >= limit)))
        return row

    def measure_result(self, image: Image, result: Result, file_flags: tuple[str, ...] = ()) -> ResultRow:
        """Return the cells of results.csv that come from the mask, and the flags."""
        lesions = self.contract.output.lesions
        found = measure_mask(result.labels, result.probability, len(lesions) + 1, result.lead)
        row = {
            "lesion_pixels": str(found.lesion_pixels),
            "lesion_fraction": f"{found.lesion_fraction:.6f}",
            "components": str(found.components),
            "max_probability": format_highest(found.max_probability, self.threshold, 4),
            "flags": ";".join((*file_flags, *raise_flags(image, found, self.contract, self.threshold))),
        }
        if found.lead is not None:  # no threshold decides
            row["max_probability"] = f"{found.max_probability:.4f}"
            lead = format_lead(found.lead.label, found.lead.background, 4)
            row["label_probability"], row["background_probability"] = lead
        if len(lesions) > 1:
            row.update({f"pixels_{label.name}": str(n) for label, n in zip(lesions, found.label_pixels, strict=True)})
        if result.class_name is not None:
            row.update({"class": result.class_name, "class_probability": f"{result.class_probability:.4f}"})
        return row

    def write_outputs(self, item: Input, image: Image, result: Result) -> dict[str, int]:
        """Write an image's outputs; return their relative names and sizes.

        A mask is 0 and 255, or label values where the contract has several lesions.
        """
        several = len(self.contract.output.lesions) > 1
        labels, lesion = to_source_order(item, result.labels), to_source_order(item, result.probability)
        files = {f"masks/{item.name}": encode_mask(labels if several else (labels > 0) * np.uint8(255))}
        if self.options.probability:
            files[f"probability/{item.name}"] = encode_png(np.rint(lesion * 65535).astype(np.uint16))
        kind = self.options.overlay
        if kind != "none" or self.options.gallery:
            picture = to_picture(image)
            if kind != "none":
                overlay = draw_overlay(picture, result.labels, self.colours)
                encoded = encode_png(overlay) if kind == "png" else encode_jpeg(overlay, OVERLAY_QUALITY, sharp=True)
                files[name_overlay(item.name, kind)] = encoded
            if self.options.gallery:
                plain = picture[:, :, 0] if image.ndim == 2 else picture  # grey: a third of the work to shrink
                files[name_sprite(item.name)] = encode_jpeg(draw_sprite(plain, result.labels, self.colours))
        for name, data in files.items():
            try:
                write_file(self.out / name, data, root=self.out)
            except OutputError as error:
                if is_name_error(error, self.out, name):
                    raise ImageError(item.file, f"its outputs cannot be named ({error.why})", "rename it") from None
                raise
        return {name: len(data) for name, data in files.items()}


def clear(result: Result) -> Result:
    """Return a result without a lesion."""
    nothing = np.zeros_like(result.labels)
    return replace(result, mask=nothing > 0, probability=nothing.astype(np.float32), labels=nothing)


def to_source_order(item: Input, pixels: Image) -> Image:
    """Return pixels in the order of a slice's source: they were turned for display; an image file's as they are."""
    if item.slice is None:
        return pixels
    from edge_runtime.hospital.pixels.display import from_display

    return from_display(pixels, item.slice.turn)


def describe_slice(source: SliceSource) -> ResultRow:
    """Return the cells of a slice's row that its series gives."""
    position = "" if source.position_mm is None else f"{source.position_mm:.3f}"
    return {"series": source.series, "slice": str(source.number), "position_mm": position}


def is_name_error(error: OutputError, out: Path, name: str) -> bool:
    """Tell whether only this name cannot be given in OUT: it is too long or holds a character that is not allowed
    there, or a file or folder stands in its way."""
    if isinstance(error, ObstacleError):
        return error.what != str(out / name.split("/")[0])
    code = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    return code in NAME_ERRORS or code in OBSTACLE_ERRORS


@contextmanager
def capture_errors(state: ImageState) -> Iterator[None]:
    """Record an error of this one image in its state; any other is an error of the run."""
    try:
        yield
    except (ImageError, ModelError, EngineError) as error:
        state.error = error
    except MemoryError:
        why, fix = "not enough memory for this image", f"scale it down first, or raise {name_limit()}"
        state.error = ImageError(state.item.file, why, fix)
    if state.error is not None:
        state.image = state.result = None


def format_ms_since(started: float) -> str:
    """Return the milliseconds since then, as a cell."""
    return f"{1000 * (time.perf_counter() - started):.2f}"


def make_key(session: Session, options: Options) -> str:
    """Return what an image's outputs depend on besides its own bytes."""
    contract, engine = session.contract, session.engine
    kinds = (options.probability, options.overlay, options.gallery)
    model = (contract.model.sha256, contract.digest, session.threshold)
    return repr((find_own_version(), *model, engine.name, engine.version, kinds))


def describe_session(session: Session) -> dict[str, Any]:
    """Return the entries of run.json on the engine and the packages."""
    import platform

    engine = session.engine
    versions = {
        "python": platform.python_version(),
        "edge-seg": find_own_version(),
        engine.name: engine.version,
        "numpy": np.__version__,
        "opencv": cv2.__version__,  # by whichever of its packages it came
    }
    facts = {"name": engine.name, "version": engine.version, "threads": engine.threads}
    return {"engine": facts, "threshold": session.threshold, "versions": versions}
