"""One engine tried on a few drawn images, in a process of its own: a driver that crashes takes nothing along."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import child_command
from ..errors import EdgeSegError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..contract import Contract
    from ..session import Session

LIMIT_S = 90.0  # the first compilation of a GPU's shaders takes long; a driver that hangs takes longer
MEASURED_S = 1.0
DRAWN, ROUNDS = 3, 2


@dataclass(frozen=True)
class Trial:
    """How an engine did with so many threads and workers; `why_not` is empty where it may be taken."""

    engine: str
    threads: int
    workers: int
    images_per_second: float = 0.0
    peak_rss_bytes: int = 0
    agreement: float = 0.0  # share of pixels that have the reference's label
    why_not: str = ""


@dataclass(frozen=True)
class Masks:
    """What an engine made of the drawn images."""

    labels: npt.NDArray[np.uint8]  # (DRAWN, ...)
    probability: npt.NDArray[np.float32]  # (DRAWN, ...)


def try_engine(model: Path, trial: Trial, limit_s: float = LIMIT_S) -> tuple[Trial, Masks | None]:
    """Return a trial with its figures, and its masks; or with the reason why there are none."""
    import subprocess
    import tempfile

    from . import ENGINES

    try:
        with tempfile.TemporaryDirectory(prefix="edge-seg-") as folder:
            made = Path(folder) / "masks.npz"
            spec = {**asdict(trial), "module": ENGINES[trial.engine][0], "model": str(model.resolve())}
            command, environment = child_command("edge_runtime.engines.trial", json.dumps(spec), str(made))
            done = subprocess.run(
                command,
                env=environment,
                timeout=limit_s,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd=folder,  # where a crash may leave its core
                check=False,
            )
            found = read_answer(done.stdout)
            if found is None:
                return replace(trial, why_not=f"it crashed, exit status {done.returncode}"), None
            if "why_not" in found:
                return replace(trial, why_not=found["why_not"]), None
            return replace(trial, **found), read_masks(made)
    except subprocess.TimeoutExpired:
        return replace(trial, why_not=f"it did not answer within {limit_s:g} s"), None
    except (OSError, ValueError, KeyError) as error:
        return replace(trial, why_not=f"it could not be tried ({error})"), None


def read_answer(output: bytes) -> dict[str, Any] | None:
    """Return the last line that a child printed, a JSON object; libraries may have printed before it."""
    try:
        found = json.loads(output.decode("utf-8", "replace").splitlines()[-1])
    except (ValueError, IndexError):
        return None
    return found if isinstance(found, dict) else None


def read_masks(path: Path) -> Masks:
    """Return the masks that a child wrote."""
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return Masks(arrays["labels"], arrays["probability"])


def draw_images(contract: Contract) -> list[npt.NDArray[np.uint8]]:
    """Return images, or volumes, of a size of their own: a grey head in the dark with a bright, a dim and no lesion."""
    import numpy as np

    height, width = 200, 232
    y, x = np.mgrid[:height, :width].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 6, (height, width))
    drawn = []
    for brightness, side in ((140, 18), (60, 12), (0, 1)):
        head = ((y - height / 2) / 90) ** 2 + ((x - width / 2) / 78) ** 2 < 1
        lesion = ((y - 80) / side) ** 2 + ((x - 140) / (side + 4)) ** 2 < 1
        image = np.clip(head * (85 + noise + 20 * np.sin(x / 9) * np.cos(y / 11)) + lesion * brightness, 0, 255)
        flat = np.rint(image).astype(np.uint8)
        drawn.append(flat if contract.input.depth is None else np.repeat(flat[None], contract.input.depth, axis=0))
    return drawn


def measure_speed(sessions: list[Session], images: list[npt.NDArray[np.uint8]]) -> float:
    """Return how many images a second all sessions together segment, each in a thread."""

    from concurrent.futures import ThreadPoolExecutor

    def work(session: Session) -> int:
        done = 0
        while done < ROUNDS or time.perf_counter() < end:
            session.segment(images[done % len(images)])
            done += 1
        return done

    started = time.perf_counter()
    end = started + MEASURED_S
    with ThreadPoolExecutor(len(sessions)) as pool:
        done = sum(pool.map(work, sessions))
    return done / (time.perf_counter() - started)


def answer(spec: dict[str, Any], made: Path) -> dict[str, Any]:
    """Try what the parent asks for: write the masks, return the figures or why there are none."""
    import numpy as np

    from ..session import Session
    from . import ENGINES

    ENGINES.setdefault(spec["engine"], (spec["module"], spec["engine"]))
    try:
        count = spec["workers"]
        sessions = [Session.load(spec["model"], spec["engine"], spec["threads"]) for _ in range(count)]
        images = draw_images(sessions[0].contract)
        results = [sessions[0].segment(image) for image in images]
        for session in sessions[1:]:
            session.segment(images[0])
        speed = measure_speed(sessions, images)
    except EdgeSegError as error:
        return {"why_not": error.why}
    labels, probability = (np.stack([getattr(r, name) for r in results]) for name in ("labels", "probability"))
    np.savez(made, labels=labels, probability=probability)
    return {"images_per_second": round(speed, 2), "peak_rss_bytes": read_peak()}


def read_peak() -> int:
    """Return the most memory that this process had at once, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(answer(json.loads(sys.argv[1]), Path(sys.argv[2]))), flush=True)
