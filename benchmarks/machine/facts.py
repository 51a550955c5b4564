"""Which machine is this? Facts from /proc and /sys below a `root`, which tests replace.

The facts of a result; what the system does not provide is null:

    board          device-tree model, or DMI's vendor and product
    cpu            the processor's name; several kinds of core as "4 x ARM Cortex-A76 + 4 x ARM Cortex-A55"
    architecture   "x86_64" | "aarch64" | ...
    features       those of FEATURES that the processor has
    cores          processors that are online; `threads_per_core` 2 with hyper-threading
    allowed_cores  processors that this process may use
    max_mhz, min_mhz, governor, ram_bytes, swap_bytes
    os, kernel, glibc, python, versions {package: version}
    virtual        null, or the sign of a virtual machine; container: null, or the container's kind
    throttled_since_boot  [..] the causes that a Raspberry Pi reports, null elsewhere
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from edge_runtime.system.machine import (
    CPU,
    ROOT,
    find_features,
    read_cores,
    read_governor,
    read_memory,
    read_number,
    read_system,
    read_text,
    read_throttled,
)
from edge_runtime.system.versions import read_versions

# Features that determine the speed of int8 and float convolutions.
FEATURES = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
# CPU part numbers of implementer 0x41, Arm. Source: Linux, arch/arm64/include/asm/cputype.h.
ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78", "0xd42": "Cortex-A78AE", "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710", "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2", "0xc07": "Cortex-A7", "0xc0f": "Cortex-A15",
}  # fmt: skip
VENDORS = (
    "QEMU",
    "KVM",
    "VMware",
    "innotek",
    "VirtualBox",
    "Xen",
    "Bochs",
    "Parallels",
    "Amazon EC2",
    "Google Compute",
)
PACKAGES = (
    *("edge-seg", "numpy", "opencv-python-headless", "opencv-python", "ai-edge-litert", "tflite-runtime"),
    *("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "openvino"),
)


def read_facts(root: Path = ROOT) -> dict[str, Any]:
    """Return the machine's facts."""
    memory, cores = read_memory(root), read_cores(root)
    return {
        "board": read_board(root),
        "cpu": name_processor(cores),
        "architecture": find_architecture(cores) or platform.machine(),
        "features": [name for name in FEATURES if name in find_features(cores)],
        "cores": count_online(root) or len(cores) or None,
        "threads_per_core": count_siblings(root),
        "allowed_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "max_mhz": read_mhz(root, "cpuinfo_max_freq"),
        "min_mhz": read_mhz(root, "cpuinfo_min_freq"),
        "governor": read_governor(root),
        "ram_bytes": memory.get("MemTotal"),
        "swap_bytes": memory.get("SwapTotal"),
        "os": read_system(root),
        "kernel": read_text(root / "proc/sys/kernel/osrelease") or None,
        "glibc": " ".join(platform.libc_ver()) or None,
        "python": platform.python_version(),
        "versions": read_versions(PACKAGES),
        "virtual": find_hypervisor(root, cores),
        "container": find_container(root),
        "throttled_since_boot": read_throttled(root).since_boot,
    }


def read_board(root: Path) -> str | None:
    """Return the board's model: the device tree's, or DMI's."""
    tree = read_text(root / "proc/device-tree/model") or read_text(root / "sys/firmware/devicetree/base/model")
    dmi = [read_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name", "product_version")]
    return tree or " ".join(part for part in dmi if part and part.lower() not in ("none", "default string")) or None


def name_processor(cores: list[dict[str, str]]) -> str | None:
    """Return the processor's name; of several kinds of core each with its number."""
    names = [core.get("model name") or name_arm_core(core) for core in cores]
    kinds = {name: names.count(name) for name in names if name}
    if len(kinds) < 2:
        return next(iter(kinds), None)
    return " + ".join(f"{number} x {name}" for name, number in kinds.items())


def name_arm_core(core: dict[str, str]) -> str:
    """Return "ARM Cortex-A76" for a core that gives implementer and part."""
    implementer, part = core.get("CPU implementer", ""), core.get("CPU part", "")
    if implementer == "0x41" and part in ARM_PARTS:
        return f"ARM {ARM_PARTS[part]}"
    return f"implementer {implementer}, part {part}" if implementer else ""


def find_architecture(cores: list[dict[str, str]]) -> str:
    """Return the architecture that /proc/cpuinfo is of; "" where that is not known."""
    first = cores[0] if cores else {}
    if "CPU implementer" in first:
        return "aarch64" if "asimd" in first.get("Features", "") else "armv7l"
    return "x86_64" if "vendor_id" in first and "lm" in first.get("flags", "").split() else ""


def count_online(root: Path) -> int | None:
    """Return how many processors are online, from a list such as "0-3,6"."""
    parts = re.findall(r"(\d+)(?:-(\d+))?", read_text(root / CPU / "online"))
    return sum(int(last or start) - int(start) + 1 for start, last in parts) or None


def count_siblings(root: Path) -> int | None:
    """Return how many hardware threads the first core has."""
    found = read_text(root / CPU / "cpu0/topology/thread_siblings_list")
    return len(re.split("[,-]", found)) if found else None


def read_mhz(root: Path, name: str) -> float | None:
    """Return the highest of the processors' frequencies of that name in cpufreq."""
    found = [read_number(path) for path in (root / CPU).glob(f"cpu[0-9]*/cpufreq/{name}")]
    return max((kilohertz / 1000 for kilohertz in found if kilohertz), default=None)


def find_hypervisor(root: Path, cores: list[dict[str, str]]) -> str | None:
    """Return the sign of a virtual machine; None where there is none."""
    kind = read_text(root / "sys/hypervisor/type") or read_text(root / "proc/device-tree/hypervisor/compatible")
    if kind:
        return kind
    vendor = f"{read_text(root / 'sys/class/dmi/id/sys_vendor')} {read_text(root / 'sys/class/dmi/id/product_name')}"
    named = next((name for name in (*VENDORS, "Virtual Machine") if name in vendor), None)
    flagged = any("hypervisor" in core.get("flags", "").split() for core in cores)
    return named or ("the processor's hypervisor flag" if flagged else None)


def find_container(root: Path) -> str | None:
    """Return the container's kind; None where there is none."""
    for name, kind in (("run/.containerenv", "podman"), (".dockerenv", "docker")):
        if (root / name).exists():
            return kind
    found = re.search(r"docker|kubepods|lxc|containerd", read_text(root / "proc/1/cgroup"))
    return found[0] if found else None
