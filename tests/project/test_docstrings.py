"""Docstrings with a section of arguments have a line for each argument."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    path
    for package in ("adapter_api", "adapters", "registry")
    for path in sorted((ROOT / package).rglob("*.py"))
    if "templates" not in path.parts
]
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _documented(tree: ast.Module) -> Iterator[tuple[str, str, _Function]]:
    """Yield each name whose docstring has Args, that docstring, and the function that it is of."""
    for node in ast.walk(tree):
        if not isinstance(node, _Function | ast.ClassDef):
            continue
        text = ast.get_docstring(node) or ""
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in inner:
            own = function is node or getattr(function, "name", "") == "__init__"
            if isinstance(function, _Function) and own and "\nArgs:\n" in text:
                yield node.name, text, function


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_argument_has_its_line(path: Path) -> None:
    """An argument that is left out, or stands in the line of another one, is not found."""
    for name, text, function in _documented(ast.parse(path.read_text())):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        for argument in (each.arg for each in arguments):
            if argument not in ("self", "cls") and not argument.startswith("_"):
                assert re.search(rf"^    {argument}: ", text, re.MULTILINE), (name, argument)
        for line in text.splitlines():
            assert not re.search(r"\. [a-z_]+: [A-Z]", line), (name, line)
