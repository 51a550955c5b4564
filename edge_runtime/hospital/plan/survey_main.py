"""What does the child process do? It says how bright slices are, decoding one after the other within limits.

Lines of JSON on both pipes. In: {memory}, then {path, slice, max_pixels}. Out, for each: {bright} or {}, then {done}.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

from edge_runtime.errors import EdgeSegError
from edge_runtime.hospital.pixels.levels import Stored, measure_brightness
from edge_runtime.hospital.pixels.read_slice import SliceReader, report_errors
from edge_runtime.hospital.pixels.slice_source import to_slice_source


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent decides
        signal.signal(stop, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # libraries' warnings quote values, tracebacks quote paths
        os.dup2(silent, stream)
    first = json.loads(sys.stdin.buffer.readline() or "{}")
    if not first:
        return
    resource.setrlimit(resource.RLIMIT_DATA, (first["memory"], first["memory"]))
    reader = SliceReader()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        with suppress(EdgeSegError, MemoryError), report_errors("a slice"):
            found = reader.read_stored(Path(request["path"]), to_slice_source(request["slice"]), request["max_pixels"])
            if isinstance(found, Stored):
                answers.write(json.dumps({"bright": measure_brightness(found)}) + "\n")
        answers.write('{"done": true}\n')
        answers.flush()


if __name__ == "__main__":
    main()
