"""Bulk runs: of an input file, and of a program's tasks."""

import asyncio
import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
import msgspec

from adapter_api import TaskRequest
from registry.batch.errors import BatchError
from registry.batch.journal import Header, Journal, read_header
from registry.batch.local import AnyRow, LocalRun, Summary
from registry.batch.pace import Limits
from registry.batch.results import errors_path, write_results
from registry.batch.rows import Format, Mapped, TaskRow
from registry.batch.source import Source, examine
from registry.host import AdapterHost


class AnyRun(Protocol):
    """A run on one machine or on a cluster."""

    progress: Summary

    def stop(self, why: str) -> None:
        """Send no further row; rows in flight finish."""

    async def run(self) -> None:
        """Run until every row has ended, or a reason to stop arises."""


Begin = Callable[[AnyRun], None]

_BODY = "body."
"""Before the names of request fields in the journal's plan, apart from the options of the run."""


@attrs.frozen(kw_only=True)
class Plan:
    """A bulk run of an input file.

    Args:
        input: The file with the rows.
        output: The file for the results: `.parquet`, or else OpenAI's batch format. The journal
            has its name with `.journal` appended.
        format: The input's format; None: decided by its name and its first line.
        mapped: How columns become requests, for an input that is not in OpenAI's format.
        pool_id: The pool that answers.
        fields: Request fields for rows that do not set them: model, max_tokens, ...
        limits: The limits of this call.
        accept_changes: Whether to continue a run that had other options.
        retry_failed: Whether to send rows again that failed in earlier calls.
    """

    input: Path
    output: Path
    format: Format | None = None
    mapped: Mapped = attrs.field(factory=Mapped)
    pool_id: str = "default"
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    limits: Limits = attrs.field(factory=Limits)
    accept_changes: bool = False
    retry_failed: bool = False

    @property
    def journal(self) -> Path:
        """Return the path of the journal."""
        return journal_path(self.output)

    def identity(self, format: Format) -> dict[str, str]:
        """Return the options that change the requests, as JSON by name.

        Args:
            format: The input's format.
        """
        options = {"pool": self.pool_id, "format": format, **attrs.asdict(self.mapped)}
        options |= {f"{_BODY}{name}": value for name, value in self.fields.items()}
        return {name: json.dumps(value, sort_keys=True) for name, value in options.items()}

    @staticmethod
    def again(input: Path, output: Path, limits: Limits | None = None) -> "Plan":
        """Return the plan that sends the failed rows of an earlier run again.

        Args:
            input: The input of that run.
            output: Its output.
            limits: The limits of this call.

        Raises:
            BatchError: If there is no journal of a run beside `output`.
            OSError: If the journal cannot be read.
        """
        found = read_header(journal_path(output)).plan
        options = {name: json.loads(text) for name, text in found.items()}
        names = [field.name for field in attrs.fields(Mapped)]
        return Plan(
            input=input,
            output=output,
            format=options["format"],
            mapped=Mapped(**{name: options[name] for name in names}),
            pool_id=options["pool"],
            fields={
                name.removeprefix(_BODY): value
                for name, value in options.items()
                if name.startswith(_BODY)
            },
            limits=limits or Limits(),
            retry_failed=True,
        )


def journal_path(output: Path) -> Path:
    """Return the path of the journal of the run that writes `output`."""
    return output.with_name(output.name + ".journal")


async def run_plan(plan: Plan, host: AdapterHost, begin: Begin | None = None) -> Summary:
    """Run an input file; the same call again resumes.

    Args:
        plan: The run.
        host: Answers the rows.
        begin: Called with the run before its first row, to watch and to stop it.

    Raises:
        BatchError: If the input, the journal or an option is invalid, or they do not match.
        OSError: If a file cannot be read or written. Finished rows stay in the journal.

    Cancellation:
        Rows in flight are cancelled; finished rows are in the results.
    """
    source = await asyncio.to_thread(examined, plan)
    header = Header(source.sha256, source.rows, plan.identity(source.format))

    def start(journal: Journal) -> LocalRun:
        if plan.retry_failed:
            journal.reopen_failed()
        rows = source.read(journal.finished)
        return LocalRun(rows, journal, host, plan.pool_id, fields=plan.fields, limits=plan.limits)

    path = plan.journal
    return await run_journal(path, header, start, begin, plan.output, plan.accept_changes)


async def run(
    tasks: Sequence[TaskRequest],
    host: AdapterHost,
    *,
    pool_id: str = "default",
    output: Path | None = None,
    on_result: Callable[[str, bytes], None] | None = None,
    limits: Limits | None = None,
    begin: Begin | None = None,
) -> Summary:
    """Run many tasks; with `output`, the same call again resumes.

    Args:
        tasks: The tasks. Each job_id names its result, so resuming needs the same ids again.
        host: Answers them.
        pool_id: The pool.
        output: The file for the results, as in Plan; None: only `on_result` receives them.
        on_result: Called with the job_id and the result of each task that ends in this call: one
            JSON object in OpenAI's batch output format.
        limits: The limits of this call.
        begin: Called with the run before its first task, to watch and to stop it.

    Raises:
        BatchError: If two tasks have the same job_id, or the journal belongs to other tasks.
        OSError: If a file cannot be written. Finished tasks stay in the journal.

    Cancellation:
        Tasks in flight are cancelled; finished tasks are in the results.
    """
    if len({task.job_id for task in tasks}) < len(tasks):
        raise BatchError("two tasks have the same job_id: each needs its own")
    header = Header(_tasks_sha256(tasks), len(tasks), {"pool": json.dumps(pool_id)})

    def start(journal: Journal) -> LocalRun:
        open_rows: Iterator[AnyRow] = (
            TaskRow(number, task)
            for number, task in enumerate(tasks)
            if not journal.finished(number)
        )
        return LocalRun(open_rows, journal, host, pool_id, limits=limits, on_result=on_result)

    with tempfile.TemporaryDirectory(prefix="worker-adapters-") as scratch:
        path = journal_path(output or Path(scratch) / "results.jsonl")
        return await run_journal(path, header, start, begin, output)


async def run_journal(
    path: Path,
    header: Header,
    start: Callable[[Journal], AnyRun],
    begin: Begin | None,
    output: Path | None,
    accept_changes: bool = False,
) -> Summary:
    """Run what is open in a journal, and write the results.

    Args:
        path: The journal.
        header: The run.
        start: Returns the run, not yet running.
        begin: As for `run_plan`.
        output: The file for the results; None for none.
        accept_changes: As for Plan.
    """
    open_journal = functools.partial(Journal, path, header, accept_changes=accept_changes)
    journal = await asyncio.to_thread(open_journal)
    try:
        run = start(journal)
        if begin is not None:
            begin(run)
        try:
            await run.run()
        finally:
            run.progress.files = () if output is None else write_results(journal, output)
        return run.progress
    finally:
        journal.close()


def examined(plan: Plan) -> Source:
    """Read the input of a plan once.

    Raises:
        BatchError: If it cannot be used, or a file to be written is the input, or a folder.
    """
    for path in (plan.output, errors_path(plan.output), plan.journal):
        if path.is_dir():
            raise BatchError(f"{path} is a folder: choose another output")
        if path.exists() and plan.input.exists() and path.samefile(plan.input):
            raise BatchError(f"{path} would replace the input: choose another output")
    known = None
    if plan.journal.exists() and plan.journal.stat().st_size:
        found = read_header(plan.journal)
        known = (found.input_sha256, found.rows)
    return examine(plan.input, plan.mapped, plan.format, known)


def _tasks_sha256(tasks: Sequence[TaskRequest]) -> str:
    digest = hashlib.sha256()
    for task in _plain(tasks):
        digest.update(msgspec.json.encode(task, order="deterministic"))
    return digest.hexdigest()


def _plain(tasks: Sequence[TaskRequest]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield attrs.asdict(task)
