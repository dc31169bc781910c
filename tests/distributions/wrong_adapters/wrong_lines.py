"""Adapters for lines of JSON over a plain socket: a right one, and one for each mistake.

The protocol is Ollama's. They use no HTTP library at all.
"""

import asyncio
import http.client
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, ClassVar
from urllib.parse import urlsplit

import attrs

from adapter_api import (
    End,
    EngineUnavailable,
    ErrorCode,
    HealthState,
    HealthStatus,
    Metrics,
    NotFound,
    Started,
    StreamingError,
    TaskRequest,
    Token,
    TokenEvent,
    ToolCall,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
    hookimpl,
)

CODES = {
    400: "INVALID_PARAMS",
    401: "UPSTREAM_AUTH",
    403: "UPSTREAM_AUTH",
    404: "UPSTREAM_NOT_FOUND",
    429: "ADMISSION_REJECT",
}


@attrs.frozen
class LinesConfig:
    """The server's address, and the limits on waiting for it."""

    base_url: str
    timeout_s: float = 20.0


class Head:
    """The head of an answer, and the chunks of its body."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader
        self.status = 0
        self.kind = ""
        self.chunked = False

    async def read(self) -> None:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(version)
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        self.status, self.kind = int(status), headers.get("content-type", "")
        self.chunked = headers.get("transfer-encoding") == "chunked"

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:size]


@attrs.define(eq=False)
class RightLines:
    """Keeps the contract."""

    ABSENT: ClassVar[dict[str, str]] = {"seed": "this sample sends none"}
    config: LinesConfig

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Ask, and read the answer."""
        try:
            async with aclosing(self.answer(task)) as events:
                async for event in events:
                    yield event
        except TimeoutError:
            raise WorkerTimeout("DECODE_TIMEOUT", "the server is silent") from None
        except asyncio.IncompleteReadError as exc:
            raise WorkerReset("WORKER_RESET", "the connection broke") from exc
        except ConnectionRefusedError as exc:
            raise EngineUnavailable("POOL_UNAVAILABLE", "the server cannot be reached") from exc
        except OSError as exc:
            raise WorkerReset("WORKER_RESET", "the connection broke") from exc
        except (ValueError, asyncio.LimitOverrunError) as exc:
            raise WorkerError.of("UPSTREAM_PROTOCOL", "the server speaks something else") from exc

    async def answer(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Yield the events of one answer."""
        count, calls, last = 0, list[ToolCall](), dict[str, Any]()
        async with aclosing(self.lines(task)) as lines:
            async for line in lines:
                if line is None:
                    yield Started(task.job_id, "lines", "1")
                    continue
                self.check_line(line)
                if text := line["message"]["content"]:
                    yield Token(text, count)
                    count += 1
                for call in line["message"].get("tool_calls", ()):
                    function = call["function"]
                    arguments = json.dumps(function["arguments"])
                    calls.append(ToolCall(f"call_{len(calls)}", function["name"], arguments))
                if line["done"]:
                    last = line
                    break
        self.check_end(last, calls)
        yield End(Metrics(count), "stop", "finish_reason", tool_calls=tuple(calls))

    def check_line(self, line: dict[str, Any]) -> None:
        """Refuse what is not a part of an answer."""
        if "error" in line:
            raise WorkerReset("WORKER_RESET", str(line["error"]))
        if not isinstance(line.get("message"), dict) or not isinstance(line.get("done"), bool):
            raise ValueError(line)

    def check_end(self, last: dict[str, Any], calls: list[ToolCall]) -> None:
        """Refuse an answer without proof."""
        if last.get("done_reason") != "stop":
            raise StreamingError(ErrorCode.STREAM_TRUNCATED, "the answer was cut")

    def check(self, status: int, kind: str) -> None:
        """Refuse what is not a stream."""
        if status == 404:
            raise NotFound("UPSTREAM_NOT_FOUND", "there is no such model")
        if status != 200:
            code = CODES.get(status, "POOL_UNAVAILABLE" if status >= 500 else "UPSTREAM_PROTOCOL")
            raise WorkerError.of(code, f"the server answered {status}")
        if "json" not in kind:
            raise ValueError(kind)

    async def lines(self, task: TaskRequest) -> AsyncIterator[Any]:
        """Send the task. Yield None at the head of the answer, then its lines."""
        async with aclosing(self.asked("POST", "/api/chat", self.body(task))) as parts:
            head: Head = await anext(parts)
            self.check(head.status, head.kind)
            yield None
            rest = b""
            async for data in parts:
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    yield json.loads(line)

    def body(self, task: TaskRequest) -> Any:
        """Return what is sent."""
        said = [{"role": "user", "content": task.prompt}]
        if task.messages is not None:
            said = [{"role": one.role, "content": one.content or ""} for one in task.messages]
        tools = [{"type": "function", "function": {"name": tool.name}} for tool in task.tools]
        limit = {"num_predict": task.max_tokens or 16}
        return {"model": task.model, "messages": said, "options": limit, "tools": tools}

    async def asked(self, method: str, path: str, payload: Any) -> AsyncIterator[Any]:
        """Send a request. Yield the head of the answer, then the pieces of its body."""
        url, limit_s = urlsplit(self.config.base_url), self.config.timeout_s
        body = json.dumps(payload).encode()
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            head = f"{method} {url.path}{path} HTTP/1.1\r\nHost: {url.netloc}\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            found = Head(reader)
            async with asyncio.timeout(limit_s):
                await found.read()
            yield found
            while found.chunked:
                async with asyncio.timeout(limit_s):
                    data = await found.chunk()
                if not data:
                    return
                yield data
        finally:
            writer.close()

    @hookimpl
    async def health(self) -> HealthStatus:
        """Ask for the version."""
        try:
            async with (
                asyncio.timeout(1.0),
                aclosing(self.asked("GET", "/api/version", {})) as parts,
            ):
                found: Head = await anext(parts)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as exc:
            return HealthStatus(HealthState.UNHEALTHY, f"no answer: {exc!r}")
        well = found.status == 200
        state = HealthState.HEALTHY if well else HealthState.UNHEALTHY
        return HealthStatus(state, f"the server answered {found.status}")


class EndsInSilence(RightLines):
    """Takes a server that has fallen silent for one that is done."""

    async def answer(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        count = 0
        try:
            async with aclosing(RightLines.answer(self, task)) as events:
                async for event in events:
                    count += isinstance(event, Token)
                    yield event
        except TimeoutError:
            if not count:
                raise
            yield End(Metrics(count), "stop", "finish_reason")


class Doubles(RightLines):
    """Yields every text twice."""

    async def lines(self, task: TaskRequest) -> AsyncIterator[Any]:
        async with aclosing(RightLines.lines(self, task)) as lines:
            async for line in lines:
                yield line
                if line is not None and not line.get("done", True):
                    yield {**line, "message": {"content": line["message"]["content"]}}


class SharesPrompt(RightLines):
    """Keeps the prompt in the object instead of in submit."""

    prompt: Any = None

    async def lines(self, task: TaskRequest) -> AsyncIterator[Any]:
        self.prompt = task.prompt
        await asyncio.sleep(0)
        async with aclosing(
            RightLines.lines(self, attrs.evolve(task, prompt=self.prompt))
        ) as lines:
            async for line in lines:
                yield line


class Insists(RightLines):
    """Sends again what the server has no model for."""

    async def lines(self, task: TaskRequest) -> AsyncIterator[Any]:
        for left in (1, 0):
            try:
                async with aclosing(RightLines.lines(self, task)) as lines:
                    async for line in lines:
                        yield line
                return
            except NotFound:
                if not left:
                    raise


class Blocks(RightLines):
    """Uses a client that blocks the event loop."""

    async def asked(self, method: str, path: str, payload: Any) -> AsyncIterator[Any]:
        if method == "GET":
            async with aclosing(RightLines.asked(self, method, path, payload)) as parts:
                async for part in parts:
                    yield part
            return
        url = urlsplit(self.config.base_url)
        connection = http.client.HTTPConnection(url.netloc, timeout=self.config.timeout_s)
        try:
            connection.request(method, url.path + path, json.dumps(payload))
            answer = connection.getresponse()
            head = Head(asyncio.StreamReader())
            head.status, head.kind = answer.status, answer.headers.get_content_type()
            yield head
            while line := answer.readline():
                yield line
                await asyncio.sleep(0)
        except http.client.HTTPException as exc:
            raise ValueError from exc
        finally:
            connection.close()


class Spools(RightLines):
    """Reads whole answers into files, as fast as they come."""

    async def asked(self, method: str, path: str, payload: Any) -> AsyncIterator[Any]:
        sizes: asyncio.Queue[int] = asyncio.Queue()
        with tempfile.TemporaryFile() as spool:
            async with aclosing(RightLines.asked(self, method, path, payload)) as parts:
                yield await anext(parts)
                pump = asyncio.create_task(self.pump(parts, spool, sizes))
                try:
                    read = 0
                    while size := await sizes.get():
                        spool.seek(read)
                        yield spool.read(size)
                        read += size
                    await pump
                finally:
                    pump.cancel()
                    await asyncio.wait([pump])

    async def pump(self, parts: AsyncIterator[bytes], spool: Any, sizes: Any) -> None:
        try:
            async for data in parts:
                spool.seek(0, 2)
                spool.write(data)
                sizes.put_nowait(len(data))
        finally:
            sizes.put_nowait(0)


class SkipsErrors(RightLines):
    """Skips lines that it does not know, errors among them."""

    async def lines(self, task: TaskRequest) -> AsyncIterator[Any]:
        async with aclosing(RightLines.lines(self, task)) as lines:
            async for line in lines:
                if line is None or "error" not in line:
                    yield line


@attrs.frozen
class EndpointConfig:
    """The same, under a name of its own."""

    endpoint: str = "http://127.0.0.1:9"
    timeout_s: float = 20.0

    @property
    def base_url(self) -> str:
        """The server's address."""
        return self.endpoint


class Elsewhere(RightLines):
    """Keeps the contract, and the kit cannot know: its address has another name."""

    config: EndpointConfig  # type: ignore[assignment]
