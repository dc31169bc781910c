"""Show which adapters there are, and what can be set for one."""

import os

import registry
from adapter_api.errors import AdapterNotFound
from registry import AdapterInfo
from registry.cli.terminal import status
from registry.cli.terminal.show import show_rows
from registry.registry import BLOCKED_VARIABLE

STYLES = {
    "ok": "green",
    "installed": "green",
    "blocked": "yellow",
    "ambiguous": "yellow",
    "broken": "red",
}


def list_all() -> int:
    """Print the installed adapters, without importing any. Returns the exit status."""
    found = installed(load=False)
    rows = [(info.name, info.distribution, info.version, _status(info)) for info in found]
    show_rows(("name", "distribution", "version", "status"), rows, STYLES)
    return status.OK


def describe_one(name: str) -> int:
    """Print an adapter's origin and options. Returns the exit status.

    Raises:
        AdapterNotFound: If there is none of that name.
    """
    info = registry.describe(name)
    print(f"{info.name}: {info.distribution} {info.version}, {info.target}, {info.status}")
    if info.status != "ok":
        status.complain(info.reason)
        return status.NO_ADAPTER
    show_rows(
        ("option", "type", "default", "environment", "meaning"),
        [
            (f.name, f.type, "required" if f.required else f.default or "", f.env or "", f.help)
            for f in info.config_fields
        ],
        {"required": "bold"},
    )
    return status.OK


def installed(*, load: bool) -> list[AdapterInfo]:
    """Blocked ones too: registry.names() leaves them out, and here somebody may look for one.

    Args:
        load: Whether to import each and check it.
    """
    blocked = {name.strip() for name in os.environ.get(BLOCKED_VARIABLE, "").split(",")} - {""}
    infos = []
    for name in sorted({*registry.names(), *blocked}):
        try:
            infos.append(registry.describe(name, load=load))
        except AdapterNotFound:  # blocked before it is installed
            continue
    return infos


def _status(info: AdapterInfo) -> str:
    return f"{info.status}: {status.one_line(info.reason)}" if info.reason else info.status
