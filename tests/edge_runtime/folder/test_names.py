"""Names that a file system takes for one: found by asking it, and only one of their images gets the outputs."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import OutputError
from edge_runtime.folder.inputs import Input
from edge_runtime.folder.names import OutputNames, find_clashes, is_short_name, may_clash, to_coarse_key
from edge_runtime.folder.outputs import list_outputs

COMPOSED, DECOMPOSED = "\u00e9.png", "e\u0301.png"
FOLDS: dict[str, Callable[[str], str]] = {  # file systems, by what they do to a part of a path
    "exact": lambda part: part,
    "lower": str.lower,
    "composed": lambda part: unicodedata.normalize("NFC", part),
    "dots": lambda part: part.rstrip(". "),
    "everything": lambda part: unicodedata.normalize("NFC", part.casefold()).rstrip(". "),
}


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[str], str]]:
    """Make OUT's file system fold names in one of these ways."""

    def fold(kind: str) -> Callable[[str], str]:
        monkeypatch.setattr(OutputNames, "finds", lambda self, made, wanted: FOLDS[kind](made) == FOLDS[kind](wanted))
        return FOLDS[kind]

    return fold


def find_clashes_naively(files: list[str], fold: Callable[[str], str]) -> set[int]:
    """Writes one output after the other into a dictionary of paths, as a disk would hold them."""
    held: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    clashes = set()
    for position, file in enumerate(files):
        paths = [tuple(map(fold, path.split("/"))) for path in list_outputs(Input(Path(file), file).name)]
        parents = [path[:depth] for path in paths for depth in range(1, len(path))]
        if any(path in held or path in folders for path in paths) or any(parent in held for parent in parents):
            clashes.add(position)
        else:
            held.update(paths)
            folders.update(parents)
    return clashes


@pytest.mark.parametrize("kind", FOLDS)
def test_random_names_against_a_naive_disk(
    tmp_path: Path, disk: Callable[[str], Callable[[str], str]], kind: str
) -> None:
    """Short names of few letters, in folders of few names: the clashes are those of a disk that folds so."""
    fold, random = disk(kind), np.random.default_rng(3)
    parts = ["a", "A", "b", "é", "e\u0301", "É", "a.", "a ", "x.png", "X.png", "x.jpg", "x.PNG"]
    ends = [".png", ".PNG", ".jpg", ".jpg.png"]
    found = 0
    for _ in range(300):
        files = []
        for _ in range(int(random.integers(2, 30))):
            folders = random.choice(parts, int(random.integers(0, 3)))
            files.append("/".join([*folders, str(random.choice(parts)) + str(random.choice(ends))]))
        clashes = find_clashes([Input(Path(file), file) for file in files], tmp_path)
        assert set(clashes) == find_clashes_naively(files, fold), files
        found += len(clashes)
    assert found > 100


def test_this_disk_is_asked(tmp_path: Path) -> None:
    """Names that differ in case or in Unicode form are one here if the disk itself finds one by the other."""
    for one, other in (("Scan.png", "scan.png"), (COMPOSED, DECOMPOSED), ("Straße.png", "STRASSE.png")):
        (tmp_path / one).touch()
        same = (tmp_path / other).exists()
        inputs = [Input(Path(one), one), Input(Path(other), other)]
        assert set(find_clashes(inputs, tmp_path)) == ({1} if same else set())
    assert sorted(os.listdir(tmp_path)) == sorted({"Scan.png", COMPOSED, "Straße.png"})  # noqa: PTH208


def test_short_names_are_not_trusted_where_the_disk_gives_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On FAT `LONGNA~1.PNG` may be `longname-of-somebody.png`; elsewhere it is a name as any other."""
    inputs = [Input(Path(file), file) for file in ("a/LONGNA~1.png", "long~name-of-somebody.png", "b~12.png")]
    assert [is_short_name(item.name) for item in inputs] == [True, False, True]
    assert find_clashes(inputs, tmp_path) == {}
    monkeypatch.setattr(OutputNames, "has_short_names", True)
    assert set(find_clashes(inputs, tmp_path)) == {0, 2}


def test_a_disk_that_cannot_be_asked_is_one_error(tmp_path: Path) -> None:
    """OUT is gone, or a file."""
    (tmp_path / "out").touch()
    inputs = [Input(Path(name), name) for name in ("Scan.png", "scan.png")]
    with pytest.raises(OutputError):
        find_clashes(inputs, tmp_path / "out")


def test_what_may_clash_holds_for_every_kind_of_disk() -> None:
    """Two names that any of these disks takes for one may clash; names that none does may not."""
    names = ["a.png", "A.png", "a/b.png", "A/B.png", "a.jpg/b.png", COMPOSED, DECOMPOSED, "b.png", "a ./b.png"]
    for one in names:
        for other in names:
            one_disk = any(1 in find_clashes_naively([one, other], fold) for fold in FOLDS.values())
            assert may_clash(one, other) == one_disk, (one, other)


def test_the_coarse_key_keeps_different_names_apart() -> None:
    """Names of patients are not all suspects of each other."""
    assert len({to_coarse_key(name) for name in ("a.png", "b.png", "a/b.png", "a.jpg.png", "1.png", "11.png")}) == 6
