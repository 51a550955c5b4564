"""Which golden vectors does a converted file get? Drawn images as files, and the results of each stage of inference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.checks.golden_vectors import make_case, to_json
from edge_runtime.contract.fields import MAX_GOLDEN_BYTES, Contract
from edge_runtime.contract.tail import stamp_contract
from edge_runtime.errors import ModelError, OutputError
from edge_runtime.inference.session import Session
from edge_runtime.system.quiet import silence_stderr

SIZES = (512, 384, 288, 192, 128, 96)  # of the longest side: the largest is taken with which all fits into 64 kB
AIM_BYTES = 60_000
TINT = (1.0, 0.86, 0.7)  # of the colour images: exchanged channels change the result


def make_golden(flatbuffer: bytes, contract: Contract, work: Path, notify: Callable[[str], None]) -> bytes | None:
    """Return the golden.json of a file; None, with a message, where its outputs are no probabilities.

    Raises: OutputError if the vectors of the smallest images do not fit.
    """
    path = work / "golden.tflite"
    path.unlink(missing_ok=True)  # not truncated: an interpreter may still have it mapped
    path.write_bytes(stamp_contract(flatbuffer, contract))
    with silence_stderr():
        session = Session.load(path, engine="litert")
        for max_side in SIZES:
            try:
                vectors = to_json([make_case(session, *drawn) for drawn in draw_files(contract, max_side)])
            except ModelError as error:
                notify(f"no golden vectors: {error.why}")
                return None
            if len(vectors) <= AIM_BYTES:
                return vectors
    raise OutputError("golden vectors", f"they have {len(vectors)} bytes, more than {MAX_GOLDEN_BYTES}", "report this")


def draw_files(contract: Contract, max_side: int) -> list[tuple[str, bytes]]:
    """Return (name, bytes) of three files of at most `max_side` pixels.

    A grey PNG that shrinks along one axis and grows along the other, a 16-bit colour PNG that grows, a colour JPEG.
    """
    height, width = contract.input.size
    tall = min(max_side, height * 3 // 2 + 1), min(max_side, max(16, width * 3 // 4 - 1))
    small = min(max_side // 2, max(16, height // 2 + 3)), min(max_side // 2, max(16, width // 3 + 1))
    grey = draw_scene(*tall)
    colour = draw_scene(*small)[:, :, None] * np.array(TINT, np.float32)
    photo = draw_scene(*tall[::-1])[:, :, None] * np.array(TINT, np.float32)
    return [
        ("grey.png", encode_image(".png", to_integers(grey, np.uint8))),
        ("colour-16-bit.png", encode_image(".png", to_integers(colour, np.uint16))),
        ("colour.jpg", encode_image(".jpg", to_integers(photo, np.uint8))),
    ]


def draw_scene(height: int, width: int) -> npt.NDArray[np.float32]:
    """Return a drawn head with a bright mass in it, (height, width) in [0, 1], in flat tones that compress well."""
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
    """Return a scene as pixels; 16-bit ones hold 12 bits, as those of scanners do."""
    return np.rint(scene * (255 if dtype == np.uint8 else 4095)).astype(dtype)


def encode_image(suffix: str, pixels: npt.NDArray[Any]) -> bytes:
    """Return an image file of (H, W) or (H, W, 3) RGB pixels; a PNG at the highest compression."""
    bgr = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, ::-1])
    options = [cv2.IMWRITE_PNG_COMPRESSION, 9] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 90]
    done, data = cv2.imencode(suffix, bgr, options)
    if not done:
        raise OutputError(f"a {suffix} file", "the encoder failed", "report this")
    return data.tobytes()
