"""Bulk runs: of an input file, and of tasks that a program has."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from adapter_api import TaskRequest
from registry.batch.errors import BatchError
from registry.batch.journal import Header, Journal, read_header
from registry.batch.local import LocalRun
from registry.batch.pace import Limits
from registry.batch.results import write_results
from registry.batch.rows import Format, Mapped, Source, TaskRow, examine
from registry.host import AdapterHost

Begin = Callable[[LocalRun], None]


@attrs.frozen(kw_only=True)
class Plan:
    """What a bulk run does.

    Args:
        input: The rows.
        output: The results: `.parquet`, or else OpenAI's batch format. The journal lies beside it.
        format: The input's format; None: judged by its name and its first line.
        mapped: How columns become requests, where the input is not in OpenAI's format.
        pool_id: The pool that answers.
        fields: Fields that every request gets unless its row has them: model, max_tokens, ...
        limits: What the run may use. Limits may change from run to run.
        accept_changes: Whether a run that asked something else may be continued.
        retry_failed: Whether rows that failed are asked again.
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
        """The journal's file."""
        return journal_path(self.output)

    def identity(self) -> dict[str, str]:
        """Return what changes the answers, option by option."""
        options = {**attrs.asdict(self.mapped), **self.fields, "pool": self.pool_id}
        return {name: json.dumps(value, sort_keys=True) for name, value in options.items()}


@attrs.frozen
class Summary:
    """How a run ended.

    Args:
        rows: Rows of the input.
        answered: Rows that are answered, earlier runs included.
        failed: Rows that failed, earlier runs included.
        done: Rows that ended in this run.
        tokens_in: Tokens of prompts in this run.
        tokens_out: Tokens of answers in this run.
        failures: How many rows of this run failed, by code.
        stopped: Why the run stopped before its end; empty if it did not.
        files: The files with the results.
    """

    rows: int
    answered: int
    failed: int
    done: int
    tokens_in: int
    tokens_out: int
    failures: Mapping[str, int]
    stopped: str = ""
    files: tuple[Path, ...] = ()

    @property
    def left(self) -> int:
        """How many rows have not ended."""
        return self.rows - self.answered - self.failed


def journal_path(output: Path) -> Path:
    """Return the journal of the run that writes `output`."""
    return output.with_name(output.name + ".journal")


async def run_plan(plan: Plan, host: AdapterHost, begin: Begin | None = None) -> Summary:
    """Run an input file; the same call again goes on where the last one stopped.

    Args:
        plan: What to do.
        host: Answers the rows.
        begin: Called with the run before its first row, to watch and to stop it.

    Raises:
        BatchError: If the input or the journal is not right.
        OSError: If a file cannot be read or written. What was finished stays.

    Cancellation:
        Rows in flight are cancelled; what is finished is in the journal.
    """
    source = _examined(plan)
    header = Header(source.sha256, source.rows, plan.identity())
    journal = Journal(plan.journal, header, accept_changes=plan.accept_changes)
    try:
        if plan.retry_failed:
            journal.reopen_failed()
        run = LocalRun(
            source.read(journal.finished),
            journal,
            host,
            plan.pool_id,
            fields=plan.fields,
            limits=plan.limits,
        )
        if begin is not None:
            begin(run)
        try:
            await run.run()
        finally:
            files = write_results(journal, plan.output)
        return _summary(run, files)
    finally:
        journal.close()


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
    """Run many tasks; with `output`, the same call again goes on where the last one stopped.

    Args:
        tasks: The tasks. Each job_id is the name of its result, so that resuming needs the same
            ids again.
        host: Answers them.
        pool_id: The pool.
        output: The results' file, as in Plan; None: only `on_result` gets them.
        on_result: Called with the job_id and the result of each task that ends in this run: one
            JSON object in OpenAI's batch output format.
        limits: What the run may use.
        begin: Called with the run before its first task, to watch and to stop it.

    Raises:
        BatchError: If two tasks have one job_id, or the journal belongs to other tasks.
        OSError: If a file cannot be written. What was finished stays.

    Cancellation:
        Tasks in flight are cancelled; what is finished is in the journal.
    """
    if len({task.job_id for task in tasks}) < len(tasks):
        raise BatchError("two tasks have the same job_id: each needs one of its own")
    header = Header(_tasks_sha256(tasks), len(tasks), {"pool": pool_id})
    with tempfile.TemporaryDirectory(prefix="worker-adapters-") as scratch:
        target = Path(scratch) / "results.jsonl" if output is None else output
        journal = Journal(journal_path(target), header)
        try:
            rows = (
                TaskRow(number, task)
                for number, task in enumerate(tasks)
                if not journal.finished(number)
            )
            running = LocalRun(rows, journal, host, pool_id, limits=limits, on_result=on_result)
            if begin is not None:
                begin(running)
            try:
                await running.run()
            finally:
                files = () if output is None else write_results(journal, output)
            return _summary(running, files)
        finally:
            journal.close()


def _examined(plan: Plan) -> Source:
    known = None
    if plan.journal.exists() and plan.journal.stat().st_size:
        found = read_header(plan.journal)
        known = (found.input_sha256, found.rows)
    return examine(plan.input, plan.mapped, plan.format, known)


def _summary(run: LocalRun, files: tuple[Path, ...]) -> Summary:
    progress = run.progress
    return Summary(
        progress.rows,
        progress.answered,
        progress.failed,
        progress.done,
        progress.tokens_in,
        progress.tokens_out,
        dict(progress.failures),
        progress.stopped,
        files,
    )


def _tasks_sha256(tasks: Sequence[TaskRequest]) -> str:
    digest = hashlib.sha256()
    for task in _plain(tasks):
        digest.update(msgspec.json.encode(task, order="deterministic"))
    return digest.hexdigest()


def _plain(tasks: Sequence[TaskRequest]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield attrs.asdict(task)
