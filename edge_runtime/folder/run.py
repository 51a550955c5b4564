"""How does a run segment many images into OUT, and keep what an earlier run has done?

A journal in OUT has one line for each image that is done, written after its outputs. A later run into the same OUT
keeps what is still valid: same input bytes, same model, same options, outputs in place. results.csv, run.json and
index.html are made at the end. A pool of workers segments the images: see `pools`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from edge_runtime.contract.fields import Contract, ModelFacts
from edge_runtime.errors import ImageError, ModelError, OutputError
from edge_runtime.folder.gallery.page import to_page_row, write_gallery
from edge_runtime.folder.pools.pool import Pool
from edge_runtime.folder.records.journal import (
    JOURNAL,
    LOCK,
    SALT,
    JournalEntry,
    ResultRow,
    append_journal,
    lock_output,
    name_model,
    read_journal,
    write_journal,
)
from edge_runtime.folder.records.results_csv import (
    RESULTS,
    SERIES_COLUMNS,
    list_columns,
    make_row,
    read_rows,
    to_cells,
    write_line,
)
from edge_runtime.folder.records.run_json import Counts, describe_page
from edge_runtime.system.files import TEMPORARY, open_append, open_atomic, write_file

from .inputs import Input, name_mask
from .names import find_clashes
from .outputs import Options


def run_folder(
    inputs: Sequence[Input],
    out: Path,
    pool: Pool,
    options: Options,
    progress: Callable[[int], None] = lambda done: None,
    finish: Callable[[], None] = lambda: None,
) -> Counts:
    """Segment all inputs into `out`, results.csv with a row for each.

    An image that cannot be read or segmented, or whose outputs would be another's, is a row with status "failed"; the
    others are not affected. finish: called when all is done, while OUT is still this run's.
    Raises: OutputError if `out` holds something else, another model's results without `options.force`, or cannot be
    written; whatever the pool raises.
    """
    with open_output(out, pool.contract, options.force):
        earlier = {} if options.force else read_journal(out / JOURNAL)
        check_same_model(out, earlier.values(), pool.contract.model)
        clashes = find_clashes(inputs, out)
        alone = (item for position, item in enumerate(inputs) if position not in clashes)
        write_journal(out / JOURNAL, earlier.values())
        ok, failed, kept = 0, len(clashes), 0
        with (
            open_append(out / JOURNAL) as journal,
            open_atomic(out / RESULTS) as results,
            closing(pool.process(alone, out, earlier)) as outcomes,  # ends before the lock is released
        ):
            rows = RowWriter(results, pool.contract, inputs, clashes)
            for outcome in outcomes:
                row = outcome.entry.row
                made = row["status"] == "ok"
                ok, failed, kept = ok + made, failed + (not made), kept + (not outcome.fresh)
                if outcome.fresh and made:  # at once: what is not in the journal is done again after a crash
                    append_journal(journal, outcome.entry)
                rows.add(row)
                progress(ok + failed)
        check_masks(out)
        finish()
    return Counts(ok + failed, ok, failed, kept)


class RowWriter:
    """Writes the rows of results.csv in the order of the inputs; they are done in another."""

    def __init__(
        self, results: BinaryIO, contract: Contract, inputs: Sequence[Input], clashes: Mapping[int, str]
    ) -> None:
        """clashes: {position: why} of the inputs that are not segmented, since their outputs would be another's."""
        self.results, self.contract, self.inputs, self.clashes = results, contract, inputs, clashes
        self.names = list_columns(contract) + list(SERIES_COLUMNS if any(item.slice for item in inputs) else ())
        self.position, self.waiting = 0, dict[str, ResultRow]()
        write_line(results, self.names)
        self.write_due()

    def add(self, row: ResultRow) -> None:
        """Write the row of an image that is done, now or after those before it."""
        self.waiting[row["file"]] = row
        self.write_due()

    def write_due(self) -> None:
        """Write the rows whose turn it is."""
        while self.position < len(self.inputs):
            file = self.inputs[self.position].file
            if self.position in self.clashes:
                error = ImageError(file, self.clashes[self.position], "rename it, or give it another -o")
                row = make_row(self.contract, file, str(error))
            elif file in self.waiting:
                row = self.waiting.pop(file)
            else:
                return
            write_line(self.results, to_cells(row, self.names))
            self.position += 1


def check_same_model(out: Path, earlier: Iterable[JournalEntry], model: ModelFacts) -> None:
    """Refuse an OUT that holds results of another model: they would be replaced. Raises: OutputError."""
    own = name_model(model)
    other = next((entry.model for entry in earlier if entry.model not in ("", own)), None)
    if other is not None:
        why = f"it holds the results of model {other}, and this is {own}"
        raise OutputError(str(out), why, "choose another -o, or --force to replace them")


@contextmanager
def open_output(out: Path, contract: Contract, force: bool) -> Iterator[None]:
    """Hold OUT for one run, without temporary files before and after it.

    Raises: ModelError for a model of volumes; OutputError if `out` is in use, holds other files or cannot be written.
    """
    check_images_model(contract)
    make_output(out, force)
    with lock_output(out):
        remove_temporary_files(out)
        if not (out / JOURNAL).exists():  # the first file: by it a run that is killed now knows its own OUT again
            write_journal(out / JOURNAL, ())
        try:
            yield
        finally:
            remove_temporary_files(out)


def check_masks(out: Path) -> None:
    """Check that all masks of results.csv exist; without them it is no result. Raises: OutputError."""
    made = (row["file"] for row in read_rows(out / RESULTS) if row["status"] == "ok")
    try:
        missing = sum(not (out / "masks" / name_mask(file)).is_file() for file in made)
        if missing:
            (out / RESULTS).unlink()
    except OSError as error:
        raise OutputError(str(out), error.strerror or str(error), "the same command makes what is missing") from None
    if missing:
        why = f"{missing} masks were removed while the run wrote there"
        raise OutputError(str(out), why, "the same command makes them again")


def write_summary(out: Path, facts: dict[str, Any], rows: Iterable[ResultRow], options: Options) -> None:
    """Write run.json, and index.html with these rows unless there is to be none."""
    if options.gallery:
        write_gallery(out / "index.html", [to_page_row(row, out) for row in rows], describe_page(facts))
    write_file(out / "run.json", (json.dumps(facts, indent=1) + "\n").encode())


def check_images_model(contract: Contract) -> None:
    """Refuse a model of volumes: a folder has no order of slices."""
    if contract.input.depth is not None:
        why = f"it segments volumes of {contract.input.depth} slices, not single images"
        fix = "from Python: Session.load(path).segment(volume), an array (D, H, W)"
        raise ModelError(f"model {contract.model.id}", why, fix)


def make_output(out: Path, force: bool) -> None:
    """Make OUT, or check that it is empty or an earlier run's. Raises: OutputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        used = any(path.name not in (LOCK, SALT) and not path.name.startswith(TEMPORARY) for path in out.iterdir())
    except OSError as error:
        raise OutputError(str(out), error.strerror or str(error), "choose another folder with -o") from None
    if used and not force and not (out / JOURNAL).is_file():
        raise OutputError(str(out), "it holds files that are no run's", "choose another -o, or --force to write there")


def remove_temporary_files(out: Path) -> None:
    """Remove the temporary files of a run that was killed; the lock guarantees that none is running."""
    with suppress(OSError):  # OUT is gone
        for _, _, names, folder in os.fwalk(out.resolve()):  # by descriptors: no link below OUT is followed
            for name in names:
                if name.startswith(TEMPORARY):
                    with suppress(OSError):
                        os.unlink(name, dir_fd=folder)
