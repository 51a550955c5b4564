"""What a Raspberry Pi's firmware says: throttling and the power of its rails. Other machines have no such command."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 5.0
COMMANDS = ("usr/bin/vcgencmd", "opt/vc/bin/vcgencmd", "usr/local/bin/vcgencmd")
SYSFS = "sys/devices/platform/soc/soc:firmware/get_throttled"
# Bits of get_throttled; the same 16 higher: since boot. Source: Raspberry Pi documentation, vcgencmd.
BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


@dataclass(frozen=True)
class Throttled:
    """What get_throttled says; None where there is no such firmware."""

    now: list[str] | None
    since_boot: list[str] | None


def read_throttled(root: Path) -> Throttled:
    """Return what is throttled now, and what was since boot."""
    try:
        found = (root / SYSFS).read_text().strip()
    except OSError:
        found = ask_firmware(root, "get_throttled").removeprefix("throttled=")
    try:
        return decode_throttled(int(found, 16))
    except ValueError:
        return Throttled(None, None)


def decode_throttled(bits: int) -> Throttled:
    """Return the words of a get_throttled value such as 0x50005."""
    words = [[word for at, word in enumerate(BITS) if bits >> (at + shift) & 1] for shift in (0, 16)]
    return Throttled(words[0], words[1])


def read_rails_watts(root: Path) -> float | None:
    """Return the power of a Pi 5's rails, the sum of current x voltage of each; None where there is no such sensor.

    Source: `vcgencmd pmic_read_adc`, lines such as "3V3_SYS_A current(1)=0.05" and "3V3_SYS_V volt(9)=3.3".
    """
    found = re.findall(r"(\w+)_([AV]) \w+\(\d+\)=([\d.]+)[AV]", ask_firmware(root, "pmic_read_adc"))
    read = {(rail, kind): float(value) for rail, kind, value in found}
    watts = [amperes * read[rail, "V"] for (rail, kind), amperes in read.items() if kind == "A" and (rail, "V") in read]
    return sum(watts) if watts else None


def ask_firmware(root: Path, question: str) -> str:
    """Return vcgencmd's answer; "" where there is none."""
    command = next((root / place for place in COMMANDS if (root / place).is_file()), None)
    if command is None:
        return ""
    try:
        done = subprocess.run([command, question], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
