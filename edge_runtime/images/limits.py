"""How many pixels, bytes and seconds may one image take by default?"""

from __future__ import annotations

MAX_PIXELS = 25_000_000  # 5000 x 5000: far above any scanner's slice, with all its pictures a run takes about 1 GB
MAX_BYTES = 8 * MAX_PIXELS  # no image within MAX_PIXELS needs a longer file
MAX_SECONDS = 120.0  # on the slowest board
