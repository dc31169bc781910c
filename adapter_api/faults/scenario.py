"""Scenarios: how a server misbehaves, and the outcome in a correct client."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from adapter_api.faults.wire import TEXT, Wire

LIMIT_S = 0.4
"""The first-token limit and the stall limit, in seconds, that the expectations assume."""

LINGER_S = 1.0
"""The maximum time a client may wait for usage and [DONE] after the finish_reason."""

PROMPT_S = 0.1
"""How soon after the cause, a limit or the server's last byte, the outcome must be known. True of
an idle machine; a test on a busy one adds something."""

Script = Callable[[Wire], Awaitable[None]]


@attrs.frozen
class Expect:
    """The outcome of a scenario in a correct client.

    Args:
        proof: The End that comes, by what proves the answer whole: "finish_reason" or "done".
            None if the job fails.
        codes: The error codes that are right. Empty if the job ends well.
        text: The text delivered in either case; None where timing decides.
        requests: How many requests the server sees, of all the scenario's jobs together.
        counted: Whether the client has to count tokens itself, as the engine's usage is missing
            or is nonsense. None for a failed job.
        retry_after_ms: The error's retry_after_ms.
        after_s: When the outcome comes, in seconds from the job's submit: not before...
        within_s: ...and, on an idle machine, not after.
        closes: Whether the client must close the connection, as the server leaves it open in the
            middle of an answer.
    """

    proof: str | None = None
    codes: frozenset[str] = frozenset()
    text: str | None = ""
    requests: int = 1
    counted: bool | None = None
    retry_after_ms: int | None = None
    after_s: float = 0.0
    within_s: float = PROMPT_S
    closes: bool = False

    def __str__(self) -> str:
        """Return the expectation in words, for the reference page."""
        if self.proof is not None:
            words = [f"`End` by {'`[DONE]`' if self.proof == 'done' else '`finish_reason`'}"]
        else:
            words = [" or ".join(f"`{code}`" for code in sorted(self.codes))]
        if self.proof is not None and self.text != TEXT:
            words.append(f"text {_short(self.text)}" if self.text else "no text")
        elif self.proof is None and self.text != "":
            words.append(f"after {_short(self.text)}" if self.text else "after some text")
        if self.counted:
            words.append("tokens counted")
        if self.retry_after_ms is not None:
            words.append(f"`retry_after_ms` {self.retry_after_ms}")
        if self.requests > 1:
            words.append(f"{self.requests} requests")
        if self.after_s:
            words.append(f"after {self.after_s:g} s")
        if self.closes:
            words.append("closes the connection")
        return ", ".join(words)


def _short(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"of {len(text):,} characters"


def whole(text: str | None = TEXT, *, proof: str = "finish_reason", **more: Any) -> Expect:
    """Expect the job to succeed. `more` as for Expect; `counted` is False by default."""
    return Expect(proof=proof, text=text, **{"counted": False, **more})


def fails(*codes: str, text: str | None = "", **more: Any) -> Expect:
    """Expect the job to fail with one of `codes`. `more` as for Expect."""
    return Expect(codes=frozenset(codes), text=text, **more)


def times_out(*codes: str, **more: Any) -> Expect:
    """Expect the job to fail with one of `codes` when a limit passes. `more` as for Expect."""
    return fails(*codes, after_s=LIMIT_S, within_s=LIMIT_S + PROMPT_S, closes=True, **more)


@attrs.frozen
class Scenario:
    """One way to misbehave.

    Args:
        name: The first segment of the URL's path, which selects it.
        summary: The server's behaviour, as a continuation of "The server ...".
        script: Answers one request. When it returns without having ended its answer, the server
            closes the connection.
        expect: The expected outcome in a client.
        task: Fields of the task besides a prompt: deadline_s, temperature, messages instead.
        jobs: How many jobs are sent, one after the other on one client; the expectation is of
            the last, but for `requests`. The server answers all others as a whole.
        server: The kind of server it imitates, where a client cannot find that out by itself.
        early: The script starts with the head of the request; the server does not read the
            request's body before the script has ended.
    """

    name: str
    summary: str
    script: Script = attrs.field(repr=False)
    expect: Expect
    task: Mapping[str, Any] = attrs.field(default=MappingProxyType({}))
    jobs: int = 1
    server: str | None = None
    early: bool = False


def scenario(summary: str, expect: Expect, **more: Any) -> Callable[[Script], Scenario]:
    """Make the decorated script a Scenario, named like its function. `more` as for Scenario."""

    def make(script: Script) -> Scenario:
        name = getattr(script, "__name__", "").strip("_").replace("_", "-")
        return Scenario(name, summary, script, expect, **more)

    return make


def collect(names: Mapping[str, object]) -> Iterable[Scenario]:
    """Return the scenarios among a module's names, in the order of their definition."""
    return [value for value in names.values() if isinstance(value, Scenario)]
