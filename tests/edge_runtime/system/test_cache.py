"""What is kept for the next start is read only where this user alone may have written it, and removed without harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from edge_runtime.inference.engine_verdict import EngineTrial, EngineVerdict, from_json, keep_verdict, read_verdict
from edge_runtime.inference.engines.packed_weights import find_packed
from edge_runtime.system.cache import (
    UntrustedCache,
    find_cache_fault,
    make_cache_folder,
    open_cached,
    read_cached,
    remove_entry,
    remove_old_entries,
    write_cached_text,
)
from edge_runtime.system.files import hash_file

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
OTHER = 65_534
SHA256 = "a" * 64
VERDICT = EngineVerdict("litert", 1, 2, "the fastest here", (EngineTrial("litert", 1, 2, 20.5, 90_000_000, 1.0),))


def make_foreign(path: Path) -> None:
    os.chown(path, OTHER, OTHER, follow_symlinks=False)


def make_link(path: Path) -> None:
    moved = path.rename(path.with_name("moved"))
    path.symlink_to(moved)


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inner").mkdir()


SPOILED: dict[str, Callable[[Path], None]] = {
    "another user's": make_foreign,
    "writable by all": lambda path: path.chmod(0o666),
    "writable by the group": lambda path: path.chmod(0o620),
    "a link": make_link,
    "a pipe": make_pipe,
    "a folder": make_folder,
}
CASES = [pytest.param(name, marks=AS_ROOT if name == "another user's" else ()) for name in SPOILED]


@pytest.mark.parametrize("name", CASES)
def test_a_spoiled_file_is_not_used_and_replaced(cache: Path, name: str) -> None:
    """A verdict that is another's, a link, a pipe or a folder, or that others may write, is none, until one is kept."""
    keep_verdict(SHA256, VERDICT)
    assert read_verdict(SHA256) == VERDICT
    (path,) = (cache / "engines").iterdir()
    SPOILED[name](path)
    assert read_verdict(SHA256) is None
    assert read_cached(path) is None
    keep_verdict(SHA256, VERDICT)
    assert read_verdict(SHA256) == VERDICT
    assert path.lstat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", CASES)
def test_spoiled_weights_are_not_used_and_removed(cache: Path, name: str) -> None:
    """Weights are given to LiteRT only from a file that no one else may write; what is not used is removed."""
    folder = make_cache_folder("weights")
    (folder / "new").write_bytes(b"weights")
    path = (folder / "new").rename(folder / f"key-{hash_file(folder / 'new')}")
    path.chmod(0o600)
    assert find_packed(folder, "key") == path
    SPOILED[name](path)
    assert find_packed(folder, "key") is None
    assert not os.path.lexists(path)


@pytest.mark.parametrize(
    "name",
    [pytest.param("another user's", marks=AS_ROOT), "writable by all", "writable by the group", "a link", "a file"],
)
@pytest.mark.parametrize("part", ["base", "edge-seg", "engines"])
def test_a_spoiled_folder_is_not_used(cache: Path, name: str, part: str) -> None:
    """Of the cache's three folders each must be one of this user alone; only the first may be this user's link."""
    keep_verdict(SHA256, VERDICT)
    path = {"base": cache.parent, "edge-seg": cache, "engines": cache / "engines"}[part]
    spoil = {**SPOILED, "writable by all": lambda p: p.chmod(0o777), "writable by the group": lambda p: p.chmod(0o770)}
    if name == "a file":
        path.rename(path.with_name("moved"))
        path.write_bytes(b"")
    else:
        spoil[name](path)
    if part == "base" and name in ("a link", "a file"):
        assert find_cache_fault() == ""  # an own link; a file is no folder to make one in
        assert (read_verdict(SHA256) == VERDICT) == (name == "a link")
        return
    with pytest.raises(UntrustedCache):
        make_cache_folder("engines")
    assert read_verdict(SHA256) is None
    keep_verdict(SHA256, VERDICT)  # no error
    fault = find_cache_fault()
    assert str(path) in fault and "; chmod go-w" in fault and "\n" not in fault


@AS_ROOT
def test_another_user_s_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME, or a folder above it, as a link that another user made leads nowhere."""
    (tmp_path / "mine" / "inner").mkdir(parents=True, mode=0o700)
    (tmp_path / "mine" / "inner").chmod(0o700)
    for link, home in (("a", "a"), ("b", "b/inner")):
        (tmp_path / link).symlink_to(tmp_path / "mine" / ("inner" if link == "a" else ""))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
        make_cache_folder("engines")
        make_foreign(tmp_path / link)
        with pytest.raises(UntrustedCache, match="another user's link"):
            make_cache_folder("engines")


def test_removal_follows_no_link(cache: Path, tmp_path: Path) -> None:
    """A link in the cache is removed, and so is a folder with links in it; what they lead to stays as it is."""
    treasure = tmp_path / "treasure"
    (treasure / "inner").mkdir(parents=True)
    (treasure / "file").write_bytes(b"kept")
    folder = make_cache_folder("weights")
    (folder / "link").symlink_to(treasure)
    (folder / "unfinished-x").mkdir()
    (folder / "unfinished-x" / "link").symlink_to(treasure)
    (folder / "dangling").symlink_to("nowhere")
    os.utime(folder / "unfinished-x", (0, 0))
    remove_old_entries(folder, 0)
    assert list(folder.iterdir()) == []
    (folder / "link").symlink_to(treasure)
    remove_entry(folder / "link")
    assert sorted(path.name for path in treasure.iterdir()) == ["file", "inner"]
    assert (treasure / "file").read_bytes() == b"kept"


def test_any_umask_leaves_files_that_are_used(cache: Path) -> None:
    """What is written under umask 0 is this user's alone too."""
    before = os.umask(0)
    try:
        folder = make_cache_folder("engines")
        write_cached_text(folder / "x", "text")
    finally:
        os.umask(before)
    assert read_cached(folder / "x") == b"text"
    assert [path.lstat().st_mode & 0o777 for path in (cache.parent, cache, folder)] == [0o700] * 3


def test_a_pipe_is_not_waited_for(cache: Path) -> None:
    """A pipe of the name of a verdict, weights or a choice is passed by at once."""
    folder = make_cache_folder("engines")
    os.mkfifo(folder / "x")
    code = "import sys, pathlib, edge_runtime.system.cache as c; print(c.read_cached(pathlib.Path(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", code, folder / "x"], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "None\n"
    assert open_cached(folder / "none") is None


FIELDS = asdict(VERDICT)
WRONG = [0, 1.5, True, None, "text", [], {}, [1], {"a": 1}, float("nan"), -1, 10**400, "x" * 10]


def is_right(field: str, value: object) -> bool:
    """What the fields may hold, written down again."""
    counts = {"threads", "workers"}
    if field in counts:
        return type(value) is int and 0 < value <= 1024
    if field in ("images_per_second", "agreement"):
        return type(value) in (int, float) and 0 <= value < 1e15  # type: ignore[operator]
    if field == "peak_rss_bytes":
        return type(value) is int and 0 <= value < 1e15
    if field == "engine":
        return value == "litert"
    if field == "why":
        return value is None or isinstance(value, str)
    if field == "table":
        return value == []
    return isinstance(value, str)


@pytest.mark.parametrize("field", [*FIELDS, *(f"table.{name}" for name in FIELDS["table"][0])])
def test_every_field_of_a_verdict_has_its_type(field: str) -> None:
    """A value of another type or out of range, in any field, makes a verdict none; so does a field too few or many."""
    for value in WRONG:
        fields = json.loads(json.dumps(FIELDS))
        part, _, name = field.rpartition(".")
        (fields["table"][0] if part else fields)[name] = value
        found = from_json(json.dumps(fields).encode())
        assert (found is not None) == is_right(name, value), value
    fields = json.loads(json.dumps(FIELDS))
    (fields["table"][0] if part else fields)["more"] = 1
    assert from_json(json.dumps(fields).encode()) is None
    fields = json.loads(json.dumps(FIELDS))
    del (fields["table"][0] if part else fields)[name]
    optional = bool(part) and name not in ("engine", "threads", "workers")  # a trial that was rejected has no figures
    assert (from_json(json.dumps(fields).encode()) is not None) == optional


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "1", '"x"', "[" * 100_000, "\xff", '{"table": 1}', "{" * 50])
def test_what_is_no_verdict_is_none(text: str) -> None:
    """Any bytes in a verdict's place are none, without an error."""
    assert from_json(text.encode("latin-1")) is None
