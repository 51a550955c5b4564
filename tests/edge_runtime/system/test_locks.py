"""A lock is held by its process alone, and by nobody once it is given back."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edge_runtime.errors import OutputError
from edge_runtime.system.files import hold_lock


def test_a_lock_that_is_held_is_refused_and_then_free(tmp_path: Path) -> None:
    """A second holder that does not wait gets one line; afterwards it gets the lock."""
    lock = tmp_path / "folder" / "lock"
    with (
        hold_lock(lock),
        pytest.raises(OutputError, match="somebody is writing"),
        hold_lock(lock, "somebody is writing"),
    ):
        pass
    with hold_lock(lock, "somebody is writing"):
        pass


def test_a_process_that_was_started_meanwhile_does_not_keep_it(tmp_path: Path) -> None:
    """A child forked while the lock was held has a copy of the open file; the lock is free all the same."""
    lock = tmp_path / "lock"
    with hold_lock(lock):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        with hold_lock(lock, "the child keeps it"):
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
