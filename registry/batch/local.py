"""A bulk run on one machine: reads rows, keeps the engines busy, and writes the journal."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs

from adapter_api import ErrorCode, JsonError, WorkerError
from adapter_api.task import new_id
from registry.batch.journal import Outcome
from registry.batch.pace import Limits, Pace
from registry.batch.rows import Row, TaskRow
from registry.host import AdapterHost
from registry.serving.openai_api import answers
from registry.serving.openai_api.errors import ApiError, from_worker_error
from registry.serving.usable import json_problem

AnyRow = Row | TaskRow

_BUSY = frozenset(
    {
        ErrorCode.ADMISSION_REJECT,
        ErrorCode.LOCAL_SATURATED,
        ErrorCode.POOL_UNAVAILABLE,
        ErrorCode.CIRCUIT_OPEN,
    }
)
"""No engine took the row: it waits and costs no attempt."""

_EVERY_ROW = frozenset(
    {ErrorCode.UPSTREAM_AUTH, ErrorCode.QUOTA_EXHAUSTED, ErrorCode.EGRESS_DENIED}
)
"""The next row would fail in the same way: the run stops, and the row stays open."""

UNUSABLE_JSON = "unusable_json"
"""The code of a row that asked for JSON and whose answer is none: cut, refused, or not JSON."""

_BASE_S, _CAP_S = 0.2, 10.0
"""Bounds of the random wait before a row is sent again."""


@attrs.define
class Summary:
    """The progress of one call of a run, and its outcome at the end.

    Args:
        rows: Rows of the input.
        answered: Rows that are answered, earlier calls included.
        failed: Rows that failed, earlier calls included.
        tokens_in: Tokens of prompts in this call.
        tokens_out: Tokens of answers in this call.
        failures: How many rows failed in this call, by code.
        done: Rows that have ended in this call.
        stopped: Why no further row is sent; empty while rows are sent, and if all were.
        files: The files with the results, at the end.
    """

    rows: int
    answered: int
    failed: int
    tokens_in: int = 0
    tokens_out: int = 0
    failures: Counter[str] = attrs.field(factory=Counter)
    done: int = 0
    stopped: str = ""
    files: tuple[Path, ...] = ()

    @property
    def left(self) -> int:
        """Return how many rows have not ended."""
        return self.rows - self.answered - self.failed

    def add(self, part: "Summary") -> None:
        """Add the tokens and failures of a part of the run."""
        self.tokens_in += part.tokens_in
        self.tokens_out += part.tokens_out
        self.failures.update(part.failures)

    def beyond(self, limits: Limits) -> str:
        """Return which limit of the run is reached; empty if none is."""
        return beyond(limits, self.tokens_in + self.tokens_out, self.failures.total())


def beyond(limits: Limits, tokens: int, failures: int) -> str:
    """Return which limit of a run is reached; empty if none is."""
    if limits.max_tokens is not None and tokens >= limits.max_tokens:
        return f"{tokens} tokens are used, the limit is {limits.max_tokens}"
    if limits.max_failures is not None and failures > limits.max_failures:
        return f"{failures} rows failed, the limit is {limits.max_failures}"
    return ""


class Results(Protocol):
    """A receiver of results, such as a Journal."""

    @property
    def rows(self) -> int:
        """Return how many rows the input has."""
        ...

    @property
    def answered(self) -> int:
        """Return how many rows are answered."""
        ...

    @property
    def failed(self) -> int:
        """Return how many rows failed."""
        ...

    def append(self, number: int, outcome: Outcome, result: bytes) -> None:
        """Add the result of a row; OSError if it cannot be written."""
        ...

    async def flush(self) -> None:
        """Wait until all results are written; OSError if one cannot be."""
        ...


class LocalRun:
    """One run over a pool of a host in this process.

    Args:
        rows: The open rows.
        journal: Receives the results.
        host: Answers the rows.
        pool_id: The pool.
        fields: Request fields for every row that does not set them itself.
        limits: The limits of the run.
        on_result: Called with the name and the result of each row that ends.
        pace: The gate of the rows, for runs that share one; None for a gate of its own.
    """

    def __init__(
        self,
        rows: Iterator[AnyRow],
        journal: Results,
        host: AdapterHost,
        pool_id: str,
        *,
        fields: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        on_result: Callable[[str, bytes], None] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._rows = rows
        self._journal = journal
        self._host = host
        self._pool_id = pool_id
        self._fields = dict(fields or {})
        self._limits = limits or Limits()
        self._on_result = on_result
        self._pace = pace or Pace(host, pool_id, self._limits)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._failure: Exception | None = None
        self._failing_since: float | None = None
        self.progress = Summary(journal.rows, journal.answered, journal.failed)

    def stop(self, why: str) -> None:
        """Send no further row; rows in flight finish. The first reason is kept."""
        self.progress.stopped = self.progress.stopped or why
        self._stop.set()
        self._pace.wake()

    async def run(self) -> None:
        """Run until every row has ended, or a reason to stop arises.

        Raises:
            OSError: If the journal cannot be written.
            Exception: Any exception of `on_result` or of the reader of the rows.

        Cancellation:
            Rows in flight are cancelled; finished rows are in the journal.
        """
        try:
            async with self._pace.turn:
                for row in self._rows:
                    reserved = await self._pace.enter(self._stop)
                    if reserved is None:
                        break
                    task = asyncio.create_task(self._run_one(row, reserved))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            if self._failure is None:
                await self._journal.flush()
        if self._failure is not None:
            raise self._failure

    async def _run_one(self, row: AnyRow, reserved: float) -> None:
        tokens = 0
        try:
            code, result, tokens = await self._result(row)
            if result is None:
                return
            self._journal.append(row.number, "error" if code else "ok", result)
            self._count(code)
            if self._on_result is not None:
                self._on_result(row.custom_id, result)
        except Exception as error:
            self._failure = self._failure or error
            self.stop(f"row {row.number + 1} ended with {type(error).__name__}: {error}")
        finally:
            self._pace.leave(reserved, tokens)

    async def _result(self, row: AnyRow) -> tuple[str, bytes | None, int]:
        """Return the code, the result and the tokens of a row; no result if it stays open."""
        try:
            request = row.request(self._fields)
        except ApiError as error:
            return error.code or "invalid_value", _failed(row, error), 0
        attempts = waits = 0
        while True:
            task = attrs.evolve(request.task, job_id=new_id()) if waits else request.task
            try:
                answer = await self._host.submit(self._pool_id, task, priority="batch").answer()
            except WorkerError as error:
                attempts += error.code not in _BUSY
                waits += 1
                if self._is_final(error, attempts):
                    self._failing_since = None
                    api_error = from_worker_error(error)
                    return api_error.code or "", _failed(row, api_error), 0
                if not await self._wait(error, waits):
                    return "", None, 0
                continue
            self._failing_since = None
            metrics = answer.metrics
            prompt_tokens = metrics.prompt_tokens or 0
            self.progress.tokens_in += prompt_tokens
            self.progress.tokens_out += metrics.tokens_generated
            body = answers.whole(request, answer)
            problem = json_problem(task, answer)
            result = _answered(row, task.job_id, body, problem)
            tokens = prompt_tokens + metrics.tokens_generated
            return "" if problem is None else UNUSABLE_JSON, result, tokens

    def _is_final(self, error: WorkerError, attempts: int) -> bool:
        """Return whether the row failed, rather than the engines."""
        if error.code in _EVERY_ROW:
            self.stop(f"every row would fail with {error}")
            return False
        return not error.retriable or attempts >= self._limits.max_attempts

    async def _wait(self, error: WorkerError, waits: int) -> bool:
        """Wait before a row is sent again; return False if the run stops during the wait."""
        now, outage_s = asyncio.get_running_loop().time(), self._limits.outage_s
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since >= outage_s:
            self.stop(f"every attempt has failed for {outage_s:g} s, the last one with {error}")
        wait_s = (error.retry_after_ms or 0) / 1000
        wait_s += random.uniform(0, min(_CAP_S, _BASE_S * 2 ** min(waits, 10)))
        try:
            async with asyncio.timeout(max(wait_s, self._pace.repeat())):
                await self._stop.wait()
        except TimeoutError:
            return True
        return False

    def _count(self, code: str) -> None:
        progress = self.progress
        progress.done += 1
        if code:
            progress.failed += 1
            progress.failures[code] += 1
        else:
            progress.answered += 1
        if why := progress.beyond(self._limits):
            self.stop(why)


def _answered(row: AnyRow, job_id: str, body: bytes, problem: JsonError | None) -> bytes:
    error = b"null"
    if problem is not None:
        error = b'{"code":%s,"message":%s}' % (_text(UNUSABLE_JSON), _text(str(problem)))
    return (
        b'{"id":"batch_req_%d","custom_id":%s,"response":{"status_code":200,"request_id":%s,'
        b'"body":%s},"error":%s}'
    ) % (row.number + 1, _text(row.custom_id), _text(job_id), body, error)


def _failed(row: AnyRow, error: ApiError) -> bytes:
    return (
        b'{"id":"batch_req_%d","custom_id":%s,"response":{"status_code":%d,"request_id":null,'
        b'"body":%s},"error":{"code":%s,"message":%s}}'
    ) % (
        row.number + 1,
        _text(row.custom_id),
        error.status,
        error.body(),
        _text(error.code),
        _text(error.message),
    )


def _text(value: str | None) -> bytes:
    return json.dumps(value).encode()
