"""Load every adapter and say all that is wrong with each."""

from typing import Annotated

import attrs
import typer

import registry
from adapter_api.errors import AdapterLoadError, ConfigError, ContractError
from registry import AdapterInfo
from registry.cli.commands.catalogue import STYLES, installed
from registry.cli.terminal import status
from registry.cli.terminal.options import Action
from registry.cli.terminal.show import show_rows


def check(
    name: Annotated[
        str | None, typer.Argument(help="Only this adapter, or distribution:name.")
    ] = None,
) -> Action:
    """Load adapters and check them against the contract; status 0 if all are well."""
    return lambda: check_adapters(name)


def check_adapters(name: str | None) -> int:
    """Print a table of the adapters, and below it every problem of each.

    Args:
        name: The only one to look at; None for all that are installed.

    Returns:
        The exit status: NO_ADAPTER if one cannot be used. Blocked ones are told and no problem,
        as somebody wants them so.

    Raises:
        AdapterNotFound: If there is none of that name.
    """
    found = [one for info in _asked(name) for one in _each(info)]
    rows = [(i.name, i.distribution, i.version, i.target, _status(i)) for i in found]
    show_rows(("name", "distribution", "version", "target", "status"), rows, STYLES)
    problems = [info for info in found if info.status not in ("ok", "blocked")]
    for info in problems:
        status.complain(info.reason, lines=True)
    return status.NO_ADAPTER if problems else status.OK


def _asked(name: str | None) -> list[AdapterInfo]:
    return installed(load=True) if name is None else [registry.describe(name)]


def _each(info: AdapterInfo) -> list[AdapterInfo]:
    """An ambiguous name, and what each of its distributions offers by it."""
    if info.status != "ambiguous":
        return [_built(info)]
    names = [f"{distribution}:{info.name}" for distribution in info.distribution.split(", ")]
    return [info, *(_built(registry.describe(name)) for name in names)]


def _built(info: AdapterInfo) -> AdapterInfo:
    """The same, broken if the adapter cannot be built from the defaults that it gives itself. That
    it refuses these is no defect: it may want one option or another, which no field can say."""
    if info.status == "ok" and not any(field.required for field in info.config_fields):
        try:
            registry.get(info.name, {})
        except ConfigError as error:
            return attrs.evolve(
                info, reason=f"needs options: {'; '.join(map(str, error.problems))}"
            )
        except (AdapterLoadError, ContractError) as error:
            return attrs.evolve(info, status="broken", reason=str(error))
    return info


def _status(info: AdapterInfo) -> str:
    """The status; the reasons of those that cannot be used stand below the table."""
    return f"{info.status}: {info.reason}" if info.status == "ok" and info.reason else info.status
