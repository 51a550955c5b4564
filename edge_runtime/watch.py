"""The service: segment what is dropped into a folder, each image once, across restarts, until told to stop.

Unlike a folder run it trusts a file's size, time and inode to tell that it has not changed, keeps what an earlier model
has done, and does not try a file that failed again before it changes. results.csv grows by a line an image.
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

from .contract import Contract
from .errors import EdgeSegError, EngineError, ImageError, OutputError
from .files import ROOM, write_file, write_slowly
from .folder import Counts, Crew, Options, check_images_model, check_out, sweep, to_page_row
from .gallery import write_gallery
from .inbox import Inbox
from .inputs import Input, name_input
from .journal import JOURNAL, Done, Row, append_journal, lock, scan_journal, write_journal
from .notify import Notifier
from .results import RESULTS, columns, to_cells, write_line
from .summary import describe_page, now_text, own_version

HEALTH = "health.json"
HEALTH_S = 5.0  # how old health.json may get
LOOK_S, LOOK_SHARE = 1.0, 0.1  # how often the folder is looked at; share of the time that looking may take
PAGE_S, PAGE_ROWS = 30.0, 500  # how often the gallery is written while images come in, and its last images
RETRY_S = 10.0  # after the disk was full or a folder was gone


@dataclass(frozen=True)
class Place:
    """Where a service takes its images from, and where the results go."""

    inbox: Path
    out: Path
    recursive: bool
    settle_s: float


class Service:
    """A watched folder; `stop` may be called by a signal handler."""

    def __init__(
        self,
        place: Place,
        options: Options,
        gather: Callable[[Callable[[], None]], Crew],
        describe: Callable[[Crew, Counts, float], dict[str, Any]],
        warn: Callable[[object], None],
    ) -> None:
        """gather: makes the crew, given what it calls while it waits. describe: run.json of a crew and its counts.
        warn: tells a person of what went wrong, one line."""
        self.place, self.options, self.gather, self.describe, self.warn = place, options, gather, describe, warn
        self.notifier, self.halt = Notifier(), threading.Event()
        self.started = time.monotonic()
        self.ok = self.failed = self.waiting = 0
        self.state, self.trouble, self.told = "starting", "", 0.0
        self.page: deque[Row] = deque(maxlen=PAGE_ROWS)
        self.flags: Counter[str] = Counter()
        self.page_due, self.page_at = False, 0.0
        self.about: dict[str, Any] = {}
        self.last_done: str | None = None

    def stop(self, *_: object) -> None:
        """Finish the images under way and leave."""
        self.halt.set()

    def run(self) -> None:
        """Serve until stopped.

        Raises: OutputError if another run has the folder; what the crew raises at the first start.
        """
        place = self.place
        crew = self.gather(self.beat)
        try:
            check_images_model(crew.contract)
            check_out(place.out, self.options.force)
            with lock(place.out):
                sweep(place.out)
                names = columns(crew.contract)
                inbox = Inbox(place.inbox, place.out, place.recursive, place.settle_s, {})
                if self.options.force:
                    write_journal(place.out / JOURNAL, ())
                self.about = {"model": crew.contract.model.id, "model_sha256": crew.contract.model.sha256}
                self.about |= {"engine": crew.facts["engine"]["name"], "threads": crew.facts["engine"]["threads"]}
                self.write_health()  # "starting" until what was done before is known
                self.notifier.tell("READY=1")
                while not self.halt.is_set():
                    try:
                        self.serve(crew, inbox, names)
                    except EdgeSegError as error:
                        if isinstance(error, EngineError):
                            raise
                        self.suffer(error)
                        crew.close()
                        crew = self.gather(self.beat)
                self.notifier.tell("STOPPING=1")
                self.enter("stopping")
                with suppress(EdgeSegError):
                    self.write_page(crew)
                sweep(place.out)
                self.enter("stopped")
        finally:
            crew.close()

    def serve(self, crew: Crew, inbox: Inbox, names: list[str]) -> None:
        """Look, segment, look again, until stopped. Raises: OutputError, EdgeSegError: the disk or a folder fails."""
        out = self.place.out
        inbox.done = self.restore(names)
        try:
            journal, results = (out / JOURNAL).open("ab", buffering=0), (out / RESULTS).open("ab", buffering=0)
        except OSError as error:
            raise OutputError(str(out), error.strerror or str(error), ROOM) from None
        with journal, results:
            while not self.halt.is_set():
                looked = time.monotonic()
                ready = list(inbox.look(looked))
                spent = time.monotonic() - looked
                self.waiting = len(ready) + len(inbox.changing)
                if not ready:
                    self.enter("idle")
                    if self.page_due and looked - self.page_at > PAGE_S:
                        self.write_page(crew)
                    self.rest(max(LOOK_S, spent / LOOK_SHARE))
                    continue
                self.enter("busy")
                states = {item.file: state for item, state in ready}
                asked = self.admit([item for item, _ in ready], inbox, crew.contract, states, journal, results, names)
                with closing(crew.work(asked, out, {})) as answers:
                    for done, _ in answers:
                        file = done.row["file"]
                        inbox.settle(file, states[file])
                        self.record(replace(done, state=states[file]), journal, results, names)

    def admit(
        self, items: list[Input], inbox: Inbox, contract: Contract, states: Mapping[str, str],
        journal: BinaryIO, results: BinaryIO, names: list[str],
    ) -> Iterator[Input]:  # fmt: skip
        """Yield images until stopped, but for those whose mask would overwrite another's: these have failed."""
        given: set[str] = set()
        for item in items:
            if self.halt.is_set():
                return
            rival = inbox.rival(item.file) or (item.name if item.name in given else None)
            if rival is None:
                given.add(item.name)
                yield item
                continue
            row: Row = dict.fromkeys(columns(contract), "")
            error = ImageError(item.file, f"its mask would be that of {rival}", "rename it")
            row.update(file=item.file, status="failed", error=str(error))
            inbox.settle(item.file, states[item.file])
            self.record(Done("", row, {}, states[item.file]), journal, results, names)

    def record(self, done: Done, journal: BinaryIO, results: BinaryIO, names: list[str]) -> None:
        """Write down what became of an image."""
        append_journal(journal, done)
        try:
            write_line(results, to_cells(done.row, names))
        except OSError as error:
            raise OutputError(results.name, error.strerror or str(error), ROOM) from None
        self.count(done)
        self.last_done, self.page_due = now_text(), True
        self.waiting = max(0, self.waiting - 1)
        if done.row["status"] != "ok":
            self.warn(done.row["error"])
        self.beat()

    def count(self, done: Done) -> None:
        """Count an image and remember it for the gallery."""
        made = done.row["status"] == "ok"
        self.ok, self.failed = self.ok + made, self.failed + (not made)
        self.flags.update(filter(None, done.row["flags"].split(";")))
        name = name_input(Path(done.row["file"]), done.row["file"]).name
        self.page.append(to_page_row(done.row, name, self.options))

    def restore(self, names: list[str]) -> dict[str, str]:
        """Return {file: state} of what was answered for before; journal and results.csv get one line for each.

        Line by line: a service's journal may be longer than a small board's memory.
        """
        path = self.place.out / JOURNAL
        self.ok = self.failed = 0
        self.flags.clear()
        self.page.clear()
        last = {done.row["file"]: number for number, done in enumerate(scan_journal(path))}
        states: dict[str, str] = {}
        with write_slowly(self.place.out / RESULTS) as results:
            write_line(results, names)
            for number, done in enumerate(scan_journal(path)):
                if last[done.row["file"]] == number:
                    states[done.row["file"]] = done.state
                    write_line(results, to_cells(done.row, names))
                    self.count(done)
        write_journal(
            path, (done for number, done in enumerate(scan_journal(path)) if last[done.row["file"]] == number)
        )
        return states

    def write_page(self, crew: Crew) -> None:
        """Write the gallery of the last images, and run.json."""
        counts = Counts(self.ok + self.failed, self.ok, self.failed, 0)
        facts = self.describe(crew, counts, time.monotonic() - self.started)
        facts["flags"] = dict(self.flags.most_common())
        if self.options.gallery:
            write_gallery(self.place.out / "index.html", list(self.page), describe_page(facts))
        write_file(self.place.out / "run.json", (json.dumps(facts, indent=1) + "\n").encode())
        self.page_due, self.page_at = False, time.monotonic()

    def suffer(self, error: EdgeSegError) -> None:
        """Say what is wrong, once, and wait a while for it to be mended."""
        if str(error) != self.trouble:
            self.warn(error)
        self.trouble = str(error)
        self.enter("blocked")
        self.rest(RETRY_S)

    def rest(self, seconds: float) -> None:
        """Wait, alive, unless stopped."""
        end = time.monotonic() + seconds
        while not self.halt.is_set() and time.monotonic() < end:
            self.halt.wait(min(1.0, max(0.0, end - time.monotonic())))
            self.beat()

    def beat(self) -> None:
        """Show that the service lives."""
        self.notifier.beat()
        if time.monotonic() - self.told >= HEALTH_S:
            self.write_health()

    def enter(self, state: str) -> None:
        """Change the state, and show it."""
        if state in ("idle", "busy"):
            self.trouble = ""
        if state != self.state:
            self.state = state
            self.notifier.tell(f"STATUS={state}: {self.ok} done, {self.failed} failed, {self.waiting} waiting")
            self.write_health()

    def write_health(self) -> None:
        """Write health.json; that it cannot be written shows by its age."""
        self.told = time.monotonic()
        health = {
            "state": self.state,
            "error": self.trouble or None,
            "updated": now_text(),
            "uptime_s": round(self.told - self.started, 1),
            "pid": os.getpid(),
            "version": own_version(),
            **self.about,
            "done": self.ok,
            "failed": self.failed,
            "waiting": self.waiting,
            "flags": dict(self.flags.most_common()),
            "last_done": self.last_done,
            "memory_bytes": read_memory(),
        }
        with suppress(EdgeSegError, OSError):
            health["disk_free_bytes"] = shutil.disk_usage(self.place.out).free
            write_file(self.place.out / HEALTH, (json.dumps(health, indent=1) + "\n").encode(), sync=False)


def read_memory() -> int | None:
    """Return the resident memory of this process and its children in bytes, where the system tells."""
    try:
        pids = ["self", *Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
