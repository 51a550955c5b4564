"""Check an engine against LiteRT on the CPU: edge-seg on drawn slices with the embedded model, masks that agree.

check_engine.py ENGINE SLICES COUNT: run by the Python of an environment that has the wheel and the engine. Agreement is
the share of pixels with the same label on each slice, the bound that `--engine auto` has. Works in a folder of its own.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edge_runtime.checks.choose import MIN_AGREEMENT
from edge_runtime.images import read_image


def run(engine, images, out):
    """Run edge-seg on one engine; return the masks' folder."""
    command = [Path(sys.executable).with_name("edge-seg"), images, "-o", out, "--engine", engine, "--quiet"]
    subprocess.run(command, check=True, timeout=300)
    used = json.loads((out / "run.json").read_text())["engine"]["used"]
    assert used == engine, f"{used} ran instead of {engine}"
    return out / "masks"


def main():
    engine, slices, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        for path in sorted(slices.glob("*.png"))[:count]:
            shutil.copy(path, images)
        expected, found = (run(name, images, Path(folder, name)) for name in ("litert", engine))
        lesions = 0
        for path in sorted(expected.iterdir()):
            mask, other = read_image(path) > 0, read_image(found / path.name) > 0
            lesions += bool(mask.any())
            agreement = (mask == other).mean()
            print(f"{engine}: {path.name}: {agreement:.4%} of the pixels as on litert")
            assert agreement >= MIN_AGREEMENT
        assert lesions, "no slice has a lesion: empty masks agree too easily"


if __name__ == "__main__":
    main()
