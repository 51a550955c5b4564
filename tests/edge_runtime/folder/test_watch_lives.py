"""The service's memory: what was done stays done, whatever comes under its name and whatever happens to folders."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fakes import make_contract

from edge_runtime.folder.inputs import Input
from edge_runtime.folder.outputs import Options
from edge_runtime.folder.records.journal import JournalEntry, Outcome
from edge_runtime.folder.records.results_csv import list_columns
from edge_runtime.folder.watch import service as service_module
from edge_runtime.folder.watch.inbox import Inbox, Seen, read_state
from edge_runtime.folder.watch.service import Service, Watched


class CopyingPool:
    """Writes an image's own bytes as its mask: whose mask is whose can be told by reading it."""

    contract = make_contract()
    facts: Mapping[str, Any] = {"engine": {"name": "fake", "version": "1", "threads": 1}}

    def __init__(self) -> None:
        self.processed: list[str] = []
        self.ahead = 1  # images taken before the first one is done

    def process(self, inputs: Iterator[Input], out: Path, earlier: Mapping[str, JournalEntry]) -> Generator[Outcome]:
        waiting: list[Input] = []
        for item in inputs:
            waiting.append(item)
            if len(waiting) >= self.ahead:
                yield self.finish(waiting.pop(0), out)
        for item in waiting:
            yield self.finish(item, out)

    def finish(self, item: Input, out: Path) -> Outcome:
        data = item.path.read_bytes()
        self.processed.append(item.file)
        row = dict.fromkeys(list_columns(self.contract), "1")
        row.update(file=item.file, input_sha256=hashlib.sha256(data).hexdigest(), error="", flags="")
        if data.startswith(b"bad"):
            return Outcome(JournalEntry("0", row | {"status": "failed", "error": "it is bad"}, {}), fresh=True)
        outputs = {f"masks/{item.name}": len(data), f"gallery/{item.name.removesuffix('.png')}.jpg": len(data)}
        for name in outputs:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
        return Outcome(JournalEntry("0", row | {"status": "ok"}, outputs), fresh=True)

    def describe_loading(self) -> str:
        return ""

    def close(self) -> None:
        pass


class Bench:
    """A service on a folder whose pauses are the test's steps."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watched = Watched(tmp_path / "in", tmp_path / "out", True, 0.0)
        self.watched.inbox.mkdir()
        self.inbox, self.out, self.patch = self.watched.inbox, self.watched.out, monkeypatch
        self.pool, self.said, self.states = CopyingPool(), list[str](), list[str]()
        monkeypatch.setattr(service_module, "RETRY_S", 0.0)

    def serve(self, *steps: Callable[[], object]) -> Service:
        """Run a service that is stopped after these steps, each taken when there is nothing to do."""
        left = list(steps)

        def pause(service: Service, seconds: float) -> None:
            self.states.append(service.state)
            if service.inbox.changing and service.state == "idle":
                return  # complete at the next look
            if left:
                left.pop(0)()
            else:
                service.stop()

        def say(text: object) -> None:
            self.said.append(str(text))

        self.patch.setattr(Service, "pause", pause)
        service = Service(self.watched, Options(gallery=False), lambda beat: self.pool, lambda *_: {}, say, say)
        service.run()
        return service

    def drop(self, name: str, data: bytes) -> None:
        (self.inbox / name).parent.mkdir(parents=True, exist_ok=True)
        (self.inbox / name).write_bytes(data)

    def rows(self) -> dict[str, str]:
        """{file: status} of results.csv, whose rows each have a file of their own."""
        with (self.out / "results.csv").open(newline="") as file:
            rows = [(row["file"], row["status"]) for row in csv.DictReader(file)]
        assert len(dict(rows)) == len(rows), rows
        return dict(rows)

    def masks(self) -> dict[str, bytes]:
        masks = self.out / "masks"
        return {path.relative_to(masks).as_posix(): path.read_bytes() for path in masks.rglob("*") if path.is_file()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_mask_is_not_that_of_another_file_that_was_taken_away(bench: Bench) -> None:
    """a.jpg is done and taken away; a.jpg.png, whose mask would have its name, fails, also after a restart."""
    bench.drop("a.jpg", b"first")
    bench.serve(lambda: (bench.inbox / "a.jpg").unlink(), lambda: bench.drop("a.jpg.png", b"second"))
    assert bench.rows() == {"a.jpg": "ok", "a.jpg.png": "failed"}
    assert bench.masks() == {"a.jpg.png": b"first"}
    assert any("a.jpg.png: its mask would be that of a.jpg; rename it" in text for text in bench.said)
    bench.serve()
    assert bench.rows() == {"a.jpg": "ok", "a.jpg.png": "failed"}


def test_a_name_that_comes_again_has_a_life_of_its_own(bench: Bench) -> None:
    """Other bytes under a name that was done, three times: three rows and three masks, before and after restarts."""
    bench.drop("scan.png", b"one")
    bench.serve(lambda: bench.drop("scan.png", b"two"), lambda: bench.drop("b/scan.png", b"other"))
    bench.drop("scan.png", b"three")
    bench.serve()
    rows = dict.fromkeys(("scan.png", "scan (2).png", "b/scan.png", "scan (3).png"), "ok")
    masks = {"scan.png": b"one", "scan (2).png": b"two", "scan (3).png": b"three", "b/scan.png": b"other"}
    assert bench.rows() == rows
    assert bench.masks() == masks
    bench.drop("scan (2).png", b"a file of that very name")
    bench.serve()
    assert bench.rows() == rows | {"scan (2) (2).png": "ok"}
    assert bench.masks() == masks | {"scan (2) (2).png": b"a file of that very name"}


def test_the_same_bytes_again_are_done_already(bench: Bench) -> None:
    """Copied again, touched, or taken away and put back: no second row, no second mask, nothing segmented again."""
    bench.drop("scan.png", b"one")
    bench.serve(lambda: bench.drop("scan.png", b"two"))
    done = list(bench.pool.processed)
    bench.serve(
        lambda: os.utime(bench.inbox / "scan.png", (1, 1)),
        lambda: (bench.inbox / "scan.png").unlink(),
        lambda: bench.drop("scan.png", b"two"),
        lambda: bench.drop("scan.png", b"one"),
    )
    bench.serve()
    assert bench.pool.processed == done == ["scan.png", "scan (2).png"]
    assert bench.rows() == {"scan.png": "ok", "scan (2).png": "ok"}


def test_what_failed_is_tried_again_under_its_own_name(bench: Bench) -> None:
    """A copy that was read too early: its row is replaced, since there is no mask to keep."""
    bench.drop("scan.png", b"bad")
    bench.serve(lambda: bench.drop("scan.png", b"whole"))
    bench.serve()
    assert bench.rows() == {"scan.png": "ok"}
    assert bench.masks() == {"scan.png": b"whole"}


def test_a_name_is_free_again_once_its_outputs_are_removed(bench: Bench) -> None:
    """Somebody who removes the outputs of a file makes room for another of its name."""
    bench.drop("scan.png", b"one")
    bench.serve(lambda: shutil.rmtree(bench.out / "masks"), lambda: shutil.rmtree(bench.out / "gallery"),
                lambda: bench.drop("scan.png", b"two"))  # fmt: skip
    bench.serve()
    assert bench.rows() == {"scan.png": "ok"}
    assert bench.masks() == {"scan.png": b"two"}


def test_outputs_that_no_row_names_are_made_again(bench: Bench) -> None:
    """As a service leaves them that was killed between an image's outputs and its line in the journal."""
    bench.drop("a.png", b"one")
    bench.serve(lambda: bench.drop("a.png", b"two"))
    lines = (bench.out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (bench.out / "journal.jsonl").write_bytes(b"".join(lines[:-1]))
    bench.serve()
    assert bench.rows() == {"a.png": "ok", "a (2).png": "ok"}
    assert bench.masks() == {"a.png": b"one", "a (2).png": b"two"}
    (bench.out / "journal.jsonl").write_bytes(b"")
    bench.serve()
    assert bench.rows() == {"a.png": "ok"}
    assert bench.masks()["a.png"] == b"two"


@pytest.mark.parametrize("ahead", [1, 5])
@pytest.mark.parametrize(
    "names", [("a.jpg", "a.jpg.png"), ("x.png", "x.jpg/e.png"), ("k.jpg", "k.jpg.png/e.png"), ("Scan.png", "scan.png")]
)
def test_files_of_one_look_that_share_outputs(bench: Bench, names: tuple[str, str], ahead: int) -> None:
    """However many are in progress: the first in name order is done, and the other has a row and no foreign mask."""
    bench.pool.ahead = ahead
    for name in names:
        bench.drop(name, name.encode())
    bench.drop("z.png", b"z.png")
    bench.serve()
    rows, masks = bench.rows(), bench.masks()
    folds = names[0] == "Scan.png"
    assert sorted(rows.values()) == (["ok"] * 3 if folds else ["failed", "ok", "ok"])
    for file, status in rows.items():
        if status == "ok":
            assert masks[file if file.endswith(".png") else f"{file}.png"] == file.encode()


def test_a_folder_that_looks_empty_once_makes_no_file_new(bench: Bench, tmp_path: Path) -> None:
    """As a network mount does; also when a file had failed, and when the service is restarted meanwhile."""
    bench.drop("a.png", b"one")
    bench.drop("b.png", b"bad")

    def unmount() -> None:
        bench.inbox.rename(tmp_path / "away")
        bench.inbox.mkdir()

    def mount() -> None:
        bench.inbox.rmdir()
        (tmp_path / "away").rename(bench.inbox)

    bench.serve(unmount, lambda: None, mount, lambda: None)
    assert bench.pool.processed == ["a.png", "b.png"]
    unmount()
    bench.serve(mount)
    bench.serve()
    assert bench.pool.processed == ["a.png", "b.png"]
    assert bench.rows() == {"a.png": "ok", "b.png": "failed"}


@pytest.mark.parametrize("what", ["results.csv", "journal.jsonl"])
@pytest.mark.parametrize("how", ["remove", "move", "replace"])
def test_records_that_are_moved_or_removed_are_written_again(bench: Bench, what: str, how: str) -> None:
    """It is said in one line at the next look, and every row is there again with those that follow."""

    def take_away() -> None:
        if how == "replace":
            (bench.out / "other").write_bytes((bench.out / what).read_bytes())
            (bench.out / "other").replace(bench.out / what)
        elif how == "move":
            (bench.out / what).rename(bench.out.parent / "moved")
        else:
            (bench.out / what).unlink()

    bench.drop("a.png", b"one")
    bench.serve(take_away, lambda: bench.drop("b.png", b"two"))
    assert bench.rows() == {"a.png": "ok", "b.png": "ok"}
    assert bench.pool.processed == ["a.png", "b.png"]
    assert bench.said == [f"{bench.out / what}: it was moved or removed; the service writes a new one"]
    assert "blocked" not in bench.states
    bench.serve()
    assert bench.rows() == {"a.png": "ok", "b.png": "ok"}


def test_an_out_that_is_removed_is_made_again(bench: Bench) -> None:
    """It is said in one line; what is in the inbox is done again, since its outputs are gone."""
    bench.drop("a.png", b"one")
    bench.serve(lambda: shutil.rmtree(bench.out), lambda: bench.drop("b.png", b"two"))
    assert bench.rows() == {"a.png": "ok", "b.png": "ok"}
    assert bench.masks() == {"a.png": b"one", "b.png": b"two"}
    assert [str(bench.out) in text for text in bench.said] == [True]


def test_an_out_that_is_removed_between_two_images_loses_neither(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is never appended to a file that nobody can read any more."""
    finish = CopyingPool.finish

    def remove_then_finish(pool: CopyingPool, item: Input, out: Path) -> Outcome:
        if len(pool.processed) == 1:
            shutil.rmtree(out)
        return finish(pool, item, out)

    monkeypatch.setattr(CopyingPool, "finish", remove_then_finish)
    for name in ("a.png", "b.png", "c.png"):
        bench.drop(name, name.encode())
    bench.serve()
    assert bench.rows() == {"a.png": "ok", "b.png": "ok", "c.png": "ok"}
    assert sorted(bench.masks()) == ["a.png", "b.png", "c.png"]


def test_the_disk_of_out_that_goes_away_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OUT's disk was there is another: nothing is written there, the state is blocked, and it goes on later."""
    moved = bench.out.parent / "unplugged"

    def unplug() -> None:
        bench.out.rename(moved)
        monkeypatch.setattr(service_module, "check_device", refuse)

    def refuse(out: Path, device: int) -> None:
        real(out, device + 1)

    def plug_in() -> None:
        assert not bench.out.exists()
        moved.rename(bench.out)
        monkeypatch.setattr(service_module, "check_device", real)

    real = service_module.check_device
    bench.drop("a.png", b"one")
    bench.serve(unplug, lambda: bench.drop("b.png", b"two"), plug_in)
    assert "blocked" in bench.states
    assert any("its disk is gone; mount it again" in text for text in bench.said)
    assert bench.rows() == {"a.png": "ok", "b.png": "ok"}
    assert bench.pool.processed == ["a.png", "b.png"]


def test_another_model_is_said_and_what_was_done_stays(bench: Bench) -> None:
    """A kit's update changes the model of a service: one line, and nothing is done again."""
    bench.drop("a.png", b"one")
    own = bench.pool.contract.model

    class NamingPool(CopyingPool):
        def finish(self, item: Input, out: Path) -> Outcome:
            outcome = super().finish(item, out)
            model = self.contract.model
            row = outcome.entry.row | {"model": f"{model.id} {model.version} ({model.sha256[:12]})"}
            return replace(outcome, entry=replace(outcome.entry, row=row))

    bench.pool = NamingPool()
    bench.serve()
    bench.pool = NamingPool()
    bench.pool.contract = replace(bench.pool.contract, model=replace(own, id="newer-net", version="2"))
    bench.serve(lambda: bench.drop("b.png", b"two"))
    assert bench.pool.processed == ["b.png"]
    assert bench.rows() == {"a.png": "ok", "b.png": "ok"}
    (line,) = bench.said
    assert f"{own.id} {own.version}" in line
    assert "newer-net 2" in line
    with (bench.out / "results.csv").open() as file:
        assert "model" not in next(csv.reader(file))
    bench.said.clear()
    bench.serve()
    assert bench.said == []


def test_the_journal_is_on_the_disk_before_a_row_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut loses the row of an image that somebody removed when he saw its row."""
    synced: list[bytes] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink() == bench.out / "journal.jsonl":
            assert (bench.out / "results.csv").read_bytes().count(b"\n") == 1 + len(synced)
            synced.append((bench.out / "journal.jsonl").read_bytes())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("a.png", "b.png"):
        bench.drop(name, name.encode())
    bench.serve()
    assert [data.count(b"\n") for data in synced] == [1, 2]


def test_waiting_counts_each_file_once(bench: Bench) -> None:
    """Files that are still being written, ready or in progress; not those that are done."""
    seen: list[tuple[int, int]] = []
    select = Service.select

    def spy(service: Service, *args: Any) -> Iterator[Input]:
        for item in select(service, *args):
            seen.append((service.waiting, len(bench.pool.processed)))
            yield item

    bench.patch.setattr(Service, "select", spy)
    for number in range(7):
        bench.drop(f"{number}.png", b"x%d" % number)
    service = bench.serve()
    assert seen == [(7 - done, done) for done in range(7)]
    assert service.waiting == 0
    assert json.loads((bench.out / "health.json").read_text())["waiting"] == 0


def test_what_is_left_out_is_said_once(bench: Bench) -> None:
    """The results of a run in the watched folder are no images; files of other kinds are counted in health.json."""
    bench.drop("earlier/journal.jsonl", b"")
    bench.drop("earlier/masks/a.png", b"a mask")
    bench.drop("IM0001", b"DICOM")
    bench.serve(lambda: None, lambda: None)
    assert bench.said == [f"{bench.inbox / 'earlier'}: left out, since it holds the results of a run"]
    assert bench.pool.processed == []
    assert json.loads((bench.out / "health.json").read_text())["ignored"] == 1


def test_eight_bytes_a_file_tell_what_was_done() -> None:
    """Against a set of the files themselves, in any order; a file in another state was not done."""
    random = np.random.default_rng(7)
    files = [(f"{number}.png", str(number % 3)) for number in range(3000)]
    known = set(random.permutation(3000)[:1500].tolist())
    seen = Seen(files[number] for number in sorted(known)[:700])
    for number in sorted(known)[700:]:
        seen.add(*files[number])
        seen.add(*files[number])
    for number, (file, state) in enumerate(files):
        assert seen.holds(file, state) == (number in known)
        assert not seen.holds(file, state + "1")
    assert len(seen.digests) * seen.digests.itemsize == 8 * 1500


def test_a_file_that_changes_settles_anew(tmp_path: Path) -> None:
    """It is ready once it has had one state for so long; a file that vanishes for a look begins again."""
    inbox = Inbox(tmp_path / "in", tmp_path / "out", False, 10.0)
    inbox.folder.mkdir()
    path = inbox.folder / "a.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes())
    assert [len(inbox.scan(now).ready) for now in (0.0, 9.0, 10.0)] == [0, 0, 1]
    os.utime(path, ns=(1, 1))
    assert [len(inbox.scan(now).ready) for now in (11.0, 20.0, 21.0)] == [0, 0, 1]
    path.rename(tmp_path / "away")
    assert [len(inbox.scan(22.0).ready), len(inbox.changing)] == [0, 0]
    (tmp_path / "away").rename(path)
    assert [len(inbox.scan(now).ready) for now in (23.0, 32.9, 33.0)] == [0, 0, 1]
    state = read_state(path)
    assert state is not None
    inbox.mark_done("a.png", state)
    assert inbox.scan(50.0).ready == ()
