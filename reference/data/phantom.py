"""Draws T1-like, contrast-enhanced axial brain slices with tumours, for the demo, the tests and as extra training data.

Nothing here comes from a patient. Every slice is a function of its random generator alone. Anatomy is defined in
head coordinates, so one drawing fits any frame: `x` to the image's right, `y` towards the back of the head, both in
units of half the brain's length; the brain's midline is x = 0. Brightness is float32 until the last step: about 0
for air and 1 for the brightest vessel.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import OutputError
from edge_runtime.system.spreadsheet import escape_formula

Field = NDArray[np.floating[Any]]  # always float32; the type is wider because numpy's stubs are

KINDS = ("glioma", "meningioma", "pituitary", "none")
MIN_SIDE, MAX_SIDE = 64, 1024  # pixels a side; below, a skull is thinner than a pixel

# lesion area, per cent of the frame: (median, standard deviation of its logarithm, minimum, maximum)
LESION_AREAS = {"glioma": (1.6, 0.5, 0.35, 5.0), "meningioma": (1.4, 0.5, 0.3, 4.5), "pituitary": (0.7, 0.4, 0.25, 1.8)}

EYE, SELLA = (0.35, -0.87), (0.0, -0.2)  # head coordinates; the other eye is its mirror image


@dataclass(frozen=True)
class Phantom:
    """One drawn slice: `image` (H, W) uint8, `mask` (H, W) bool, true on the lesion, and its `kind`, one of KINDS."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    kind: str


@dataclass(frozen=True)
class Head:
    """A slice's geometry as fields (H, W) float32 in head coordinates, and the brightness of each tissue."""

    level: str  # "top" above the ventricles, "middle" through them, "sella" through the orbits
    x: Field
    y: Field
    depth: Field  # distance from the inner skull, positive inside
    brain: Field  # distance from the brain's surface, positive inside; differs from `depth` at the sella only
    pixel: float  # the side of a pixel, in head units
    white: float
    grey: float
    fluid: float


@dataclass(frozen=True)
class Lesion:
    """A tumour to paint: its signed distance `inside` (H, W), positive inside, its `radius`, and its `mask`."""

    inside: Field
    radius: float
    mask: NDArray[np.bool_]
    falx: bool  # grown from the falx, not from the inner skull


# ---------------------------------------------------------------- slices, folders and demo files


def draw_phantom(rng: np.random.Generator, kind: str, size: int | tuple[int, int] = 256) -> Phantom:
    """Draw one slice of `kind`, `size` pixels square or (height, width), each from 64 to 1024.

    The same generator state, kind and size give the same slice, bit for bit. The mask is empty for "none" only.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; one of {', '.join(KINDS)}")
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_SIDE:
        raise ValueError(f"size {height}x{width} is outside {MIN_SIDE} to {MAX_SIDE} pixels a side")
    head = lay_out_head(rng, kind, (height, width))
    image = paint_head(rng, head)
    mask = np.zeros((height, width), dtype=np.bool_)
    if kind != "none":
        lesion = place_lesion(rng, head, kind)
        PAINTERS[kind](rng, image, head, lesion)
        mask = lesion.mask
    return Phantom(simulate_scan(rng, image, head), mask, kind)


def draw_folder(count: int, dest: Path, seed: int = 0, size: int | tuple[int, int] = 256) -> list[str]:
    """Write `count` slices as a data folder: images/ID.png, masks/ID.png ({0, 255}) and labels.csv; return the ids.

    Kinds rotate; each slice is a patient of its own. Slice number n depends on `seed` and n only, so a longer folder
    starts with the shorter one. labels.csv is written last: a folder without it was interrupted.
    """
    dest = Path(dest)
    images, masks = dest / "images", dest / "masks"
    if images.exists() and any(images.iterdir()):
        raise OutputError(str(images), "it is not empty", "name a new folder")
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(1, count + 1):
        name = f"d{number:04d}"
        phantom = draw_phantom(np.random.default_rng([seed, number]), KINDS[(number - 1) % len(KINDS)], size)
        write_image(images / f"{name}.png", phantom.image)
        write_image(masks / f"{name}.png", phantom.mask.astype(np.uint8) * 255)
        rows.append((name, phantom.kind, name))
    write_labels(dest / "labels.csv", rows)
    return [row[0] for row in rows]


def draw_demo(dest: Path, seed: int = 0) -> list[Path]:
    """Write the demo's twelve slices, of varied formats and sizes, into `dest`; return their paths.

    Grey, colour, RGBA and 16-bit PNG, JPEG, 16-bit TIFF and BMP; nine slices with a tumour and three without.
    """
    dest = Path(dest)
    dest.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (kind, size, pixel_format, suffix) in enumerate(DEMO, start=1):
        phantom = draw_phantom(np.random.default_rng([seed, number]), kind, size)
        path = dest / f"slice-{number:02d}-{'no-tumour' if kind == 'none' else kind}{suffix}"
        write_image(path, PIXEL_FORMATS[pixel_format](phantom.image))
        paths.append(path)
    return paths


DEMO: tuple[tuple[str, tuple[int, int], str, str], ...] = (
    ("glioma", (256, 256), "grey", ".png"),
    ("meningioma", (512, 512), "grey", ".jpg"),
    ("pituitary", (512, 512), "grey", ".png"),
    ("none", (256, 256), "grey", ".jpg"),
    ("glioma", (301, 257), "colour", ".png"),
    ("meningioma", (256, 256), "rgba", ".png"),
    ("pituitary", (256, 256), "12-bit", ".png"),
    ("none", (200, 320), "grey", ".bmp"),
    ("glioma", (512, 512), "16-bit", ".png"),
    ("meningioma", (320, 320), "16-bit", ".tif"),
    ("pituitary", (384, 300), "grey", ".bmp"),
    ("none", (512, 512), "12-bit", ".tif"),
)

PIXEL_FORMATS: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
    "grey": lambda image: image,
    "colour": lambda image: cv2.cvtColor(image, cv2.COLOR_GRAY2BGR),
    "rgba": lambda image: cv2.cvtColor(image, cv2.COLOR_GRAY2BGRA),
    "12-bit": lambda image: np.rint(image * (4095 / 255)).astype(np.uint16),
    "16-bit": lambda image: image.astype(np.uint16) * 257,
}


# ---------------------------------------------------------------- files


def write_image(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write an image in the format of the path's suffix. Raises: OutputError if OpenCV cannot encode it."""
    done, data = cv2.imencode(path.suffix, image)
    if not done:
        raise OutputError(str(path), "this build of OpenCV does not write this format")
    path.write_bytes(data.tobytes())  # imwrite fails silently, and on names that are not ASCII


def write_labels(path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write labels.csv: one row (id, class, patient) a slice."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "class", "patient"))
        writer.writerows([escape_formula(cell) for cell in row] for row in rows)


# ---------------------------------------------------------------- fields


def to_coverage(distance: Field, width: float) -> Field:
    """Return the coverage in [0, 1] of a signed distance: a smooth step over `width` on each side of the edge."""
    step = np.clip(distance * np.float32(0.5 / width) + np.float32(0.5), 0, 1)
    cover: Field = step * step * (3 - 2 * step)
    return cover


def paint(image: Field, cover: Field, value: float | Field) -> None:
    """Blend `value` into `image` in place, with `cover` as opacity."""
    image += cover * (value - image)


def sample_noise(rng: np.random.Generator, x: Field, y: Field, cells: int = 24, span: float = 3.2) -> Field:
    """Return smooth periodic noise, mean 0 and deviation about 1: `cells` bumps over `span` units in each direction."""
    tile = rng.standard_normal((cells, cells)).astype(np.float32)
    fine = 8  # remap interpolates in steps of 1/32 texel, too coarse for one texel a bump
    wrapped = cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_WRAP)
    texture = cv2.resize(wrapped, None, fx=fine, fy=fine, interpolation=cv2.INTER_CUBIC)[16:-16, 16:-16]
    scale = np.float32(cells * fine / span)
    noise = cv2.remap(texture, x * scale, y * scale, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return (noise * 1.35).astype(np.float32)


def measure_ellipse(head: Head, centre: tuple[float, float], radii: tuple[float, float], turn: float = 0.0) -> Field:
    """Return the signed distance (near the edge) to an ellipse, positive inside; `turn` in radians from x to y."""
    dx, dy = head.x - np.float32(centre[0]), head.y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along, across = (dx * cos + dy * sin) / np.float32(radii[0]), (dy * cos - dx * sin) / np.float32(radii[1])
    distance: Field = (1 - cv2.magnitude(along, across)) * np.float32(min(radii))
    return distance


def measure_crescent(out: Field, along: Field, width: float, length: float, bow: float) -> Field:
    """Return the signed distance (near the edge) to a crescent whose tips, `length` from its middle, bend outwards."""
    spine = 0.06 + bow * along * along
    girth = width * (1 - (along / np.float32(length)) ** 2)
    distance: Field = (np.maximum(girth, -0.5) - np.abs(out - spine)).astype(np.float32)
    return distance


def mirror_point(point: tuple[float, float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return a point's mirror image across the midline, and the point."""
    return (-point[0], point[1]), point


# ---------------------------------------------------------------- anatomy


def lay_out_head(rng: np.random.Generator, kind: str, size: tuple[int, int]) -> Head:
    """Draw level, pose, shape and warp, and compute every pixel's head coordinates."""
    level = "sella" if kind == "pituitary" else str(rng.choice(["top", "middle", "sella"], p=[0.3, 0.5, 0.2]))
    height, width = size
    unit = min(size) / 2 * rng.uniform(0.61, 0.72)  # pixels in half the brain's length
    turn, (shift_x, shift_y) = rng.normal(0, 0.07), rng.normal(0, 0.03, 2)
    row, column = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (column - (width - 1) / 2) / np.float32(unit) - np.float32(shift_x)
    down = (row - (height - 1) / 2) / np.float32(unit) - np.float32(shift_y)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = across * cos + down * sin, down * cos - across * sin
    bend = np.float32(rng.uniform(0.005, 0.03))
    x, y = x + bend * sample_noise(rng, x, y, 5, 4), y + bend * sample_noise(rng, x, y, 5, 4)
    breadth = np.float32(rng.uniform(0.76, 0.86))
    egg = np.float32(rng.uniform(0.04, 0.14))  # broader at the back
    squareness = np.float32(rng.uniform(2.0, 2.4))
    side = np.abs(x) / (breadth * (1 + egg * np.clip(y, -1.5, 1.5)))
    rho = (side**squareness + np.abs(y) ** squareness) ** (1 / squareness)
    depth = ((1 - rho) * np.float32(0.9)).astype(np.float32)
    grey = rng.uniform(0.25, 0.31)
    white = grey + rng.uniform(0.045, 0.1)
    head = Head(level, x, y, depth, depth, 1 / unit, white, grey, rng.uniform(0.06, 0.13))
    return split_brain(rng, head) if level == "sella" else head


def split_brain(rng: np.random.Generator, head: Head) -> Head:
    """Return the head at the sella, where the skull's base divides the brain: temporal lobes, brainstem, cerebellum."""
    front = rng.uniform(-0.2, -0.1)
    parts = [measure_ellipse(head, c, (0.28, 0.38), -np.sign(c[0]) * 0.25) for c in mirror_point((0.47, front))]
    parts += [measure_ellipse(head, (0, 0.12), (0.2, 0.17)), measure_ellipse(head, (0, 0.56), (0.68, 0.4))]
    brain = np.minimum(np.maximum.reduce(parts) + 0.01 * sample_noise(rng, head.x, head.y), head.depth)
    return Head(head.level, head.x, head.y, head.depth, brain, head.pixel, head.white, head.grey, head.fluid)


def paint_head(rng: np.random.Generator, head: Head) -> Field:
    """Paint a healthy slice: (H, W) float32, before bias, blur and noise."""
    image = np.zeros_like(head.x)
    paint_skull(rng, image, head)
    if head.level == "sella":
        paint_base(rng, image, head)
    paint_brain(rng, image, head)
    if head.level == "middle":
        paint_ventricles(rng, image, head)
    if head.level != "sella":
        paint_falx(rng, image, head)
    paint_vessels(rng, image, head)
    if head.level == "sella":
        paint_brainstem(rng, image, head)
    return image


def paint_skull(rng: np.random.Generator, image: Field, head: Head) -> None:
    """Paint scalp, outer table, diploe, inner table, dura and fluid, from the outside in."""
    edge = head.pixel * 0.7
    wave = sample_noise(rng, head.x, head.y, 8)
    scalp = rng.uniform(0.065, 0.13) + 0.012 * wave
    bone = rng.uniform(0.085, 0.12)
    grain = sample_noise(rng, head.x, head.y, 40)
    paint(image, to_coverage(head.depth + bone + scalp, edge), rng.uniform(0.25, 0.4))  # skin
    fat = rng.uniform(0.5, 0.85) + 0.06 * grain
    paint(image, to_coverage(head.depth + bone + scalp - 0.02, edge) * to_coverage(-head.depth - bone, edge), fat)
    paint(image, to_coverage(head.depth + bone, edge), 0.03)
    marrow = to_coverage(head.depth + bone - 0.025, edge * 1.5) * to_coverage(
        -head.depth - 0.045 - 0.008 * wave, edge * 1.5
    )
    paint(image, marrow, rng.uniform(0.12, 0.38) + 0.04 * grain)
    paint(image, to_coverage(head.depth + 0.022, edge), head.fluid)
    dura = to_coverage(0.008 - np.abs(head.depth + 0.018), edge)
    paint(image, dura * rng.uniform(0.1, 0.8), rng.uniform(0.25, 0.45))


def paint_brain(rng: np.random.Generator, image: Field, head: Head) -> None:
    """Paint white matter, the cortex along surface and sulci, and the sulci's fluid."""
    edge = head.pixel * 0.8
    bearing = cv2.phase(head.x, head.y)
    warp = 0.06 * sample_noise(rng, head.x, head.y, 14)
    ring = sample_noise(rng, bearing + warp * 2, head.brain * 1.1 + warp, 40, 2 * np.pi)  # folds run inwards
    maze = sample_noise(rng, head.x + warp, head.y, 22)
    fold = 0.65 * ring + 0.6 * maze
    slope = cv2.magnitude(cv2.Sobel(fold, -1, 1, 0), cv2.Sobel(fold, -1, 0, 1)) / np.float32(8 * head.pixel)
    to_sulcus = np.abs(fold) / (slope + 3)  # about the distance to the fold's zero line, in head units
    reach = rng.uniform(0.22, 0.4) if head.level != "sella" else 0.14
    fading = np.clip(1 - head.brain / reach, 0, 1)
    atrophy = rng.uniform(0.007, 0.02)
    surface = head.brain - atrophy * (1 + maze)
    ribbon = np.maximum(0.055 - surface, (0.05 * np.sqrt(fading)) - to_sulcus)
    tissue = head.white + (head.grey - head.white) * to_coverage(ribbon, 0.02)
    tissue += 0.006 * sample_noise(rng, head.x, head.y, 64) + 0.008 * sample_noise(rng, head.x, head.y, 10)
    paint(image, to_coverage(surface, edge * 1.5), tissue)
    sulci = (
        to_coverage(atrophy * 1.3 * fading - to_sulcus, max(edge, 0.006))
        * np.minimum(fading * 2, 1)
        * to_coverage(surface, edge)
    )
    paint(image, sulci * rng.uniform(0.65, 1.0), head.fluid)


def paint_ventricles(rng: np.random.Generator, image: Field, head: Head) -> None:
    """Paint the lateral ventricles, the deep grey nuclei beside them, the third ventricle and choroid plexus."""
    edge, wide = head.pixel * 0.8, rng.uniform(0.6, 1.5)
    back = rng.random() < 0.6
    lift, long = rng.uniform(-0.06, 0.06), rng.uniform(0.22, 0.34)
    for side in (-1, 1):
        own = wide * rng.uniform(0.85, 1.15)
        nuclei = np.maximum(
            measure_ellipse(head, (side * 0.16, 0.08 + lift), (0.1, 0.16), -side * 0.4),
            measure_ellipse(head, (side * 0.32, -0.08 + lift), (0.07, 0.2), -side * 0.25),
        )
        paint(image, to_coverage(nuclei, 0.03) * 0.8, head.grey)
        y = head.y - np.float32(lift)
        space = measure_crescent(side * head.x, y + 0.16, 0.036 * own, long, bow=0.7)
        if back:
            atrium = measure_crescent(side * head.x - 0.08, y - 0.26, 0.04 * own, 0.22, bow=1.6)
            space = np.maximum(space, np.minimum(atrium, y - 0.22))
        paint(image, to_coverage(space + 0.004 * sample_noise(rng, head.x, head.y), edge), head.fluid)
        plexus = measure_ellipse(head, (side * 0.24, 0.33 + lift), (0.025, 0.06), -side * 0.45)
        if back:
            paint(
                image, to_coverage(plexus + 0.008 * sample_noise(rng, head.x, head.y, 50), edge), rng.uniform(0.45, 0.8)
            )
    third = measure_ellipse(head, (0, 0.1 + lift), (0.015 * wide, 0.13))
    paint(image, to_coverage(third, edge), head.fluid)


def paint_falx(rng: np.random.Generator, image: Field, head: Head) -> None:
    """Paint the fissure between the hemispheres with the enhancing falx, and the sagittal sinus at its ends."""
    edge = head.pixel * 0.8
    span = 0.0 if head.level == "top" else rng.uniform(0.4, 0.55)  # the corpus callosum bridges the middle
    wander = head.x + 0.012 * sample_noise(rng, head.x, head.y, 10)
    apart = np.abs(head.y) - span
    fissure = to_coverage(rng.uniform(0.008, 0.02) - np.abs(wander), max(edge, 0.008)) * to_coverage(apart, 0.05)
    inner = to_coverage(head.depth, edge)
    paint(image, fissure * inner * 0.8, head.fluid)
    line = to_coverage(0.006 - np.abs(head.x), edge) * to_coverage(apart, 0.04) * inner
    paint(image, line * rng.uniform(0.3, 0.9), rng.uniform(0.35, 0.6))
    for end in (-1, 1):
        breadth = rng.uniform(0.05, 0.09) if end > 0 else rng.uniform(0.02, 0.04)
        triangle = np.minimum(head.depth + 0.025, breadth - head.depth - 1.3 * np.abs(wander))
        cover = to_coverage(np.minimum(triangle, head.y * np.float32(end)), edge * 1.5)
        paint(image, cover, rng.uniform(0.55, 0.95))


def paint_vessels(rng: np.random.Generator, image: Field, head: Head) -> None:
    """Paint thin enhancing veins in the outer brain, and dots where vessels cross the slice."""
    edge = head.pixel * 0.7
    course = sample_noise(rng, head.x, head.y, 26)
    slope = cv2.magnitude(cv2.Sobel(course, -1, 1, 0), cv2.Sobel(course, -1, 0, 1)) / np.float32(8 * head.pixel)
    here = to_coverage(sample_noise(rng, head.x, head.y, 20) - rng.uniform(0.7, 1.2), 0.3)
    vein = to_coverage(0.007 - np.abs(course) / (slope + 2), max(edge, 0.005)) * here
    paint(image, vein * to_coverage(head.brain, edge) * rng.uniform(0.3, 0.9), rng.uniform(0.45, 0.7))
    for _ in range(int(rng.integers(3, 14))):
        angle, out = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 0.97)
        centre = (0.8 * out * np.cos(angle), out * np.sin(angle))
        dot = measure_ellipse(head, centre, (rng.uniform(0.008, 0.022), rng.uniform(0.008, 0.022)))
        paint(image, to_coverage(dot, edge) * to_coverage(head.brain, edge), rng.uniform(0.45, 0.9))


def paint_base(rng: np.random.Generator, image: Field, head: Head) -> None:
    """Paint the skull's base: marrow and air, orbits with eyes, nose and sphenoid sinus, temporal muscles."""
    edge = head.pixel * 0.8
    inner = to_coverage(head.depth, edge)
    grain = sample_noise(rng, head.x, head.y, 44)
    paint(image, inner, np.clip(0.13 + 0.09 * grain, 0.02, 0.5))
    for centre in mirror_point((0.74, -0.42)):
        muscle = measure_ellipse(head, centre, (0.1, 0.28), -np.sign(centre[0]) * 0.5)
        paint(image, to_coverage(muscle, edge * 1.5), 0.28 + 0.03 * grain)
    fat, eye = rng.uniform(0.45, 0.75), rng.uniform(0.16, 0.19)
    for centre in mirror_point(EYE):
        side = np.sign(centre[0])
        cone = measure_ellipse(head, (side * 0.31, -0.66), (0.2, 0.34), side * 0.35)
        paint(image, to_coverage(cone, edge * 1.5), fat + 0.04 * grain)
        nerve = measure_ellipse(head, (side * 0.27, -0.55), (0.022, 0.2), side * 0.35)
        rectus = np.abs(cone - 0.055) - 0.018
        paint(image, to_coverage(np.maximum(nerve, -rectus), edge) * to_coverage(cone, edge) * 0.8, 0.3)
        globe = measure_ellipse(head, centre, (eye, eye))
        paint(image, to_coverage(globe, edge), rng.uniform(0.35, 0.5))
        paint(image, to_coverage(globe - 0.018, edge), rng.uniform(0.08, 0.14))
        lens = measure_ellipse(head, (centre[0], centre[1] - eye * 0.7), (0.07, 0.03))
        paint(image, to_coverage(lens, edge) * 0.6, 0.3)
    nose = measure_ellipse(head, (0, -0.75), (0.13, 0.4))
    walls = to_coverage(0.12 - np.abs(sample_noise(rng, head.x * 1.5, head.y, 34)), 0.25)
    paint(image, to_coverage(nose, edge), 0.03 + rng.uniform(0.3, 0.55) * walls)
    sphenoid = measure_ellipse(head, (0, -0.39), (rng.uniform(0.1, 0.16), 0.1))
    paint(image, to_coverage(sphenoid + 0.01 * grain, edge), 0.03)


def paint_brainstem(rng: np.random.Generator, image: Field, head: Head) -> None:
    """Paint pons and cistern, fourth ventricle, the cerebellum's folia, petrous bone, carotids and basilar artery."""
    edge = head.pixel * 0.8
    cistern = np.maximum(
        measure_ellipse(head, (0, -0.1), (0.2, 0.1)), -np.abs(measure_ellipse(head, (0, 0.12), (0.2, 0.17))) + 0.02
    )
    paint(image, to_coverage(cistern, edge * 2) * 0.9, head.fluid)
    crumple = sample_noise(rng, head.x, head.y, 14)
    folia = np.sin(measure_ellipse(head, (0, 0.35), (0.6, 0.5)) * 110 + 3 * crumple) * (0.6 + 0.5 * crumple)
    paint(image, to_coverage(measure_ellipse(head, (0, 0.58), (0.62, 0.34)), 0.04) * 0.3, head.grey + 0.05 * folia)
    paint(image, to_coverage(measure_ellipse(head, (0, 0.12), (0.175, 0.145)), edge), head.white)
    fourth = measure_ellipse(head, (0, 0.31), (rng.uniform(0.05, 0.09), 0.03))
    paint(image, to_coverage(fourth, edge), head.fluid)
    for centre in mirror_point((0.5, 0.22)):
        petrous = measure_ellipse(head, centre, (0.26, 0.05), np.sign(centre[0]) * 0.35)
        bone = np.clip(0.1 + 0.12 * sample_noise(rng, head.x, head.y, 50), 0.02, 0.6)
        paint(image, to_coverage(petrous, edge * 1.5), bone)
    gland = measure_ellipse(head, SELLA, (0.06, 0.035))
    paint(image, to_coverage(gland, edge * 1.5), rng.uniform(0.4, 0.6))
    bright = rng.uniform(0.5, 0.95)
    for centre in (*mirror_point((rng.uniform(0.11, 0.15), -0.2)), (0.0, -0.06)):
        vessel = measure_ellipse(head, centre, (rng.uniform(0.02, 0.035), rng.uniform(0.02, 0.045)))
        paint(image, to_coverage(vessel, edge), bright)
    for centre in mirror_point((0.66, 0.42)):  # sigmoid and transverse sinuses
        sinus = measure_ellipse(head, centre, (0.035, rng.uniform(0.06, 0.16)), np.sign(centre[0]) * 0.5)
        paint(image, to_coverage(sinus, edge) * rng.uniform(0.3, 1.0), bright)


# ---------------------------------------------------------------- lesions


def place_lesion(rng: np.random.Generator, head: Head, kind: str) -> Lesion:
    """Return a tumour of `kind` where such tumours grow, scaled to an area drawn from LESION_AREAS."""
    median, spread, minimum, maximum = LESION_AREAS[kind]
    target_area = float(np.clip(median * np.exp(rng.normal(0, spread)), minimum, maximum)) / 100  # of the frame
    outline = draw_outline(rng, roughness={"glioma": 0.16, "meningioma": 0.05, "pituitary": 0.08}[kind])
    spot, falx = choose_spot(rng, head, kind)
    stretch, turn = rng.uniform(0.75, 1.0), rng.uniform(0, np.pi)
    radius = float(np.sqrt(target_area * head.x.size / np.pi)) * head.pixel
    room = head.brain if kind == "glioma" else head.depth
    if falx:
        room = np.minimum(room, head.x * np.float32(np.sign(spot[0])))  # the falx itself is not crossed
    for _ in range(3):  # clipping at the brain's edge reduces the area: scale up to the target
        centre = sink_centre(spot, radius, kind, falx)
        inside = np.minimum(measure_outline(head, centre, radius, outline, (stretch, turn)), room - 0.004)
        inside = keep_largest(inside)
        mask = inside > 0
        radius *= float(np.clip(np.sqrt(target_area / max(float(mask.mean()), 1e-4)), 0.7, 1.4))
    return Lesion(inside, radius, mask, falx)


def keep_largest(inside: Field) -> Field:
    """Return `inside` with only its largest component positive: clipping at the brain's edge may split it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((inside > 0).astype(np.uint8))
    if count <= 2:
        return inside
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.where((labels == largest) | (inside <= 0), inside, -1).astype(np.float32)


def choose_spot(rng: np.random.Generator, head: Head, kind: str) -> tuple[tuple[float, float], bool]:
    """Return where a tumour grows, in head coordinates, and whether that is at the falx."""
    if kind == "pituitary":
        return (SELLA[0] + rng.normal(0, 0.015), SELLA[1] + rng.uniform(-0.03, 0.06)), False
    side = 1 if rng.random() < 0.5 else -1
    if head.level == "sella":  # the temporal lobe or the cerebellum
        angle = rng.uniform(-0.3, 0.0) if rng.random() < 0.5 else rng.uniform(0.6, 1.1)
    elif kind == "meningioma" and rng.random() < 0.3:
        y = rng.uniform(-0.75, 0.75) if head.level == "top" else rng.uniform(0.6, 0.8) * (-1) ** rng.integers(2)
        return (side * 0.01, float(y)), True
    else:
        angle = rng.uniform(-1.4, 1.4)
    toward = (side * 0.8 * float(np.cos(angle)), float(np.sin(angle)))
    if kind == "meningioma":
        return find_rim(head, toward), False
    out = rng.uniform(0.4, 0.6) if head.level == "sella" else rng.uniform(0.3, 0.7)
    return (toward[0] * out, toward[1] * out), False


def find_rim(head: Head, toward: tuple[float, float]) -> tuple[float, float]:
    """Return the point of the inner skull in a direction from the head's centre."""
    aside = np.abs(head.x * np.float32(toward[1]) - head.y * np.float32(toward[0]))
    behind = head.x * np.float32(toward[0]) + head.y * np.float32(toward[1]) < 0
    at = np.unravel_index(int(np.argmin(np.abs(head.depth) + aside + 9 * behind)), head.x.shape)
    return float(head.x[at]), float(head.y[at])


def sink_centre(spot: tuple[float, float], radius: float, kind: str, falx: bool) -> tuple[float, float]:
    """Return the centre of a tumour of this radius: for a meningioma, inside the edge that it grows from."""
    if kind != "meningioma":
        return spot
    if falx:
        return (spot[0] + float(np.sign(spot[0])) * radius * 0.6, spot[1])
    length = float(np.hypot(*spot))
    inwards = max(1 - 0.6 * radius / length, 0.2)
    return (spot[0] * inwards, spot[1] * inwards)


def draw_outline(rng: np.random.Generator, roughness: float) -> Field:
    """Return the radius by bearing, (256,) around 1: a sum of random waves, the short ones weaker."""
    bearing = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    waves = [rng.normal(0, 1 / k) * np.cos(k * bearing + rng.uniform(0, 2 * np.pi)) for k in range(2, 9)]
    outline: Field = np.clip(1 + roughness * np.sum(waves, axis=0) * 1.5, 0.45, 1.6).astype(np.float32)
    return outline


def measure_outline(
    head: Head, centre: tuple[float, float], radius: float, outline: Field, oval: tuple[float, float]
) -> Field:
    """Return the signed distance (near the edge), positive inside, to `outline` scaled to `radius` and made oval."""
    stretch, turn = oval
    dx, dy = head.x - np.float32(centre[0]), head.y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along, across = (dx * cos + dy * sin) * np.float32(stretch), (dy * cos - dx * sin) / np.float32(stretch)
    distance, bearing = cv2.cartToPolar(along, across)
    steps = bearing * np.float32(256 / (2 * np.pi))
    low = np.minimum(steps.astype(np.int32), 255)
    part = steps - low
    edge = outline[low] * (1 - part) + np.roll(outline, -1)[low] * part
    return (edge * np.float32(radius) - distance).astype(np.float32)


def paint_glioma(rng: np.random.Generator, image: Field, head: Head, lesion: Lesion) -> None:
    """Paint the oedema, an uneven enhancing ring and a dark necrotic core."""
    edge = head.pixel
    inner = to_coverage(head.brain - 0.01, edge)
    swelling = lesion.inside + lesion.radius * (rng.uniform(0.3, 0.9) + 0.3 * sample_noise(rng, head.x, head.y, 12))
    paint(image, to_coverage(swelling, 0.06) * inner * rng.uniform(0.4, 0.8), head.grey * rng.uniform(0.72, 0.9))
    texture = sample_noise(rng, head.x, head.y, 30)
    patch = sample_noise(rng, head.x, head.y, 14)
    ring = head.white + rng.uniform(0.06, 0.32) + 0.05 * texture + 0.06 * patch
    paint(image, to_coverage(lesion.inside, edge * 1.5), np.maximum(ring, head.white * 0.8))
    thickness = lesion.radius * (rng.uniform(0.14, 0.45) + 0.04 * texture + 0.08 * patch)
    thickness = np.maximum(thickness, 0.05 * lesion.radius)  # thin in places, never open
    core = head.fluid + rng.uniform(0.03, 0.12) + 0.015 * texture
    paint(image, to_coverage(lesion.inside - thickness, max(edge, 0.012)), core)


def paint_meningioma(rng: np.random.Generator, image: Field, head: Head, lesion: Lesion) -> None:
    """Paint it even and bright with a sharp edge, a thin dark cleft towards the brain, sometimes a dural tail."""
    edge = head.pixel
    value = head.white + rng.uniform(0.2, 0.42)
    inner = to_coverage(head.depth, edge)
    paint(image, to_coverage(lesion.inside + 0.018, edge * 1.5) * inner * rng.uniform(0, 0.5), head.fluid + 0.08)
    if rng.random() < 0.6:
        at = np.abs(head.x) if lesion.falx else np.abs(head.depth - 0.004)
        tail = to_coverage(0.012 - at, edge) * to_coverage(lesion.inside + lesion.radius * 0.5, lesion.radius * 0.2)
        paint(image, tail * 0.9, value)
    texture = 0.02 * sample_noise(rng, head.x, head.y, 24) + 0.012 * sample_noise(rng, head.x, head.y, 60)
    paint(image, to_coverage(lesion.inside, edge), value + texture)


def paint_pituitary(rng: np.random.Generator, image: Field, head: Head, lesion: Lesion) -> None:
    """Paint a bright, slightly mottled blob with a dark rim, sometimes with a darker centre."""
    edge = head.pixel
    value = head.white + rng.uniform(0.1, 0.4)
    paint(image, to_coverage(lesion.inside + 0.015, edge * 1.5) * rng.uniform(0.2, 0.8), head.fluid)
    texture = 0.03 * sample_noise(rng, head.x, head.y, 34)
    paint(image, to_coverage(lesion.inside, edge * 1.2), value + texture)
    paint(image, to_coverage(lesion.inside - 0.5 * lesion.radius, 0.03) * rng.uniform(0, 0.5), head.grey)


PAINTERS = {"glioma": paint_glioma, "meningioma": paint_meningioma, "pituitary": paint_pituitary}


# ---------------------------------------------------------------- the scanner


def simulate_scan(rng: np.random.Generator, image: Field, head: Head) -> NDArray[np.uint8]:
    """Return the slice as scanned, (H, W) uint8: with partial volume, coil bias, Rician noise and window."""
    sharpness = rng.uniform(0.35, 0.75) / 90 / head.pixel  # pixels, so that a larger frame is not a sharper scan
    blurred = cv2.GaussianBlur(image, (0, 0), max(sharpness, 0.2))
    tilt = rng.normal(0, 0.07, 2).astype(np.float32)
    bias = np.exp(0.07 * sample_noise(rng, head.x, head.y, 3, 5) + tilt[0] * head.x + tilt[1] * head.y)
    sigma = np.float32(rng.uniform(0.004, 0.022))
    gain, gamma = rng.uniform(0.8, 1.2), rng.uniform(0.88, 1.15)
    # drawn last: the number of draws depends on the frame, and nothing after it may
    noise = rng.standard_normal((2, *image.shape), dtype=np.float32) * sigma
    measured = cv2.magnitude(blurred * bias + noise[0], noise[1])
    shown = np.clip(measured * np.float32(gain), 0, 1) ** np.float32(gamma)
    levels: NDArray[np.uint8] = np.rint(shown * 255).astype(np.uint8)
    return levels
