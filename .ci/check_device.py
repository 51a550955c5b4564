"""Check an environment that has the wheel and nothing else of ours: no training framework, and edge-seg works.

Run by the environment's own Python, with a folder of images; works in an empty folder of its own.
"""

import csv
import importlib.util
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

slices = Path(sys.argv[1]).resolve()
command = Path(sys.executable).with_name("edge-seg")

for module in ("tensorflow", "keras", "torch", "matplotlib"):
    assert importlib.util.find_spec(module) is None, f"{module} is importable"

with tempfile.TemporaryDirectory() as folder:
    subprocess.run([command, "--help"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    run = subprocess.run([command, slices, "-o", "out"], cwd=folder, check=True, capture_output=True, text=True)
    with Path(folder, "out", "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = [path for path in slices.iterdir() if path.is_file()]
    assert len(rows) == len(images) and all(row["status"] == "ok" for row in rows), rows
    assert Path(folder, "out", "index.html").is_file()
    info = subprocess.run([command, "--info"], cwd=folder, check=True, capture_output=True, text=True).stdout
    assert len(info.splitlines()) == 8 and "not a medical device" in info
    subprocess.run([command, "--selftest"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([command, "--doctor"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
print(f"Python {platform.python_version()}: {run.stdout.splitlines()[-2]}")
