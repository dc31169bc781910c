"""`describe`: one adapter's origin and options."""

import json

import attrs
from rich.padding import Padding
from rich.text import Text

import registry
from registry import AdapterInfo, ConfigField
from registry.cli.terminal import status
from registry.cli.terminal.arguments import Json, Name
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.show import console
from registry.cli.terminal.streams import out, say
from registry.cli.terminal.text import harmless, one_line
from registry.cli.terminal.wording import in_our_words


def describe(name: Name, as_json: Json = False) -> Action:
    """Show an adapter's origin and its options: type, default, environment variable, meaning."""

    def action() -> int:
        info = registry.describe(name)
        if as_json:
            say(json.dumps(attrs.asdict(info), indent=2))
        else:
            _show(info)
        if info.status != "ok":
            status.complain(in_our_words(info.reason))
            return status.NO_ADAPTER
        return status.OK

    return action


COMMAND = Command("describe", describe, ("worker-adapters describe openai-http",))


def _show(info: AdapterInfo) -> None:
    say(f"{info.name}: {info.distribution} {info.version}, {info.target}, {info.status}")
    for field in info.config_fields:
        if out().isatty():
            _show_field(field)
        else:
            cells = (field.name, field.type, _default(field), field.env or "", field.help)
            say("\t".join(one_line(cell) for cell in cells))


def _show_field(field: ConfigField) -> None:
    """Print two or three lines instead of a row: five columns do not fit on 80 characters."""
    line = Text(f"\n{field.name}", "bold")
    default = _default(field)
    line.append(f"  {field.type}", "not bold cyan")
    if default:
        line.append("  required" if field.required else f"  = {default}", "not bold dim")
    if field.env:
        line.append(f"  {field.env}", "not bold green")
    console().print(line)
    if field.help:
        console().print(Padding(Text(harmless(one_line(field.help))), (0, 0, 0, 4)))


def _default(field: ConfigField) -> str:
    return "required" if field.required else field.default or ""
