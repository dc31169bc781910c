"""From what is typed to an adapter's options."""

import json
from typing import Any

import typer

import registry


def adapter_options(name: str, base_url: str | None, pairs: list[str]) -> dict[str, Any]:
    """The options of an adapter from `--base-url` and `--option key=value`.

    A value is JSON (`5`, `true`, `["a"]`) where the option is not a string, and otherwise taken as
    it stands.

    Raises:
        RegistryError: If there is no such adapter.
        typer.BadParameter: If a pair is not one.
    """
    options: dict[str, Any] = {} if base_url is None else {"base_url": base_url}
    texts = {f.name for f in registry.describe(name).config_fields if f.type.startswith("str")}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"{pair!r} is not key=value", param_hint="--option")
        options[key] = value if key in texts else _value(value)
    return options


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
