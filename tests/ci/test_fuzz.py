"""The fuzzer's targets hold on their own seeds, and find what is planted."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
from malformed.png import GREY, make_png

pytest.importorskip("PIL")
pytest.importorskip("cryptography")
ROOT = Path(__file__).resolve().parents[2]


def load_fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_of_tools", ROOT / "tools" / "fuzz.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FUZZ = load_fuzz()


def lose_a_byte(data: bytes, limit: int) -> bytes:
    return data[: len(data) // 2] + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize("name", list(FUZZ.TARGETS))
def test_every_seed_passes_and_can_be_mutated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target takes its seeds, and what its mutator makes of them, without a finding."""
    if name == "kit":
        from deploy.kit import archive

        monkeypatch.setattr(archive, "check_signature", archive.check_signature)  # restored afterwards
    target, rng = FUZZ.TARGETS[name], random.Random(1)
    for number, data in enumerate(target.seeds()):
        target.test(data)
        if number < 60:
            target.test(target.mutate(data, 12_000, rng, lose_a_byte))


def test_a_wrong_pixel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that returns another pixel is a finding."""
    import edge_runtime.images.read as read

    monkeypatch.setattr(read, "to_rgb", lambda pixels: pixels ^ 1)
    with pytest.raises(AssertionError, match="from Pillow's pixels"):
        FUZZ.test_image(make_png(2, 1, 8, GREY, b"\0\x50\x60"))
