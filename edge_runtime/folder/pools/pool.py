"""What does a run need of a pool of workers, whether threads or processes?"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.contract.fields import Contract
from edge_runtime.folder.inputs import Input
from edge_runtime.folder.records.journal import JournalEntry, Outcome


class Pool(Protocol):
    """Workers that segment the images of a run."""

    contract: Contract
    facts: Mapping[str, Any]  # engine {name, version, threads}, threshold, versions {package: version}

    def process(self, inputs: Iterator[Input], out: Path, earlier: Mapping[str, JournalEntry]) -> Generator[Outcome]:
        """Yield the outcome of each input, as they come: not always in their order."""
        ...

    def describe_loading(self) -> str:
        """Return why no image can be segmented now, since the model is being loaded again; "" where it can."""
        ...

    def close(self) -> None:
        """Release all that the pool holds, whatever it is doing."""
        ...
