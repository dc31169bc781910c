"""The house stands as docs/explanation/architecture.md draws it."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("adapter_api", "adapters", "registry")

# What each room may import, besides the standard library and itself. The longest prefix wins.
ALLOWED = {
    "adapter_api": {"attrs", "cattrs", "pluggy"},
    "adapter_api.conformance": {"adapter_api", "attrs"},
    "adapter_api.faults": {"adapter_api", "attrs"},
    "adapter_api.conformance.cases": {"adapter_api", "attrs", "pytest"},
    "adapters.http_util": {
        "adapter_api", "attrs", "h2", "httptools", "httpx", "msgspec",
    },
    "adapters.mock": {"adapter_api", "attrs"},
    "adapters.openai_http": {
        "adapter_api", "adapters.http_util", "attrs", "httpx", "msgspec",
    },
    "registry": {
        "adapter_api", "anyio", "attrs", "cattrs", "importlib_metadata", "packaging", "pluggy",
        "typing_extensions",
    },
    "registry.observers.prometheus": {"adapter_api", "prometheus_client"},
    "registry.serving": {"adapter_api", "attrs", "cattrs", "msgspec", "registry"},
    "registry.gateway": {
        "adapter_api", "attrs", "msgspec", "prometheus_client", "registry", "starlette", "uvicorn",
    },
    "registry.batch": {"adapter_api", "attrs", "msgspec", "pyarrow", "ray", "registry"},
    "registry.cli": {"adapter_api", "attrs", "registry", "rich", "typer", "click"},
}  # fmt: skip

MODULES = sorted(
    path.relative_to(ROOT).with_suffix("")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
)


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            if node.module in ("adapters", "adapter_api", "registry"):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _room(module: str) -> str:
    return max((r for r in ALLOWED if f"{module}.".startswith(f"{r}.")), key=len)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_one_way(module: Path) -> None:
    """No module imports what its room may not know."""
    name = ".".join(module.parts).removesuffix(".__init__")
    room = _room(name)
    for imported in _imports(ROOT / module.with_suffix(".py")):
        top = imported.partition(".")[0]
        if top in sys.stdlib_module_names or f"{imported}.".startswith(f"{room}."):
            continue
        allowed = any(f"{imported}.".startswith(f"{known}.") for known in ALLOWED[room])
        assert allowed, f"{name} must not import {imported}"


def test_the_walk_sees_every_room() -> None:
    """The test above has something to check in each room."""
    rooms = {_room(".".join(module.parts)) for module in MODULES}
    assert rooms == set(ALLOWED)


@pytest.mark.parametrize(
    "path", [m for m in MODULES if m.name == "__init__"], ids=lambda path: str(path.parent)
)
def test_init_modules_only_reexport(path: Path) -> None:
    """An `__init__.py` holds imports, a sorted `__all__`, and at most a lazy `__getattr__`."""
    tree = ast.parse((ROOT / path).with_suffix(".py").read_text())
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        lazy = isinstance(node, ast.FunctionDef) and node.name in ("__getattr__", "__dir__")
        guarded = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        assigned = isinstance(node, ast.Assign | ast.AnnAssign)
        imported = isinstance(node, ast.Import | ast.ImportFrom)
        assert docstring or lazy or guarded or assigned or imported, ast.unparse(node)


def test_adapters_is_a_namespace() -> None:
    """`adapters` has no `__init__.py`: another distribution may own that name too (PEP 420)."""
    assert not (ROOT / "adapters" / "__init__.py").exists()
