"""`conformance`: prove that an installed adapter keeps the contract."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

import registry
from adapter_api.conformance import (
    CAPABILITIES,
    CHECKS,
    Check,
    Report,
    Result,
    Status,
    Subject,
    judge_all,
)
from adapter_api.conformance.lab import FAULT_CHECKS, UNDERSTOOD, HttpSubject, Lab
from adapter_api.conformance.report import prepare
from adapter_api.conformance.runner import blocked, judge
from adapter_api.conformance.subject import Adapter
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

_MARKS = {
    Status.PASSED: "green",
    Status.FAILED: "bold red",
    Status.ABSENT: "yellow",
    Status.BLOCKED: "dim red",
}


def conformance(
    name: OptionalName = None,
    base_url: BaseUrl = None,
    model: Model = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Run only these checks, and what they need; repeatable."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", "-r", help="Write NAME.json and NAME.md into this folder."),
    ] = None,
    absent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CAPABILITY=WHY",
            help=f"What the engine lacks: {', '.join(CAPABILITIES)}; repeatable.",
        ),
    ] = None,
    option: Options = None,
    list_checks: Annotated[
        bool, typer.Option("--list", "-l", help="List the checks instead.")
    ] = False,
) -> Action:
    """Examine an adapter with every check of the conformance kit; status 0 if it conforms.

    Without --base-url, an adapter that speaks HTTP is examined against the kit's own server.
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
        return status.OK if found.sound else status.FAILED

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
        UsageError: It cannot be written into this folder.
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
    rows = [(c.name, c.summary, c.requirement) for c in (*CHECKS, *FAULT_CHECKS)]
    show_rows(("check", "rule", "requirements"), rows)
    return status.OK


def _chosen(names: list[str]) -> list[Check]:
    """The checks of these names with all they need; all of them if no name is given."""
    checks = {check.name: check for check in (*CHECKS, *FAULT_CHECKS)}
    unknown = [name for name in names if name not in checks]
    if unknown:
        raise UsageError(
            f"there is no check {unknown[0]!r}; see worker-adapters conformance --list"
        )
    wanted = set(names) or set(checks)
    for check in reversed(checks.values()):
        if check.name in wanted:
            wanted.update(check.needs)
    return [check for check in checks.values() if check.name in wanted]


def _absent(pairs: list[str]) -> dict[str, str]:
    """The capabilities that are declared absent, with the reasons."""
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
    checks: list[Check],
    given: Mapping[str, Any],
) -> Report:
    """Run the checks, telling each verdict as it comes; the general ones, and the faults if it
    is an HTTP adapter that understands the fault server."""
    options = adapter_options(name, base_url, pairs)
    fields = {field.name for field in registry.describe(name).config_fields}

    def make(**more: Any) -> registry.BoundAdapter:
        return registry.get(name, {**options, **more})

    results: list[Result]
    adapter: Adapter
    if "base_url" not in fields:
        applicable = CHECKS
        adapter = get_adapter(
            name, base_url, pairs
        )  # which explains what is wrong with the options
        results = judge_all(_of(checks, CHECKS), Subject(make, **given), _tell)
    else:
        applicable = (*CHECKS, *FAULT_CHECKS)
        with Lab() as lab:
            if "base_url" in options:
                subject = HttpSubject(make, **given, lab=lab, make_at=make)
            else:
                subject = HttpSubject.in_lab(lab, make, **given)
            adapter = subject.make()
            results = judge_all(_of(checks, CHECKS), subject, _tell)
            results += _faults(subject, _of(checks, FAULT_CHECKS), results)
    run = {result.check for result in results}
    missing = [check.name for check in applicable if check.name not in run]
    found = Report(name, f"{adapter.distribution} {adapter.version}", results, missing)
    say(harmless(found.verdict))
    return found


def _faults(subject: HttpSubject, checks: list[Check], earlier: list[Result]) -> list[Result]:
    """The verdicts of the lab. An adapter of another protocol is told so once, not failed."""
    results = {result.check: result for result in earlier}
    foreign = ""
    for check in checks:
        if foreign and UNDERSTOOD in check.needs:
            results[check.name] = Result.of(check, Status.ABSENT, foreign)
            continue
        result = blocked(check, results) or judge(check, subject)
        if check.name == UNDERSTOOD and result.status is not Status.PASSED:
            foreign = f"the fault server speaks the completions protocol only: {result.remark}"
            result = Result.of(check, Status.ABSENT, foreign)
        results[check.name] = result
        _tell(result)
    return list(results.values())[len(earlier) :]


def _of(checks: list[Check], kind: tuple[Check, ...]) -> list[Check]:
    return [check for check in checks if check in kind]


def _tell(result: Result) -> None:
    remark = harmless(one_line(result.remark))
    if not out().isatty():
        say(f"{result.check}\t{result.status}\t{remark}")
        return
    line = Text(f"{result.check:<36} ")
    line.append(f"{result.status:<8}", _MARKS[result.status])
    line.append(f" {remark}", "" if result.status is Status.FAILED else "dim")
    console().print(line)
