"""Which arrays are images and labels?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]  # (H, W) or (D, H, W): 0 background, from 1 on the contract's lesions
Image = npt.NDArray[Any]  # (H, W) or (H, W, 3) RGB, uint8 or uint16


def full_scale(image: Image) -> float:
    """Return the value that stands for white: 255 for uint8, the top of the used bit depth for uint16.

    Scanners put 12-bit data into 16-bit files, so the depth is the number of bits that the brightest pixel needs,
    and at least 8: white is 4095 for an image with maximum 3000, 65535 for one with maximum 40000.
    """
    if image.dtype == np.uint8:
        return 255.0
    bits = max(8, int(image.max()).bit_length())
    return float(2**bits - 1)
