"""What does the child process do? It says how bright slices are, decoding one after the other within limits.

Lines of JSON on both pipes. In: {memory}, then {path, slice, max_pixels}. Out, for each: {bright} or {}, then {done}.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from edge_runtime.errors import EdgeSegError
from edge_runtime.hospital.headers.child_loop import Fields, serve
from edge_runtime.hospital.pixels.levels import Stored, measure_brightness
from edge_runtime.hospital.pixels.read_slice import SliceReader, report_errors
from edge_runtime.hospital.pixels.slice_source import to_slice_source


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    serve(lambda _: partial(answer_request, SliceReader()))


def answer_request(reader: SliceReader, request: Fields) -> Iterator[Fields]:
    """Yield how bright a slice is; nothing of one that does not decode."""
    with suppress(EdgeSegError, MemoryError), report_errors("a slice"):
        found = reader.read_stored(Path(request["path"]), to_slice_source(request["slice"]), request["max_pixels"])
        if isinstance(found, Stored):
            yield {"bright": measure_brightness(found)}


if __name__ == "__main__":
    main()
