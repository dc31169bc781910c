"""Fields a server refuses: found in its words, left out from then on, and told."""

import asyncio
import json
from typing import Any

import pytest

from adapter_api import InvalidRequest, TaskRequest, Tool, WorkerError
from adapter_api.faults import Request, ScriptServer, Wire
from adapters.http_util import read_error_body
from adapters.openai_http import OpenAIHttpAdapter
from adapters.openai_http.attempt import MAX_REFUSALS
from adapters.openai_http.refusals import refused_fields
from adapters.openai_http.request import DROPPABLE_FIELDS, OWNED_FIELDS
from tests.adapters.openai_http.conftest import Serving
from tests.fake_openai import answers, fails, in_turn, refuses, streams, well
from tests.openai_chunks import delta, recorded

SENT = ("model", "prompt", "max_tokens", "temperature", "seed", "stop", "stream", "stream_options")
OK = "Hello world"


def _found(
    body: bytes | str, *, status: int = 400, chat: bool = True, sent: Any = SENT
) -> set[str]:
    data = body.encode() if isinstance(body, str) else body
    return set(refused_fields(status, read_error_body(data), sent, chat=chat))


async def _failure(adapter: OpenAIHttpAdapter, task: TaskRequest) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await adapter.submit(task).text()
    return caught.value


REFUSALS = [
    ('{"error":{"message":"Unrecognized request argument supplied: seed"}}', {"seed"}),
    ('{"error":{"message":"Unknown parameter: \'seed\'.","param":"seed",'
     '"code":"unknown_parameter"}}', {"seed"}),
    ('{"error":{"message":"Unsupported parameter: \'max_tokens\' is not supported with this model. '
     "Use 'max_completion_tokens' instead.\",\"param\":\"max_tokens\","
     '"code":"unsupported_parameter"}}', {"max_tokens"}),
    ('{"error":{"message":"Unsupported parameter","param":"temperature"}}', {"temperature"}),
    ('{"error":{"message":"seed is deprecated","code":"unsupported_parameter"}}', {"seed"}),
    ('{"detail":"Unexpected fields in the request: {\'stream_options\', \'seed\'}"}',
     {"stream_options", "seed"}),
    ('{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],'
     '"msg":"Extra inputs are not permitted"}]}', {"stream_options"}),
    ('{"detail":[{"loc":["body","seed"],"msg":"extra fields not permitted",'
     '"type":"value_error.extra"}]}', {"seed"}),
    ('{"detail":[{"loc":["body","seed"],"msg":"Extra inputs are not permitted"},'
     '{"loc":["body","stop"],"msg":"Extra inputs are not permitted"}]}', {"seed"}),
    ("[ERR] seed: Extra inputs are not permitted", {"seed"}),
    ('{"error":{"message":"litellm.UnsupportedParamsError: x does not support parameters: '
     "['seed'], for model=y\"}}", {"seed"}),
    ('{"error":{"message":"Unknown argument \'seed\'. Allowed arguments: model, prompt, stop, '
     'temperature"}}', {"seed"}),
    ('{"error":{"message":"Unknown parameter. Use one of: stop, temperature","param":"seed"}}',
     {"seed"}),
    ('{"error":"invalid field: temperature"}', {"temperature"}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "fields"), REFUSALS, ids=lambda v: str(v)[:50])
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_names_its_field(body: str, fields: set[str], status: int) -> None:
    """In the words of many servers; what a further sentence recommends is not refused."""
    assert _found(body, status=status) == fields


VALUES = [
    '{"error":{"message":"seed must be below 5","param":"seed"}}',
    '{"error":{"message":"Unsupported value: \'temperature\' does not support 0 with this model. '
    'Only the default (1) value is supported.","param":"temperature","code":"unsupported_value"}}',
    '{"error":{"message":"Not supported: temperature","code":"unsupported_value"}}',
    '{"error":{"message":"Invalid value for \'seed\': unknown type"}}',
    '{"error":{"message":"temperature: values above 2 are not allowed"}}',
    '{"error":{"message":"stop: unexpected type"}}',
    '{"error":{"message":"seed is not allowed to be greater than 10"}}',
    '{"error":{"message":"max_tokens is too large: 5. This model supports at most 4 tokens."}}',
    '{"detail":[{"type":"less_than_equal","loc":["body","temperature"],'
    '"msg":"Input should be less than or equal to 2"}]}',
    '{"error":{"message":"prompt is not supported"}}',
    '{"error":{"message":"Unknown model named seedling"}}',
    '{"error":{"message":"Unrecognized request argument supplied: logit_bias"}}',
    '{"error":{"message":"This model\'s maximum context length is 9 tokens (max_tokens)"}}',
    "",
    "null",
]


@pytest.mark.parametrize("body", VALUES, ids=lambda v: v[:60])
def test_a_refused_value_is_not_a_refused_field(body: str) -> None:
    """A bad value, a required field, a field that was not sent and a similar word drop no field."""
    assert _found(body) == set()


@pytest.mark.parametrize("status", [200, 401, 404, 409, 429, 500])
def test_other_statuses_refuse_no_field(status: int) -> None:
    """Only 400 and 422 are about the request's body."""
    assert _found(REFUSALS[0][0], status=status) == set()


def test_what_the_answer_depends_on_is_never_left_out() -> None:
    """Messages, tools, constraints, stop and every key of `extra`."""
    for field in sorted({*OWNED_FIELDS, "grammar", "top_k"} - DROPPABLE_FIELDS - {"max_tokens"}):
        assert _found(f"Unrecognized request argument: {field}", sent=[field]) == set()


def test_max_tokens_can_only_go_where_it_has_another_name() -> None:
    """A completion without it would have no limit."""
    body = "Unrecognized request argument: max_tokens"
    assert _found(body, chat=True) == {"max_tokens"}
    assert _found(body, chat=False) == set()


def test_a_recorded_refusal() -> None:
    """transformers refuses what it does not know, by name: a key of `extra` is never left out."""
    status, _, body = recorded("transformers-serve/b_cmpl_unknown_field.txt")
    assert _found(body, status=status, sent=[*SENT, "x_unknown_field"]) == set()
    assert _found(body.replace(b"x_unknown_field", b"seed"), status=status) == {"seed"}


# Over sockets


async def test_a_refused_field_is_left_out_from_then_on(serving: Serving) -> None:
    """Asked once more without it, remembered for the model, visible in props and Started."""
    async with serving(refuses("seed")) as (server, adapter):
        task = TaskRequest(prompt="x", seed=1, model="m1")
        for _ in range(2):
            events = [e async for e in adapter.submit(task)]
        assert ["seed" in body for body in server.bodies] == [True, False, False]
        assert events[0].seed is None  # it was not sent
        assert events[-1].metrics.attempts == 1
        await adapter.submit(TaskRequest(prompt="x", seed=1, model="m2")).text()
        assert ["seed" in body for body in server.bodies][3:] == [True, False]
        server.routes["/v1/models"] = fails(404)
        props = await adapter.props()
    assert props.dropped_fields == {"m1": ("seed",), "m2": ("seed",)}


async def test_the_model_of_the_config_counts(serving: Serving) -> None:
    """A task without a model is one of the config's: the seed in Started is the one sent."""
    async with serving(refuses("seed"), model="mine") as (_, adapter):
        events = [e async for e in adapter.submit(TaskRequest(prompt="x", seed=1))]
        assert events[0].seed is None
        assert (await adapter.props()).dropped_fields == {"mine": ("seed",)}


async def test_without_any_model_it_is_remembered_too(serving: Serving) -> None:
    """Under the empty name."""
    async with serving({"/v1/completions": refuses("stream_options")}) as (server, adapter):
        for _ in range(2):
            await adapter.submit(TaskRequest(prompt="x")).text()
        assert len(server.posts) == 3
        assert (await adapter.props()).dropped_fields == {"": ("stream_options",)}


async def test_what_is_refused_beside_tools_is_sent_without_them(serving: Serving) -> None:
    """llama.cpp refuses logprobs with tools; top_logprobs alone would be an error as well."""

    async def script(request: Request, wire: Wire) -> None:
        body = json.loads(request.body)
        if "tools" in body and "logprobs" in body:
            await wire.reply({"error": {"message": "logprobs is not supported with tools"}}, 400)
        elif "top_logprobs" in body and "logprobs" not in body:
            await wire.reply({"error": {"message": "top_logprobs requires logprobs"}}, 400)
        else:
            await streams(delta({"content": OK}, "stop"))(request, wire)

    said = [{"role": "user", "content": "x"}]
    plain = TaskRequest(messages=said, logprobs=2)
    calling = TaskRequest(messages=said, logprobs=2, tools=[Tool("f")])
    async with serving({"/v1/chat/completions": script}) as (server, adapter):
        for task in (calling, plain, calling):
            assert await adapter.submit(task).text() == OK
        sent = ["logprobs" in body for body in server.bodies]
        assert sent == [True, False, True, False]
        assert (await adapter.props()).dropped_fields == {"": ("logprobs",)}


async def test_several_refused_fields_one_after_the_other(serving: Serving) -> None:
    """Each is learned from its own refusal, up to a limit."""
    fields = ("stream_options", "seed", "top_p", "temperature")
    task = TaskRequest(prompt="x", seed=1, top_p=0.5, temperature=1)
    async with serving(refuses(*fields[:MAX_REFUSALS])) as (server, adapter):
        assert await adapter.submit(task).text() == OK
        assert len(server.posts) == MAX_REFUSALS + 1
    async with serving(refuses(*fields)) as (server, adapter):
        assert "temperature" in (await _failure(adapter, task)).message
        assert len(server.posts) == MAX_REFUSALS + 1
        assert await adapter.submit(task).text() == OK  # the last one is learned now


async def test_max_tokens_has_another_name_for_chats_only(serving: Serving) -> None:
    """OpenAI's newer chat models demand max_completion_tokens; a completion is never unbounded."""
    words = "Unsupported parameter: '{}'. Use 'max_completion_tokens' instead."
    messages = TaskRequest(messages=[{"role": "user", "content": "x"}], max_tokens=9)
    async with serving(refuses("max_tokens", words=words)) as (server, adapter):
        await adapter.submit(messages).text()
        assert server.bodies[1]["max_completion_tokens"] == 9
        assert "max_tokens" not in server.bodies[1]
    async with serving(refuses("max_tokens", words=words)) as (server, adapter):
        assert (await _failure(adapter, TaskRequest(prompt="x", max_tokens=9))).status == 400
        assert len(server.posts) == 1


async def test_a_chat_is_never_unbounded_either(serving: Serving) -> None:
    """A server that refuses both names of the limit gets an error, not a request without one."""
    messages = TaskRequest(messages=[{"role": "user", "content": "x"}], max_tokens=9)
    handler = refuses("max_tokens", "max_completion_tokens")
    async with serving(handler) as (server, adapter):
        assert isinstance(await _failure(adapter, messages), InvalidRequest)
        assert len(server.posts) == 2


async def test_strict_makes_a_refusal_an_error(serving: Serving) -> None:
    """strict=True: nothing the caller asked for is left out."""
    async with serving(refuses("seed"), strict=True) as (server, adapter):
        error = await _failure(adapter, TaskRequest(prompt="x", seed=1))
        assert len(server.posts) == 1
        assert (await adapter.props()).dropped_fields == {}
    assert "seed" in error.message


async def test_a_refused_value_is_an_error_at_once(serving: Serving) -> None:
    """One request: leaving the field out would give another answer than was asked for."""
    async with serving(refuses("seed", words="{} must be below 5")) as (server, adapter):
        assert (await _failure(adapter, TaskRequest(prompt="x", seed=9))).status == 400
        assert len(server.posts) == 1


async def test_a_refusal_costs_no_attempt(serving: Serving) -> None:
    """The policy's attempts are for servers that are busy."""
    refusal = answers({"detail": "Unexpected fields in the request: {'seed'}"}, 422)
    handler = in_turn(fails(503), fails(503), fails(503), refusal, well)
    async with serving(handler) as (_, adapter):
        assert await adapter.submit(TaskRequest(prompt="x", seed=1)).text() == OK


async def test_a_refusal_whose_body_never_ends_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any limit of the job, its status is the answer after ERROR_BODY_S."""
    monkeypatch.setattr("adapters.openai_http.attempt.ERROR_BODY_S", 0.05)

    async def script(request: Request, wire: Wire) -> None:
        await wire.head(status=422)
        await wire.chunk(b'{"error": ')
        await wire.until_closed(30.0)

    async with ScriptServer(script) as server, asyncio.timeout(10):
        options: Any = {"first_token_timeout_s": None, "stall_timeout_s": None}
        async with OpenAIHttpAdapter(base_url=server.base_url, **options) as adapter:
            with pytest.raises(InvalidRequest) as caught:
                await adapter.submit(TaskRequest(prompt="x")).text()
    assert caught.value.status == 422
