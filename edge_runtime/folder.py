"""The folder run: find, read, infer, write; every image by itself, every finished one remembered.

A journal in OUT has one line for each image that is done, written after its outputs. A later run into the same OUT
keeps what is still true: same input bytes, same model, same options, outputs in place. results.csv, run.json and
index.html are made at the end. The images themselves are a crew's work: see `crew` and `isolation`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .contract import Contract
from .errors import ModelError, OutputError
from .files import TEMPORARY, write_slowly
from .gallery import write_gallery
from .inputs import Input, name_input
from .journal import JOURNAL, LOCK, Done, Row, append_journal, lock, read_journal, write_journal
from .limits import MAX_PIXELS, MAX_SECONDS
from .results import RESULTS, columns, read_rows, to_cells, write_line


@dataclass(frozen=True)
class Options:
    """What a run writes for each image, how many images at a time, and what one image may cost."""

    probability: bool = False
    overlay: bool = True
    gallery: bool = True
    workers: int = 1
    force: bool = False
    max_pixels: int = MAX_PIXELS
    max_seconds: float = MAX_SECONDS
    max_memory: int | None = None  # bytes


@dataclass(frozen=True)
class Counts:
    """How many inputs a run had, and what became of them."""

    inputs: int
    ok: int
    failed: int
    kept: int  # of the ok ones, from an earlier run


class Crew(Protocol):
    """Who segments the images of a run."""

    contract: Contract
    facts: Mapping[str, Any]  # engine {name, version, threads}, threshold, versions {package: version}

    def work(self, inputs: Iterator[Input], out: Path, earlier: Mapping[str, Done]) -> Generator[tuple[Done, bool]]:
        """Yield what is known of each input, in their order, and whether it was made now rather than earlier."""
        ...

    def close(self) -> None:
        """Release all that the crew holds, whatever it is doing."""
        ...


def run_folder(
    inputs: Sequence[Input],
    out: Path,
    crew: Crew,
    options: Options,
    progress: Callable[[int], None] = lambda done: None,
) -> Counts:
    """Segment all inputs into `out`, results.csv with a row for each.

    An image that cannot be read or segmented is a row with status "failed"; the others are not concerned.
    Raises: OutputError if `out` holds something else or cannot be written; whatever the crew raises.
    """
    check_images_model(crew.contract)
    check_out(out, options.force)
    with lock(out):
        sweep(out)
        earlier = {} if options.force else read_journal(out / JOURNAL)
        write_journal(out / JOURNAL, earlier.values())
        names = columns(crew.contract)
        ok = failed = kept = 0
        try:
            with (
                (out / JOURNAL).open("ab", buffering=0) as journal,
                write_slowly(out / RESULTS) as results,
                closing(crew.work(iter(inputs), out, earlier)) as answers,  # ends before the lock goes
            ):
                write_line(results, names)
                for done, fresh in answers:
                    made = done.row["status"] == "ok"
                    ok, failed, kept = ok + made, failed + (not made), kept + (not fresh)
                    if fresh and made:
                        append_journal(journal, done)
                    write_line(results, to_cells(done.row, names))
                    progress(ok + failed)
        finally:
            sweep(out)
        check_masks(out)
    return Counts(ok + failed, ok, failed, kept)


def check_masks(out: Path) -> None:
    """Look for the masks that results.csv tells of; without them it is no result. Raises: OutputError."""
    made = (row["file"] for row in read_rows(out / RESULTS) if row["status"] == "ok")
    try:
        missing = sum(not (out / "masks" / name_input(Path(file), file).name).is_file() for file in made)
        if missing:
            (out / RESULTS).unlink()
    except OSError as error:
        raise OutputError(str(out), error.strerror or str(error), "the same command makes what is missing") from None
    if missing:
        why = f"{missing} masks were removed while the run wrote there"
        raise OutputError(str(out), why, "the same command makes them again")


def sprite_name(name: str) -> str:
    """Return where an image's gallery picture lies in OUT."""
    return f"gallery/{name.removesuffix('.png')}.jpg"  # no longer than the mask's: names may have 255 bytes


def output_names(name: str) -> tuple[str, ...]:
    """Return where all that may be written for an image lies in OUT."""
    return f"masks/{name}", f"probability/{name}", f"overlays/{name}", sprite_name(name)


def discard_outputs(out: Path, item: Input, keep: Collection[str]) -> None:
    """Remove an earlier run's outputs of an image that this one did not make again: they may be wrong now."""
    for name in output_names(item.name):
        path = out / name
        try:
            if name not in keep and os.path.lexists(path):
                path.unlink()
        except OSError as error:
            raise OutputError(str(path), error.strerror or str(error), "remove it") from None


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
    for top, _, names in os.walk(out):  # which bears that folders vanish meanwhile
        for name in names:
            if name.startswith(TEMPORARY):
                with suppress(OSError):
                    Path(top, name).unlink()


def write_page(out: Path, inputs: Sequence[Input], options: Options, facts: Mapping[str, object]) -> None:
    """Write index.html, the gallery of a finished run's rows."""
    names = {item.file: item.name for item in inputs}
    rows = [to_page_row(row, names[row["file"]], options) for row in read_rows(out / RESULTS)]
    write_gallery(out / "index.html", rows, facts)


def to_page_row(row: Row, name: str, options: Options) -> Row:
    """Return a row with where its pictures are."""
    made = row["status"] == "ok"
    return {
        **row,
        "sprite": sprite_name(name) if made else "",
        "mask": f"masks/{name}" if made else "",
        "overlay": f"overlays/{name}" if made and options.overlay else "",
    }
