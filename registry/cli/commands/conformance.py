"""`conformance`: prove that an installed adapter keeps the contract."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import attrs
import typer
from rich.text import Text

import registry
from adapter_api.conformance import (
    CAPABILITIES,
    CHECKS,
    Check,
    Misuse,
    Report,
    Result,
    Status,
    Verdict,
    examine,
    with_needs,
)
from adapter_api.conformance.report import prepare
from adapter_api.errors import AdapterLoadError
from registry.cli.terminal import status
from registry.cli.terminal.arguments import (
    BaseUrl,
    Model,
    OptionalName,
    Options,
    adapter_options,
    get_adapter,
)
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.show import console, show_rows
from registry.cli.terminal.status import UsageError
from registry.cli.terminal.streams import out, say
from registry.cli.terminal.text import harmless, one_line
from registry.near import nearest

_MARKS = {
    Status.PASSED: "green",
    Status.FAILED: "bold red",
    Status.ABSENT: "yellow",
    Status.BLOCKED: "dim red",
    Status.NOT_EXAMINED: "bold yellow",
}

_WIDTH = max(len(check.name) for check in CHECKS)

_EXITS = {
    Verdict.CONFORMS: status.OK,
    Verdict.VIOLATES: status.FAILED,
    Verdict.INCOMPLETE: status.INCOMPLETE,
}


def conformance(
    name: OptionalName = None,
    base_url: BaseUrl = None,
    model: Model = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHECK", help="Run only these checks, and what they need; repeatable."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", "-r", metavar="FOLDER", help="Write NAME.json and NAME.md into this folder."
        ),
    ] = None,
    absent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CAPABILITY=WHY",
            help=f"A capability that the engine lacks: {', '.join(CAPABILITIES)}; repeatable.",
        ),
    ] = None,
    option: Options = None,
    list_checks: Annotated[
        bool, typer.Option("--list", "-l", help="List the checks instead.")
    ] = False,
) -> Action:
    """Examine an adapter with every check of the conformance kit.

    Exit status 0: it conforms, or the checks of --only passed; 1: it does not; 4: nothing is wrong,
    but something could not be examined. Without --base-url, an adapter that speaks HTTP is examined
    against the kit's own engine, which speaks the completions protocol.
    """

    def action() -> int:
        if list_checks:
            return list_all_checks()
        if name is None:
            raise UsageError("missing argument NAME: see worker-adapters list")
        checks = _chosen(only or [])
        given = {"task": {} if model is None else {"model": model}, "absent": _absent(absent or [])}
        if report is not None:
            registry.describe(name)  # fails first if there is no such adapter
            _write(prepare, name, report)
        found = _examine(name, base_url, option or [], checks, given)
        if report is not None:
            _write(Report.write, found, report)
        return _EXITS[found.verdict_of_selected]

    return action


COMMAND = Command(
    "conformance",
    conformance,
    (
        "worker-adapters conformance mock",
        "worker-adapters conformance openai-http --base-url http://localhost:8000 --report build",
    ),
)


def _write(write: Callable[[Any, Path], object], what: Any, folder: Path) -> None:
    """Write a report, or prepare to.

    Raises:
        UsageError: If it cannot be written into this folder.
    """
    try:
        write(what, folder)
    except OSError as error:
        where = error.filename or folder
        raise UsageError(
            f"--report: {where} cannot be written ({error.strerror}): name a folder"
        ) from error


def list_all_checks() -> int:
    """Print every check and its rule. Returns the exit status."""
    rows = [(c.name, c.summary, c.requirement) for c in CHECKS]
    show_rows(("check", "rule", "requirements"), rows)
    return status.OK


def _chosen(names: list[str]) -> tuple[Check, ...]:
    """Return the checks of these names with all they need; all of them if no name is given."""
    try:
        return with_needs(names) if names else CHECKS
    except LookupError as error:
        known = [check.name for check in CHECKS]
        unknown = next(name for name in names if name not in known)
        near = nearest(unknown, known)
        hint = f"did you mean {near!r}? " if near else ""
        raise UsageError(
            f"--only: there is no check {unknown!r}; {hint}see worker-adapters conformance --list"
        ) from error


def _absent(pairs: list[str]) -> dict[str, str]:
    """Return the capabilities that are declared absent, with the reasons."""
    absent = {}
    for pair in pairs:
        capability, _, reason = pair.partition("=")
        if capability not in CAPABILITIES or not reason.strip():
            raise UsageError(
                f"--absent must be CAPABILITY=WHY, one of {', '.join(CAPABILITIES)}; got {pair!r}"
            )
        absent[capability] = reason
    return absent


def _examine(
    name: str,
    base_url: str | None,
    pairs: list[str],
    checks: tuple[Check, ...],
    given: Mapping[str, Any],
) -> Report:
    """Run the checks, and print each verdict as it comes."""
    options = adapter_options(name, base_url, pairs)
    engine_url = options.pop("base_url", None)

    def make(**more: Any) -> registry.BoundAdapter:
        return registry.get(name, {**options, **more})

    try:
        lines = _Lines()
        found = examine(make, engine_url=engine_url, checks=checks, on_result=lines.show, **given)
        lines.end()
    except Misuse as misuse:
        raise UsageError(str(misuse)) from misuse
    except AdapterLoadError:
        get_adapter(name, base_url, pairs)  # explains options that the adapter refuses
        raise
    say(harmless(found.summary))
    return found


@attrs.define(eq=False)
class _Lines:
    """The verdicts as they come: one a line, in a pipe with tabs.

    On a terminal, consecutive checks that are absent for the same reason take two lines.
    """

    _reason: str | None = None
    _more: int = 0
    _width: int = _WIDTH

    def show(self, result: Result) -> None:
        """Print a verdict."""
        remark = harmless(one_line(result.remark))
        if not out().isatty():
            say(f"{result.check}\t{result.status}\t{remark}")
            return
        absent = result.status is Status.ABSENT
        if absent and remark == self._reason:
            self._more += 1
            return
        self.end()
        self._reason = remark if absent else None
        width = self._width = min(_WIDTH, console().width // 3)
        line = Text(f"{result.check:<{width}} ")
        line.append(f"{result.status:<12}", _MARKS[result.status])
        line.append(f" {remark}", "" if result.status is Status.FAILED else "dim")
        console().print(line, soft_wrap=True)

    def end(self) -> None:
        """Print how many checks were left out of the lines before."""
        if self._more:
            more = f"{self._more} more"
            console().print(Text(f"{more:<{self._width}} absent       for the same reason", "dim"))
        self._more = 0
