"""Endings, lines and channels of answers, as users reported them.

Each is one example of a kind, with its source in the summary.
"""

from collections.abc import Iterable
from functools import partial
from types import MappingProxyType
from typing import Any

from adapter_api.faults.scenario import LIMIT_S, Expect, Scenario, collect, fails, scenario, whole
from adapter_api.faults.wire import PIECES, TEXT, USAGE, Wire

_CHAT = MappingProxyType({"messages": [{"role": "user", "content": "hi"}]})
_HALF = "".join(PIECES[:2])

# Words of the end

_WORDS: tuple[tuple[str, str, dict[str, Any], Expect], ...] = (
    ("resource", "`insufficient_system_resource` (agenc-core#2492)",
     {"finish_reason": "insufficient_system_resource"}, fails("WORKER_RESET", text=_HALF)),
    ("safety", "`SAFETY` (Vibe-Trading#308)",
     {"finish_reason": "SAFETY"}, fails("CONTENT_FILTER", text=_HALF)),
    ("filter-detail", "`content_filter: violence`",
     {"finish_reason": "content_filter: violence"}, fails("CONTENT_FILTER", text=_HALF)),
    ("native", "`stop`, and `native_finish_reason` `network_error` (pi#8511)",
     {"finish_reason": "stop", "native_finish_reason": "network_error"},
     fails("WORKER_RESET", text=_HALF)),
    ("other-native", "`stop`, and `provider_finish_reason` `upstream_timeout`",
     {"finish_reason": "stop", "provider_finish_reason": "upstream_timeout"},
     fails("WORKER_RESET", text=_HALF)),
    ("camel", "`SAFETY` as `finishReason`",
     {"finishReason": "SAFETY"}, fails("CONTENT_FILTER", text=_HALF)),
    ("preempted", "`preemption`",
     {"finish_reason": "preemption"}, fails("WORKER_RESET", text=_HALF)),
    ("glued", "`contentfilter`", {"finish_reason": "contentfilter"},
     fails("CONTENT_FILTER", text=_HALF)),
    ("stop-details", "`stop`, and `stop_details` of type `refusal`",
     {"finish_reason": "stop", "stop_details": {"type": "refusal"}},
     fails("CONTENT_FILTER", text=_HALF)),
    ("unknown-word", "an unknown word",
     {"finish_reason": "quantum_flux"}, fails("STREAM_TRUNCATED", text=_HALF)),
    ("max-tokens", "`MAX_TOKENS`", {"finish_reason": "MAX_TOKENS"}, whole(_HALF)),
)  # fmt: skip


async def _ends_with(choice: dict[str, Any], wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.event(wire.with_choice(**{"text": "", **choice}))
    await wire.usage()
    await wire.done()


def _words() -> Iterable[Scenario]:
    for name, what, choice, expect in _WORDS:
        summary = f"ends an answer with finish_reason {what}, usage and `[DONE]`"
        yield Scenario(f"ends-{name}", summary, partial(_ends_with, choice), expect)


@scenario(
    "sends `stop` with every chunk, reasoning first, for longer than a linger (gcli2api#403)",
    whole(counted=True, within_s=1.4),
    task=_CHAT,
)
async def finish_with_reasoning(wire: Wire) -> None:
    await wire.head()
    for _ in range(6):
        thought = wire.payload(finish_reason="stop")
        thought["choices"][0]["delta"] = {"reasoning_content": "hm"}
        await wire.event(thought)
        await wire.sleep(LIMIT_S / 2)
    for piece in PIECES:
        await wire.event(wire.payload(piece, finish_reason="stop"))
    await wire.done()


@scenario(
    "a gateway sends `stop` after the engine's `length`",
    whole(),
)
async def finish_after_length(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish("length")
    await wire.rest()


# Objects

_OBJECTS: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("no-choices", "`error_type` and `error_message` with `choices: null` (hermes-agent#65631)",
     {"choices": None, "error_type": "BadRequestError",
      "error_message": "This model's maximum context length is 8192 tokens."}, "CONTEXT_OVERFLOW"),
    ("beside", "`base_resp` with a status beside an empty choice (MiniMax)",
     {"base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}}, "CONTENT_FILTER"),
    ("provider", "`x_groq.error` beside an empty choice (Groq)",
     {"x_groq": {"error": "over capacity"}}, "ADMISSION_REJECT"),
    ("exception", "an object named for its exception (Bedrock)",
     {"choices": [], "throttlingException": {"message": "Too many requests"}}, "ADMISSION_REJECT"),
)  # fmt: skip


async def _sends_object(keys: dict[str, Any], wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.event({**wire.payload(), **keys})
    await wire.rest()


def _objects() -> Iterable[Scenario]:
    for name, what, keys, code in _OBJECTS:
        summary = f"sends {what}, then a whole end"
        expect = fails(code, text=_HALF)
        yield Scenario(f"object-{name}", summary, partial(_sends_object, keys), expect)


# Lines

_LINES = (
    ("bare-json", "a bare JSON error (lemonade#2826)", b'{"error": {"message": "no"}}',
     "WORKER_RESET"),
    ("error-field", "`error: {...}` (llama.cpp#16104)",
     b'error: {"code": 400, "message": "no", "type": "exceed_context_size_error"}',
     "CONTEXT_OVERFLOW"),
    ("text", "a line of text", b"Internal Server Error", "WORKER_RESET"),
)  # fmt: skip


async def _sends_line(line: bytes, wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.chunk(line + b"\n\n")
    await wire.rest()


def _lines() -> Iterable[Scenario]:
    for name, what, line, code in _LINES:
        summary = f"sends {what} between two events, then a whole end"
        expect = fails(code, text=_HALF)
        yield Scenario(f"line-{name}", summary, partial(_sends_line, line), expect)


# Channels


@scenario(
    "repeats the whole text as `message` in the last chunk (hermes-browser-extension#11)", whole()
)
async def message_again(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.event(wire.with_choice(text="", message={"content": TEXT}))
    await wire.rest()


@scenario("sends reasoning as deltas and all text as `message` in the last chunk", whole())
async def message_rest(wire: Wire) -> None:
    await wire.head()
    await wire.event(wire.with_choice(text="", delta={"reasoning_content": "hm"}))
    await wire.event(wire.with_choice(text="", delta={}, message={"content": TEXT}))
    await wire.rest()


@scenario("sends content as a list of parts (litellm#16272)", whole(), task=_CHAT)
async def content_parts(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES:
        part = [{"type": "text", "text": piece}]
        await wire.event(wire.with_choice(delta={"content": part}))
    await wire.rest()


@scenario(
    "sends an image of 1.6 MB beside the text, in one line (open-webui#20634)",
    whole(within_s=0.3),
    task=_CHAT,
)
async def image_line(wire: Wire) -> None:
    await wire.head()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_600_000}}
    await wire.event(wire.with_choice(delta={"content": PIECES[0], "images": [image]}))
    await wire.text(*PIECES[1:])
    await wire.rest()


@scenario(
    "reasons in `reasoning_details` for longer than the limits allow silence (Sage#256)",
    whole(within_s=0.9),
    task=_CHAT,
)
async def reasoning_details(wire: Wire) -> None:
    await wire.head()
    for _ in range(4):
        detail = {"type": "reasoning.text", "text": "hm", "index": 0}
        await wire.event(wire.with_choice(delta={"reasoning_details": [detail]}))
        await wire.sleep(LIMIT_S / 2)
    await wire.text(*PIECES)
    await wire.rest()


@scenario("sends the usage inside a choice (pi#2017)", whole())
async def usage_in_choice(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.event(wire.with_choice(text="", delta={}, finish_reason="stop", usage=USAGE))
    await wire.done()


# Calls


def _call(wire: Wire, arguments: str, **more: Any) -> dict[str, Any]:
    call = {"index": 0, "function": {"arguments": arguments, **more}}
    return wire.with_choice(delta={"tool_calls": [{**call, "id": "call_a"}]})


@scenario(
    "reports an error inside the arguments of a call, then `[DONE]` (vLLM)",
    fails("WORKER_RESET", text=None),
    task=_CHAT,
)
async def error_in_arguments(wire: Wire) -> None:
    await wire.head()
    await wire.event(_call(wire, '{"a": ', name="f"))
    await wire.event({"error": {"message": "the engine died", "code": 500}})
    await wire.done()


@scenario(
    "ends after the whole arguments of a call, without a finish_reason",
    fails("STREAM_TRUNCATED", text=None),
    task=_CHAT,
)
async def cut_after_call(wire: Wire) -> None:
    await wire.head()
    await wire.event(_call(wire, "{}", name="f"))
    await wire.event(_call(wire, '{"a": 1}'))
    await wire.end()


SCENARIOS = [*_words(), *_objects(), *_lines(), *collect(vars())]
