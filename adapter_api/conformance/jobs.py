"""Running jobs as a user would, and time limits for operations that should be immediate."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

import attrs

from adapter_api.adapter import Adapter as CallersAdapter
from adapter_api.conformance.fair_timeout import FairTimeout
from adapter_api.conformance.verdict import Violation
from adapter_api.errors import WorkerError
from adapter_api.events import End, Error, Started, Token
from adapter_api.faults import Request
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest

ANSWER_LIMIT_S = 30.0
"""The limit for a job of a few tokens, on a slow engine that has to load its model."""

PROMPT_LIMIT_S = 3.0
"""The limit for operations that should be immediate, such as closing, on a busy machine."""

_T = TypeVar("_T")


class Adapter(CallersAdapter, Protocol):
    """The part of a BoundAdapter that the kit uses."""

    @property
    def name(self) -> str:
        """Its name in the registry."""
        ...

    @property
    def distribution(self) -> str:
        """The distribution that it comes from."""
        ...

    @property
    def version(self) -> str:
        """That distribution's version."""
        ...

    @property
    def adapter(self) -> Any:
        """The object with the hooks."""
        ...

    @property
    def config(self) -> Any:
        """The config it was built from."""
        ...


@attrs.frozen
class Outcome:
    """The outcome of a job as a user of the adapter sees it.

    Args:
        text: The delivered text.
        started: The Started event, None if the job failed before.
        end: The End event, None if the job failed.
        error: Its error, None if it ended well.
        took_s: From submit to the end, without `preempted_s`.
        preempted_s: How long other processes had the CPUs meanwhile.
        pieces: The texts of its Tokens.
    """

    text: str
    started: Started | None
    end: End | None
    error: WorkerError | None
    took_s: float = 0.0
    preempted_s: float = 0.0
    pieces: tuple[str, ...] = ()

    def same_answer(self, other: "Outcome") -> bool:
        """Return whether both are whole answers with the same text and calls."""
        if self.end is None or other.end is None:
            return False
        calls = [
            [(call.name, call.arguments) for call in end.tool_calls]
            for end in (self.end, other.end)
        ]
        return self.text == other.text and calls[0] == calls[1]

    def __str__(self) -> str:
        if self.error is None:
            return f"a whole answer of {len(self.text)} characters"
        return f"{self.error.code} ({self.error.message})"


async def run(adapter: Adapter, task: TaskRequest, limit_s: float = ANSWER_LIMIT_S) -> Outcome:
    """Run a job as a user would.

    Raises:
        Violation: If it does not end within `limit_s`.
    """
    pieces: list[str] = []
    started: Started | None = None
    end: End | None = None
    error: WorkerError | None = None
    stream = adapter.submit(task)
    timeout = FairTimeout(limit_s)
    try:
        async with timeout:
            async for event in stream:
                match event:
                    case Started():
                        started = event
                    case Token(text=text):
                        pieces.append(text)
                    case End():
                        end = event
                    case Error():
                        error = event.error
                        break
    except WorkerError as failure:
        error = failure
    except TimeoutError:
        raise Violation(f"a job did not end within {limit_s:g} s") from None
    finally:
        await in_time(stream.aclose(), "closing the stream")
    took_s, preempted_s = timeout.took_s, timeout.preempted_s
    return Outcome("".join(pieces), started, end, error, took_s, preempted_s, tuple(pieces))


async def whole(adapter: Adapter, task: TaskRequest, limit_s: float = ANSWER_LIMIT_S) -> Outcome:
    """Run a job that must end well, within `limit_s`.

    Raises:
        Violation: If it fails.
    """
    outcome = await run(adapter, task, limit_s)
    if outcome.error is not None:
        raise Violation(f"a job that the adapter ran before now failed: {outcome}")
    return outcome


async def first_token(stream: TokenStream) -> None:
    """Read up to the first Token.

    Raises:
        Violation: If there is none.
    """
    try:
        async with FairTimeout(ANSWER_LIMIT_S):
            async for event in stream:
                if isinstance(event, Token):
                    return
    except (WorkerError, TimeoutError) as exc:
        raise Violation(f"no Token came: {type(exc).__name__}: {exc}") from exc
    raise Violation("the job ended without a Token")


async def in_time(wait: Awaitable[_T], what: str, limit_s: float = PROMPT_LIMIT_S) -> _T:
    """Return the result of an awaitable that must finish within `limit_s`.

    Raises:
        Violation: If it does not, or raises CancelledError by itself.
    """
    task = asyncio.ensure_future(wait)
    try:
        async with FairTimeout(limit_s):
            await asyncio.wait([task])
    except TimeoutError:
        task.cancel()
        raise Violation(f"{what} did not return within {limit_s:g} s") from None
    except asyncio.CancelledError:
        task.cancel()
        raise
    if task.cancelled():
        raise Violation(f"{what} raised CancelledError, although nothing had cancelled it")
    return task.result()


async def hook_result(
    wait: Awaitable[_T],
    what: str,
    limit_s: float = ANSWER_LIMIT_S,
    *,
    passing: tuple[type[Exception], ...] = (),
    advice: str = "",
) -> _T:
    """Return the result of a hook that must return in time and raise nothing but `passing`.

    Raises:
        Violation: If it does not; the text ends with `advice`.
    """
    try:
        return await in_time(wait, what, limit_s)
    except Exception as exc:
        if isinstance(exc, (Violation, *passing)):
            raise
        said = advice or f": {exc}"
        raise Violation(f"{what} raised {type(exc).__name__}{said}") from exc


def sent_again(requests: Iterable[Request]) -> str:
    """Return how often an unchanged request was sent; "" if each was sent once.

    A request without a field that the server refused, or with a new key, counts as different.
    """
    sent = [(one.path, one.body, one.headers.get("authorization")) for one in requests]
    times = max(map(sent.count, sent), default=0)
    return "" if times < 2 else f"it sent {times} times what was refused permanently"


async def becomes_true(is_so: Callable[[], bool], limit_s: float = PROMPT_LIMIT_S) -> bool:
    """Return whether a condition becomes true within `limit_s`."""
    try:
        async with FairTimeout(limit_s):
            while not is_so():  # noqa: ASYNC110  # the condition has no event to wait for
                await asyncio.sleep(0.01)
    except TimeoutError:
        return False
    return True


def listed(items: Iterable[object], limit: int = 5) -> str:
    """Return the first few items as a text that also counts the rest."""
    shown = list(items)
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(map(str, shown[:limit])) + more
