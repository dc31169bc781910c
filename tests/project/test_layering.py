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
        "adapter_api", "attrs", "certifi", "h2", "httptools", "httpx", "msgspec",
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
    "registry.observers.otel": {"adapter_api", "attrs", "opentelemetry"},
    "registry.batch": {"adapter_api", "attrs", "msgspec", "pyarrow", "registry"},
    "registry.batch.ray": {"adapter_api", "attrs", "msgspec", "pyarrow", "ray", "registry"},
    "registry.cli": {"adapter_api", "attrs", "registry", "rich", "typer", "click", "uvloop"},
}  # fmt: skip

# The rooms of the registry, from the lowest to the highest: each imports lower ones only.
ORDER = (
    "registry.near",
    "registry.config",
    "registry.plugins",
    "registry.observers",
    "registry.middleware",
    "registry.hooks",
    "registry.adapter",
    "registry.kept",
    "registry.installed",
    "registry.registry",
    "registry.default",
    "registry.host",
    "registry.workers",
    "registry.loop_thread",
    "registry.sync",
    "registry.simulate",
    "registry.serving",
    "registry.batch",
    "registry.gateway",
    "registry.cli",
)

MODULES = sorted(
    path.relative_to(ROOT).with_suffix("")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
)


def _name(module: Path) -> str:
    return ".".join(module.parts).removesuffix(".__init__")


def _nodes(module: Path) -> list[ast.Import | ast.ImportFrom]:
    """Return every import of a module: in functions and under TYPE_CHECKING, too."""
    tree = ast.parse((ROOT / module).with_suffix(".py").read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def _imports(module: Path) -> set[str]:
    names = set()
    for node in _nodes(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{module}: relative import"
            names.add(node.module or "")
            if node.module in ("adapters", "adapter_api", "registry"):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


PATHS = {_name(module): module for module in MODULES}
EXPORTS = {
    (package, alias.asname or alias.name): (node.module or "", alias.name)
    for package, module in PATHS.items()
    if module.name == "__init__"
    for node in _nodes(module)
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}


def _home(module: str, name: str) -> str:
    """Return the module that defines what `from module import name` gives."""
    if f"{module}.{name}" in PATHS:
        return f"{module}.{name}"
    if (module, name) in EXPORTS:
        return _home(*EXPORTS[module, name])
    return module


def _edges(module: Path) -> set[str]:
    found = set()
    for node in _nodes(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            found |= {_home(node.module or "", alias.name) for alias in node.names}
    return found & PATHS.keys()


# A package's `__init__` only hands on names: what imports them depends on the modules behind.
GRAPH = {name: _edges(module) for name, module in PATHS.items() if module.name != "__init__"}


def _place(name: str) -> int | None:
    """Return the place of a module's room in ORDER."""
    return next((i for i, r in enumerate(ORDER) if f"{name}.".startswith(f"{r}.")), None)


def _room(module: str) -> str:
    return max((r for r in ALLOWED if f"{module}.".startswith(f"{r}.")), key=len)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_one_way(module: Path) -> None:
    """No module imports what its room may not know."""
    name = _name(module)
    room = _room(name)
    for imported in _imports(module):
        top = imported.partition(".")[0]
        if top in sys.stdlib_module_names or f"{imported}.".startswith(f"{room}."):
            continue
        allowed = any(f"{imported}.".startswith(f"{known}.") for known in ALLOWED[room])
        assert allowed, f"{name} must not import {imported}"


def test_there_is_no_cycle() -> None:
    """No module depends on itself through others, TYPE_CHECKING and functions included."""
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(GRAPH.get(name, ())):
                visit(other, (*way, name))
            done.add(name)

    for name in GRAPH:
        visit(name, ())


@pytest.mark.parametrize("name", [name for name in GRAPH if name.startswith("registry.")])
def test_the_registrys_rooms_are_in_order(name: str) -> None:
    """The host knows nothing of workers, serving, gateway, batch and cli, and so on down."""
    own = _place(name)
    for imported in GRAPH[name]:
        place = _place(imported)
        if place is not None and own is not None:
            assert place <= own, f"{name} must not import {imported}"


def test_the_walk_sees_every_room() -> None:
    """The test above has something to check in each room."""
    rooms = {_room(".".join(module.parts)) for module in MODULES}
    assert rooms == set(ALLOWED)
    assert all(_place(name) is not None for name in GRAPH if name.startswith("registry."))


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
