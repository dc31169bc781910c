"""`check`: load adapters and show every problem of each."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import attrs
import typer
from rich.text import Text

import registry
from adapter_api.errors import AdapterLoadError, ConfigError, ContractError
from registry import AdapterInfo
from registry.cli.commands.list_adapters import STYLES, installed_names
from registry.cli.terminal import status
from registry.cli.terminal.arguments import Json, OptionalName
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.show import console, style_of
from registry.cli.terminal.streams import out, say
from registry.cli.terminal.text import harmless, one_line
from registry.cli.terminal.wording import in_our_words

CHILD_S = 60.0
"""Far longer than any import takes: an adapter that is still loading after it hangs."""


def check(
    name: OptionalName = None,
    isolated: Annotated[
        bool,
        typer.Option(
            "--isolated",
            "-i",
            help="Load each adapter in a separate process, in case it crashes or hangs.",
        ),
    ] = False,
    as_json: Json = False,
) -> Action:
    """Load adapters and check them against the contract; status 0 if all are sound."""

    def action() -> int:
        found: list[AdapterInfo] = []
        for each in installed_names() if name is None else [name]:
            begun = name is None and not as_json
            if begun:
                _begin(each)
            infos = _checked_in_child(each) if isolated else _checked(each)
            for info in infos:
                found.append(info)
                if not as_json:
                    _show(info, begun=begun)
                begun = False
        if as_json:
            say(json.dumps([attrs.asdict(info) for info in found], indent=2))
        for info in found:
            for remark in info.notes:
                status.note(f"{info.name}: {remark}")
        broken = [info for info in found if info.status not in ("ok", "blocked")]
        if not as_json:
            for info in broken:
                heading, *problems = in_our_words(info.reason).splitlines() or [info.status]
                status.complain(heading, (text.strip().removeprefix("- ") for text in problems))
        return status.NO_ADAPTER if broken else status.OK

    return action


COMMAND = Command(
    "check",
    check,
    (
        "worker-adapters check",
        "worker-adapters check acme-echo --json",
        "worker-adapters check --isolated",
    ),
)


def _checked(name: str) -> Iterator[AdapterInfo]:
    """Yield the result of loading the adapter; for an ambiguous name, one per distribution."""
    info = registry.describe(name)
    if info.status != "ambiguous":
        yield _built(info)
        return
    yield info
    for distribution in info.distribution.split(", "):
        yield _built(registry.describe(f"{distribution}:{info.name}"))


def _built(info: AdapterInfo) -> AdapterInfo:
    """Return the same, or broken if the adapter cannot be built from its own defaults.

    Refusing the defaults is not a defect: an adapter may need one of two options, which no field
    can declare.
    """
    if info.status == "ok" and not any(field.required for field in info.config_fields):
        try:
            registry.get(info.name, {})
        except ConfigError as error:
            needs = "; ".join(map(str, error.problems))
            return attrs.evolve(info, reason=f"needs options: {needs}")
        except (AdapterLoadError, ContractError) as error:
            return attrs.evolve(info, status="broken", reason=str(error))
    return info


def _checked_in_child(name: str) -> Iterator[AdapterInfo]:
    """Yield the findings of a child process, or that loading the adapter killed it."""
    command = [sys.executable, "-m", "registry.cli", "check", name, "--json"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield _crashed(name, f"loading it had not ended after {CHILD_S:g} s")
        return
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError:
        yield _crashed(name, _death(done))
        return
    for data in found:
        fields = tuple(registry.ConfigField(**field) for field in data.pop("config_fields"))
        notes = tuple(data.pop("notes"))
        yield AdapterInfo(**data, config_fields=fields, notes=notes)


def _crashed(name: str, reason: str) -> AdapterInfo:
    known = registry.describe(name, load=False)
    return attrs.evolve(known, status="broken", reason=f"adapter {name!r} is broken: {reason}")


def _death(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode >= 0:
        last = done.stderr.strip().splitlines()[-1:] or ["without a message"]
        return f"the process that loaded it exited with status {done.returncode}: {last[0]}"
    try:
        name = signal.Signals(-done.returncode).name
    except ValueError:
        name = f"signal {-done.returncode}"
    return f"loading it killed the process ({name})"


def _begin(name: str) -> None:
    """Print the name of a row: loading the adapter may end the process, and then it stands last."""
    if out().isatty():
        console().print(Text(f"{harmless(name):<24} ", "bold"), end="")
        out().flush()
    else:
        say(one_line(name), end="\t")


def _show(info: AdapterInfo, *, begun: bool) -> None:
    """Print a row, or the rest of one whose name was printed."""
    if not begun:
        _begin(info.name)
    # The reasons of adapters that cannot be used follow below the rows.
    state = f"{info.status}: {info.reason}" if info.status == "ok" and info.reason else info.status
    if not out().isatty():
        cells = (info.distribution, info.version, info.target, state)
        say("\t".join(one_line(cell) for cell in cells))
        return
    line = Text.assemble(
        (f"{harmless(one_line(state)):<9}  ", style_of(state, STYLES)),
        (harmless(f"{info.distribution} {info.version}"), "dim"),
    )
    console().print(line, soft_wrap=True)
