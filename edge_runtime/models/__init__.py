"""The embedded default model; its card is MODEL_CARD.md beside it."""

from __future__ import annotations

from pathlib import Path

DEFAULT = Path(__file__).with_name("default.tflite")
