"""Lazy exports: the names that a package's `if TYPE_CHECKING:` block imports, on first use.

Type checkers, readers and this helper read the same block, so there is no second list:

    if TYPE_CHECKING:
        from adapter_api.events import End, Error

    __all__ = ["End", "Error"]
    __getattr__ = lazy_exports(__name__)

The block is read from the package's compiled code, which is present in every kind of installation:
images without sources, zip files and frozen programs as well.
"""

import sys
from collections.abc import Callable
from importlib import import_module


def lazy_exports(package: str) -> Callable[[str], object]:
    """Return the `__getattr__` of `package` (PEP 562).

    It imports a name's module on first use and keeps the value in the package. A submodule may be
    among the names, imported from the package itself.
    """
    homes: dict[str, str] = {}

    def __getattr__(name: str) -> object:
        if not homes:
            homes.update(_imports_of(package))
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == package:
            value: object = import_module(f"{package}.{name}")
        else:
            value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__


def _imports_of(package: str) -> dict[str, str]:
    """Return the module of each name that a `from ... import` in the package's code names."""
    import dis

    spec = sys.modules[package].__spec__
    code = spec.loader.get_code(package) if spec is not None else None  # type: ignore[union-attr]
    homes: dict[str, str] = {}
    module = ""
    for instruction in dis.get_instructions(code):  # type: ignore[arg-type]
        if instruction.opname == "IMPORT_NAME":
            module = instruction.argval
        elif instruction.opname == "IMPORT_FROM":
            homes[instruction.argval] = module
    return homes
