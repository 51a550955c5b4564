"""The folder run: find, read, infer, write; every image by itself, every finished one remembered.

A journal in OUT has one line for each image that is done, written after its outputs. A later run into the same OUT
keeps what is still true: same input bytes, same model, same options, outputs in place. results.csv, run.json and
index.html are made from it at the end.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from .contract import Contract
from .errors import EngineError, ImageError, ModelError, OutputError
from .gallery import draw_sprite, write_gallery
from .images import TEMPORARY, decode_image, encode_jpeg, encode_png, read_bytes, write_file
from .inputs import Input
from .journal import JOURNAL, LOCK, Done, Row, append_journal, lock, outputs_stand, read_journal, write_journal
from .overlay import draw_contour, draw_overlay, to_picture
from .postprocess import measure
from .preprocess import Image
from .session import Result, Session
from .summary import own_version

COLUMNS = ("file", "status", "error", "width", "height", "lesion_pixels")  # then pixels_<label>, then
COLUMNS_AFTER = ("lesion_fraction", "components", "max_probability", "flags")
CLASS_COLUMNS = ("class", "class_probability")  # then, of a model that classifies
TIMINGS = ("read_ms", "infer_ms", "write_ms")
RESULTS = "results.csv"


@dataclass(frozen=True)
class Options:
    """What a run writes for each image, and how many images at a time."""

    probability: bool = False
    overlay: bool = True
    gallery: bool = True
    workers: int = 1
    force: bool = False


def run_folder(
    inputs: Sequence[Input],
    out: Path,
    load: Callable[[], Session],
    options: Options,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[Row], int]:
    """Segment all inputs into `out`; return the rows of results.csv and how many were kept from an earlier run.

    load: makes a Session; called once for each worker. An image that cannot be read or segmented is a row with status
    "failed"; the others are not concerned.
    Raises: OutputError if `out` holds something else or cannot be written; whatever `load` raises.
    """
    session = load()  # before anything is written: a model that fails leaves no folder behind
    check_images_model(session.contract)
    check_out(out, options.force)
    with lock(out):
        sweep(out)
        earlier = {} if options.force else read_journal(out / JOURNAL)
        write_journal(out / JOURNAL, earlier)
        worker = Worker(out, session, load, options, earlier)
        rows, kept = [], 0
        with (out / JOURNAL).open("ab", buffering=0) as journal:
            for done, fresh in in_order(worker.process, inputs, options.workers):
                rows.append(done.row)
                kept += not fresh
                if fresh and done.row["status"] == "ok":
                    append_journal(journal, done)
                progress(len(rows))
        write_results(out / RESULTS, rows, session.contract)
    return rows, kept


def in_order(
    work: Callable[[Input], tuple[Done, bool]], inputs: Sequence[Input], workers: int
) -> Iterator[tuple[Done, bool]]:
    """Yield work(item) for each input, in order, `workers` at a time; only a few results wait in memory."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[tuple[Done, bool]]] = deque()
        try:
            for item in inputs:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Worker:
    """Processes single images; one Session for each thread that calls it."""

    def __init__(
        self, out: Path, session: Session, load: Callable[[], Session], options: Options, earlier: Mapping[str, Done]
    ) -> None:
        self.out, self.options, self.earlier = out, options, earlier
        self.load, self.sessions = load, threading.local()
        self.spare = [session]
        self.contract = session.contract
        self.colours = [label.colour for label in session.contract.output.lesions]
        self.key = make_key(session, options)

    def process(self, item: Input) -> tuple[Done, bool]:
        """Return what is known of an image after this, and whether it was made now rather than earlier."""
        row: Row = dict.fromkeys(columns(self.contract), "")
        row.update(file=item.file, status="failed")
        key = self.key
        try:
            started = time.perf_counter()
            data = read_bytes(item.path, item.file)
            row["input_sha256"] = hashlib.sha256(data).hexdigest()
            key = hashlib.sha256(f"{self.key} {row['input_sha256']}".encode()).hexdigest()
            done = self.earlier.get(item.file)
            if done and done.key == key and outputs_stand(self.out, done.outputs):
                return done, False
            image = decode_image(data, item.file)
            row.update(height=str(image.shape[0]), width=str(image.shape[1]))
            decoded = time.perf_counter()
            result = self.session().segment(image)
            inferred = time.perf_counter()
            outputs = self.write(item, image, result)
            marks = (started, decoded, inferred, time.perf_counter())
            spent = [f"{1000 * (b - a):.2f}" for a, b in pairwise(marks)]
            row.update(self.measure(result), **dict(zip(TIMINGS, spent, strict=True)), status="ok")
            self.discard(item, outputs)
            return Done(key, row, outputs), True
        except (ImageError, ModelError, EngineError) as error:
            row["error"] = str(error) if error.what == item.file else f"{item.file}: {error}"
        except MemoryError:
            row["error"] = f"{item.file}: not enough memory for this image; scale it down first"
        self.discard(item, ())
        return Done(key, row, {}), True

    def session(self) -> Session:
        """Return this thread's Session, loading it at first use."""
        if not hasattr(self.sessions, "own"):
            self.sessions.own = self.spare.pop() if self.spare else self.load()
        own: Session = self.sessions.own
        return own

    def measure(self, result: Result) -> Row:
        """Return the row's cells that come from the mask."""
        lesions = self.contract.output.lesions
        found = measure(result.labels, result.probability, len(lesions) + 1)
        row = {
            "lesion_pixels": str(found.lesion_pixels),
            "lesion_fraction": f"{found.lesion_fraction:.6f}",
            "components": str(found.components),
            "max_probability": f"{found.max_probability:.4f}",
            "flags": ";".join(found.flags),
        }
        if len(lesions) > 1:
            row.update({f"pixels_{its.name}": str(n) for its, n in zip(lesions, found.label_pixels, strict=True)})
        if result.class_name is not None:
            row.update({"class": result.class_name, "class_probability": f"{result.class_probability:.4f}"})
        return row

    def write(self, item: Input, image: Image, result: Result) -> dict[str, int]:
        """Write an image's outputs; return their relative names and sizes."""
        mask = to_mask(result, self.contract)
        files = {f"masks/{item.name}": encode_png(mask)}
        if self.options.probability:
            files[f"probability/{item.name}"] = encode_png(np.rint(result.probability * 65535).astype(np.uint16))
        if self.options.overlay or self.options.gallery:
            picture = to_picture(image)
            overlay = draw_overlay(picture, result.labels, self.colours)
            if self.options.overlay:
                files[f"overlays/{item.name}"] = encode_png(overlay)
            if self.options.gallery:
                contour = draw_contour(picture, result.labels, self.colours)
                files[sprite_name(item.name)] = encode_jpeg(draw_sprite(picture, mask, overlay, contour))
        for name, data in files.items():
            try:
                write_file(self.out / name, data)
            except OutputError as error:
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENAMETOOLONG, errno.EILSEQ):
                    raise ImageError(item.file, f"its outputs cannot be named ({error.why})", "rename it") from None
                raise
        return {name: len(data) for name, data in files.items()}

    def discard(self, item: Input, keep: Collection[str]) -> None:
        """Remove an earlier run's outputs of this image that this one did not make again: they may be wrong now."""
        for name in (f"masks/{item.name}", f"probability/{item.name}", f"overlays/{item.name}", sprite_name(item.name)):
            path = self.out / name
            try:
                if name not in keep and os.path.lexists(path):
                    path.unlink()
            except OSError as error:
                raise OutputError(str(path), error.strerror or str(error), "remove it") from None


def to_mask(result: Result, contract: Contract) -> Image:
    """Return the mask as it is written: 0 and 255, or label values where the contract has several lesions."""
    return result.labels if len(contract.output.lesions) > 1 else result.mask.astype(np.uint8) * np.uint8(255)


def sprite_name(name: str) -> str:
    """Return where an image's gallery picture lies in OUT."""
    return f"gallery/{name.removesuffix('.png')}.jpg"  # no longer than the mask's: names may have 255 bytes


def columns(contract: Contract) -> list[str]:
    """Return the columns of results.csv."""
    lesions = contract.output.lesions
    own = [f"pixels_{label.name}" for label in lesions] if len(lesions) > 1 else []
    classes = CLASS_COLUMNS if contract.classes else ()
    return [*COLUMNS, *own, *COLUMNS_AFTER, *classes, *TIMINGS, "input_sha256"]


def make_key(session: Session, options: Options) -> str:
    """Return what an image's outputs depend on besides its own bytes."""
    contract, engine = session.contract, session.engine
    kinds = (options.probability, options.overlay, options.gallery)
    model = (contract.model.sha256, contract.digest, session.threshold)
    return repr((own_version(), *model, engine.name, engine.version, kinds))


def check_images_model(contract: Contract) -> None:
    """Refuse a model of volumes: which files are the slices of one, and in what order, no folder says."""
    if contract.input.depth is not None:
        why = f"it segments volumes of {contract.input.depth} slices, not single images"
        fix = "from Python: Session.load(path).segment(volume), an array (D, H, W)"
        raise ModelError(f"model {contract.model.id}", why, fix)


def check_out(out: Path, force: bool) -> None:
    """Make OUT, or check that it is empty or an earlier run's. Raises: OutputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        strange = any(path.name != LOCK and not path.name.startswith(TEMPORARY) for path in out.iterdir())
    except OSError as error:
        raise OutputError(str(out), error.strerror or str(error), "choose another folder with -o") from None
    if strange and not force and not (out / JOURNAL).is_file():
        raise OutputError(str(out), "it holds files that are no run's", "choose another -o, or --force to write there")


def sweep(out: Path) -> None:
    """Remove the temporary files of a run that was killed; the lock says that none is running."""
    for path in out.rglob(f"{TEMPORARY}*"):
        with suppress(OSError):
            path.unlink()


def write_results(path: Path, rows: Sequence[Row], contract: Contract) -> None:
    """Write results.csv, one row for each input."""
    names = columns(contract)
    lines = [names, *([row[name] for name in names] for row in rows)]
    text = "".join(",".join(map(to_cell, line)) + "\n" for line in lines)
    write_file(path, text.encode("utf-8", "surrogateescape"))


def to_cell(text: str) -> str:
    """Return a cell of a CSV file; Python 3.11's csv module leaves a carriage return unquoted, which splits the row."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def write_page(
    out: Path, inputs: Sequence[Input], rows: Sequence[Row], options: Options, facts: Mapping[str, object]
) -> None:
    """Write index.html, the gallery of the run's rows."""
    pages = []
    for item, row in zip(inputs, rows, strict=True):
        made = row["status"] == "ok"
        places = {
            "sprite": sprite_name(item.name) if made else "",
            "mask": f"masks/{item.name}" if made else "",
            "overlay": f"overlays/{item.name}" if made and options.overlay else "",
        }
        pages.append({**row, **places})
    write_gallery(out / "index.html", pages, facts)
