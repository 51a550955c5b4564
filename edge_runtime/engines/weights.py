"""The weights of large models as XNNPACK packs them, kept on disk: a second start maps them instead of packing again.

Mapped, they are not copied from the model's own pages, and processes that run the same model share them. A file's name
holds its SHA-256 and its key: the model's bytes, LiteRT's version, the processor, the threads. What is damaged or not
ours is never handed to LiteRT, which believes what it reads and would answer NaN.
"""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from pathlib import Path

from ..cache import SCRATCH, cache_folder, child_command, forget_old, remove

WORTH_BYTES = 8_000_000  # below, CompiledModel itself needs more memory (7 MB) than mapped weights spare
SPARE_BYTES = 64_000_000  # what packing leaves free on the disk
# XNNPACK's flags as LiteRT has them by default (8-bit signed and unsigned, dynamic fully connected) and one more: a
# convolution's table of addresses is made when it runs, instead of kept for all: 14 MB less for 33 million parameters.
FLAGS = 0x01 | 0x02 | 0x08 | 0x20
KEPT = 8
LIMIT_S = 120.0


def find_weights(model: Path, threads: int, version: str) -> Path | None:
    """Return the packed weights of a model for CompiledModel; None where they are not worth it or cannot be kept."""
    try:
        if model.stat().st_size < WORTH_BYTES:
            return None
        folder = cache_folder("weights")
        key = make_key(model, threads, version)
        return read_kept(folder, key) or build(folder, key, model, threads)
    except OSError:
        return None


def make_key(model: Path, threads: int, version: str) -> str:
    """Return what packed weights depend on, as 16 digits."""
    from .machine import identify_cpu

    text = f"{digest_file(model)} {version} {identify_cpu()} {threads} {FLAGS}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_file(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_kept(folder: Path, key: str) -> Path | None:
    """Return a kept file that is what it was when it was kept; remove others of that key."""
    for path in sorted(folder.glob(f"{key}-*")):
        if path.name == f"{key}-{digest_file(path)}":
            with suppress(OSError):
                path.touch()  # the most recently used are kept
            return path
        remove(path)
    return None


def build(folder: Path, key: str, model: Path, threads: int) -> Path | None:
    """Pack a model's weights into `folder`; return the file, or None if that fails.

    In a child process: LiteRT aborts where the disk is full.
    """
    import shutil
    import subprocess
    import tempfile

    if shutil.disk_usage(folder).free < 2 * model.stat().st_size + SPARE_BYTES:
        return None
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
    try:
        made = scratch / "weights"
        arguments = (str(model.resolve()), str(made), str(threads))
        command, environment = child_command("edge_runtime.engines.weights", *arguments)
        devnull = subprocess.DEVNULL
        done = subprocess.run(
            command, env=environment, timeout=LIMIT_S, stdin=devnull, stdout=devnull, stderr=devnull, check=False
        )
        if done.returncode != 0 or not made.stat().st_size:
            return None
        return made.replace(folder / f"{key}-{digest_file(made)}")
    except subprocess.TimeoutExpired:
        return None
    finally:
        remove(scratch)
        forget_old(folder, KEPT)


def main(model: str, made: str, threads: str) -> None:
    """Pack the weights of `model` into the file `made`."""
    from .compiled import compile_model

    compile_model(model, int(threads), made)


if __name__ == "__main__":
    main(*sys.argv[1:])
