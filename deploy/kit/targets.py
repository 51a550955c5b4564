"""Which systems are kits made for, and why not for others?"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from edge_runtime.errors import UsageError

# name                            machine  Python   C library  what it is
TABLE = """
raspios-bookworm-arm64-py311      aarch64  3.11     2.36       Raspberry Pi OS 12, 64-bit: Pi 4, Pi 5
raspios-trixie-arm64-py313        aarch64  3.13     2.41       Raspberry Pi OS 13, 64-bit: Pi 4, Pi 5
debian-bookworm-arm64-py311       aarch64  3.11     2.36       Debian 12 on arm64
debian-bookworm-x86_64-py311      x86_64   3.11     2.36       Debian 12 on x86-64
debian-trixie-arm64-py313         aarch64  3.13     2.41       Debian 13 on arm64
debian-trixie-x86_64-py313        x86_64   3.13     2.41       Debian 13 on x86-64
ubuntu-24.04-arm64-py312          aarch64  3.12     2.39       Ubuntu 24.04 LTS on arm64
ubuntu-24.04-x86_64-py312         x86_64   3.12     2.39       Ubuntu 24.04 LTS on x86-64
"""
OLD_RELEASES = {"buster": "3.7", "bullseye": "3.9", "18.04": "3.6", "20.04": "3.8", "22.04": "3.10", "focal": "3.8"}
OLD_RELEASES["jammy"] = "3.10"
SMALL_SYSTEM = re.compile(r"(^|-)(armhf|armel|armv[67]\w*|arm32|i[3-6]86|x86|32bit)(-|$)")
LEGACY_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # glibc 2.N: the tag's older name
SEE_LIST = "edge-deploy targets lists those that are known"


@dataclass(frozen=True)
class Target:
    """One system: its machine as `platform.machine()` returns it, the versions of its Python and its C library."""

    name: str
    machine: str
    python: str
    glibc: str
    description: str


TARGETS = {
    name: Target(name, machine, python, glibc, description)
    for name, machine, python, glibc, description in (line.split(maxsplit=4) for line in TABLE.strip().splitlines())
}


def find_target(name: str) -> Target:
    """Return the target of that name. Raises: UsageError, with the reason where the system is not supported."""
    if name in TARGETS:
        return TARGETS[name]
    what = f"the target {name!r}"
    if SMALL_SYSTEM.search(name):
        why = "it is a 32-bit system, for which there is no LiteRT"
        raise UsageError(what, why, "install the 64-bit edition of its system; it runs on a Pi 3, 4 and 5")
    for release, python in OLD_RELEASES.items():
        if release in name.split("-"):
            why = f"{release} is too old: its Python is {python}, and 3.11 is the least"
            raise UsageError(what, why, "install Raspberry Pi OS or Debian bookworm, or Ubuntu 24.04, or newer")
    close = difflib.get_close_matches(name, TARGETS, 1)
    raise UsageError(what, "there is no target of that name", f"did you mean {close[0]!r}?" if close else SEE_LIST)


def list_platforms(target: Target) -> list[str]:
    """Return every platform tag of wheels that run there, the newest first.

    All of them are needed: pip compares tags literally. With `manylinux2014` alone it misses a `manylinux_2_27` wheel
    that runs on the system.
    Source: PEP 600, PEP 599, PEP 571, PEP 513.
    """
    oldest = 5 if target.machine == "x86_64" else 17
    found = []
    for minor in range(int(target.glibc.removeprefix("2.")), oldest - 1, -1):
        found.append(f"manylinux_2_{minor}_{target.machine}")
        if minor in LEGACY_TAGS:
            found.append(f"{LEGACY_TAGS[minor]}_{target.machine}")
    return found


def list_tags(target: Target) -> frozenset[str]:
    """Return every wheel tag `python-abi-platform` that the target's CPython accepts. Source: PEP 425, PEP 384."""
    minor = int(target.python.removeprefix("3."))
    interpreter, platforms = f"cp3{minor}", list_platforms(target)
    tags = {f"{interpreter}-{abi}-{platform}" for abi in (interpreter, "abi3", "none") for platform in platforms}
    tags |= {f"cp3{older}-abi3-{platform}" for older in range(2, minor) for platform in platforms}
    pythons = [f"py3{older}" for older in range(minor + 1)] + ["py3"]
    tags |= {f"{python}-none-{platform}" for python in pythons for platform in (*platforms, "any")}
    return frozenset(tags | {f"{interpreter}-none-any"})
