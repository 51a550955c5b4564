"""Are there the libraries and the memory that a run needs? Where not, which line says the cause and the remedy?

Under a limit of memory libraries fail in many ways: some raise, some end the process without a word.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from importlib import import_module

from edge_runtime.errors import EdgeSegError

from .process import LINE_CHARS, describe_status, find_last_line, package_environment

LIBRARIES = {"numpy": ("numpy", "ndarray"), "cv2": ("opencv-python-headless", "imdecode")}  # module: (package, a name)
SHORTAGES = (
    *("can't start new thread", "failed to map segment", "annot allocate memory", "bad_alloc", "Insufficient memory"),
    *("emory allocation", "Unable to allocate", "Not enough memory"),
)
RAISE_LIMIT = "raise it; the embedded model takes 1000 MB of either"
SEE_DOCTOR = "try another --engine, or edge-seg --doctor, which tries each part"
LIMIT_S = 60.0
TRY_MODEL = (
    "import sys; from pathlib import Path; from edge_runtime.inference.session import Session; "
    "from edge_runtime.errors import EdgeSegError\n"
    "try: Session.load(sys.argv[1] or None, sys.argv[2], int(sys.argv[3]) or None)\n"
    "except EdgeSegError as error: pass"
)


def check_libraries() -> None:
    """Import NumPy and OpenCV. Raises: EdgeSegError with the import's own error; MemoryError."""
    for module, (package, name) in LIBRARIES.items():
        try:
            getattr(import_module(module), name)
        except Exception as error:  # whatever a broken package raises
            if is_shortage(error):
                raise MemoryError(str(error)) from error
            why = f"it does not import ({type(error).__name__}: {' '.join(str(error).split())[:LINE_CHARS]})"
            raise EdgeSegError(package, why, f"pip install --force-reinstall {package}") from None


def spare_memory() -> None:
    """Have NumPy's OpenBLAS start no threads where this process's memory is limited; children inherit that.

    Each thread's buffer counts against the limit, and where one does not fit, NumPy 1.26 tries for half a minute.
    """
    if describe_limits():
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def is_shortage(error: BaseException) -> bool:
    """Tell whether an exception means that there was too little memory."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return any(words in str(error) for words in SHORTAGES)


def describe_limits(max_memory: int | None = None) -> str:
    """Return this process's limits of memory in words; "" where there is none. max_memory: of a child, in bytes."""
    kinds = {"ulimit -v": resource.RLIMIT_AS, "ulimit -d": resource.RLIMIT_DATA}
    found = {"--max-memory": max_memory} | {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}
    limits = {name: size for name, size in found.items() if size is not None and 0 <= size < sys.maxsize}
    return " and ".join(f"{name} of {size / 1e6:.0f} MB" for name, size in limits.items())


def name_limit() -> str:
    """Return which limit is to be raised for a larger image, in a child whose memory this run limits."""
    return "--max-memory" if resource.getrlimit(resource.RLIMIT_AS)[0] < 0 else "ulimit -v"


def describe_shortage(error: BaseException) -> str:
    """Return an exception that means too little memory in words."""
    said = " ".join(str(error).split())[:LINE_CHARS]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def to_shortage(cause: str, limits: str) -> EdgeSegError:
    """Return the line for too little memory. limits: from `describe_limits`."""
    if limits:
        return EdgeSegError("memory", f"{limits} is too little ({cause})", RAISE_LIMIT)
    return EdgeSegError("memory", f"there is too little ({cause})", "close other programs, or use --workers 1")


def try_to_load(path: object, engine: str, threads: int | None, always: bool = False) -> None:
    """Load a model in a child first, where that may end this process without a word.

    always: not only under a limit of memory. Raises: EdgeSegError if the child dies of it, or lacks memory. Any other
    error is left to the loading in this process.
    """
    limits = describe_limits()
    if not limits and not always:
        return
    command = [sys.executable, "-P", "-c", TRY_MODEL, str(path or ""), engine, str(threads or 0)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, env=package_environment(), check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise to_shortage(describe_shortage(error), limits) from None
    last, how = find_last_line(done.stderr.decode("utf-8", "replace")), describe_status(done.returncode)
    if done.returncode < 0 and not limits:
        raise EdgeSegError(f"engine {engine}", f"the process that loads the model died ({how})", SEE_DOCTOR)
    if done.returncode < 0 or (done.returncode and any(words in last for words in (*SHORTAGES, "MemoryError"))):
        raise to_shortage(how if done.returncode < 0 else last, limits)
