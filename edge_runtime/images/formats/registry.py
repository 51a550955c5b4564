"""Which functions check the image formats that are read?"""

from __future__ import annotations

from collections.abc import Callable

from .bmp import check_bmp, probe_bmp
from .jpeg import check_jpeg, find_jpeg_orientation, probe_jpeg
from .png import check_png, find_png_orientation, probe_png
from .tiff import check_tiff, find_tiff_orientation

CHECKS = {"PNG": check_png, "JPEG": check_jpeg, "TIFF": check_tiff, "BMP": check_bmp}
PROBES: dict[str, Callable[[bytes], bytes | None]] = {"PNG": probe_png, "JPEG": probe_jpeg, "BMP": probe_bmp}
ORIENTATIONS: dict[str, Callable[[bytes], int]] = {
    "PNG": find_png_orientation,
    "JPEG": find_jpeg_orientation,
    "TIFF": find_tiff_orientation,
}
