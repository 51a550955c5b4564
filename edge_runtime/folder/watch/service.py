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
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_runtime.contract.fields import Contract
from edge_runtime.errors import EdgeSegError, EngineError, ImageError, OutputError
from edge_runtime.folder.inputs import Input, name_mask
from edge_runtime.folder.names import may_clash
from edge_runtime.folder.outputs import Options
from edge_runtime.folder.pools.pool import Pool
from edge_runtime.folder.records.journal import JOURNAL, MODEL, JournalEntry, ResultRow, name_model, write_journal
from edge_runtime.folder.records.results_csv import list_columns, make_row
from edge_runtime.folder.records.run_json import Counts
from edge_runtime.folder.run import open_output, write_summary
from edge_runtime.system.files import write_file
from edge_runtime.system.machine import format_local_time
from edge_runtime.system.process import read_rss
from edge_runtime.system.versions import find_own_version

from .inbox import Inbox, Look, Seen
from .lives import Lives
from .record_files import HEALTH, RecordFiles, RecordsMoved, holds_own_files, restore_records
from .systemd import Notifier

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


@dataclass(frozen=True)
class Pending:
    """An image that is being processed: its name in the watched folder, and its state when it was found there."""

    file: str
    state: str


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
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """make_pool: its argument is called while the pool is busy. describe: run.json of a pool and its counts.
        warn, tell: print an error, or what is no error, one line."""
        self.watched, self.options, self.make_pool, self.describe = watched, options, make_pool, describe
        self.warn, self.tell = warn, tell
        self.notifier, self.stopped = Notifier(), threading.Event()
        self.inbox = Inbox(watched.inbox, watched.out, watched.recursive, watched.settle_s)
        self.lives = Lives(watched.out)
        self.pending: dict[str, Pending] = {}  # what the pool has, by the file of its row
        self.device: int | None = None  # of OUT, once the service has begun
        self.started = time.monotonic()
        self.ok = self.failed = self.ignored = 0
        self.state, self.trouble, self.health_at = "starting", "", 0.0
        self.told: frozenset[str] = frozenset()  # what the last look has left out
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
        pool = self.start_pool()
        while not self.stopped.is_set():
            try:
                with self.hold_output(pool):
                    self.serve(pool)
                    self.end(pool)
            except EdgeSegError as error:
                if self.device is None or isinstance(error, EngineError):
                    raise
                self.report_trouble(error)
                pool = self.start_pool()
        self.set_state("stopped")

    def start_pool(self) -> Pool:
        """Return a new pool in place of the one before. Raises: Stopped; what the pool raises."""
        if self.pool is not None:
            self.pool.close()
        self.pool = None
        self.pool = self.make_pool(self.beat)
        return self.pool

    @contextmanager
    def hold_output(self, pool: Pool) -> Iterator[None]:
        """Hold OUT, which was perhaps removed since the service has begun. Raises: OutputError."""
        out, force = self.watched.out, self.options.force
        if self.device is not None:
            check_device(out, self.device)
            force = force or holds_own_files(out)
        with open_output(out, pool.contract, force):
            if self.device is None:
                self.device = out.stat().st_dev
                self.begin(pool)
            yield

    def begin(self, pool: Pool) -> None:
        """Tell that the service runs; it is "starting" until what was done before is known."""
        if self.options.force:
            write_journal(self.watched.out / JOURNAL, ())
        self.facts = {"model": pool.contract.model.id, "model_sha256": pool.contract.model.sha256}
        self.facts |= {"engine": pool.facts["engine"]["name"], "threads": pool.facts["engine"]["threads"]}
        self.write_health()
        self.notifier.notify("READY=1")

    def end(self, pool: Pool) -> None:
        """Write the last page."""
        self.notifier.notify("STOPPING=1")
        self.set_state("stopping")
        with suppress(EdgeSegError):
            self.write_page(pool)
        self.set_state("stopped")

    def serve(self, pool: Pool) -> None:
        """Look, segment, look again, until stopped. Raises: OutputError, EdgeSegError: the disk or a folder fails."""
        self.restore(pool.contract)
        with RecordFiles(self.watched.out, list_columns(pool.contract)) as records:
            while not self.stopped.is_set():
                began = time.monotonic()
                records.check()
                look = self.inbox.scan(began)
                spent = time.monotonic() - began
                self.ignored = look.ignored
                self.tell_left_out(look)
                if not look.ready:
                    self.set_state("idle")
                    if self.page_outdated and began - self.page_at > PAGE_S:
                        self.write_page(pool)
                    self.pause(max(SCAN_S, spent / SCAN_SHARE))
                    continue
                self.set_state("busy")
                self.lives.look_up(item for item, _ in look.ready)
                inputs = self.select(look.ready, pool.contract, records)
                with closing(pool.process(inputs, self.watched.out, {})) as outcomes:
                    for outcome in outcomes:
                        pending = self.pending.pop(outcome.entry.row["file"])
                        self.record(pending, outcome.entry, records)

    def select(self, ready: Iterable[tuple[Input, str]], contract: Contract, records: RecordFiles) -> Iterator[Input]:
        """Yield the images to segment, each under the name of its row, until stopped; record those that need not be
        segmented, or cannot be. What may share an output with a pending image waits for the next look."""
        for item, state in ready:
            if self.stopped.is_set():
                return
            chosen = self.lives.choose_name(item)
            pending = Pending(item.file, state)
            if isinstance(chosen, JournalEntry):  # the same bytes, copied or touched again
                self.record(pending, chosen, records, new=False)
            elif isinstance(chosen, ImageError):
                row = make_row(contract, item.file, str(chosen))
                self.record(pending, JournalEntry("", row, {}), records)
            elif not any(may_clash(chosen.name, name_mask(file)) for file in self.pending):
                self.pending[chosen.file] = pending
                yield chosen

    def record(self, pending: Pending, entry: JournalEntry, records: RecordFiles, new: bool = True) -> None:
        """Add an image to the journal and, if it is a new one, to results.csv, and count it."""
        source = "" if pending.file == entry.row["file"] else f" {pending.file}"
        entry = replace(entry, state=pending.state + source)
        records.append(entry, new)
        self.lives.add(entry)
        self.inbox.mark_done(pending.file, pending.state)
        if new:
            self.count(entry)
            self.last_done, self.page_outdated = format_local_time(), True
            if entry.row["status"] != "ok":
                self.warn(entry.row["error"])
        self.beat()

    def count(self, entry: JournalEntry) -> None:
        """Count an image, and keep its row for the gallery."""
        made = entry.row["status"] == "ok"
        self.ok, self.failed = self.ok + made, self.failed + (not made)
        self.flags.update(filter(None, entry.row["flags"].split(";")))
        self.rows.append({column: cell for column, cell in entry.row.items() if column != MODEL})

    def restore(self, contract: Contract) -> None:
        """Learn what was done before; journal and results.csv keep one line for each file."""
        self.ok = self.failed = 0
        self.flags.clear()
        self.rows.clear()
        seen: list[tuple[str, str]] = []
        model = ""

        def count(entry: JournalEntry) -> None:
            nonlocal model
            seen.append((entry.source, entry.state.partition(" ")[0]))
            model = entry.model or model
            self.count(entry)

        restore_records(self.watched.out, list_columns(contract), count)
        self.inbox.seen = Seen(seen)
        own = name_model(contract.model)
        if model not in ("", own):
            self.tell(f"{self.watched.out} holds results of model {model}, which stay; from now on it is {own}")

    def tell_left_out(self, look: Look) -> None:
        """Print which folders a look has left out, once each."""
        notes = {f"{path}: left out, since it holds the results of a run" for path in look.results}
        errors = {str(error) for error in look.unreadable}
        for note in sorted(notes - self.told):
            self.tell(note)
        for error in sorted(errors - self.told):
            self.warn(error)
        self.told = frozenset(notes | errors)

    @property
    def waiting(self) -> int:
        """How many images of the watched folder are not done: still being written, ready, or in progress."""
        return len(self.inbox.changing)

    def write_page(self, pool: Pool) -> None:
        """Write the gallery of the last images, and run.json."""
        counts = Counts(self.ok + self.failed, self.ok, self.failed, 0)
        facts = self.describe(pool, counts, time.monotonic() - self.started)
        facts["flags"] = dict(self.flags.most_common())
        write_summary(self.watched.out, facts, self.rows, self.options)
        self.page_outdated, self.page_at = False, time.monotonic()

    def report_trouble(self, error: EdgeSegError) -> None:
        """Print an error, once, and wait before the next attempt, unless that mends it."""
        self.pending.clear()
        if str(error) != self.trouble:
            self.warn(error)
        self.trouble = str(error)
        self.set_state("blocked")
        if not isinstance(error, RecordsMoved):
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
            "ignored": self.ignored,
            "flags": dict(self.flags.most_common()),
            "last_done": self.last_done,
            "memory_bytes": read_memory(),
        }
        with suppress(EdgeSegError, OSError):
            if not self.watched.out.is_dir():
                return  # it was removed; a folder with this file alone would be taken for another's
            health["disk_free_bytes"] = shutil.disk_usage(self.watched.out).free
            write_file(self.watched.out / HEALTH, (json.dumps(health, indent=1) + "\n").encode(), sync=False)


def check_device(out: Path, device: int) -> None:
    """Require OUT's disk, unless what is there now holds a journal: without it, results would fill another disk.

    Raises: OutputError.
    """
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if existing.stat().st_dev != device and not (out / JOURNAL).is_file():
        raise OutputError(str(out), "its disk is gone", "mount it again")


def read_memory() -> int | None:
    """Return the resident memory of this process and its children in bytes; None where that is not known."""
    pid = os.getpid()
    try:
        children = Path(f"/proc/self/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return sum(map(read_rss, (pid, *map(int, children)))) or None
