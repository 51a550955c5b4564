"""The board's disk: what it reads back, and what is left of it after a cut, against a naive copy of the bytes."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools/board"))

from disk import BLOCK, Disk


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_keeps_what_was_flushed_and_some_of_the_rest(tmp_path: Path, seed: int) -> None:
    """Each block is as it was flushed last, or as it was written last; without losses it is as written last."""
    rng, size, lost_in_all = random.Random(seed), 64 * BLOCK, 0
    for number in range(20):
        image = tmp_path / f"{number}.img"
        image.write_bytes(rng.randbytes(size))
        written, flushed = bytearray(image.read_bytes()), bytearray(image.read_bytes())
        disk = Disk(image, tmp_path / "socket", rng)
        file = os.open(image, os.O_RDWR)
        for _ in range(40):
            action, start = rng.random(), rng.randrange(size - 1)
            end = start + rng.randrange(1, min(size - start, 5 * BLOCK) + 1)
            if action < 0.45:
                through = action < 0.05
                written[start:end] = rng.randbytes(end - start)
                disk.write(file, start, bytes(written[start:end]), through)
                if through:
                    first, last = start // BLOCK * BLOCK, -(-end // BLOCK) * BLOCK
                    flushed[first:last] = written[first:last]
            elif action < 0.9:
                assert disk.read(file, start, end - start) == written[start:end]
            else:
                disk.flush(file)
                flushed = bytearray(written)
        os.close(file)
        cached, lost = disk.lose()
        left = image.read_bytes()
        blocks = [slice(at, at + BLOCK) for at in range(0, size, BLOCK)]
        assert len(left) == size and all(left[block] in (flushed[block], written[block]) for block in blocks)
        assert sum(left[block] != written[block] for block in blocks) == lost <= cached
        assert sum(flushed[block] != written[block] for block in blocks) == cached
        lost_in_all += lost
    assert lost_in_all  # else nothing was tried
