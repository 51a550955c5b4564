"""What of this machine decides how an engine is used: its processor, its cores, its free memory."""

from __future__ import annotations

import os
from pathlib import Path

# Of /proc/cpuinfo: what names the processor and what it can do, without what changes from second to second.
IDENTITY = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "flags",
    "Features",
    "CPU part",
    "CPU variant",
)


def read_cpu() -> dict[str, str]:
    """Return what /proc/cpuinfo says of the first core; empty where there is none."""
    try:
        first = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def identify_cpu() -> str:
    """Return a text that differs where kernels, and so packed weights and speeds, would differ."""
    facts = read_cpu()
    return f"{os.uname().machine if hasattr(os, 'uname') else os.name} {[facts.get(key) for key in IDENTITY]}"


def read_flags() -> frozenset[str]:
    """Return the processor's features, as Linux spells them: avx2, avx512_vnni, amx_bf16, asimddp ..."""
    facts = read_cpu()
    return frozenset((facts.get("flags") or facts.get("Features") or "").split())


def read_free_memory() -> int | None:
    """Return the bytes that may still be used, by the machine and by this process's control group."""
    room = [read_available(), read_group_room()]
    return min((value for value in room if value is not None), default=None)


def read_available() -> int | None:
    """Return MemAvailable in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def read_group_room() -> int | None:
    """Return what a control group's limit leaves, in bytes; None where there is no limit."""
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # "max" is no number
        return None
