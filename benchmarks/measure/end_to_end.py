"""How long does one image take from its file to its output files, in a process like that of `edge-seg`?"""

from __future__ import annotations

import sys

from benchmarks.measure.child.process import Child
from benchmarks.result.lookup import Result
from benchmarks.subjects.candidates import Notify
from edge_runtime.errors import EngineError
from edge_runtime.inference.engines.registry import ENGINES

from .plan import RunState


def measure_end_to_end(state: RunState, notify: Notify) -> Result:
    """Return a result's `end_to_end`, or the reason why there is none."""
    main = state.main
    if main.candidate.engine not in ENGINES or main.candidate.python != sys.executable:
        return {"end_to_end": None, "end_to_end_why": f"edge-seg cannot run {main.candidate.engine} here"}
    notify("end to end, from image files to output files")
    candidate, images = main.candidate, [str(path) for path in state.data.images]
    out = str(state.work / "segmented")
    fields = {"model": str(candidate.path), "engine": candidate.engine, "threads": candidate.threads}
    child = Child("end-to-end", candidate.python, state.work)  # its own process, so that its memory is that of edge-seg
    try:
        found = child.request("stages", images=images, out=out, **fields)
        peak = child.request("memory")["peak_rss"]
    except EngineError as error:
        return {"end_to_end": None, "end_to_end_why": error.why}
    finally:
        child.end()
    return {"end_to_end": {"subject": candidate.key, **found, "peak_rss_bytes": peak}}
