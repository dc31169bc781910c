"""A client on a bare socket: it sees every byte, and when it came."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self


class RawClient:
    """One connection to a gateway.

    Args:
        port: The gateway's port on loopback.
    """

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.writer.transport.abort()

    def post(self, path: str, fields: Any, **headers: str) -> None:
        """Send a request; underscores in header names become hyphens."""
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: gateway", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of the answer: its status, and its headers in lower case."""
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = raw.rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(status.split()[1]), {name.lower(): text for name, text in headers.items()}

    async def chunk(self) -> bytes:
        """Read one chunk of a chunked body; empty at its end."""
        size = int(await self.reader.readline(), 16)
        body = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return body

    async def body(self) -> bytes:
        """Read the rest of a chunked body to its proper end."""
        chunks = []
        while chunk := await self.chunk():
            chunks.append(chunk)
        return b"".join(chunks)


def events(body: bytes) -> list[Any]:
    """Return the data of server-sent events; what is not JSON stays text."""
    found = []
    for block in body.decode().split("\n\n"):
        if block.startswith("data: "):
            data = block.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def text_of(found: list[Any]) -> str:
    """Return the text of a stream's events."""
    chunks = [event for event in found if isinstance(event, dict) and event.get("choices")]
    choices = [chunk["choices"][0] for chunk in chunks]
    return "".join(
        choice["text"] if "text" in choice else choice["delta"].get("content") or ""
        for choice in choices
    )
