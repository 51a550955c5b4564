"""Which of the project's files imports which, read from their syntax alone; nothing of them is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("edge_runtime", "evidence", "convert", "benchmarks", "reference", "deploy")
FILES = tuple(path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))

Graph = Mapping[str, frozenset[str]]


def name_module(path: Path) -> str:
    """Return the dotted name that a file is imported by."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_module(path): path for path in FILES}


def list_modules(path: Path, top: bool = False) -> Iterator[str]:
    """Yield the dotted names that a file imports; `top`: at its top and to run, else anywhere and also for types."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.parts[: len(path.parts) - node.level]) if node.level else ""
            base = ".".join(filter(None, [package, node.module]))
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in MODULES else base


def list_files(path: Path, top: bool = False) -> set[Path]:
    """Return the project's files that a file imports."""
    return {MODULES[name] for name in list_modules(path, top) if name in MODULES} - {path}


def find_closure(*starts: Path) -> set[Path]:
    """Return the files that run when those of `starts` are imported, each package's `__init__.py` among them."""
    found: set[Path] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += list_files(path, top=True)
            waiting += [parent / "__init__.py" for parent in path.parents if parent / "__init__.py" in FILES]
    return found


def draw_graph(depth: int | None = None) -> Graph:
    """Return which files import which; of a depth, which folders (or files that lie less deep)."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        source = cut(path, depth)
        graph.setdefault(source, set())
        graph[source] |= {cut(target, depth) for target in list_files(path)} - {source}
    return {name: frozenset(targets) for name, targets in graph.items()}


def cut(path: Path, depth: int | None) -> str:
    """Return a path's first parts."""
    return "/".join(path.parts[:depth])


def find_circle(graph: Graph) -> list[str]:
    """Return names that lead back to the first of them; nothing where no name leads back to itself."""
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return trail[trail.index(name) :]
        if name in done:
            return []
        for target in sorted(graph.get(name, ())):
            circle = walk(target, [*trail, name])
            if circle:
                return circle
        done.add(name)
        return []

    return next(filter(None, (walk(name, []) for name in sorted(graph))), [])
