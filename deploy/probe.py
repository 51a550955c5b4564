"""Tests a slot before anything depends on it: the model's golden vectors, then how long an image takes."""

from __future__ import annotations

import json
from pathlib import Path

from edge_runtime.errors import InstallError

from .manifest import MODEL, Manifest
from .process import run_command

SECONDS = 900  # for either test
RUNS = 7


def probe_slot(slot: Path, manifest: Manifest) -> float:
    """Return the median milliseconds of one image, once the self-test passed and that is within the kit's budget.

    Raises: InstallError with what failed.
    """
    model = slot / "kit" / MODEL
    try:
        run_command("the self-test", [slot / "venv/bin/edge-seg", "--selftest", "--model", model], SECONDS)
    except InstallError as error:
        if "unrecognized arguments" in error.why:
            raise InstallError(
                error.what, f"edge-seg {manifest.software} has none", "make the kit with a newer one"
            ) from None
        raise
    command = [slot / "venv/bin/python", "-I", "-m", "deploy.clock", model, str(RUNS)]
    said = run_command("the latency test", command, SECONDS)
    try:
        median = float(json.loads(said.strip().splitlines()[-1])["median_ms"])
    except (ValueError, KeyError, TypeError, IndexError):
        raise InstallError("the latency test", "it gave no number") from None
    check_budget(median, manifest.latency_ms)
    return median


def check_budget(median: float, budget: float | None) -> None:
    """Want an image to take no longer than the budget. Raises: InstallError."""
    if budget is not None and not median <= budget:
        why = f"an image takes {median:.0f} ms here, the kit allows {budget:g} ms"
        raise InstallError(
            "the latency test", why, "look for what else is running, or make the kit with another --latency-ms"
        )
