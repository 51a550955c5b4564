"""Writes docs/api.md, the Python face of the project, from its docstrings: `python tools/api_page.py`.

The sources are read and not imported, so that the page needs no TensorFlow and is the same for every Python.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
HEAD = """\
# The Python API

<!-- written by python tools/api_page.py from the docstrings -->

What stands here keeps its name and meaning. All of it is typed. Arrays are NumPy's: an image is (H, W) grey or
(H, W, 3) RGB, `uint8` or `uint16`. Every error that a user can act on is an `EdgeSegError`: one line, what, why and
what to do.

```python
from edge_runtime import Session

session = Session.load("model.drq.tflite")  # without a path: the embedded model
result = session.segment("slice.png")  # a path or an array
result.mask, result.probability  # (H, W) bool, (H, W) float32
result.save("mask.png")
picture = result.overlay("slice.png")  # (H, W, 3) RGB
```
"""


@dataclass(frozen=True)
class Entry:
    """A class or function of the page: where it is imported from and defined, and which methods are shown."""

    package: str
    file: str
    name: str
    methods: tuple[str, ...] = ()


ENTRIES = (
    Entry("edge_runtime", "edge_runtime/inference/session.py", "Session", ("load", "segment")),
    Entry("edge_runtime", "edge_runtime/inference/result.py", "Result", ("overlay", "save")),
    Entry("edge_runtime", "edge_runtime/contract/fields.py", "Contract"),
    Entry("edge_runtime", "edge_runtime/errors.py", "EdgeSegError"),
    Entry("edge_runtime.images", "edge_runtime/images/read.py", "read_image"),
    Entry("convert", "convert/conversion.py", "convert_model"),
    Entry("convert", "convert/conversion.py", "Conversion"),
)


def make_page() -> str:
    """Return the page in Markdown."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join([HEAD, *(render(entry) for entry in ENTRIES)]))


def render(entry: Entry) -> str:
    """Return the section of a class or function."""
    text = (ROOT / entry.file).read_text("utf-8")
    node = next(node for node in ast.parse(text).body if getattr(node, "name", None) == entry.name)
    title = f"## `{entry.name}`\n\n`from {entry.package} import {entry.name}`\n"
    if isinstance(node, ast.FunctionDef):
        return "\n".join([title, render_function(node, entry.name)])
    assert isinstance(node, ast.ClassDef)
    parts = [title, read_docstring(node) + "\n"]
    rows = list(list_fields(node, text.splitlines()))
    if rows:
        parts.append("\n".join(["| field | type | |", "| --- | --- | --- |", *rows]) + "\n")
    methods = {child.name: child for child in node.body if isinstance(child, ast.FunctionDef)}
    for name in entry.methods:
        method = methods[name]
        owner = entry.name if is_class_method(method) else entry.name.lower()
        parts += [f"### `{owner}.{name}`\n", render_function(method, f"{owner}.{name}")]
    return "\n".join(parts)


def render_function(node: ast.FunctionDef, name: str) -> str:
    """Return a function's signature as code, and its docstring."""
    skipped = 1 if node.args.args and node.args.args[0].arg in ("self", "cls") else 0
    arguments = list(list_arguments(node.args, skipped))
    answer = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{name}({', '.join(arguments)}){answer}"
    if len(line) > 100:
        line = "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){answer}"])
    return f"```text\n{line}\n```\n\n{read_docstring(node)}\n"


def list_arguments(arguments: ast.arguments, skipped: int) -> Iterator[str]:
    """Yield each argument with type and default, the star before those that are given by name alone."""
    plain = arguments.args[skipped:]
    without = len(plain) - len(arguments.defaults)
    for index, argument in enumerate(plain):
        yield format_argument(argument, arguments.defaults[index - without] if index >= without else None)
    if arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield format_argument(argument, default)


def format_argument(argument: ast.arg, default: ast.expr | None) -> str:
    """Return one argument; a default that is a function is left out."""
    text = argument.arg + (f": {ast.unparse(argument.annotation)}" if argument.annotation else "")
    if default is None:
        return text
    return text + (" = ..." if isinstance(default, ast.Lambda) else f" = {ast.unparse(default)}".replace("'", '"'))


def list_fields(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    """Yield a row for each field of a dataclass, with the comment behind it."""
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name) and child.end_lineno is not None:
            comment = lines[child.end_lineno - 1][child.end_col_offset or 0 :].strip().removeprefix("#").strip()
            kind = ast.unparse(child.annotation).replace("|", "\\|")
            yield f"| `{child.target.id}` | `{kind}` | {comment} |"


def is_class_method(node: ast.FunctionDef) -> bool:
    """Tell whether a method is called on the class."""
    return any(isinstance(one, ast.Name) and one.id == "classmethod" for one in node.decorator_list)


def read_docstring(node: ast.ClassDef | ast.FunctionDef) -> str:
    """Return a docstring as paragraphs, `Raises:` as one of its own."""
    lines = inspect.cleandoc(ast.get_docstring(node) or "").splitlines()
    found = [f"\n{line}" if line.startswith(("Raises:", "Returns")) else line for line in lines]
    return "\n".join(line.removeprefix("    ") for line in "\n".join(found).splitlines())


if __name__ == "__main__":
    PAGE.write_text(make_page(), "utf-8")
