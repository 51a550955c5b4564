"""Prints the table of docs/signals.md: how often each flag is raised on held-out slices, changed ones and other images.

`python tools/flags.py T1CE NO_TUMOUR HELD_OUT.txt [ORIGINALS]`, from the checkout. T1CE: a data folder. NO_TUMOUR: a
plain folder. HELD_OUT.txt: patients, as training writes them. ORIGINALS: a plain folder of slices at full size.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]  # not this folder: its numbers.py would hide the standard one

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from strangers import draw_page, draw_photo, draw_screenshot  # noqa: E402

from edge_runtime import Contract, Session  # noqa: E402
from edge_runtime.contract.fields import FlagLimits  # noqa: E402
from edge_runtime.contract.tail import read_contract  # noqa: E402
from edge_runtime.images import read_image  # noqa: E402
from edge_runtime.inference.flags import find_features, flag_input, raise_flags  # noqa: E402
from edge_runtime.inference.postprocess import measure_mask  # noqa: E402
from edge_runtime.models import DEFAULT  # noqa: E402
from reference.data.folders import Slice, read_folder  # noqa: E402

Pixels = npt.NDArray[Any]
FLAGS = ("inverted", "foreign", "intensity", "saturated", "size", "blank")


def to_jpeg(image: Pixels) -> Pixels:
    """Return a grey image as decoded from a colour JPEG of quality 70."""
    _, data = cv2.imencode(".jpg", cv2.merge([image] * 3), [cv2.IMWRITE_JPEG_QUALITY, 70])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "both, as colour JPEG of quality 70": to_jpeg,
    "both, as 12 bit in 16": lambda image: image.astype(np.uint16) * 16,
    "both, turned by 90°": lambda image: np.ascontiguousarray(np.rot90(image)),
    "both, their negatives": lambda image: 255 - image,
    "both, eight times darker": lambda image: image // 8,
    "both, four times brighter, clipped": lambda image: np.minimum(image.astype(np.uint16) * 4, 255).astype(np.uint8),
    "both, at 32 × 32": lambda image: cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA),
}


def main(arguments: list[str]) -> None:
    """Print the table, and how often each flag is raised on results."""
    t1ce, no_tumour, held_out_file, *originals = map(Path, arguments)
    held_out = set(held_out_file.read_text("utf-8").split("\n"))
    contract = read_contract(DEFAULT)
    assert contract.triage is not None
    with_lesion, without_lesion = pick_images(t1ce, held_out), pick_images(no_tumour, held_out)
    print("| images | number |" + "".join(f" `{flag}` |" for flag in FLAGS) + "\n" + "| --- " * (len(FLAGS) + 2) + "|")
    rows: dict[str, Iterable[Pixels]] = {
        "held-out patients, tumour": with_lesion,
        "held-out slices without tumour, of another source": without_lesion,
        **{name: [change(image) for image in with_lesion + without_lesion] for name, change in CHANGES.items()},
        "slices at their original 512 × 512": [image for folder in originals for image in pick_images(folder, None)],
        "drawn photographs, colour and grey": [draw_photo(seed, seed % 2 == 1) for seed in range(200)],
        "drawn pages of text": [draw_page(seed) for seed in range(100)],
        "… their negatives": [255 - draw_page(seed) for seed in range(100)],
        "drawn screenshots, light and dark": [draw_screenshot(seed, seed % 2 == 1) for seed in range(200)],
        "noise": [np.random.default_rng(seed).integers(0, 256, (256, 256), np.uint8) for seed in range(20)],
        "black, white, grey": [np.full((256, 256), value, np.uint8) for value in (0, 255, 128)],
    }
    for name, images in rows.items():
        if not images:
            continue
        print(format_row(name, list(images), contract.triage))
    for name, images in (("a tumour", with_lesion), ("none", without_lesion)):
        print(f"results on slices with {name}: {count_results(images, contract)}")


def pick_images(folder: Path, held_out: set[str] | None) -> list[Pixels]:
    """Return the images of a folder whose patients are held out, or all."""

    def is_held_out(item: Slice) -> bool:
        return held_out is None or item.patient in held_out

    return [read_image(item.image) for item in read_folder(folder) if is_held_out(item)]


def format_row(name: str, images: list[Pixels], limits: FlagLimits) -> str:
    """Return the table's row of a group of images."""
    counts = Counter(flag for image in images for flag in flag_input(find_features(image), limits))
    shares = [f"{counts[flag] / len(images):.1%}".replace(".0%", "%").replace("%", " %") for flag in FLAGS]
    return f"| {name} | {len(images)} | " + " | ".join("0" if s == "0 %" else s for s in shares) + " |"


def count_results(images: list[Pixels], contract: Contract) -> str:
    """Return the share of images with each flag of a result."""
    session = Session.load()
    counts: Counter[str] = Counter()
    for image in images:
        result = session.segment(image)
        measured = measure_mask(result.labels, result.probability, len(contract.output.labels))
        counts.update(raise_flags(image, measured, contract, session.threshold))
    return ", ".join(f"{flag} {count / len(images):.1%}" for flag, count in counts.most_common())


if __name__ == "__main__":
    main(sys.argv[1:])
