"""Which figures of a result does `run` print on the terminal?"""

from __future__ import annotations

from edge_runtime.errors import printable

from .lookup import Result
from .specification import COMPARED_SCORES


def render_summary(result: Result) -> str:
    """Return a line for each subject, for each pair with a subject, and for each scored subject."""
    lines = [f"{'subject':<28} {'p50 ms':>9} {'p90 ms':>9} {'p99 ms':>9} {'n':>6} {'file MB':>8} {'peak MB':>8}"]
    for key, subject in result["subjects"].items():
        if subject["status"] != "ok":
            lines.append(f"{key:<28} {subject['status']}: {printable(subject['reason'])}")
            continue
        times, peak = subject["latency"], subject["memory"]["peak_rss_bytes"]
        figures = " ".join(f"{times[name]:>9.2f}" for name in ("p50_ms", "p90_ms", "p99_ms"))
        sizes = f"{subject['file']['bytes'] / 1e6:>8.2f} {peak / 1e6 if peak else float('nan'):>8.1f}"
        lines.append(f"{key:<28} {figures} {times['n']:>6} {sizes}")
    for pair in result["pairs"]:
        if result["subjects"][pair["subject"]]["role"] == "subject":
            low, high = pair["interval"]
            ratio = f"{pair['ratio_p50']:.3f} [{low:.3f}, {high:.3f}] of the time: {pair['verdict']}"
            lines.append(f"{pair['subject']} against {pair['baseline']}: {ratio}")
    for key, entry in (result["accuracy"] or {}).items():
        values = ((name, entry[name]["value"]) for name in COMPARED_SCORES)
        scores = ", ".join(f"{name} {'not measured' if value is None else f'{value:.4f}'}" for name, value in values)
        lines.append(f"{key} against {entry['against']}: {scores}")
    return "\n".join(lines)
