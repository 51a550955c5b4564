"""What is on the stick that the board is installed from? Three kits of one key, the installer, and drawn slices.

`first` and `second` are good, `second` is newer. `bad` passes every test in its slot, and its service ends as soon as
it starts: only the health check after the switch can find that.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGET = "raspios-bookworm-arm64-py311"
SPOILED = "edge_runtime/cli/watch.py"
FIRST_LINE = b'    """Serve a folder until stopped."""\n'


def make_stick(folder: Path, wheels: Path | None, slices: int) -> Path:
    """Make the stick, with `slices` drawn images of 224 × 224, unless it is there; return its path.

    wheels: a folder with the dependencies' wheels for the target; None downloads them.
    """
    stick, work = folder / "stick", folder / "stick.work"
    if stick.is_dir():
        return stick
    shutil.rmtree(work, ignore_errors=True)
    kits = work / "stick"
    kits.mkdir(parents=True)
    run("-m", "build", "--quiet", "--wheel", "-o", work / "good", ROOT)
    (wheel,) = (work / "good").iterdir()
    spoil(wheel, work / "bad" / wheel.name)
    run("-m", "deploy", "keygen", "-o", work / "key")
    shutil.copy(work / "key.pub", kits)
    run("-m", "deploy", "installer", "-o", kits / "edge-deploy.pyz")
    for release, (name, kind) in enumerate((("first", "good"), ("second", "good"), ("bad", "bad"))):
        command = ["-m", "deploy", "bundle", ROOT / "edge_runtime/models/default.tflite", "--target", TARGET]
        command += ["--key", work / "key", "--wheel", work / kind / wheel.name, "--release", release]
        run(*command, *(("--wheels", wheels) if wheels else ()), "-o", kits / f"{name}.kit")
    run("-m", "reference", "draw", slices, work / "drawn", "--size", 224)
    shutil.move(work / "drawn" / "images", kits / "images")
    kits.rename(stick)
    shutil.rmtree(work)
    return stick


def run(*words: object) -> None:
    """Run this Python in the checkout. Raises: CalledProcessError."""
    subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def spoil(wheel: Path, path: Path) -> None:
    """Write a copy of edge-seg's wheel whose `--watch` fails at once."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    if FIRST_LINE not in files[SPOILED]:
        raise ValueError(f"{SPOILED} has changed: nothing was spoiled")
    data = files[SPOILED] = files[SPOILED].replace(FIRST_LINE, FIRST_LINE + b'    raise OSError("spoiled")\n')
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    record = next(name for name in files if name.endswith(".dist-info/RECORD"))
    lines = [line for line in files[record].decode().splitlines() if not line.startswith(f"{SPOILED},")]
    files[record] = "\n".join([*lines, f"{SPOILED},sha256={digest},{len(data)}", ""]).encode()
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
