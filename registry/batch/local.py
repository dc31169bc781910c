"""A bulk run on one machine: rows in, results into the journal, engines kept full."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from adapter_api import ErrorCode, WorkerError
from adapter_api.task import new_id
from registry.batch.journal import Journal
from registry.batch.pace import Limits, Pace
from registry.batch.rows import Row, TaskRow
from registry.host import AdapterHost
from registry.serving.openai_api import answers
from registry.serving.openai_api.errors import ApiError, from_worker_error

AnyRow = Row | TaskRow

_BUSY = frozenset(
    {
        ErrorCode.ADMISSION_REJECT,
        ErrorCode.LOCAL_SATURATED,
        ErrorCode.POOL_UNAVAILABLE,
        ErrorCode.CIRCUIT_OPEN,
    }
)
"""Failures that cost the engines nothing and say nothing of the row: it waits and tries again."""

_BASE_S, _CAP_S = 0.2, 10.0
"""Bounds of the wait before a row is asked again."""


@attrs.define(eq=False)
class Progress:
    """How far a run is.

    Args:
        rows: Rows of the input.
        answered: Rows that are answered, earlier runs included.
        failed: Rows that failed, earlier runs included.
        tokens_in: Tokens of prompts in this run.
        tokens_out: Tokens of answers in this run.
        failures: How many rows of this run failed, by code.
        began_at: Seconds of the event loop's clock.
        done: Rows that have ended in this run.
        stopped: Why no further row is sent; empty while there is no reason.
    """

    rows: int
    answered: int
    failed: int
    began_at: float
    tokens_in: int = 0
    tokens_out: int = 0
    failures: Counter[str] = attrs.field(factory=Counter)
    done: int = 0
    stopped: str = ""

    @property
    def left(self) -> int:
        """How many rows have not ended."""
        return self.rows - self.answered - self.failed


class LocalRun:
    """One run over the pools of a host in this process.

    Args:
        rows: The rows that are to be asked.
        journal: Gets the results.
        host: Answers the rows.
        pool_id: The pool.
        fields: Fields that every row's request gets, unless it has them itself.
        limits: What the run may use.
        on_result: Called with the name and the result of each row that ends.
    """

    def __init__(
        self,
        rows: Iterator[AnyRow],
        journal: Journal,
        host: AdapterHost,
        pool_id: str,
        *,
        fields: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        on_result: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._rows = rows
        self._journal = journal
        self._host = host
        self._pool_id = pool_id
        self._fields = dict(fields or {})
        self._limits = limits or Limits()
        self._on_result = on_result
        self._pace = Pace(host, pool_id, self._limits)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        loop = asyncio.get_running_loop()
        self._answered_at = loop.time()
        self.progress = Progress(
            journal.rows, journal.answered, journal.failed, began_at=loop.time()
        )

    def stop(self, why: str) -> None:
        """Send no further row; those in flight end."""
        self.progress.stopped = self.progress.stopped or why
        self._stop.set()
        self._pace.close()

    async def run(self) -> Progress:
        """Run until every row has ended, or a reason to stop comes.

        Raises:
            OSError: If the journal cannot be written.

        Cancellation:
            Rows in flight are cancelled; what is finished is in the journal.
        """
        try:
            for row in self._rows:
                if not await self._pace.enter():
                    break
                task = asyncio.create_task(self._run_one(row))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._journal.flush()
        if self._failure is not None:
            raise self._failure
        return self.progress

    async def _run_one(self, row: AnyRow) -> None:
        tokens = 0
        try:
            code, result, tokens = await self._result(row)
            if result is None:
                return
            await self._journal.append(row.number, "error" if code else "ok", result)
            self._count(code)
            if self._on_result is not None:
                self._on_result(row.custom_id, result)
        except OSError as error:
            self._failure = self._failure or error
            self.stop(f"the journal cannot be written: {error.strerror or error}")
        except Exception as error:
            self._failure = self._failure or error
            self.stop(f"row {row.number + 1} failed with {type(error).__name__}")
        finally:
            self._pace.leave(tokens)

    async def _result(self, row: AnyRow) -> tuple[str, bytes | None, int]:
        """Return the code, the result and the tokens of a row; no result if it stays open."""
        try:
            request = row.request(self._fields)
        except ApiError as error:
            return error.code or "invalid_value", _failed(row, error), 0
        attempt = 0
        while True:
            task = attrs.evolve(request.task, job_id=new_id()) if attempt else request.task
            try:
                answer = await self._host.submit(self._pool_id, task, priority="batch").answer()
            except WorkerError as error:
                attempt += error.code not in _BUSY
                if not self._again(error, attempt):
                    api_error = from_worker_error(error)
                    return api_error.code or "", _failed(row, api_error), 0
                if not await self._wait(error, attempt):
                    return "", None, 0
                continue
            self._answered_at = asyncio.get_running_loop().time()
            metrics = answer.metrics
            prompt_tokens = metrics.prompt_tokens or 0
            self.progress.tokens_in += prompt_tokens
            self.progress.tokens_out += metrics.tokens_generated
            body = answers.whole(request, answer)
            return "", _answered(row, task.job_id, body), prompt_tokens + metrics.tokens_generated

    def _again(self, error: WorkerError, attempt: int) -> bool:
        """Return whether a row that failed is asked again."""
        if error.code in _BUSY and error.retriable:
            return True
        return error.retriable and attempt < self._limits.max_attempts

    async def _wait(self, error: WorkerError, attempt: int) -> bool:
        """Wait before a row is asked again; return False if the run stops meanwhile."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._answered_at > self._limits.outage_s:
            self.stop(
                f"no engine has answered for {self._limits.outage_s:g} s, the last failure was "
                f"{error}"
            )
        wait_s = (error.retry_after_ms or 0) / 1000
        wait_s += random.uniform(0, min(_CAP_S, _BASE_S * 2**attempt))
        try:
            async with asyncio.timeout(wait_s):
                await self._stop.wait()
        except TimeoutError:
            return True
        return False

    def _count(self, code: str) -> None:
        progress, limits = self.progress, self._limits
        progress.done += 1
        if code:
            progress.failed += 1
            progress.failures[code] += 1
        else:
            progress.answered += 1
        used = progress.tokens_in + progress.tokens_out
        if limits.max_tokens is not None and used >= limits.max_tokens:
            self.stop(f"{used} tokens are used, and the maximum is {limits.max_tokens}")
        failures = sum(progress.failures.values())
        if limits.max_failures is not None and failures > limits.max_failures:
            self.stop(f"{failures} rows failed, and at most {limits.max_failures} may")


def _answered(row: AnyRow, job_id: str, body: bytes) -> bytes:
    return (
        b'{"id":"batch_req_%d","custom_id":%s,"response":{"status_code":200,"request_id":"%s",'
        b'"body":%s},"error":null}'
    ) % (row.number + 1, json.dumps(row.custom_id).encode(), job_id.encode(), body)


def _failed(row: AnyRow, error: ApiError) -> bytes:
    return (
        b'{"id":"batch_req_%d","custom_id":%s,"response":{"status_code":%d,"request_id":null,'
        b'"body":%s},"error":{"code":%s,"message":%s}}'
    ) % (
        row.number + 1,
        json.dumps(row.custom_id).encode(),
        error.status,
        error.body(),
        json.dumps(error.code).encode(),
        json.dumps(error.message).encode(),
    )
