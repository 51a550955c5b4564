"""How does a child process of a conversion begin? It gives up its rights before it imports a library.

NumPy and TensorFlow start threads when they are imported, and a thread keeps the rights that it began with.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from convert.source.process import ConversionRequest, from_data

from .rights import enter_sandbox, find_module, use_folder


def main(module: str, folder: str) -> int:
    """Run the main function of process_main or reference_main on a folder, able to write to that folder alone."""
    work = Path(folder).resolve()
    request = from_data(ConversionRequest, json.loads((work / "request.json").read_text()))
    use_folder(work)
    readable = [Path(request.model), *map(Path, request.images)]
    readable += find_module(request.trust) if request.trust else []
    isolation = enter_sandbox(readable, [work])
    return int(import_module(module).main(str(work), isolation))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
