"""From what is typed, and the environment, to an adapter's options."""

import json
import os
from collections.abc import Callable
from typing import Any

import registry
from adapter_api.errors import AdapterLoadError, ConfigError
from registry import BoundAdapter
from registry.cli.terminal.status import UsageError

Action = Callable[[], int]
"""What a command does once all that was typed is understood; returns the exit status."""

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LISTS = ("tuple[", "list[", "set[", "frozenset[", "Sequence[")


def get_adapter(name: str, base_url: str | None, pairs: list[str]) -> BoundAdapter:
    """Build the adapter that was asked for.

    What is not typed comes from the environment variables of the adapter's options. A secret comes
    from there only: command lines can be seen by everybody on the machine.

    Args:
        name: The adapter's name.
        base_url: What `--base-url` says.
        pairs: What each `--option` says, as KEY=VALUE.

    Raises:
        RegistryError: As registry.get does.
        UsageError: If the options cannot be used.
    """
    options = adapter_options(name, base_url, pairs)
    try:
        return registry.get(name, **options)
    except ConfigError as error:
        if "$.base_url: missing" in str(error):
            raise UsageError(f"{error}; on the command line: --base-url URL") from None
        raise
    except AdapterLoadError as error:
        # An adapter that is whole can still refuse what it is given, when it is built.
        if isinstance(error.__cause__, ValueError) and registry.describe(name).status == "ok":
            raise UsageError(f"configuration of {name!r}: {error.__cause__}") from error
        raise


def adapter_options(name: str, base_url: str | None, pairs: list[str]) -> dict[str, Any]:
    """The options for registry.get; empty if nothing was typed, as it then reads the environment.

    Args and raises as for get_adapter.
    """
    typed = _typed(base_url, pairs)
    if not typed:
        return {}
    fields = {field.name: field for field in registry.describe(name).config_fields}
    texts = {f.name: os.environ[f.env] for f in fields.values() if f.env and os.environ.get(f.env)}
    for key in typed:
        field = fields.get(key)
        if field is not None and field.secret and field.env:
            raise UsageError(
                f"{key} is a secret, and everybody on this machine can see a command line: "
                f"set {field.env} instead"
            )
    texts |= typed
    return {
        key: value_of(text, fields[key].type if key in fields else "str")
        for key, text in texts.items()
    }


def value_of(text: str, kind: str) -> Any:
    """The value that a text means for an option.

    JSON where the option is not a string; lists may be written with commas, booleans and None in
    words. A text that is none of this stays what it is, for the registry to refuse.

    Args:
        text: What was typed.
        kind: The option's type, as `describe` tells it.
    """
    kinds = kind.split(" | ")
    if kinds[0] == "str" or repr(text) in kinds:
        return text
    word = text.strip().lower()
    if "bool" in kinds and word in _BOOLEANS:
        return _BOOLEANS[word]
    if "None" in kinds and word == "none":
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if not isinstance(value, list) and any(k.startswith(_LISTS) for k in kinds):
        return [part.strip() for part in text.split(",") if part.strip()]
    return value


def _typed(base_url: str | None, pairs: list[str]) -> dict[str, str]:
    typed = {} if base_url is None else {"base_url": base_url}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            # Not repeated here: it may be a key that was meant to be secret.
            raise UsageError("--option must be KEY=VALUE; one of them has no key or no =")
        if key in typed:
            raise UsageError(f"the option {key} is given twice")
        typed[key] = text
    return typed
