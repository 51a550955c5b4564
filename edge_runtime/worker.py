"""One image of a folder run: read it, segment it, write its outputs; three steps, so that images can overlap."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .contract import Contract
from .errors import EdgeSegError, EngineError, ImageError, ModelError, OutputError
from .files import write_file
from .folder import Options, discard_outputs, sprite_name
from .images import decode_image, encode_jpeg, encode_mask, encode_png, read_bytes
from .inputs import Input
from .journal import Done, Row, outputs_stand
from .overlay import draw_overlay, to_picture
from .postprocess import measure
from .preprocess import Image
from .results import columns
from .session import Result, Session
from .sprite import draw_sprite
from .summary import own_version
from .triage import raise_flags


@dataclass
class Step:
    """What is known of an image so far; one thread at a time has it."""

    item: Input
    row: Row
    key: str
    image: Image | None = None
    result: Result | None = None
    kept: Done | None = None  # made by an earlier run, and still true
    error: EdgeSegError | None = None


class Worker:
    """Processes single images; one Session for each thread that segments."""

    def __init__(
        self, out: Path, session: Session, load: Callable[[], Session], options: Options, earlier: Mapping[str, Done]
    ) -> None:
        self.out, self.options, self.earlier = out, options, earlier
        self.load, self.sessions = load, threading.local()
        self.spare = [session]
        self.contract, self.threshold = session.contract, session.threshold
        self.colours = [label.colour for label in session.contract.output.lesions]
        self.key = make_key(session, options)

    def read(self, item: Input) -> Step:
        """Read and decode an image, unless an earlier run has done all of it."""
        row: Row = dict.fromkeys(columns(self.contract), "")
        row.update(file=item.file, status="failed")
        step = Step(item, row, self.key)
        with told(step):
            started = time.perf_counter()
            data = read_bytes(item.path, item.file, self.options.max_pixels)
            row["input_sha256"] = hashlib.sha256(data).hexdigest()
            step.key = hashlib.sha256(f"{self.key} {row['input_sha256']}".encode()).hexdigest()
            done = self.earlier.get(item.file)
            if done and done.key == step.key and outputs_stand(self.out, done.outputs):
                step.kept = done
                return step
            image = decode_image(data, item.file, self.options.max_pixels)
            row.update(height=str(image.shape[0]), width=str(image.shape[1]), read_ms=since(started))
            step.image = image
        return step

    def segment(self, step: Step) -> Step:
        """Segment an image that was read."""
        if step.image is not None:
            with told(step):
                started = time.perf_counter()
                step.result = self.session().segment(step.image)
                step.row["infer_ms"] = since(started)
        return step

    def finish(self, step: Step) -> tuple[Done, bool]:
        """Write an image's outputs; return what is known of it, and whether it was made now rather than earlier."""
        if step.kept:
            return step.kept, False
        outputs: dict[str, int] = {}
        if step.image is not None and step.result is not None:
            with told(step):
                started = time.perf_counter()
                outputs = self.write(step.item, step.image, step.result)
                step.row.update(self.measure(step.image, step.result), write_ms=since(started), status="ok")
        error, file = step.error, step.item.file
        if error is not None:
            step.row["error"] = str(error) if error.what == file else f"{file}: {error}"
        discard_outputs(self.out, step.item, outputs)
        return Done(step.key, step.row, outputs), True

    def process(self, item: Input) -> tuple[Done, bool]:
        """Do all of it in one go."""
        return self.finish(self.segment(self.read(item)))

    def session(self) -> Session:
        """Return this thread's Session, loading it at first use."""
        if not hasattr(self.sessions, "own"):
            self.sessions.own = self.spare.pop() if self.spare else self.load()
        own: Session = self.sessions.own
        return own

    def measure(self, image: Image, result: Result) -> Row:
        """Return the row's cells that come from the mask, and what is to be doubted."""
        lesions = self.contract.output.lesions
        found = measure(result.labels, result.probability, len(lesions) + 1)
        row = {
            "lesion_pixels": str(found.lesion_pixels),
            "lesion_fraction": f"{found.lesion_fraction:.6f}",
            "components": str(found.components),
            "max_probability": f"{found.max_probability:.4f}",
            "flags": ";".join(raise_flags(image, found, self.contract, self.threshold)),
        }
        if len(lesions) > 1:
            row.update({f"pixels_{its.name}": str(n) for its, n in zip(lesions, found.label_pixels, strict=True)})
        if result.class_name is not None:
            row.update({"class": result.class_name, "class_probability": f"{result.class_probability:.4f}"})
        return row

    def write(self, item: Input, image: Image, result: Result) -> dict[str, int]:
        """Write an image's outputs; return their relative names and sizes."""
        mask = to_mask(result, self.contract)
        files = {f"masks/{item.name}": encode_mask(mask)}
        if self.options.probability:
            files[f"probability/{item.name}"] = encode_png(np.rint(result.probability * 65535).astype(np.uint16))
        if self.options.overlay or self.options.gallery:
            picture = to_picture(image)
            if self.options.overlay:
                overlay = draw_overlay(picture, result.labels, self.colours)
                files[f"overlays/{item.name}"] = encode_png(overlay)
            if self.options.gallery:
                original = picture[:, :, 0] if image.ndim == 2 else picture  # grey: a third of the work to shrink
                files[sprite_name(item.name)] = encode_jpeg(draw_sprite(original, result.labels, self.colours))
        for name, data in files.items():
            try:
                write_file(self.out / name, data)
            except OutputError as error:
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENAMETOOLONG, errno.EILSEQ):
                    raise ImageError(item.file, f"its outputs cannot be named ({error.why})", "rename it") from None
                raise
        return {name: len(data) for name, data in files.items()}


@contextmanager
def told(step: Step) -> Iterator[None]:
    """Note in a step what goes wrong with this one image; anything else is the run's own error."""
    try:
        yield
    except (ImageError, ModelError, EngineError) as error:
        step.error = error
    except MemoryError:
        why, fix = "not enough memory for this image", "scale it down first, or raise --max-memory"
        step.error = ImageError(step.item.file, why, fix)
    if step.error is not None:
        step.image = step.result = None


def since(started: float) -> str:
    """Return the milliseconds since then, as a cell."""
    return f"{1000 * (time.perf_counter() - started):.2f}"


def to_mask(result: Result, contract: Contract) -> Image:
    """Return the mask as it is written: 0 and 255, or label values where the contract has several lesions."""
    return result.labels if len(contract.output.lesions) > 1 else result.mask.astype(np.uint8) * np.uint8(255)


def make_key(session: Session, options: Options) -> str:
    """Return what an image's outputs depend on besides its own bytes."""
    contract, engine = session.contract, session.engine
    kinds = (options.probability, options.overlay, options.gallery)
    model = (contract.model.sha256, contract.digest, session.threshold)
    return repr((own_version(), *model, engine.name, engine.version, kinds))
