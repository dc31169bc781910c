"""Find out what a server does, by small jobs through its adapter."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any

import attrs

import registry
from adapter_api import End, Error, Started, TaskRequest, Token, WorkerError

MAX_TOKENS = 8
LONG_TOKENS = 1500
DEADLINE_S = 60.0
PROMPT = "hello world"
WRONG_KEY = "sk-probe-with-a-wrong-key"


@attrs.frozen
class Fact:
    """One thing found out: what was tried, what came of it."""

    name: str
    result: str


@attrs.define
class _Outcome:
    started: Started | None = None
    text: str = ""
    tokens: int = 0
    end: End | None = None
    error: WorkerError | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.error.code} ({self.error.message[:100]})"
        assert self.end is not None
        metrics = self.end.metrics
        usage = f"{metrics.prompt_tokens}+{metrics.tokens_generated} {metrics.usage_source}"
        return (
            f"{self.tokens} events, usage {usage}, finish_reason {self.end.finish_reason}, "
            f"proof {self.end.proof}"
        )


async def _outcome(adapter: "registry.BoundAdapter", task: TaskRequest) -> _Outcome:
    outcome = _Outcome()
    try:
        async with adapter.submit(task) as stream:
            async for event in stream:
                if isinstance(event, Started):
                    outcome.started = event
                elif isinstance(event, Token):
                    outcome.tokens += 1
                    outcome.text += event.text
                elif isinstance(event, End):
                    outcome.end = event
                elif isinstance(event, Error):
                    outcome.error = event.error
                    break
    except WorkerError as error:
        outcome.error = error
    return outcome


class Probe:
    """The questions to one server.

    Args:
        name: The adapter's name.
        options: Its options.
        model: The model to ask for; None leaves it to the server.
    """

    def __init__(self, name: str, options: dict[str, Any], model: str | None) -> None:
        self._name = name
        self._options = options
        self._model = model

    def _task(self, **fields: Any) -> TaskRequest:
        base = {"prompt": PROMPT, "max_tokens": MAX_TOKENS, "temperature": 0.0}
        return TaskRequest(model=self._model, deadline_s=DEADLINE_S, **{**base, **fields})

    async def facts(self) -> AsyncIterator[Fact]:
        """Everything there is to find out, one after the other; never raises WorkerError."""
        async with registry.get(self._name, **self._options) as adapter:
            questions: tuple[tuple[str, Callable[[Any], Awaitable[str]]], ...] = (
                ("health", self._health),
                ("models", self._models),
                ("capacity", self._capacity),
                ("prompt", self._prompt),
                ("messages", self._messages),
                ("version", self._version),
                ("same seed twice", self._seed),
                ("stop", self._stop),
                ("unknown model", self._unknown_model),
                ("cancel", self._cancel),
            )
            for name, question in questions:
                yield Fact(name, await question(adapter))
            props = await adapter.props()
            dropped = sorted({f for fields in props.dropped_fields.values() for f in fields})
            yield Fact("refused fields", ", ".join(dropped) or "none")
        yield Fact("wrong key", await self._wrong_key())

    async def _health(self, adapter: "registry.BoundAdapter") -> str:
        status = await adapter.health()
        return f"{status.state}, live {status.live}, ready {status.ready}: {status.message}"

    async def _version(self, adapter: "registry.BoundAdapter") -> str:
        props = await adapter.props()
        return f"{props.engine}, {props.engine_version or 'unknown'}"

    async def _models(self, adapter: "registry.BoundAdapter") -> str:
        return ", ".join((await adapter.props()).models) or "none listed"

    async def _capacity(self, adapter: "registry.BoundAdapter") -> str:
        props = await adapter.props()
        return f"context {props.context_length}, slots {props.slots_total}"

    async def _prompt(self, adapter: "registry.BoundAdapter") -> str:
        return str(await _outcome(adapter, self._task()))

    async def _messages(self, adapter: "registry.BoundAdapter") -> str:
        messages = [{"role": "user", "content": PROMPT}]
        return str(await _outcome(adapter, self._task(prompt=None, messages=messages)))

    async def _seed(self, adapter: "registry.BoundAdapter") -> str:
        task = self._task(seed=42, temperature=1.0, max_tokens=24)
        first, second = await _outcome(adapter, task), await _outcome(adapter, task)
        if first.error or second.error:
            return str(first if first.error else second)
        return "same text" if first.text == second.text else "different texts"

    async def _stop(self, adapter: "registry.BoundAdapter") -> str:
        whole = await _outcome(adapter, self._task())
        if not whole.text.strip():
            return "no text to stop at"
        stop = whole.text.strip()[-2:]
        return str(await _outcome(adapter, self._task(stop=stop)))

    async def _unknown_model(self, adapter: "registry.BoundAdapter") -> str:
        task = attrs.evolve(self._task(), model="no-such-model")
        outcome = await _outcome(adapter, task)
        return str(outcome) if outcome.error else "takes any name"

    async def _cancel(self, adapter: "registry.BoundAdapter") -> str:
        task = self._task(max_tokens=LONG_TOKENS)
        try:
            async with adapter.submit(task) as stream:
                async for event in stream:
                    if isinstance(event, Token) and event.index == 2:
                        break
                    if isinstance(event, Error):
                        return str(_Outcome(error=event.error))
                    if isinstance(event, End):
                        return "the answer was over before it could be cancelled"
                began = monotonic()
                await adapter.cancel(task.job_id)
                cancelled_ms = (monotonic() - began) * 1000
            began = monotonic()
            outcome = await _outcome(adapter, self._task(max_tokens=1))
        except WorkerError as error:
            return f"{error.code} ({error.message[:100]})"
        again = "" if outcome.error is None else f": {outcome}"
        next_ms = (monotonic() - began) * 1000
        return f"connection closed in {cancelled_ms:.0f} ms, next job took {next_ms:.0f} ms{again}"

    async def _wrong_key(self) -> str:
        if "api_key" not in {f.name for f in registry.describe(self._name).config_fields}:
            return "the adapter has no key"
        options = {**self._options, "api_key": WRONG_KEY}
        async with registry.get(self._name, **options) as adapter:
            outcome = await _outcome(adapter, self._task(max_tokens=1))
        return str(outcome) if outcome.error else "takes any key"


def run_probe(
    name: str, options: dict[str, Any], model: str | None, show: Callable[[Fact], None]
) -> None:
    """Ask everything and hand each fact to `show` as it is found.

    Raises:
        RegistryError: If the adapter cannot be found or configured.
    """

    async def ask() -> None:
        async for fact in Probe(name, options, model).facts():
            show(fact)

    asyncio.run(ask())
