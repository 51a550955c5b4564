"""One engine tried on a few drawn images, in processes of its own: a driver that crashes takes nothing along."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import child_command
from ..errors import EdgeSegError, EngineError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..contract import Contract
    from ..session import Session

LIMIT_S = 90.0  # the first compilation of a GPU's shaders takes long; a driver that hangs takes longer
MEASURED_S = 1.0
DRAWN, ROUNDS = 3, 3
UNDER_WAY = 4  # images at a time in a process, as in a folder run
MASKS = "masks.npz"


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
    """Return a trial with its figures, and its masks; or with the reason why there are none.

    Each worker is a process, as in a folder run; all measure at the same time.
    """
    import tempfile

    from . import ENGINES

    spec = {**asdict(trial), "module": ENGINES[trial.engine][0], "model": str(model.resolve()), "seconds": MEASURED_S}
    crew: list[subprocess.Popen[bytes]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="edge-seg-") as folder, ExitStack() as stack:
            end = time.monotonic() + limit_s
            made = [Path(folder, str(number)) for number in range(trial.workers)]
            for place in made:  # one after another: the first packs the weights that the others map
                place.mkdir()
                crew.append(stack.enter_context(start_worker(spec, place)))
                stack.callback(crew[-1].kill)
                check_answer(crew[-1], end)
            for process in crew:
                assert process.stdin is not None
                process.stdin.write(b"\n")
                process.stdin.flush()
            found = [check_answer(process, end) for process in crew]
            speed = round(sum(its["images_per_second"] for its in found), 2)
            memory = sum(its["peak_rss_bytes"] for its in found)
            return replace(trial, images_per_second=speed, peak_rss_bytes=memory), read_masks(made[0] / MASKS)
    except Refused as refused:
        return replace(trial, why_not=str(refused)), None
    except TimeoutError:
        return replace(trial, why_not=f"it did not answer within {limit_s:g} s"), None
    except (OSError, ValueError, KeyError) as error:
        return replace(trial, why_not=f"it could not be tried ({error})"), None


class Refused(Exception):
    """Why an engine is out."""


def start_worker(spec: dict[str, Any], place: Path) -> subprocess.Popen[bytes]:
    """Return a process that loads the engine and segments; a crash leaves its core in `place`."""
    command, environment = child_command("edge_runtime.engines.trial", json.dumps(spec), str(place))
    pipe, away = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=away, cwd=place)


def check_answer(process: subprocess.Popen[bytes], end: float) -> dict[str, Any]:
    """Return the next JSON object that a process prints; libraries may print other lines.

    Raises: Refused with its reason or how it ended; TimeoutError at `end` on the monotonic clock.
    """
    assert process.stdout is not None
    line = b""
    while True:
        if not select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError
        byte = process.stdout.read1(1)  # type: ignore[attr-defined]
        line += byte
        if byte not in (b"", b"\n"):
            continue
        found = read_answer(line)
        if found is not None and "why_not" in found:
            raise Refused(found["why_not"])
        if found is not None:
            return found
        if not byte:
            raise Refused(f"it crashed, exit status {process.wait()}")
        line = b""


def read_answer(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a line holds, None for any other."""
    try:
        found = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
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
        image = np.clip(head * (85 + noise) + lesion * brightness, 0, 255)
        flat = np.rint(image).astype(np.uint8)
        drawn.append(flat if contract.input.depth is None else np.repeat(flat[None], contract.input.depth, axis=0))
    return drawn


def measure_speed(session: Session, images: list[npt.NDArray[np.uint8]], place: Path, seconds: float) -> float:
    """Return how many images a second this process reads, segments and writes, drawn twice as large."""
    from ..crew import Answer, Line
    from ..folder import Options
    from ..images import encode_png, write_file
    from ..inputs import Input
    from ..worker import Worker

    options = Options()
    line = Line(Worker(place / "out", session, lambda: session, options, {}), options.workers)
    items = []
    for number, image in enumerate(images):
        write_file(place / f"{number}.png", encode_png(image.repeat(2, 0).repeat(2, 1)))
        items.append(Input(place / f"{number}.png", f"{number}.png", f"{number}.png"))
    waiting: deque[Future[Answer]] = deque()
    done, asked = 0, 0
    started = time.perf_counter()
    while waiting or not done:
        while len(waiting) < UNDER_WAY and (asked < ROUNDS or time.perf_counter() < started + seconds):
            waiting.append(line.put(items[asked % len(items)]))
            asked += 1
        answer, _ = waiting.popleft().result()
        if answer.row["status"] != "ok":
            raise EngineError("trial", answer.row["error"])
        done += 1
    spent = time.perf_counter() - started
    line.close()
    return done / spent


def measure_volumes(session: Session, volumes: list[npt.NDArray[np.uint8]], seconds: float) -> float:
    """Return how many volumes a second this process segments; no folder run does."""
    done, started = 0, time.perf_counter()
    while done < ROUNDS or time.perf_counter() < started + seconds:
        session.segment(volumes[done % len(volumes)])
        done += 1
    return done / (time.perf_counter() - started)


def answer(spec: dict[str, Any], place: Path) -> dict[str, Any]:
    """Try what the parent asks for: write the masks, wait for its word, return the figures or why there are none."""
    import numpy as np

    from ..session import Session
    from . import ENGINES

    ENGINES.setdefault(spec["engine"], (spec["module"], spec["engine"]))
    try:
        session = Session.load(spec["model"], spec["engine"], spec["threads"])
        images = draw_images(session.contract)
        results = [session.segment(image) for image in images]
        labels, probability = (np.stack([getattr(r, name) for r in results]) for name in ("labels", "probability"))
        np.savez(place / MASKS, labels=labels, probability=probability)
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.readline()
        if session.contract.input.depth is None:
            speed = measure_speed(session, images, place, spec["seconds"])
        else:
            speed = measure_volumes(session, images, spec["seconds"])
    except EdgeSegError as error:
        return {"why_not": error.why}
    return {"images_per_second": speed, "peak_rss_bytes": read_peak()}


def read_peak() -> int:
    """Return the most memory that this process had at once, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(answer(json.loads(sys.argv[1]), Path(sys.argv[2]))), flush=True)
