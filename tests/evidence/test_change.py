"""Whether written differences and ratios can be read back as what is said of them."""

from __future__ import annotations

import itertools
import random

import pytest

from evidence.change import NO_CHANGE, WrittenChange, find_beyond, write_difference, write_number, write_ratio


def read(text: str) -> float:
    """A printed number, as a reader takes it."""
    return float(text.replace("−", "-"))


def draw_intervals(seed: int, count: int) -> list[tuple[float, float, float]]:
    """Value, low and high, of every size from 1e-9 to 1, on either side of zero or across it."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        size = 10.0 ** draw.uniform(-9, 0)
        low, value, high = sorted(draw.uniform(-1, 1) * size for _ in range(3))
        found.append((value, low, high))
    return found


@pytest.mark.parametrize("signed", [True, False])
def test_an_asserted_difference_is_seen_in_its_digits(signed: bool) -> None:
    """A whole interval on one side of zero is printed on that side of zero; one that spans it keeps four decimals."""
    sides = set()
    for value, low, high in draw_intervals(1, 3000):
        written = write_difference(value, low, high, find_beyond(0, low, high), signed=signed)
        assert "−0.0000 " not in f"{written} " and "-" not in str(written)
        if low > 0 or high < 0:
            sides.add(low > 0)
            printed = [read(part) for part in (written.value, written.low, written.high)]
            assert all(one > 0 for one in printed) if low > 0 else all(one < 0 for one in printed)
            assert printed[1] <= printed[0] <= printed[2]
        elif written.value == NO_CHANGE:
            assert max(map(abs, (value, low, high))) <= 0.00005
        else:
            assert max(map(abs, (value, low, high))) >= 0.00005
            assert len(written.value.partition(".")[2]) == 4
    assert sides == {True, False}


def test_a_ratio_called_larger_is_printed_as_larger() -> None:
    """No ratio that is said to differ from 1 is printed as 1.00, whichever of two file sizes is the larger."""
    for one, other in itertools.permutations((1, 346_000, 347_000, 33_967_820, 33_967_821, 34_000_000), 2):
        ratio = other / one
        printed = read(write_ratio(ratio, ratio, ratio, 1.0).value)
        assert (printed > 1) == (other > one) and printed != 1


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (write_difference(-0.0, -0.000004, 0.000004, decimals=5), NO_CHANGE),
        (write_difference(0.0, None, None), NO_CHANGE),
        (write_difference(-0.00003, -0.00005, -0.00001, 0.0), "−0.00003 [−0.00005, −0.00001]"),
        (write_difference(0.0, -0.0006, 0.0006), "0.0000 [−0.0006, +0.0006]"),
        (write_difference(0.0031, 0.0011, 0.0052, 0.0, signed=False), "0.0031 [0.0011, 0.0052]"),
        (write_difference(-0.00101, -0.002, -0.00005, -0.001), "−0.00101 [−0.00200, −0.00005]"),
        (write_ratio(347 / 346, None, None, 1.0), "1.003"),
        (write_ratio(347 / 346, None, None), "1.00"),
        (write_ratio(1.0, 1.0, 1.0, 1.0), "1.00"),
        (write_ratio(0.02, 0.018, 0.021, 1.0), "0.02 [0.018, 0.021]"),
        (write_ratio(1.0502, 1.0501, 1.09, 1.05), "1.0502 [1.0501, 1.0900]"),
    ],
)
def test_changes_as_they_are_printed(written: WrittenChange, expected: str) -> None:
    """Nothing is "no change", something has its sign, and a limit that was passed is seen to be passed."""
    assert str(written) == expected


@pytest.mark.parametrize(("value", "text"), [(-1e-9, "0.00000"), (0.0, "0.00000"), (-0.0004, "−0.00040")])
def test_zero_has_no_sign(value: float, text: str) -> None:
    """Neither minus nor plus."""
    assert write_number(value, 5, True) == text
