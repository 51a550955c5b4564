"""Draws images that are not slices but may lie in a folder of slices: photographs, pages of text, screenshots."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "42", "zebras", "wait", "rain")


def draw_photo(seed: int, grey: bool = False, size: tuple[int, int] = (360, 480)) -> Pixels:
    """A landscape: sky over ground, things on it, and the 1/f texture that photographs have; (H, W, 3) or (H, W)."""
    rng = np.random.default_rng([seed, 1])
    height, width = size
    level = np.linspace(0, 1, height)[:, None, None]
    sky, ground = rng.uniform(90, 230, 3), rng.uniform(30, 150, 3)
    horizon = rng.uniform(0.3, 0.7)
    image = np.where(level < horizon, sky * (1 - 0.3 * level), ground * (0.6 + 0.6 * level))  # (H, 1, 3)
    image = np.ascontiguousarray(np.broadcast_to(image, (height, width, 3)), np.float32)
    for _ in range(int(rng.integers(4, 12))):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        axes = int(rng.integers(10, width // 4)), int(rng.integers(10, height // 3))
        colour = tuple(float(x) for x in rng.uniform(10, 250, 3))
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    image += 40 * draw_texture(rng, size)[:, :, None]
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return pixels if not grey else np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def draw_texture(rng: np.random.Generator, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Noise whose amplitude falls with its frequency, of deviation 1: (H, W)."""
    rows, columns = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None]
    radius = np.maximum(np.hypot(rows, columns), 1 / max(size))
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=size)) / radius, size)
    return np.asarray((field - field.mean()) / field.std())


def draw_page(seed: int, size: tuple[int, int] = (700, 500)) -> Pixels:
    """A scanned page of text, (H, W): dark lines of words on paper that is not quite white."""
    rng = np.random.default_rng([seed, 2])
    paper = float(rng.uniform(215, 255))
    image = np.full(size, paper).astype(np.uint8)
    scale = float(rng.uniform(0.4, 0.8))
    step = int(34 * scale) + 4
    write_lines(rng, image, (40, 40, size[1] - 40, size[0] - 40), step, scale, float(rng.uniform(0, 60)))
    return np.clip(image + rng.normal(0, 3, size), 0, 255).astype(np.uint8)


def draw_screenshot(seed: int, dark: bool = False, size: tuple[int, int] = (600, 900)) -> Pixels:
    """A desktop with windows full of text and buttons, (H, W, 3); `dark` in a dark theme."""
    rng = np.random.default_rng([seed, 3])
    image = np.empty((*size, 3), np.uint8)
    image[:] = (rng.uniform(20, 90, 3) if dark else rng.uniform(120, 220, 3)).astype(np.uint8)
    for _ in range(3):
        left, top = int(rng.integers(0, size[1] // 2)), int(rng.integers(0, size[0] // 2))
        right, bottom = left + int(rng.integers(250, size[1] // 2)), top + int(rng.integers(180, size[0] // 2))
        paper, ink = (30.0, 210.0) if dark else (245.0, 30.0)
        cv2.rectangle(image, (left, top), (right, bottom), (paper,) * 3, -1)
        cv2.rectangle(image, (left, top), (right, top + 24), tuple(float(x) for x in rng.uniform(0, 255, 3)), -1)
        write_lines(rng, image, (left + 10, top + 40, right - 10, bottom - 8), 20, 0.45, ink)
    return image


def write_lines(
    rng: np.random.Generator, image: Any, frame: tuple[int, int, int, int], step: int, scale: float, ink: float
) -> None:
    left, top, right, bottom = frame
    for line in range(top + step, bottom, step):
        column = left
        while column < right - 60:
            word = WORDS[int(rng.integers(len(WORDS)))]
            cv2.putText(image, word, (column, line), cv2.FONT_HERSHEY_SIMPLEX, scale, (ink,) * 3, 1, cv2.LINE_AA)
            column += cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] + int(14 * scale) + 4
