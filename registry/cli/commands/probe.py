"""Find out what a server does, by small jobs through its adapter."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import attrs

import registry
from adapter_api import End, Error, TaskRequest, Token, WorkerError
from registry import BoundAdapter
from registry.cli.terminal import status

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


async def _outcome(adapter: BoundAdapter, task: TaskRequest) -> _Outcome:
    outcome = _Outcome()
    try:
        async with adapter.submit(task) as stream:
            async for event in stream:
                if isinstance(event, Token):
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
        adapter: The adapter that speaks to it; closed when everything was asked.
        model: The model to ask for; None leaves it to adapter and server.
    """

    def __init__(self, adapter: BoundAdapter, model: str | None) -> None:
        self._adapter = adapter
        self._model = model

    def _task(self, **fields: Any) -> TaskRequest:
        base = {"prompt": PROMPT, "max_tokens": MAX_TOKENS, "temperature": 0.0}
        return TaskRequest(model=self._model, deadline_s=DEADLINE_S, **{**base, **fields})

    async def facts(self) -> AsyncIterator[Fact]:
        """Everything there is to find out, one after the other; never raises WorkerError."""
        questions = {
            "health": self._health,
            "models": self._models,
            "capacity": self._capacity,
            "prompt": self._prompt,
            "messages": self._messages,
            "version": self._version,
            "same seed twice": self._seed,
            "stop": self._stop,
            "unknown model": self._unknown_model,
            "cancel": self._cancel,
            "refused fields": self._refused_fields,
            "wrong key": self._wrong_key,
        }
        async with self._adapter:
            for name, question in questions.items():
                yield Fact(name, await question())

    async def _health(self) -> str:
        status = await self._adapter.health()
        return f"{status.state}, live {status.live}, ready {status.ready}: {status.message}"

    async def _version(self) -> str:
        props = await self._adapter.props()
        return f"{props.engine}, {props.engine_version or 'unknown'}"

    async def _models(self) -> str:
        return ", ".join((await self._adapter.props()).models) or "none listed"

    async def _capacity(self) -> str:
        props = await self._adapter.props()
        return f"context {props.context_length}, slots {props.slots_total}"

    async def _prompt(self) -> str:
        return str(await _outcome(self._adapter, self._task()))

    async def _messages(self) -> str:
        messages = [{"role": "user", "content": PROMPT}]
        return str(await _outcome(self._adapter, self._task(prompt=None, messages=messages)))

    async def _seed(self) -> str:
        task = self._task(seed=42, temperature=1.0, max_tokens=24)
        first, second = await _outcome(self._adapter, task), await _outcome(self._adapter, task)
        if first.error or second.error:
            return str(first if first.error else second)
        return "same text" if first.text == second.text else "different texts"

    async def _stop(self) -> str:
        whole = await _outcome(self._adapter, self._task())
        if not whole.text.strip():
            return "no text to stop at"
        stop = whole.text.strip()[-2:]
        return str(await _outcome(self._adapter, self._task(stop=stop)))

    async def _unknown_model(self) -> str:
        task = attrs.evolve(self._task(), model="no-such-model")
        outcome = await _outcome(self._adapter, task)
        return str(outcome) if outcome.error else "takes any name"

    async def _cancel(self) -> str:
        task = self._task(max_tokens=LONG_TOKENS)
        try:
            async with self._adapter.submit(task) as stream:
                async for event in stream:
                    if isinstance(event, Token) and event.index == 2:
                        break
                    if isinstance(event, Error):
                        return str(_Outcome(error=event.error))
                    if isinstance(event, End):
                        return "the answer was over before it could be cancelled"
                began = monotonic()
                await self._adapter.cancel(task.job_id)
                cancelled_ms = (monotonic() - began) * 1000
            began = monotonic()
            outcome = await _outcome(self._adapter, self._task(max_tokens=1))
        except WorkerError as error:
            return f"{error.code} ({error.message[:100]})"
        again = "" if outcome.error is None else f": {outcome}"
        next_ms = (monotonic() - began) * 1000
        return f"connection closed in {cancelled_ms:.0f} ms, next job took {next_ms:.0f} ms{again}"

    async def _refused_fields(self) -> str:
        props = await self._adapter.props()
        return ", ".join(sorted({f for fs in props.dropped_fields.values() for f in fs})) or "none"

    async def _wrong_key(self) -> str:
        config: Any = self._adapter.config
        if not hasattr(config, "api_key"):
            return "the adapter has no key"
        wrong = attrs.evolve(config, api_key=WRONG_KEY)
        async with registry.get(self._adapter.name, wrong) as adapter:
            outcome = await _outcome(adapter, self._task(max_tokens=1))
        return str(outcome) if outcome.error else "takes any key"


def run_probe(adapter: BoundAdapter, model: str | None) -> int:
    """Ask everything, print each fact as it is found, and close the adapter.

    Returns:
        The exit status: OK if a prompt or a message was answered in full.
    """
    return asyncio.run(_print_facts(Probe(adapter, model)))


async def _print_facts(probe: Probe) -> int:
    answered = False
    async for fact in probe.facts():
        print(f"{fact.name:16} {status.harmless(status.one_line(fact.result))}", flush=True)
        answered = answered or (fact.name in ("prompt", "messages") and "proof" in fact.result)
    return status.OK if answered else status.FAILED
