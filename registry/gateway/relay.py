"""Relays a job's events from the host's stream to the client's connection."""

from collections.abc import Mapping
from typing import Any

from adapter_api import (
    Answer,
    End,
    Error,
    MetricsFrame,
    Started,
    Token,
    TokenEvent,
    TokenStream,
)
from registry.gateway.jobs import GatewayJob
from registry.gateway.reply import JSON_HEADERS, STREAM_HEADERS, Reply
from registry.serving.openai_api.answers import Chunks, whole
from registry.serving.openai_api.requests import ApiRequest


async def stream_answer(
    request: ApiRequest, stream: TokenStream, reply: Reply, job: GatewayJob
) -> None:
    """Relay a job's events as server-sent events.

    Events that were read together are written together.

    Args:
        request: The client's request.
        stream: The job's events.
        reply: The answer.
        job: Gets the counts.

    Raises:
        WorkerError: If the job failed.
    """
    chunks = Chunks(request)
    async for event in stream:
        if isinstance(event, Token):
            if job.phase == "generating":
                body = chunks.token(event)
            else:
                _note_first_token(job, reply.now())
                body = chunks.first(event)
                if not reply.started:
                    reply.start(200, STREAM_HEADERS)
            job.tokens += 1
            if buffered := stream.take_buffered():
                body += chunks.tokens(buffered)
                job.tokens += len(buffered)
            if (sent := reply.write(body)) is not None:
                await sent
        elif isinstance(event, Started):
            job.replica_id = event.replica_id
        elif isinstance(event, MetricsFrame):
            chunks.note(event)
        elif isinstance(event, End):
            job.note_end(event.metrics)
            body = chunks.end(event)
            if job.phase != "generating":
                body = chunks.begin() + body
            if not reply.started:
                reply.start(200, STREAM_HEADERS)
            await reply.finish(body)
        elif isinstance(event, Error):
            raise event.error


async def whole_answer(
    request: ApiRequest, stream: TokenStream, reply: Reply, job: GatewayJob
) -> None:
    """Answer with one JSON object.

    Raises:
        WorkerError: If the job failed.
    """
    events: list[TokenEvent] = []
    numbers: Mapping[str, Any] = {}
    async for event in stream:
        if isinstance(event, Error):
            raise event.error
        if isinstance(event, Started):
            job.replica_id = event.replica_id
        elif isinstance(event, Token):
            job.tokens += 1
            if job.phase != "generating":
                _note_first_token(job, reply.now())
        elif isinstance(event, MetricsFrame):
            numbers = event.data
        events.append(event)
    answer = Answer.of(events)
    job.note_end(answer.metrics)
    body = whole(request, answer, numbers)
    reply.start(200, JSON_HEADERS, len(body))
    await reply.finish(body)


def _note_first_token(job: GatewayJob, now: float) -> None:
    job.phase = "generating"
    job.first_token_at = now
