"""How does a child process that reads hostile files answer its parent, and say nothing else? The parent is `child`.

Lines of JSON on both pipes. In: {memory, ...}, then requests. Out, for each: any number of answers, then {done}.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

Fields = dict[str, Any]


def serve(prepare: Callable[[Fields], Callable[[Fields], Iterable[Fields]]]) -> None:
    """Answer requests until the parent closes the pipe, within its limit of memory.

    prepare: given the first line, returns what gives the answers to a request.
    """
    for stop in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent decides
        signal.signal(stop, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # libraries' warnings quote values, tracebacks quote paths
        os.dup2(silent, stream)
    warnings.simplefilter("ignore")
    logging.disable()
    first = json.loads(sys.stdin.buffer.readline() or "{}")
    if not first:
        return
    resource.setrlimit(resource.RLIMIT_DATA, (first["memory"], first["memory"]))
    answer = prepare(first)
    for line in sys.stdin.buffer:
        for found in chain(answer(json.loads(line)), [{"done": True}]):
            answers.write(json.dumps(found) + "\n")
            answers.flush()
