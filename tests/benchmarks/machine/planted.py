"""Writes the /proc and /sys of some machines below a folder: a Pi 4, a Pi 5, a Jetson, a laptop, a VM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ARM = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
MEMINFO = "MemTotal: {total} kB\nMemFree: 1000 kB\nMemAvailable: {free} kB\nSwapTotal: 102400 kB\nSwapFree: 92400 kB\n"


def plant(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def arm_cpuinfo(parts: list[str], features: str) -> str:
    """/proc/cpuinfo of cores with these part numbers, ending in the board's block as on a Raspberry Pi."""
    cores = [
        f"processor\t: {n}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n"
        for n, part in enumerate(parts)
    ]
    return "\n".join(cores)


def frequencies(cores: int, now: int, most: int, governor: str, least: int = 600000) -> dict[str, str]:
    """cpufreq's files, in kHz, and the list of processors that are online."""
    files = {"sys/devices/system/cpu/online": f"0-{cores - 1}\n"}
    for n in range(cores):
        place = f"sys/devices/system/cpu/cpu{n}/cpufreq"
        files |= {
            f"{place}/scaling_cur_freq": f"{now}\n",
            f"{place}/cpuinfo_max_freq": f"{most}\n",
            f"{place}/cpuinfo_min_freq": f"{least}\n",
            f"{place}/scaling_governor": f"{governor}\n",
            f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n}\n",
        }
    return files


def plant_vcgencmd(root: Path, answers: Mapping[str, str]) -> Path:
    """A vcgencmd that gives these answers."""
    cases = "".join(f"{question}) printf '%s\\n' '{answer}' ;;\n" for question, answer in answers.items())
    plant(root, {"usr/bin/vcgencmd": f'#!/bin/sh\ncase "$1" in\n{cases}esac\n'})
    (root / "usr/bin/vcgencmd").chmod(0o755)
    return root


def plant_pi4(root: Path, throttled: str = "0x50005") -> Path:
    features = "fp asimd evtstrm crc32 cpuid"
    files = {
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "proc/cpuinfo": arm_cpuinfo(["0xd08"] * 4, features)
        + "\nRevision\t: c03114\nModel\t: Raspberry Pi 4 Model B\n",
        "proc/meminfo": MEMINFO.format(total=3884360, free=3100000),
        "proc/loadavg": "0.15 0.10 0.05 1/170 999\n",
        "proc/stat": "cpu  100 0 50 850 0 0 0 0 0 0\n",
        "proc/sys/kernel/osrelease": "6.12.25+rpt-rpi-v8\n",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\n',
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "81750\n",
        **frequencies(4, 1000000, 1800000, "ondemand"),
    }
    return plant_vcgencmd(plant(root, files), {"get_throttled": f"throttled={throttled}"})


def plant_pi5(root: Path) -> Path:
    files = {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": arm_cpuinfo(["0xd0b"] * 4, ARM),
        "proc/meminfo": MEMINFO.format(total=8255616, free=7300000),
        "proc/loadavg": "0.00 0.00 0.00 1/170 999\n",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "52300\n",
        **frequencies(4, 2400000, 2400000, "performance", 1500000),
    }
    adc = "3V3_SYS_A current(1)=0.50000000A\n3V3_SYS_V volt(9)=3.30000000V\n" + (
        "VDD_CORE_A current(7)=2.00000000A\nVDD_CORE_V volt(15)=0.90000000V\nEXT5V_V volt(24)=5.10000000V\n"
    )
    return plant_vcgencmd(plant(root, files), {"get_throttled": "throttled=0x0", "pmic_read_adc": adc})


def plant_jetson(root: Path) -> Path:
    zones = {"0": ("cpu-thermal", "48500"), "1": ("gpu-thermal", "47000"), "2": ("tj-thermal", "48500")}
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "proc/cpuinfo": arm_cpuinfo(["0xd42"] * 6, f"{ARM} i8mm bf16"),
        "proc/meminfo": MEMINFO.format(total=7801668, free=6000000),
        "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
        **{f"sys/class/thermal/thermal_zone{n}/type": f"{kind}\n" for n, (kind, _) in zones.items()},
        **{f"sys/class/thermal/thermal_zone{n}/temp": f"{heat}\n" for n, (_, heat) in zones.items()},
        "sys/class/thermal/thermal_zone3/type": "cv0-thermal\n",  # powered down: reading it fails, there is no temp
        **frequencies(6, 1510400, 1510400, "schedutil"),
    }
    return plant(root, files)


def plant_laptop(root: Path, throttles: int = 12) -> Path:
    flags = "fpu lm sse4_2 avx f16c fma avx2 avx_vnni"
    kind = "vendor_id\t: GenuineIntel\nmodel name\t: 12th Gen Intel(R) Core(TM) i5-1240P"
    cores = "\n".join(f"processor\t: {n}\n{kind}\nflags\t\t: {flags}\n" for n in range(4))
    files = {
        "proc/cpuinfo": cores,
        "proc/meminfo": MEMINFO.format(total=16000000, free=9000000),
        "proc/loadavg": "0.80 0.50 0.40 2/900 4242\n",
        "proc/stat": "cpu  1000 20 300 8000 100 10 20 0 0 0\n",
        "proc/vmstat": "pswpin 5\npswpout 7\n",
        "etc/os-release": "PRETTY_NAME=Fedora\n",
        "sys/class/dmi/id/sys_vendor": "LENOVO\n",
        "sys/class/dmi/id/product_name": "21CBCTO1WW\n",
        "sys/class/thermal/thermal_zone0/type": "acpitz\n",
        "sys/class/thermal/thermal_zone0/temp": "30000\n",
        "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
        "sys/class/thermal/thermal_zone1/temp": "71000\n",
        "sys/class/hwmon/hwmon0/name": "coretemp\n",
        "sys/class/hwmon/hwmon0/temp1_input": "73000\n",
        "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": f"{throttles}\n",
        **frequencies(4, 3100000, 4400000, "powersave"),
        "sys/devices/system/cpu/cpu0/topology/thread_siblings_list": "0-1\n",
    }
    return plant(root, files)


def plant_vm(root: Path, steal: int = 0, busy: int = 1000) -> Path:
    files = {
        "proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\ncpu MHz\t\t: 2445.426\n"
        "flags\t\t: fpu lm avx avx2 hypervisor\n",
        "proc/meminfo": MEMINFO.format(total=4000000, free=3000000),
        "proc/stat": f"cpu  {busy} 0 0 {10000 - busy} 0 0 0 {steal} 0 0\ncpu0 1 2 3\n",
        "sys/class/dmi/id/sys_vendor": "QEMU\n",
        "sys/class/dmi/id/product_name": "Standard PC (i440FX + PIIX, 1996)\n",
        "sys/devices/system/cpu/online": "0\n",
        "sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_periods 10\nnr_throttled 3\n",
        ".dockerenv": "",
    }
    return plant(root, files)
