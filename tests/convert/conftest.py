"""Conversions under test have a cache of their own, and take little time for measuring.

How fast files are is a matter for benchmarks; here the times only have to be taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("convert.search.candidate.TIMING_S", 0.3)
        patch.setattr("convert.search.candidate.MAX_TIMINGS", 1)
        patch.setattr("convert.search.layer_timing.ALL_LAYERS_S", 3.0)
        patch.setattr("convert.search.layer_timing.ONE_LAYER_S", 0.05)
        yield
