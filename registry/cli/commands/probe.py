"""`probe`: examine a server's behaviour with small jobs through its adapter."""

import asyncio
import textwrap
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import attrs

import registry
from adapter_api import End, Error, TaskRequest, Token, WorkerError
from adapter_api.conformance.jobs import Outcome, run
from registry import BoundAdapter
from registry.cli.terminal import status
from registry.cli.terminal.arguments import (
    Adapter,
    BaseUrl,
    Model,
    Options,
    Url,
    get_adapter,
    one_url,
)
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.streams import say
from registry.cli.terminal.text import harmless, one_line
from registry.cli.terminal.wording import in_our_words

MAX_TOKENS = 8
LONG_TOKENS = 1500
DEADLINE_S = 60.0
PROMPT = "hello world"
MESSAGE_LENGTH = 120
WRONG_KEY = "sk-probe-with-a-wrong-key"


def probe(
    url: Url = None,
    adapter: Adapter = "openai-http",
    base_url: BaseUrl = None,
    model: Model = None,
    option: Options = None,
) -> Action:
    """Examine with small jobs what a server serves, counts and refuses."""

    def action() -> int:
        bound = get_adapter(adapter, one_url(url, base_url), option)
        return asyncio.run(_print_facts(Probe(bound, model)))

    return action


COMMAND = Command("probe", probe, ("worker-adapters probe http://localhost:8000",))


@attrs.frozen
class Fact:
    """One finding.

    Args:
        name: The question.
        result: The answer.
    """

    name: str
    result: str


def _shown(outcome: Outcome) -> str:
    if outcome.error is not None:
        return _failure(outcome.error)
    assert outcome.end is not None
    end, metrics = outcome.end, outcome.end.metrics
    prompt = "unknown" if metrics.prompt_tokens is None else metrics.prompt_tokens
    usage = f"{prompt}+{metrics.tokens_generated} {metrics.usage_source}"
    return (
        f"{len(outcome.pieces)} events, usage {usage}, finish_reason {end.finish_reason}, "
        f"proof {end.proof}"
    )


def _failure(error: WorkerError) -> str:
    said = textwrap.shorten(in_our_words(error.message), MESSAGE_LENGTH, placeholder=" ...")
    return f"{error.code} ({said})"


class Probe:
    """The examinations of one server.

    Args:
        adapter: The adapter that speaks to it; closed after the last question.
        model: The model to request. None uses the server's model if it lists only one, and
            otherwise leaves the choice to adapter and server.
    """

    def __init__(self, adapter: BoundAdapter, model: str | None) -> None:
        self._adapter = adapter
        self._model = model
        self._live = True

    def _task(self, **fields: Any) -> TaskRequest:
        base = {"prompt": PROMPT, "max_tokens": MAX_TOKENS, "temperature": 0.0}
        return TaskRequest(model=self._model, deadline_s=DEADLINE_S, **{**base, **fields})

    async def _outcome(self, task: TaskRequest) -> Outcome:
        return await run(self._adapter, task, 2 * DEADLINE_S)

    async def facts(self) -> AsyncIterator[Fact]:
        """Yield the findings one by one; never raise WorkerError.

        If the server does not answer at all, only its health is reported.
        """
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
                if not self._live:
                    return

    async def _health(self) -> str:
        status = await self._adapter.health()
        self._live = status.live
        known = (("live", status.live), ("ready", status.ready))
        words = (word if value else f"not {word}" for word, value in known)
        return f"{status.state}, {', '.join(words)}: {status.message}"

    async def _version(self) -> str:
        props = await self._adapter.props()
        return f"{props.engine}, {props.engine_version or 'unknown'}"

    async def _models(self) -> str:
        models = (await self._adapter.props()).models
        if self._model is None and len(models) == 1:
            self._model = models[0]
        return ", ".join(models) or "none listed"

    async def _capacity(self) -> str:
        props = await self._adapter.props()
        context, slots = props.context_length or "unknown", props.slots_total or "unknown"
        return f"context {context}, slots {slots}"

    async def _prompt(self) -> str:
        return _shown(await self._outcome(self._task()))

    async def _messages(self) -> str:
        messages = [{"role": "user", "content": PROMPT}]
        return _shown(await self._outcome(self._task(prompt=None, messages=messages)))

    async def _seed(self) -> str:
        task = self._task(seed=42, temperature=1.0, max_tokens=24)
        first, second = await self._outcome(task), await self._outcome(task)
        if first.error or second.error:
            return _shown(first if first.error else second)
        return "same text" if first.text == second.text else "different texts"

    async def _stop(self) -> str:
        whole = await self._outcome(self._task())
        if not whole.text.strip():
            return "no text to stop at"
        stop = whole.text.strip()[-2:]
        return _shown(await self._outcome(self._task(stop=stop)))

    async def _unknown_model(self) -> str:
        task = attrs.evolve(self._task(), model="no-such-model")
        outcome = await self._outcome(task)
        return _shown(outcome) if outcome.error else "accepts any name"

    async def _cancel(self) -> str:
        task = self._task(max_tokens=LONG_TOKENS)
        try:
            async with self._adapter.submit(task) as stream:
                async for event in stream:
                    if isinstance(event, Token) and event.index == 2:
                        break
                    if isinstance(event, Error):
                        raise event.error
                    if isinstance(event, End):
                        return "the answer was over before it could be cancelled"
                began = monotonic()
                await self._adapter.cancel(task.job_id)
                cancelled_ms = (monotonic() - began) * 1000
            began = monotonic()
            outcome = await self._outcome(self._task(max_tokens=1))
        except WorkerError as error:
            return _failure(error)
        again = "" if outcome.error is None else f": {_shown(outcome)}"
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
            outcome = await run(adapter, self._task(max_tokens=1), 2 * DEADLINE_S)
        return _shown(outcome) if outcome.error else "accepts any key"


async def _print_facts(probe: Probe) -> int:
    """Print each finding as it comes; return OK if a prompt or a message was answered in full."""
    answered = False
    failures: dict[str, str] = {}
    async for fact in probe.facts():
        answered = answered or (fact.name in ("prompt", "messages") and "proof" in fact.result)
        result = fact.result
        if "(" in result and result in failures:
            result = f"the same error as for {failures[result]}"
        failures.setdefault(fact.result, fact.name)
        say(f"{fact.name:16} {harmless(one_line(result))}")
    return status.OK if answered else status.FAILED
