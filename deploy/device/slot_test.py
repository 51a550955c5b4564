"""Does a new slot work here, fast enough? The model's golden vectors, then the time that one image takes."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.kit.manifest import MODEL, Manifest
from edge_runtime.errors import InstallError

from .process import run_command

TIMEOUT_S = 900  # of either test
RUNS = 7


def check_slot(slot: Path, manifest: Manifest) -> float:
    """Return the median milliseconds of one image, if the self-test passed and that is within the kit's limit.

    Raises: InstallError with what failed.
    """
    model = slot / "kit" / MODEL
    try:
        run_command("the self-test", [slot / "venv/bin/edge-seg", "--selftest", "--model", model], TIMEOUT_S)
    except InstallError as error:
        if "unrecognized arguments" in error.why:
            why, fix = f"edge-seg {manifest.software} has none", "make the kit with a newer one"
            raise InstallError(error.what, why, fix) from None
        raise
    command = [slot / "venv/bin/python", "-I", "-m", "deploy.clock", model, str(RUNS)]
    output = run_command("the latency test", command, TIMEOUT_S)
    try:
        median_ms = float(json.loads(output.strip().splitlines()[-1])["median_ms"])
    except (ValueError, KeyError, TypeError, IndexError):
        raise InstallError("the latency test", "it gave no number") from None
    check_latency(median_ms, manifest.latency_ms)
    return median_ms


def check_latency(median_ms: float, limit_ms: float | None) -> None:
    """Require an image to take no longer than the limit; NaN does not pass. Raises: InstallError."""
    if limit_ms is not None and not median_ms <= limit_ms:
        why = f"an image takes {median_ms:.0f} ms here, the kit allows {limit_ms:g} ms"
        fix = "look for other running programs, or make the kit with another --latency-ms"
        raise InstallError("the latency test", why, fix)
