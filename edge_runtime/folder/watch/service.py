"""How does the service segment what is copied into a folder, each image once, across restarts, until it is stopped?

Unlike a folder run it compares a file's size, time and inode to find whether it has changed, keeps what an earlier
model has done, and does not process a file that failed again before it changes. results.csv grows by a line an image.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from edge_runtime.contract.fields import Contract
from edge_runtime.errors import EdgeSegError, EngineError, ImageError, OutputError
from edge_runtime.folder.inputs import Input
from edge_runtime.folder.outputs import Options
from edge_runtime.folder.pools.pool import Pool
from edge_runtime.folder.records.journal import (
    JOURNAL,
    JournalEntry,
    ResultRow,
    append_journal,
    scan_journal,
    write_journal,
)
from edge_runtime.folder.records.results_csv import RESULTS, list_columns, make_row, to_cells, write_line
from edge_runtime.folder.records.run_json import Counts
from edge_runtime.folder.run import open_output, write_summary
from edge_runtime.system.files import MAKE_ROOM, open_append, open_atomic, write_file
from edge_runtime.system.machine import format_local_time
from edge_runtime.system.process import read_rss
from edge_runtime.system.versions import find_own_version

from .inbox import Inbox
from .systemd import Notifier

HEALTH = "health.json"
HEALTH_S = 5.0  # how old health.json may get
SCAN_S, SCAN_SHARE = 1.0, 0.1  # how often the folder is scanned; share of the time that scanning may take
PAGE_S, PAGE_ROWS = 30.0, 500  # how often the gallery is written while images come in, and its last images
RETRY_S = 10.0  # after the disk was full or a folder was gone


@dataclass(frozen=True)
class Watched:
    """The folder that a service takes its images from, and the one for the results."""

    inbox: Path
    out: Path
    recursive: bool
    settle_s: float


class Stopped(Exception):
    """The service was stopped while a model was being loaded."""


class Service:
    """Segments what is copied into a watched folder; a signal handler may call `stop`."""

    def __init__(
        self,
        watched: Watched,
        options: Options,
        make_pool: Callable[[Callable[[], None]], Pool],
        describe: Callable[[Pool, Counts, float], dict[str, Any]],
        warn: Callable[[object], None],
    ) -> None:
        """make_pool: its argument is called while the pool is busy. describe: run.json of a pool and its counts.
        warn: prints an error, one line."""
        self.watched, self.options, self.make_pool, self.describe, self.warn = (
            watched,
            options,
            make_pool,
            describe,
            warn,
        )
        self.notifier, self.stopped = Notifier(), threading.Event()
        self.started = time.monotonic()
        self.ok = self.failed = self.waiting = 0
        self.state, self.trouble, self.health_at = "starting", "", 0.0
        self.rows: deque[ResultRow] = deque(maxlen=PAGE_ROWS)
        self.flags: Counter[str] = Counter()
        self.page_outdated, self.page_at = False, 0.0
        self.facts: dict[str, Any] = {}
        self.last_done: str | None = None
        self.pool: Pool | None = None  # None while one is made

    def stop(self, *_: object) -> None:
        """Finish the images that are being processed, then end."""
        self.stopped.set()

    def run(self) -> None:
        """Serve until stopped.

        Raises: OutputError if another run uses the folder; what the pool raises at the first start.
        """
        try:
            self.serve_until_stopped()
        except Stopped:
            self.notifier.notify("STOPPING=1")
            if self.facts:
                self.set_state("stopped")
        finally:
            if self.pool is not None:
                self.pool.close()

    def serve_until_stopped(self) -> None:
        """Load the model, open OUT and serve. Raises: Stopped if it is stopped while it loads; as `run`."""
        watched = self.watched
        pool = self.start_pool()
        with open_output(watched.out, pool.contract, self.options.force):
            names = list_columns(pool.contract)
            inbox = Inbox(watched.inbox, watched.out, watched.recursive, watched.settle_s, {})
            if self.options.force:
                write_journal(watched.out / JOURNAL, ())
            self.facts = {"model": pool.contract.model.id, "model_sha256": pool.contract.model.sha256}
            self.facts |= {"engine": pool.facts["engine"]["name"], "threads": pool.facts["engine"]["threads"]}
            self.write_health()  # "starting" until what was done before is known
            self.notifier.notify("READY=1")
            while not self.stopped.is_set():
                try:
                    self.serve(pool, inbox, names)
                except EdgeSegError as error:
                    if isinstance(error, EngineError):
                        raise
                    self.report_trouble(error)
                    pool = self.start_pool()
            self.notifier.notify("STOPPING=1")
            self.set_state("stopping")
            with suppress(EdgeSegError):
                self.write_page(pool)
            self.set_state("stopped")

    def start_pool(self) -> Pool:
        """Return a new pool in place of the one before. Raises: Stopped; what the pool raises."""
        if self.pool is not None:
            self.pool.close()
        self.pool = None
        self.pool = self.make_pool(self.beat)
        return self.pool

    def serve(self, pool: Pool, inbox: Inbox, names: list[str]) -> None:
        """Scan, segment, scan again, until stopped. Raises: OutputError, EdgeSegError: the disk or a folder fails."""
        out = self.watched.out
        inbox.done = self.restore(names)
        with open_append(out / JOURNAL) as journal, open_append(out / RESULTS) as results:
            while not self.stopped.is_set():
                scanned = time.monotonic()
                ready = list(inbox.scan(scanned))
                spent = time.monotonic() - scanned
                self.waiting = len(ready) + len(inbox.changing)
                if not ready:
                    self.set_state("idle")
                    if self.page_outdated and scanned - self.page_at > PAGE_S:
                        self.write_page(pool)
                    self.pause(max(SCAN_S, spent / SCAN_SHARE))
                    continue
                self.set_state("busy")
                states = {item.file: state for item, state in ready}
                inputs = self.select([item for item, _ in ready], inbox, pool.contract, states, journal, results, names)
                with closing(pool.process(inputs, out, {})) as outcomes:
                    for outcome in outcomes:
                        file = outcome.entry.row["file"]
                        inbox.mark_done(file, states[file])
                        self.record(replace(outcome.entry, state=states[file]), journal, results, names)

    def select(
        self, items: list[Input], inbox: Inbox, contract: Contract, states: Mapping[str, str],
        journal: BinaryIO, results: BinaryIO, names: list[str],
    ) -> Iterator[Input]:  # fmt: skip
        """Yield images until stopped; record those as failed whose mask would overwrite another's."""
        selected: set[str] = set()
        for item in items:
            if self.stopped.is_set():
                return
            other = inbox.find_same_mask(item.file) or (item.name if item.name in selected else None)
            if other is None:
                selected.add(item.name)
                yield item
                continue
            error = ImageError(item.file, f"its mask would be that of {other}", "rename it")
            row = make_row(contract, item.file, str(error))
            inbox.mark_done(item.file, states[item.file])
            self.record(JournalEntry("", row, {}, states[item.file]), journal, results, names)

    def record(self, entry: JournalEntry, journal: BinaryIO, results: BinaryIO, names: list[str]) -> None:
        """Add an image to the journal and results.csv, and count it."""
        append_journal(journal, entry)
        try:
            write_line(results, to_cells(entry.row, names))
        except OSError as error:
            raise OutputError(results.name, error.strerror or str(error), MAKE_ROOM) from None
        self.count(entry.row)
        self.last_done, self.page_outdated = format_local_time(), True
        self.waiting = max(0, self.waiting - 1)
        if entry.row["status"] != "ok":
            self.warn(entry.row["error"])
        self.beat()

    def count(self, row: ResultRow) -> None:
        """Count an image, and keep its row for the gallery."""
        made = row["status"] == "ok"
        self.ok, self.failed = self.ok + made, self.failed + (not made)
        self.flags.update(filter(None, row["flags"].split(";")))
        self.rows.append(row)

    def restore(self, names: list[str]) -> dict[str, str]:
        """Return {file: state} of what was done before; journal and results.csv keep one line for each.

        Line by line: a service's journal may be longer than a small board's memory.
        """
        path = self.watched.out / JOURNAL
        self.ok = self.failed = 0
        self.flags.clear()
        self.rows.clear()
        last = {entry.row["file"]: number for number, entry in enumerate(scan_journal(path))}
        states: dict[str, str] = {}
        with open_atomic(self.watched.out / RESULTS) as results:
            write_line(results, names)
            for number, entry in enumerate(scan_journal(path)):
                if last[entry.row["file"]] == number:
                    states[entry.row["file"]] = entry.state
                    write_line(results, to_cells(entry.row, names))
                    self.count(entry.row)
        entries = enumerate(scan_journal(path))
        write_journal(path, (entry for number, entry in entries if last[entry.row["file"]] == number))
        return states

    def write_page(self, pool: Pool) -> None:
        """Write the gallery of the last images, and run.json."""
        counts = Counts(self.ok + self.failed, self.ok, self.failed, 0)
        facts = self.describe(pool, counts, time.monotonic() - self.started)
        facts["flags"] = dict(self.flags.most_common())
        write_summary(self.watched.out, facts, self.rows, self.options)
        self.page_outdated, self.page_at = False, time.monotonic()

    def report_trouble(self, error: EdgeSegError) -> None:
        """Print an error, once, and wait before the next attempt."""
        if str(error) != self.trouble:
            self.warn(error)
        self.trouble = str(error)
        self.set_state("blocked")
        self.pause(RETRY_S)

    def pause(self, seconds: float) -> None:
        """Wait, unless stopped, while the watchdog is notified."""
        end = time.monotonic() + seconds
        while not self.stopped.is_set() and time.monotonic() < end:
            self.stopped.wait(min(1.0, max(0.0, end - time.monotonic())))
            self.beat()

    def beat(self) -> None:
        """Show in health.json and to the watchdog that the service is alive.

        Raises: Stopped where it is to stop and no model is loaded that could finish an image.
        """
        self.notifier.beat()
        if self.stopped.is_set() and (self.pool is None or self.pool.describe_loading()):
            raise Stopped
        if not self.facts:  # OUT is not this service's yet
            return
        if time.monotonic() - self.health_at >= HEALTH_S:
            self.write_health()

    def set_state(self, state: str) -> None:
        """Change the state, in health.json and for systemd."""
        if state in ("idle", "busy"):
            self.trouble = ""
        if state != self.state:
            self.state = state
            self.notifier.notify(f"STATUS={state}: {self.ok} done, {self.failed} failed, {self.waiting} waiting")
            self.write_health()

    def write_health(self) -> None:
        """Write health.json; that it cannot be written shows by its age."""
        self.health_at = time.monotonic()
        serving = self.pool if self.state in ("idle", "busy") else None
        loading = serving.describe_loading() if serving is not None else ""
        health = {
            "state": "starting" if loading else self.state,
            "error": self.trouble or loading or None,
            "updated": format_local_time(),
            "uptime_s": round(self.health_at - self.started, 1),
            "pid": os.getpid(),
            "version": find_own_version(),
            **self.facts,
            "done": self.ok,
            "failed": self.failed,
            "waiting": self.waiting,
            "flags": dict(self.flags.most_common()),
            "last_done": self.last_done,
            "memory_bytes": read_memory(),
        }
        with suppress(EdgeSegError, OSError):
            health["disk_free_bytes"] = shutil.disk_usage(self.watched.out).free
            write_file(self.watched.out / HEALTH, (json.dumps(health, indent=1) + "\n").encode(), sync=False)


def read_memory() -> int | None:
    """Return the resident memory of this process and its children in bytes; None where that is not known."""
    pid = os.getpid()
    try:
        children = Path(f"/proc/self/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return sum(map(read_rss, (pid, *map(int, children)))) or None
