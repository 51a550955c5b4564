"""What a run says of itself: run.json, the gallery's header, the table on stdout."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import Contract
    from .folder import Counts

SHOWN = 20  # rows of the table on stdout; all of them are in results.csv


def own_version() -> str:
    """Return the installed version, or "source" when run from a checkout that is not installed."""
    from .versions import find_version

    return find_version("edge-seg") or "source"


def describe_run(
    args: argparse.Namespace, contract: Contract, facts: Mapping[str, Any], counts: Counts, seconds: float
) -> dict[str, Any]:
    """Return what run.json holds; facts: what the crew says of its engine and packages."""
    model, engine = contract.model, facts["engine"]
    return {
        "versions": facts["versions"],
        "model": {"id": model.id, "version": model.version, "sha256": model.sha256, "path": str(args.model or "")},
        "threshold": facts["threshold"],
        "intended_use": contract.intended_use,
        "engine": {"asked": args.engine, "used": engine["name"], "reason": facts["reason"]},
        "threads": engine["threads"],
        "workers": facts["workers"],
        "counts": asdict(counts),
        "images_per_second": round((counts.inputs - counts.kept) / seconds, 3),
        "started": now_text(-seconds),
        "seconds": round(seconds, 3),
        "host": describe_host(),
        "arguments": [str(item) for item in args.inputs]
        + [f"{key}={value}" for key, value in sorted(vars(args).items()) if key != "inputs" and value],
    }


def count_flags(rows: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """Return how many rows have each flag, the most frequent first."""
    return dict(Counter(flag for row in rows for flag in row["flags"].split(";") if flag).most_common())


def now_text(seconds: float = 0.0) -> str:
    """Return the local time, so many seconds from now, with its offset: 2026-01-31T12:00:00+0100."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() + seconds))


def describe_host() -> dict[str, Any]:
    """Return what tells one machine from another, without its name or its user."""
    import platform

    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    facts = {"system": platform.platform(), "machine": platform.machine(), "cores": os.cpu_count()}
    return {**facts, "memory_bytes": memory}


def describe_page(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what the gallery's header shows of a run."""
    return {
        "model_id": facts["model"]["id"],
        "model_version": facts["model"]["version"],
        "model_sha256": facts["model"]["sha256"],
        "threshold": facts["threshold"],
        "engine": facts["engine"]["used"],
        "threads": facts["threads"],
        "ok": facts["counts"]["ok"],
        "failed": facts["counts"]["failed"],
        "images_per_second": facts["images_per_second"],
        "started": facts["started"],
        "version": facts["versions"]["edge-seg"],
        "intended_use": facts["intended_use"],
    }


def to_table(rows: Iterable[Mapping[str, str]], facts: dict[str, Any], out: Path, gallery: bool) -> str:
    """Return the table and the closing lines that a person reads."""
    made = list(islice((row for row in rows if row["status"] == "ok"), SHOWN))
    head = f"{'file':<36} {'size':>11} {'lesion %':>9} {'parts':>5} {'max p':>6} {'ms':>7}"
    lines = [f"{head}{'  class' * ('class' in made[0])}  flags"] if made else []
    for row in made:
        size = f"{row['width']}x{row['height']}"
        spent = sum(float(row[stage]) for stage in ("read_ms", "infer_ms", "write_ms"))
        share, peak = 100 * float(row["lesion_fraction"]), float(row["max_probability"])
        name = row["file"] if len(row["file"]) <= 36 else f"{row['file'][:17]}…{row['file'][-18:]}"
        numbers = f"{size:>11} {share:9.2f} {row['components']:>5} {peak:6.2f} {spent:7.1f}"
        said = f"  {row['class']} ({float(row['class_probability']):.2f})" if "class" in row else ""
        lines.append(f"{name:<36} {numbers}{said}  {row['flags']}")
    counts = facts["counts"]
    if counts["ok"] > SHOWN:
        lines.append(f"… and {counts['ok'] - SHOWN} more in {out / 'results.csv'}")
    if facts["flags"]:
        lines.append("flagged: " + ", ".join(f"{number} {flag}" for flag, number in facts["flags"].items()))
    kept = f", {counts['kept']} of them kept from an earlier run" if counts["kept"] else ""
    speed = f"{facts['images_per_second']:g} images a second"
    lines.append(f"{counts['ok']} segmented{kept}, {counts['failed']} failed; {speed}")
    lines.append(f"gallery: {out / 'index.html'}" if gallery else f"results: {out / 'results.csv'}")
    return "\n".join(printable(line) for line in lines)


def printable(text: str) -> str:
    """Return text without what could fool a terminal: control characters, names that are not UTF-8."""
    return "".join(char if char.isprintable() else "�" for char in text)
