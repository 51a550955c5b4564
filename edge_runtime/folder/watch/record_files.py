"""How does the service keep its journal and results.csv, also when somebody moves or removes them?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from edge_runtime.errors import OutputError
from edge_runtime.folder.records.journal import (
    JOURNAL,
    OWN_FILES,
    OWN_FOLDERS,
    JournalEntry,
    append_journal,
    scan_journal,
    write_journal,
)
from edge_runtime.folder.records.results_csv import RESULTS, to_cells, write_line
from edge_runtime.system.files import MAKE_ROOM, TEMPORARY, open_append, open_atomic, sync_handle

HEALTH = "health.json"


class RecordsMoved(OutputError):
    """OUT, or a file that the service writes its records into, was moved or removed."""


class RecordFiles:
    """journal.jsonl and results.csv of OUT, open for new lines."""

    def __init__(self, out: Path, columns: Sequence[str]) -> None:
        """Raises: OutputError."""
        self.out, self.columns = out, columns
        self.files: list[BinaryIO] = []
        try:
            self.folder = out.stat()
            for name in (JOURNAL, RESULTS):
                self.files.append(open_append(out / name))
        except (OSError, OutputError) as error:
            self.close()
            if isinstance(error, OutputError):
                raise
            raise OutputError(str(out), error.strerror or str(error), MAKE_ROOM) from None

    def __enter__(self) -> RecordFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()

    def check(self) -> None:
        """Require both files to stand under their names. A journal that is gone from OUT is written again.

        Raises: RecordsMoved, OutputError.
        """
        for file, name in zip(self.files, (JOURNAL, RESULTS), strict=True):
            if not is_file_at(file, self.out / name):
                if name == JOURNAL and is_folder_at(self.folder, self.out) and not os.path.lexists(self.out / name):
                    self.write_journal_again()
                where = self.out if not is_folder_at(self.folder, self.out) else self.out / name
                raise RecordsMoved(str(where), "it was moved or removed", "the service writes a new one")

    def write_journal_again(self) -> None:
        """Copy the journal, which is still open, to its name. Raises: OutputError."""
        with open_atomic(self.out / JOURNAL) as copy:
            self.files[0].seek(0)
            shutil.copyfileobj(self.files[0], copy)

    def append(self, entry: JournalEntry, new: bool = True) -> None:
        """Record an image: a line in the journal, and a row unless it was done before. Raises: OutputError.

        The line is on the disk before the row is seen: whoever sees the row may remove the image, and then only the
        line can bring the row back after a power cut.
        """
        self.check()
        append_journal(self.files[0], entry)
        try:
            sync_handle(self.files[0].fileno())
            if new:
                write_line(self.files[1], to_cells(entry.row, self.columns))
        except OSError as error:
            raise OutputError(str(self.out / RESULTS), error.strerror or str(error), MAKE_ROOM) from None


def restore_records(out: Path, columns: Sequence[str], count: Callable[[JournalEntry], None]) -> None:
    """Write journal and results.csv anew, with one line for each file; call `count` for each.

    Line by line: a service's journal may be longer than a small board's memory. Raises: OutputError.
    """
    path = out / JOURNAL
    last = {entry.row["file"]: number for number, entry in enumerate(scan_journal(path))}
    with open_atomic(out / RESULTS) as results:
        write_line(results, columns)
        for number, entry in enumerate(scan_journal(path)):
            if last[entry.row["file"]] == number:
                write_line(results, to_cells(entry.row, columns))
                count(entry)
    entries = enumerate(scan_journal(path))
    write_journal(path, (entry for number, entry in entries if last[entry.row["file"]] == number))


def holds_own_files(out: Path) -> bool:
    """Tell whether OUT holds nothing but what a run writes there."""
    try:
        return all(name in (*OWN_FILES, *OWN_FOLDERS) or name.startswith(TEMPORARY) for name in os.listdir(out))  # noqa: PTH208
    except OSError:
        return not os.path.lexists(out)


def is_file_at(file: BinaryIO, path: Path) -> bool:
    """Tell whether an open file stands under a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    except OSError:
        return False


def is_folder_at(folder: os.stat_result, path: Path) -> bool:
    """Tell whether a folder stands under a path."""
    try:
        return os.path.samestat(folder, path.stat())
    except OSError:
        return False
