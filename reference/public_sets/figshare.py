"""Reads Figshare 1512427: numbered MATLAB files, one slice each."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.errors import ImageError

from .download import Problem, SetSource
from .layouts import Scan, find_gaps, find_numbered, make_empty_error, read_same, to_eight_bits
from .matlab import read_mat


def read_figshare(source: SetSource) -> Iterator[Scan | Problem]:
    """Yield the slices of 1.mat … 3064.mat, also from Figshare's zips, by number.

    Raises: UsageError if the source holds none.
    """
    members_by_number = find_numbered(source.members, {"mat"})
    if not members_by_number:
        raise make_empty_error("figshare", "1.mat, 2.mat … in folders or zips", source)
    yield from find_gaps(members_by_number, "{}.mat")
    for number, members in sorted(members_by_number.items()):
        try:
            data = read_same(source, members)
            image, mask, kind, patient = read_mat(data, members[0].name)
            yield Scan(str(number), members[0].name, to_eight_bits(image), mask, kind, patient)
        except ImageError as error:
            yield Problem(members[0].name, error.why)
        except ValueError as error:
            yield Problem(members[0].name, str(error))
