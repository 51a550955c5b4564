"""Golden vectors for a converted file: drawn images as files, run through the device's own stages on that very file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.contract import MAX_GOLDEN_BYTES, Contract, stamp_contract
from edge_runtime.errors import ModelError, OutputError
from edge_runtime.golden import make_case, to_json
from edge_runtime.session import Session

from .verify import muffled

SIZES = (512, 384, 288, 192, 128, 96)  # of the longest side, the largest with which all fits into 64 kB
AIM_BYTES = 60_000
TINT = (1.0, 0.86, 0.7)  # of the colour images: channels that cannot be exchanged unseen


def make_golden(flatbuffer: bytes, contract: Contract, work: Path, say: Callable[[str], None]) -> bytes | None:
    """Return the golden.json of a file; None, and a word, where its answers are no probabilities and that was allowed.

    Raises: OutputError if the vectors of the smallest images do not fit.
    """
    path = work / "golden.tflite"
    path.unlink(missing_ok=True)  # not truncated: an interpreter may still have it mapped
    path.write_bytes(stamp_contract(flatbuffer, contract))
    with muffled():
        session = Session.load(path, engine="litert")
        for most in SIZES:
            try:
                text = to_json([make_case(session, *drawn) for drawn in draw_files(contract, most)])
            except ModelError as error:
                say(f"no golden vectors: {error.why}")
                return None
            if len(text) <= AIM_BYTES:
                return text
    raise OutputError("golden vectors", f"they have {len(text)} bytes, more than {MAX_GOLDEN_BYTES}", "report this")


def draw_files(contract: Contract, most: int) -> list[tuple[str, bytes]]:
    """Return (name, bytes) of a grey PNG that shrinks along one axis and grows along the other, a 16-bit colour PNG
    that grows, and a colour JPEG."""
    height, width = contract.input.size
    tall = min(most, height * 3 // 2 + 1), min(most, max(16, width * 3 // 4 - 1))
    small = min(most // 2, max(16, height // 2 + 3)), min(most // 2, max(16, width // 3 + 1))
    grey = draw_scene(*tall)
    colour = draw_scene(*small)[:, :, None] * np.array(TINT, np.float32)
    photo = draw_scene(*tall[::-1])[:, :, None] * np.array(TINT, np.float32)
    return [
        ("grey.png", encode(".png", to_integers(grey, np.uint8))),
        ("colour-16-bit.png", encode(".png", to_integers(colour, np.uint16))),
        ("colour.jpg", encode(".jpg", to_integers(photo, np.uint8))),
    ]


def draw_scene(height: int, width: int) -> npt.NDArray[np.float32]:
    """Return a drawn head with a bright mass in it, (height, width) in [0, 1], in flat tones: they pack well."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    head, skull = (x / 0.78) ** 2 + (y / 0.9) ** 2, 0.07
    scene = np.where(head < 1, 0.62, 0.02)  # scalp
    scene = np.where(head < 1 - skull, 0.08, scene)  # skull
    scene = np.where(head < 1 - 2.4 * skull, 0.3 + 0.04 * (np.sin(9 * x) * np.sin(7 * y) > 0), scene)  # brain
    for side in (-1, 1):
        ventricle = ((x - side * 0.14) / 0.08) ** 2 + ((y + 0.1) / 0.26) ** 2
        scene = np.where(ventricle < 1, 0.12, scene)
    mass = ((x - 0.38) / 0.17) ** 2 + ((y - 0.3) / 0.16) ** 2
    scene = np.where(mass < 1, 0.72, scene)
    return scene.astype(np.float32)


def to_integers(scene: npt.NDArray[np.float32], dtype: Any) -> npt.NDArray[Any]:
    """Return a scene as pixels; 16-bit ones of 12 bit, as scanners give them."""
    return np.rint(scene * (255 if dtype == np.uint8 else 4095)).astype(dtype)


def encode(suffix: str, pixels: npt.NDArray[Any]) -> bytes:
    """Return an image file of (H, W) or (H, W, 3) RGB pixels; a PNG as small as it gets."""
    bgr = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, ::-1])
    options = [cv2.IMWRITE_PNG_COMPRESSION, 9] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 90]
    done, data = cv2.imencode(suffix, bgr, options)
    if not done:
        raise OutputError(f"a {suffix} file", "the encoder failed", "report this")
    return data.tobytes()
