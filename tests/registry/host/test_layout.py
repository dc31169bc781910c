"""The host's own layout: few modules, few floors, nothing from above."""

import ast
from pathlib import Path

HOST = Path(__file__).parents[3] / "registry" / "host"
ABOVE = ("workers", "simulate", "serving", "gateway", "batch", "cli")


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None
    }


def _floor(name: str, modules: dict[str, set[str]]) -> int:
    below = [
        found.removeprefix("registry.host.")
        for found in modules[name]
        if found.startswith("registry.host.")
    ]
    return 1 + max((_floor(module, modules) for module in below), default=0)


def test_the_host_has_few_modules_and_few_floors() -> None:
    """At most 15 modules on 8 floors, so that a whole path fits in a reader's mind."""
    modules = {path.stem: _imports(path) for path in HOST.glob("*.py")}
    assert len(modules) <= 15
    assert max(_floor(name, modules) for name in modules) <= 8


def test_the_host_knows_nothing_of_what_is_built_on_it() -> None:
    """Workers, simulation, serving, gateway, bulk runs and the command line are above it."""
    for path in HOST.glob("*.py"):
        rooms = {name.split(".")[1] for name in _imports(path) if name.startswith("registry.")}
        assert not rooms & set(ABOVE), path.name
