"""A kit is refused, with a line of its own, unless every byte of it is what the holder of the key signed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kits import describe, make_model, pack, write_small_kit

from deploy.kit.archive import (
    BLOCK,
    END_BLOCKS,
    MANIFEST,
    SIGNATURE,
    build_header,
    count_bytes,
    read_kit,
    write_archive,
)
from deploy.kit.keys import make_keys, read_public_key, sign
from deploy.kit.manifest import LOCK, MODEL, from_json, read_numbers, to_json
from edge_runtime.errors import KitError

FILES = {LOCK: b"", MODEL: make_model(), "wheels/a.whl": b"wheel" * 300}


@pytest.fixture(scope="session")
def kit(key: Path) -> bytes:
    return pack(key, FILES)


def refuse(data: bytes, public: bytes, tmp_path: Path) -> str:
    """Return the error message with which a kit is refused."""
    path = tmp_path / "kit.tar"
    path.write_bytes(data)
    with pytest.raises(KitError) as caught:
        read_kit(path, public)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_kit_is_read(kit: bytes, public: bytes, tmp_path: Path) -> None:
    """All files arrive as they were packed, and an ordinary tar reads the same."""
    (tmp_path / "kit.tar").write_bytes(kit)
    taken: dict[str, io.BytesIO] = {}
    manifest, _ = read_kit(tmp_path / "kit.tar", public, lambda entry: taken.setdefault(entry.path, io.BytesIO()))
    assert {path: file.getvalue() for path, file in taken.items()} == FILES
    with tarfile.open(tmp_path / "kit.tar") as theirs:
        assert theirs.getnames() == [MANIFEST, SIGNATURE, *FILES]
        assert all(member.isreg() and member.mode == 0o644 and member.uid == 0 for member in theirs)
    assert len(kit) == count_bytes(len(to_json(manifest)), manifest)


def test_any_changed_byte_is_found(kit: bytes, public: bytes, tmp_path: Path) -> None:
    """The first and last bytes of every block, and one in forty of the others, refuse the kit when changed."""
    path = tmp_path / "kit.tar"
    rng = np.random.default_rng(3)
    places = [offset for offset in range(len(kit)) if offset % BLOCK in (0, BLOCK - 1) or rng.random() < 1 / 40]
    path.write_bytes(kit)
    for offset in places:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(bytes([kit[offset] ^ 1 << int(rng.integers(8))]))
        with pytest.raises(KitError):
            read_kit(path, public)
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(kit[offset : offset + 1])
    read_kit(path, public)


@pytest.mark.parametrize("length", [0, 1, 511, 512, 700, -1024, -1])
def test_a_cut_off_kit_is_refused(kit: bytes, public: bytes, tmp_path: Path, length: int) -> None:
    """A truncated copy is refused, as is one with bytes after its end."""
    refuse(kit[:length], public, tmp_path)
    assert "makes" in refuse(kit + b"\0", public, tmp_path)


def test_another_key_is_refused(kit: bytes, tmp_path: Path) -> None:
    """The message about a kit with another signature names the expected key."""
    other = read_public_key(make_keys(tmp_path / "other"))
    assert "is not signed with the key" in refuse(kit, other, tmp_path)


def test_a_swapped_model_is_refused(key: Path, kit: bytes, public: bytes, tmp_path: Path) -> None:
    """Another model of the same size is found by its hash, also one that was signed by mistake."""
    swapped = kit.replace(FILES[MODEL], FILES[MODEL].replace(b"a net", b"b net"))
    assert swapped != kit and f"the bytes of {MODEL} are not" in refuse(swapped, public, tmp_path)
    assert "is not the one" in refuse(pack(key, FILES, model_sha256="0" * 64), public, tmp_path)


def put(kit: bytes, name: str, kind: bytes) -> bytes:
    """Return the kit with the header of its last file replaced by one of another name and kind."""
    offset = kit.rindex(b"a.whl") // BLOCK * BLOCK
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(FILES["wheels/a.whl"]), "/etc/passwd"
    return kit[:offset] + info.tobuf(tarfile.USTAR_FORMAT) + kit[offset + BLOCK :]


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("../../etc/cron.d/x", tarfile.REGTYPE, "a path that leads out of the kit"),
        ("/etc/passwd", tarfile.REGTYPE, "a path that leads out of the kit"),
        ("wheels/a.whl", tarfile.SYMTYPE, "a symbolic link"),
        ("wheels/a.whl", tarfile.LNKTYPE, "a hard link"),
        ("wheels/a.whl", tarfile.CHRTYPE, "a device"),
        ("wheels/a.whl", tarfile.BLKTYPE, "a device"),
        ("wheels/a.whl", tarfile.FIFOTYPE, "a pipe"),
        ("wheels", tarfile.DIRTYPE, "a folder"),
        ("wheels/b.whl", tarfile.REGTYPE, "another file"),
        ("wheels/a.whl", tarfile.REGTYPE, "a changed header"),
    ],
)
def test_what_is_no_plain_file_is_refused(
    kit: bytes, public: bytes, tmp_path: Path, name: str, kind: bytes, line: str
) -> None:
    """Paths that lead out, links, devices, pipes, other files: each refused by name."""
    assert f"{line} (" in refuse(put(kit, name, kind), public, tmp_path) or line == "a changed header"


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../b", "a//b", ".hidden", "a/", "", "a\\b", "a\nb", "C:x", "-o", "a/" * 120 + "a"]
)
def test_signed_names_are_checked_as_well(key: Path, public: bytes, tmp_path: Path, path: str) -> None:
    """A path out of the kit is refused even if its signature is valid: the signer can make a mistake."""
    with pytest.raises(KitError, match="not a plain path inside the kit"):
        from_json(to_json(describe(FILES | {path: b"x"})))


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"A.txt": b"", "a.txt": b""}, "twice"),
        ({"a": b"", "a/b": b""}, "also a folder"),
        ({f"f{n}": b"" for n in range(2000)}, "more than a kit may have"),
    ],
)
def test_signed_contents_are_checked(files: dict[str, bytes], line: str) -> None:
    """Names that are equal on some file systems, a file that is also a folder, or too many files are refused."""
    with pytest.raises(KitError, match=line):
        from_json(to_json(describe(FILES | files)))


@pytest.mark.parametrize("name", [LOCK, MODEL])
@pytest.mark.parametrize("other", [None, str.upper, str.title])
def test_what_every_kit_has_is_looked_for_by_its_very_name(name: str, other: Callable[[str], str] | None) -> None:
    """A kit without lock or model, or with one under a name of other case, is refused in a line."""
    files = {path: data for path, data in FILES.items() if path != name}
    if other is not None:
        files[other(name)] = FILES[name]
    with pytest.raises(KitError, match="lacks"):
        from_json(to_json(describe(files)))


def test_a_manifest_has_one_form() -> None:
    """Spaces, a missing, an unknown or a wrong field: not the text that `to_json` writes."""
    text = to_json(describe(FILES))
    assert from_json(text) == describe(FILES)
    for wrong in (
        text + b" ",
        text.replace(b",", b", ", 1),
        text.replace(b'"glibc":"2.17",', b""),
        text.replace(b'"glibc"', b'"glybc"'),
        text.replace(b'"release":0', b'"release":"0"'),
        text.replace(b'"release":0', b'"release":false'),
        text.replace(b"edge-seg-kit/1", b"edge-seg-kit/2"),
        b"[" * 100_000,
        b"\xff",
        b"{}",
        b"null",
    ):
        assert wrong != text
        with pytest.raises(KitError):
            from_json(wrong)


def test_a_bomb_is_refused_before_it_is_read(key: Path, public: bytes, tmp_path: Path) -> None:
    """A manifest of a gigabyte, files of terabytes, a size that the file does not have: refused by their sizes."""
    assert "more than 1048576" in refuse(build_header(MANIFEST, 1 << 30) + bytes(BLOCK), public, tmp_path)
    manifest = describe(FILES)
    large = tuple(
        type(entry)(entry.path, 3 << 40 if entry.path == LOCK else entry.bytes, entry.sha256)
        for entry in manifest.files
    )
    text = to_json(replace(manifest, files=large))
    head = io.BytesIO()
    write_archive(head, [(MANIFEST, text), (SIGNATURE, sign(key, text)[0])])
    assert "more than a kit may have" in refuse(head.getvalue(), public, tmp_path)


def test_other_files_are_no_kits(public: bytes, tmp_path: Path) -> None:
    """Text, zeros, another tar, a folder and a pipe are refused without waiting."""
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    for data in (b"hello" * 1000, bytes(10240), other.getvalue(), END_BLOCKS):
        assert "it is no kit" in refuse(data, public, tmp_path)
    with pytest.raises(KitError):
        read_kit(tmp_path, public)
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KitError, match="not a regular file"):
        read_kit(tmp_path / "pipe", public)
    with pytest.raises(KitError, match="check the path"):
        read_kit(tmp_path / "missing", public)


def test_versions_are_compared_by_their_numbers(key: Path, public: bytes, tmp_path: Path) -> None:
    """1.10 is newer than 1.9, 1.0 is 1, and the release decides between equals."""
    assert read_numbers("1.10") > read_numbers("1.9") and read_numbers("1.0") == read_numbers("1") == (1,)
    old, new = (read_kit(write_small_kit(tmp_path / "k", key, "1", release=n), public)[0] for n in (1, 2))
    assert new.rank > old.rank
