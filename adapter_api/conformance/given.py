"""What the kit is given, looked at before anything is examined: one message says what to write."""

import asyncio
import inspect
from collections.abc import Iterable
from typing import Any

from adapter_api.conformance.check import CAPABILITIES, Misuse

_WRITE = "`return lambda **options: registry.get('your-adapter', options)`"

_NAMES = ("name", "distribution", "version", "adapter", "config")
_CALLS = ("submit", "cancel", "health", "props", "engine_version", "start", "aclose")


def check_capabilities(names: Iterable[str], where: str) -> None:
    """Refuse names of capabilities that the kit does not know.

    Raises:
        Misuse: At the first of them.
    """
    for name in names:
        if name not in CAPABILITIES:
            raise Misuse(f"{where} has {name!r}: the names are {', '.join(CAPABILITIES)}")


def check_maker(make: Any) -> None:
    """Refuse what cannot make adapters.

    Raises:
        Misuse: It is no function, or takes no options.
    """
    if not callable(make):
        raise Misuse(
            f"make_adapter gave a {type(make).__name__}, and not a function that makes a new "
            f"adapter each time: write {_WRITE}"
        )
    try:
        parameters = inspect.signature(make).parameters
    except ValueError:  # something that cannot tell
        return
    if not parameters:
        raise Misuse(
            f"the function that make_adapter gave takes no options of the config: write {_WRITE}"
        )


def check_made(adapter: Any) -> None:
    """Refuse what is no adapter in the registry's sense.

    Raises:
        Misuse: It lacks what the kit asks for.
    """
    missing = [name for name in (*_NAMES, *_CALLS) if not hasattr(adapter, name)]
    if not missing:
        return
    if asyncio.iscoroutine(adapter):
        adapter.close()  # nobody will await it
    raise Misuse(
        f"the function that make_adapter gave made a {type(adapter).__name__}, which has no "
        f"{' and no '.join(missing[:3])}: write {_WRITE}, or put your object into a "
        "`registry.BoundAdapter(your_object, name='your-adapter', config=your_config)`"
    )
