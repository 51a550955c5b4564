"""Make a key, the installer and an old and a new small kit for .ci/check_fleet: make_fleet_kits.py FOLDER.

Their edge-seg fails its self-test on a device whose root has a file named `broken`.
"""

import hashlib
import sys
from pathlib import Path

HERE = Path(__file__).parents[1]
sys.path[:0] = [str(HERE), str(HERE / "tests"), str(HERE / "tests" / "deploy")]

from kits import FAKE_CLOCK, make_model, pack, write_wheel  # noqa: E402

from deploy.installer import NAME, build_installer  # noqa: E402
from deploy.kit.keys import make_keys  # noqa: E402
from deploy.kit.manifest import LOCK, MODEL  # noqa: E402

SEG = """\
import sys
from pathlib import Path

def main():
    if "--selftest" in sys.argv and (Path(sys.prefix).parents[2] / "broken").exists():
        print("edge-seg: error: the self-test: infer diverged", file=sys.stderr)
        return 1
    return 0
"""


def main() -> None:
    """Write key, installer and kits into FOLDER."""
    folder = Path(sys.argv[1])
    files = {"fakeseg.py": SEG, "deploy/__init__.py": "", "deploy/clock.py": FAKE_CLOCK}
    wheel = write_wheel(folder, "edge-seg", files=files, scripts="edge-seg = fakeseg:main")
    lock = f"edge-seg==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
    make_keys(folder / "vendor")
    (folder / NAME).write_bytes(build_installer())
    for name, version in (("old", "0.9"), ("new", "3")):
        parts = {LOCK: lock.encode(), MODEL: make_model(version), f"wheels/{wheel.name}": wheel.read_bytes()}
        names = {"model_id": "liteunet-ag", "model_version": version}
        (folder / f"{name}.kit").write_bytes(pack(folder / "vendor", parts, **names))


if __name__ == "__main__":
    main()
