"""Which layout was chosen in an earlier conversion, on this machine or in another one's report?"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from convert.flatbuffer.edit import unpack
from convert.flatbuffer.upsampling import find_transposed
from edge_runtime.errors import UsageError, near_miss
from edge_runtime.system.cache import make_cache_folder, read_cached, write_cached_text
from edge_runtime.system.machine import read_cores


@dataclass(frozen=True)
class LayoutChoice:
    """The layout of a file, and how it was chosen."""

    forms: Mapping[str, str] = field(default_factory=dict)  # of each transposed convolution
    kept: tuple[str, ...] = ()  # weights left float
    why: str = "nothing to choose"
    table: tuple[Mapping[str, Any], ...] = ()  # the files tried: what, bytes, ratio to float32
    layers: tuple[Mapping[str, Any], ...] = ()  # of layer_timing.time_layers


def make_cache_key(facts: Mapping[str, Any]) -> str:
    """Return the name of a choice in the cache: a hash of `facts` and of this processor."""
    first: Mapping[str, str] = next(iter(read_cores()), {})
    facts = {**facts, "processor": first.get("model name", platform.machine()), "cpus": os.cpu_count()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def load_or_choose(key: str, choose: Callable[[], LayoutChoice], retune: bool = False) -> LayoutChoice:
    """Return the choice in the cache, or choose and write it there; a cache that cannot be written is no error."""
    try:
        path = make_cache_folder("choices") / f"{key}.json"
    except OSError:  # no home, or a disk that is read-only
        return choose()
    if not retune:
        try:
            found = to_choice(json.loads(read_cached(path) or b""))
            return replace(found, why="measured in an earlier conversion here")
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
    choice = choose()
    write_cached_text(path, json.dumps(asdict(choice)))
    return choice


def to_choice(data: Mapping[str, Any]) -> LayoutChoice:
    """Return the choice in plain data. Raises: KeyError, ValueError or TypeError where it is none."""
    texts = [*dict(data["forms"]).items(), data["kept"]]
    objects = (*data["table"], *data["layers"])
    if not all(isinstance(text, str) for part in texts for text in part) or not all(
        isinstance(o, dict) for o in objects
    ):
        raise TypeError("not a choice")
    return LayoutChoice(
        dict(data["forms"]), tuple(data["kept"]), str(data["why"]), tuple(data["table"]), tuple(data["layers"])
    )


def read_choice(report: Path, recipe: str) -> LayoutChoice:
    """Return the choice in a conversion's report.

    Raises:
        UsageError: the file cannot be read, is no report, or is of another recipe.
    """
    try:
        data = json.loads(report.read_text(encoding="utf-8"))
        choice = to_choice(data["choice"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"it is no conversion's report ({getattr(error, 'strerror', None) or type(error).__name__})"
        raise UsageError(f"--choices {report}", why, "give the .json beside a converted file") from error
    if data["recipe"] != recipe:
        raise UsageError(f"--choices {report}", f"its recipe is {data['recipe']}, not {recipe}")
    return replace(choice, why=f"as {report.name} says")


def check_layers(choice: LayoutChoice, graph: bytes) -> None:
    """Raise UsageError for a choice that names layers which this model does not have."""
    model = unpack(graph)
    known = [one.name for one in find_transposed(model)]
    for name in choice.forms:
        if name not in known:
            raise UsageError("--choices", f"this model has no transposed convolution {name!r}", near_miss(name, known))
