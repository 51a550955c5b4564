"""Where are the weights of large models kept as XNNPACK packs them, so that a second start maps them?

Mapped, they are not copied from the model's own pages, and processes that run the same model share them. A file's name
holds its SHA-256 and its key: the model's bytes, LiteRT's version, the processor, the threads. A file that is damaged
or not of this kit is never given to LiteRT, which does not check it and would compute NaN.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from edge_runtime.system.cache import (
    UNFINISHED,
    make_cache_folder,
    move_in,
    open_cached,
    remove_entry,
    remove_old_entries,
)
from edge_runtime.system.files import hash_file
from edge_runtime.system.process import end_with_parent, module_command, package_environment

MIN_MODEL_BYTES = 8_000_000  # below, CompiledModel itself needs more memory (7 MB) than mapped weights save
MIN_FREE_BYTES = 64_000_000  # of the disk, after packing
# XNNPACK's flags as LiteRT has them by default (8-bit signed and unsigned, dynamic fully connected) and one more: a
# convolution's table of addresses is made when it runs, instead of kept for all: 14 MB less for 33 million parameters.
FLAGS = 0x01 | 0x02 | 0x08 | 0x20
MAX_KEPT = 8
LIMIT_S = 120.0


def find_weights(model: Path, threads: int, version: str) -> Path | None:
    """Return the packed weights of a model for CompiledModel; None for a small model, or where they cannot be kept."""
    try:
        if model.stat().st_size < MIN_MODEL_BYTES:
            return None
        folder = make_cache_folder("weights")
        key = make_key(model, threads, version)
        return find_packed(folder, key) or pack_weights(folder, key, model, threads)
    except OSError:
        return None


def make_key(model: Path, threads: int, version: str) -> str:
    """Return 16 digits that depend on all that packed weights depend on."""
    from edge_runtime.system.machine import identify_cpu

    text = f"{hash_file(model)} {version} {identify_cpu()} {threads} {FLAGS}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_packed(folder: Path, key: str) -> Path | None:
    """Return a kept file that no one else may change, and that has not changed; remove others of that key."""
    for path in sorted(folder.glob(f"{key}-*")):
        file = open_cached(path)
        if file is not None:
            with file:
                if path.name == f"{key}-{hashlib.file_digest(file, 'sha256').hexdigest()}":
                    with suppress(OSError):
                        os.utime(file.fileno())  # the most recently used are kept
                    return path
        remove_entry(path)
    return None


def pack_weights(folder: Path, key: str, model: Path, threads: int) -> Path | None:
    """Pack a model's weights into `folder`; return the file, or None if that fails.

    In a child process: LiteRT aborts where the disk is full.
    """
    import shutil
    import subprocess
    import tempfile

    if shutil.disk_usage(folder).free < 2 * model.stat().st_size + MIN_FREE_BYTES:
        return None
    scratch = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
    try:
        made = scratch / "weights"
        command = module_command("edge_runtime.inference.engines.compiled_model", model.resolve(), made, threads)
        devnull = subprocess.DEVNULL
        done = subprocess.run(
            command,
            env=package_environment(),
            timeout=LIMIT_S,
            stdin=devnull,
            stdout=devnull,
            stderr=devnull,
            check=False,
            preexec_fn=end_with_parent(),  # the process that loads the model may be ended meanwhile
        )
        if done.returncode != 0 or not made.stat().st_size:
            return None
        return move_in(made, folder / f"{key}-{hash_file(made)}")
    except subprocess.TimeoutExpired:
        return None
    finally:
        remove_entry(scratch)
        remove_old_entries(folder, MAX_KEPT)
