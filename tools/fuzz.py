"""Do the readers of foreign bytes hold against inputs that coverage leads to?

    python tools/fuzz.py images --seconds 60 [--corpus FOLDER] [--findings FOLDER]
    python tools/fuzz.py images --replay FILE

Needs NumPy, OpenCV, Pillow and Atheris (pip install atheris), which instruments this project's Python code and lets
libFuzzer mutate the seeds, the small ones of tests/malformed. A target fails by any exception that is no error of its
format, or where another reader finds something else in the same bytes. Checksums and digests are repaired after most
mutations, or all would end there; the kit's signature is taken as valid. Exit 1 if there are findings.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "deploy")]
MAX_SEED_BYTES = 6_000
MAX_PIXELS = 100_000
MAX_FINDINGS = 20
EXECUTION_S, MEMORY_MB = 20, 3_000
PROGRESS = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)", re.M)
EXECUTED = re.compile(r"^stat::number_of_executed_units: +(\d+)", re.M)
Mutate = Callable[[bytes, int], bytes]


@dataclass(frozen=True)
class Target:
    """What is fuzzed: seeds, how their checksums are repaired, and the test of one input."""

    seeds: Callable[[], Iterator[bytes]]
    mutate: Callable[[bytes, int, random.Random, Mutate], bytes]
    test: Callable[[bytes], None]
    packages: tuple[str, ...]  # to instrument


# --- image readers -----------------------------------------------------------------------------------------------


def seed_images() -> Iterator[bytes]:
    """Yield the small files of tests/malformed, whole and broken ones."""
    from malformed import hostile_bmp, hostile_jpeg, hostile_other, hostile_png, hostile_tiff

    for family in (hostile_png, hostile_jpeg, hostile_tiff, hostile_bmp, hostile_other):
        for case in family.list_cases():
            if not any(word in case.name for word in ("bomb", "000", "many")):  # slow to make, or large
                data = case.make()
                if len(data) <= MAX_SEED_BYTES:
                    yield data


def mutate_image(data: bytes, limit: int, rng: random.Random, mutate: Mutate) -> bytes:
    """Mutate a file; of a PNG, at times what its pixels unpack to, and repair its checksums."""
    if data.startswith(b"\x89PNG") and rng.random() < 0.3:
        return join_chunks(
            (name, zlib.compress(mutate(unpack(body), limit), 1) if name == b"IDAT" else body)
            for name, body in split_chunks(data)
        )
    data = mutate(data, limit)
    return join_chunks(split_chunks(data)) if data.startswith(b"\x89PNG") and rng.random() < 0.9 else data


def unpack(body: bytes) -> bytes:
    """Return what a deflate stream holds, as far as it goes."""
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj().decompress(body, 100_000)
    return b""


def split_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield a PNG's chunks, the last one as far as it goes."""
    offset = 8
    while offset + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        yield data[offset + 4 : offset + 8], data[offset + 8 : offset + 8 + length]
        offset += 12 + length


def join_chunks(chunks: Iterator[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG whose checksums are right."""
    parts = [struct.pack(">I", len(body)) + name + body + crc(name + body) for name, body in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def test_image(data: bytes) -> None:
    """Read or refuse; where Pillow reads the file by code of its own, its pixels are the same."""
    import numpy as np

    from edge_runtime.errors import ImageError
    from edge_runtime.images.read import decode_file
    from edge_runtime.system.quiet import silence_stderr

    with silence_stderr():
        try:
            found = decode_file(data, "x", MAX_PIXELS)
        except ImageError as error:
            assert "\n" not in str(error) and str(error).startswith("x: "), str(error)
            return
        image = found.image
        assert image.dtype in (np.uint8, np.uint16) and image.flags.c_contiguous and image.size, image.shape
        assert image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3), image.shape
        other = read_by_pillow(data, bool(found.flags))
    if other is not None:
        shift = 8 if image.dtype == np.uint16 and other.of_8_bit else 0
        ours = (to_colour(image) >> shift).astype(int)
        theirs = [to_colour(turned).astype(int) for turned in list_turns(other.pixels, other.turned)]
        apart = [int(np.abs(ours - one).max()) for one in theirs if one.shape == ours.shape]
        assert apart, f"{image.shape}, Pillow finds {other.pixels.shape}"
        assert min(apart) <= other.slack, f"{min(apart)} from Pillow's pixels"


def list_turns(pixels: Any, turned: bool) -> list[Any]:
    """Return what an image may look like: in any of eight ways where it has an orientation, which readers doubt."""
    sides = [pixels, pixels.swapaxes(0, 1)] if turned else [pixels]
    return [
        side[::down, ::across] for side in sides for down in (1, -1)[: 1 + turned] for across in (1, -1)[: 1 + turned]
    ]


@dataclass(frozen=True)
class Pillow:
    """What Pillow finds in an image file, laid over black, and how far ours may be from it."""

    pixels: Any
    slack: int
    turned: bool  # it has an orientation
    of_8_bit: bool


def to_colour(pixels: Any) -> Any:
    """Return (H, W) or (H, W, 3) as (H, W, 3)."""
    return pixels if pixels.ndim == 3 else pixels[:, :, None].repeat(3, axis=2)


def read_by_pillow(data: bytes, open_end: bool) -> Pillow | None:
    """Return what Pillow finds.

    None where Pillow refuses the file, or reads its kind otherwise: a colour that stands for transparent, TIFF in any
    form but 8-bit grey and RGB. A JPEG is decoded by the same library, so only what is round it is compared.
    """
    import numpy as np
    from PIL import Image, ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        with Image.open(io.BytesIO(data + b"\xff\xd9" if open_end else data)) as image:
            image.load()
            raw = dict(getattr(image, "tag_v2", {}))
            turned = b"Exif" in data or b"eXIf" in data or 274 in raw
            kind, mode, clear = image.format, image.mode, "transparency" in image.info
    except Exception:  # whatever it raises
        return None
    plain_tiff = mode in ("L", "RGB") and raw.get(262) in (1, 2) and set(raw.get(258, (1,))) == {8}
    if (kind == "TIFF" and not plain_tiff) or (kind == "JPEG" and mode not in ("L", "RGB")):
        return None
    if kind == "BMP" and is_misread_by_pillow(data, mode):
        return None
    if mode in ("L", "RGB") and not clear:
        five_bit = kind == "BMP" and data[28:30] == b"\x10\0"  # OpenCV shifts them, Pillow scales them
        slack = {"JPEG": 4}.get(kind or "", 7 if five_bit else 0)
        return Pillow(np.asarray(image), slack, turned, of_8_bit=True)
    if mode == "1" and not clear:
        return Pillow(np.asarray(image.convert("L")), 0, turned, of_8_bit=True)
    if kind == "PNG" and mode in ("P", "LA", "RGBA"):
        flat = np.asarray(image.convert("RGBA")).astype(float)
        return Pillow(np.rint(flat[:, :, :3] * flat[:, :, 3:] / 255), 2, turned, of_8_bit=True)
    if kind == "BMP" and mode == "P":
        return Pillow(np.asarray(image.convert("RGB")), 0, turned, of_8_bit=True)
    if kind == "PNG" and mode.startswith("I") and not clear:
        return Pillow(np.asarray(image), 0, turned, of_8_bit=False)
    return None


def is_misread_by_pillow(data: bytes, mode: str) -> bool:
    """Tell whether a BMP is one that Pillow 13 reads wrong.

    A grey palette of four bits, whose bytes it takes for pixels; runs that begin at an odd place, whose literal pixels
    it aligns by their place in the file.
    """
    (start,), (header,) = struct.unpack_from("<I", data, 10), struct.unpack_from("<I", data, 14)
    if header == 12:
        return False
    (bits,), (packing,) = struct.unpack_from("<H", data, 28), struct.unpack_from("<I", data, 30)
    return (mode == "L" and bits == 4) or (packing in (1, 2) and start % 2 == 1)


# --- the contract's tail -----------------------------------------------------------------------------------------


def seed_contracts() -> Iterator[bytes]:
    """Yield stamped models of all kinds, with golden vectors and without."""
    from fakes import make_contract

    from edge_runtime.contract.fields import ClassSpec
    from edge_runtime.contract.tail import stamp_contract
    from edge_runtime.models import DEFAULT

    graph = b"\x1c\0\0\0TFL3 a net"
    kinds = [make_contract(), make_contract(labels=3), make_contract(labels=2, activation="sigmoid")]
    kinds += [make_contract(depth=4), make_contract(classes=ClassSpec((1, 2), "softmax", ("a", "b")))]
    for contract in kinds:
        yield stamp_contract(graph, contract)
        yield stamp_contract(graph, contract, b'{"cases":[]}')
    yield graph
    from edge_runtime.contract.tail import read_contract

    yield stamp_contract(graph, read_contract(DEFAULT), b"{}")


def mutate_contract(data: bytes, limit: int, rng: random.Random, mutate: Mutate) -> bytes:
    """Mutate a file, at times its JSON alone, and write tail, digest and sizes anew."""
    from edge_runtime.contract.json_text import compute_digest, to_canonical
    from edge_runtime.contract.tail import build_tail, split_tail
    from edge_runtime.errors import EdgeSegError

    if rng.random() < 0.3:
        return mutate(data, limit)
    try:
        graph, text = split_tail(data)
    except EdgeSegError:
        return mutate(data, limit)
    text = mutate(text or b"{}", limit)
    with contextlib.suppress(Exception):  # no JSON any more
        fields = json.loads(text)
        fields["model"] = {**fields["model"], "bytes": len(graph), "sha256": hashlib.sha256(graph).hexdigest()}
        fields["digest"] = compute_digest(fields)
        text = to_canonical(fields)
    return graph + build_tail(text, mutate(b"{}", 200) if rng.random() < 0.2 else None)


def test_contract(data: bytes) -> None:
    """Read or refuse; what was read is what zipfile finds, and is written again byte for byte."""
    import zipfile

    from edge_runtime.contract.json_text import to_json
    from edge_runtime.contract.tail import read_stamp, split_tail
    from edge_runtime.errors import ContractError, ModelError

    file = io.BytesIO(data)
    file.name = "x"
    try:
        contract, golden = read_stamp(file)
    except (ContractError, ModelError) as error:
        assert "\n" not in str(error)
        return
    graph, text = split_tail(data)
    assert to_json(contract) == text and len(graph) == contract.model.bytes
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("contract.json") == text
        assert ("golden.json" in archive.namelist()) == (golden is not None)


# --- kits --------------------------------------------------------------------------------------------------------


def seed_kits() -> Iterator[bytes]:
    """Yield kits, with a key made here."""
    from kits import LOCK, MODEL, make_model, pack

    from deploy.kit.keys import make_keys

    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder, "key")
        make_keys(key)
        files = {LOCK: b"", MODEL: make_model()}
        yield pack(key, files)
        yield pack(key, {**files, "units/a.service": b"[Unit]\n", "wheels/a-1.whl": b"PK"}, latency_ms=2.5)


def mutate_kit(data: bytes, limit: int, rng: random.Random, mutate: Mutate) -> bytes:
    """Mutate a kit, at times its manifest alone, and write the headers anew."""
    from deploy.kit.archive import MANIFEST, build_header

    if rng.random() < 0.5:
        return mutate(data, limit)
    with contextlib.suppress(ValueError):
        size = int(data[124:135], 8)
        text = mutate(data[512 : 512 + size], limit)
        with contextlib.suppress(Exception):
            text = (
                json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            )
        return build_header(MANIFEST, len(text)) + text + bytes(-len(text) % 512) + data[512 + size + -size % 512 :]
    return mutate(data, limit)


def test_kit(data: bytes) -> None:
    """Read or refuse; what was read are the files that tarfile lists, in their sizes and digests."""
    import tarfile

    from deploy.kit import archive
    from edge_runtime.errors import KitError

    setattr(archive, "check_signature", lambda *_: True)  # noqa: B010 - for mypy it is no name of that module
    with contextlib.ExitStack() as stack:
        descriptor = os.memfd_create("kit")
        stack.callback(os.close, descriptor)
        os.write(descriptor, data)
        try:
            manifest, _ = archive.read_kit(Path(f"/proc/self/fd/{descriptor}"), bytes(32))
        except KitError as error:
            assert "\n" not in str(error)
            return
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = [(member, tar.extractfile(member)) for member in tar.getmembers()[2:]]
        listed = [(m.name, m.size, hashlib.sha256(file.read() if file else b"").hexdigest()) for m, file in files]
    assert listed == [(entry.path, entry.bytes, entry.sha256) for entry in manifest.files]


# --- the journal, and what is kept in the cache ------------------------------------------------------------------


def seed_journals() -> Iterator[bytes]:
    """Yield journals of a few lines."""
    entry = {"key": "a" * 64, "row": {"file": "a.png", "status": "ok", "flags": "empty"}, "outputs": {"masks/a.png": 7}}
    line = json.dumps(entry)
    yield line.encode() + b"\n"
    yield (line + "\n" + line.replace("a.png", "ä/b.png") + "\n" + line[:40]).encode()
    yield json.dumps({**entry, "state": "1 2 3"}).encode() + b"\n"
    yield b'{"key": "\\udc80", "row": {"file": "\\udcff"}, "outputs": {}}\n'


def mutate_plain(data: bytes, limit: int, rng: random.Random, mutate: Mutate) -> bytes:
    """Mutate bytes without checksums."""
    return mutate(data, limit)


def test_journal(data: bytes) -> None:
    """Every line is an entry or none; an entry is of the right types, and comes back as it was written."""
    from edge_runtime.folder.records.journal import from_line, read_journal, to_line

    for line in data.decode("utf-8", "replace").splitlines(keepends=True):
        entry = from_line(line)
        if entry is not None:
            assert isinstance(entry.row["file"], str) and isinstance(entry.row, dict)
            assert from_line(to_line(entry)) == entry
    with tempfile.NamedTemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:  # noqa: PTH112
        file.write(data)
        file.flush()
        for name, entry in read_journal(Path(file.name)).items():
            assert entry.row["file"] == name
            assert all(type(size) is int for size in entry.outputs.values())


def seed_verdicts() -> Iterator[bytes]:
    """Yield verdicts as they are kept."""
    from dataclasses import asdict

    from edge_runtime.inference.engine_verdict import EngineTrial, EngineVerdict

    verdict = EngineVerdict("litert", 2, 1, "the fastest", (EngineTrial("litert", 2, 1, 10.5, 1000, 1.0),))
    yield json.dumps(asdict(verdict)).encode()
    yield json.dumps(asdict(verdict), indent=1).encode()


def test_verdict(data: bytes) -> None:
    """A kept verdict is of the right types in every field, or not used."""
    from edge_runtime.inference.engine_verdict import from_json, to_lines

    verdict = from_json(data)
    if verdict is not None:
        assert all(isinstance(line, str) for line in to_lines(verdict))
        assert type(verdict.threads) is type(verdict.workers) is int


TARGETS = {
    "images": Target(seed_images, mutate_image, test_image, ("edge_runtime.images",)),
    "contract": Target(seed_contracts, mutate_contract, test_contract, ("edge_runtime.contract",)),
    "kit": Target(seed_kits, mutate_kit, test_kit, ("deploy.kit",)),
    "journal": Target(seed_journals, mutate_plain, test_journal, ("edge_runtime.folder.records",)),
    "verdict": Target(seed_verdicts, mutate_plain, test_verdict, ("edge_runtime.inference",)),
}


# --- running -----------------------------------------------------------------------------------------------------


def fuzz_here(target: Target, corpus: Path, findings: Path, seconds: int, seed: int) -> None:
    """Fuzz in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=list(target.packages)):
        import_all(target.packages)

    def mutate(data: bytes, limit: int, number: int) -> bytes:
        rng = random.Random(number)
        return target.mutate(data, limit, rng, atheris.Mutate)[:limit]

    options = [
        f"-max_total_time={seconds}", f"-artifact_prefix={findings}/", f"-timeout={EXECUTION_S}", f"-seed={seed}",
        f"-rss_limit_mb={MEMORY_MB}", f"-max_len={2 * MAX_SEED_BYTES}", "-print_final_stats=1", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], target.test, custom_mutator=mutate)
    atheris.Fuzz()


def import_all(packages: tuple[str, ...]) -> list[ModuleType]:
    """Import packages with all their modules."""
    import importlib
    import pkgutil

    found = [importlib.import_module(name) for name in packages]
    names = [part.name for package in found for part in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    quiet = []
    for name in names:
        if not name.endswith(("_main", "__main__")):
            with contextlib.suppress(ImportError):  # an engine that is not installed
                quiet.append(importlib.import_module(name))
    return [*found, *quiet]


def fuzz(name: str, seconds: int, corpus: Path, findings: Path) -> int:
    """Fuzz a target in child processes, a new one after each finding; print what came of it, return the findings."""
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    for data in TARGETS[name].seeds():
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    seeds, executions, reached, kept = len(list(corpus.iterdir())), 0, 0, 0
    before, end = set(findings.iterdir()), time.monotonic() + seconds
    messages: list[str] = []
    while (left := int(end - time.monotonic())) > 0 and len(messages) < MAX_FINDINGS:
        command = [
            sys.executable,
            __file__,
            name,
            "--seconds",
            str(left),
            "--corpus",
            str(corpus),
            "--findings",
            str(findings),
        ]
        run = subprocess.run([*command, "--here", str(executions + 1)], capture_output=True, check=False)
        text = run.stderr.decode("utf-8", "replace") + run.stdout.decode("utf-8", "replace")
        steps = PROGRESS.findall(text)
        executions += int((EXECUTED.findall(text) or [steps[-1][0] if steps else "0"])[-1])
        reached = max([reached, *(int(step[1]) for step in steps)])
        kept = max([kept, *(int(step[3]) for step in steps)])
        if run.returncode:
            messages.append(find_message(text))
            if not steps:  # it did not start
                print(text[-3000:], file=sys.stderr)
                break
    for path, message in zip(sorted(set(findings.iterdir()) - before), messages, strict=False):
        print(f"{name}: finding {path}: {message}")
    print(
        f"{name}: {executions} executions in {seconds} s, {seeds} seeds, {kept} inputs kept, {reached} edges covered, "
        f"{len(messages)} findings"
    )
    return len(messages)


def find_message(text: str) -> str:
    """Return what ended a child, in a line."""
    raised = re.search(r"Uncaught Python exception: ===\n(.*)", text)
    if raised:
        return raised[1][:300]
    lines = [
        line for line in text.splitlines() if re.match(r"(\w+\.)*\w*(Error|Exception|Exit)\b|==\d+== ?ERROR", line)
    ]
    return lines[0][:300] if lines else text.strip().rsplit("\n", 1)[-1][:300]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=list(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="kept between runs; default: a new one from the seeds")
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    parser.add_argument(
        "--replay", type=Path, nargs="+", metavar="FILE", help="test these inputs alone, without Atheris"
    )
    parser.add_argument("--here", type=int, metavar="SEED", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.replay:
        for path in args.replay:
            TARGETS[args.target].test(path.read_bytes())
        return 0
    if args.here is not None:
        fuzz_here(TARGETS[args.target], args.corpus, args.findings, args.seconds, args.here)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return int(fuzz(args.target, args.seconds, args.corpus or Path(folder), args.findings) > 0)


if __name__ == "__main__":
    sys.exit(main())
