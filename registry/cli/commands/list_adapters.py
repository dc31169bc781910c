"""`list`: the installed adapters."""

import json
import os

import attrs

import registry
from adapter_api.errors import AdapterNotFound
from registry import AdapterInfo
from registry.cli.terminal import status
from registry.cli.terminal.arguments import Json
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.show import show_rows
from registry.cli.terminal.streams import say
from registry.cli.terminal.text import one_line
from registry.cli.terminal.wording import in_our_words
from registry.installed import BLOCKED_VARIABLE

STYLES = {
    "ok": "green",
    "installed": "green",
    "blocked": "yellow",
    "ambiguous": "yellow",
    "broken": "red",
}


def list_adapters(as_json: Json = False) -> Action:
    """List the installed adapters without importing any: name, distribution, version, status."""

    def action() -> int:
        found = [registry.describe(name, load=False) for name in installed_names()]
        if as_json:
            say(json.dumps([attrs.asdict(info) for info in found], indent=2))
        else:
            rows = [(i.name, i.distribution, i.version, _status(i)) for i in found]
            show_rows(("name", "distribution", "version", "status"), rows, STYLES)
        return status.OK

    return action


COMMAND = Command(
    "list", list_adapters, ("worker-adapters list", "worker-adapters list --json | jq '.[].name'")
)


def installed_names() -> list[str]:
    """Return the names of all installed adapters, blocked ones included."""
    blocked = {name.strip() for name in os.environ.get(BLOCKED_VARIABLE, "").split(",")} - {""}
    return sorted({*registry.names(), *filter(_is_installed, blocked)})


def _is_installed(name: str) -> bool:
    try:
        registry.describe(name, load=False)
    except AdapterNotFound:  # blocked before it is installed
        return False
    return True


def _status(info: AdapterInfo) -> str:
    return f"{info.status}: {one_line(in_our_words(info.reason))}" if info.reason else info.status
