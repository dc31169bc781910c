"""Exceptions of foreign clients are replaced by safe copies (HTU-1004)."""

import traceback
from collections.abc import AsyncIterator

import httpx
import pytest

from adapters.http_util import clean_copy, error_from_exception, post

KEY = "correct-horse-battery-staple"


class CarelessError(httpx.ConnectError):
    """A subclass of a foreign transport, with another constructor."""

    def __init__(self) -> None:
        super().__init__(f"cannot send Bearer {KEY} by http://user:{KEY}@proxy:3128\x1b[2J")
        self.key = KEY


def refuse(request: httpx.Request) -> httpx.Response:
    """A transport that shows everything in its error, and in the error's cause."""
    try:
        raise RuntimeError(f"the key is {KEY}")
    except RuntimeError as exc:
        raise CarelessError from exc


class CutBody(httpx.AsyncByteStream):
    """A body whose end is an error that shows everything."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"data"
        raise httpx.ReadError(f"after {KEY}") from RuntimeError(KEY)


async def send(client: httpx.AsyncClient) -> bytes:
    """POST with the key, and read the answer to its end."""
    posted = await post(
        client,
        httpx.URL("http://host"),
        headers={"Authorization": f"Bearer {KEY}"},
        correlation_id="1",
        content=b"",
        connect_timeout_s=1,
    )
    while await posted.read():
        pass
    return b""


def everything_in(error: BaseException) -> str:
    """All that a report could show of an error: texts, attributes, causes and contexts."""
    shown, seen = "".join(traceback.format_exception(error)), error
    while seen is not None:
        shown += repr(seen) + str(vars(seen)) + str(seen.args)
        seen = seen.__cause__ or seen.__context__
    return shown


async def test_a_refused_connection_shows_no_key() -> None:
    """The kind stays, and with it the code; text, attributes and causes are safe."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as client:
        with pytest.raises(httpx.ConnectError) as caught:
            await send(client)
    assert type(caught.value) is httpx.ConnectError
    assert KEY not in everything_in(caught.value)
    assert caught.value.__cause__ is None
    try:
        raise error_from_exception(caught.value) from caught.value
    except Exception as error:
        assert KEY not in everything_in(error)
        assert "\x1b" not in str(error)


async def test_a_cut_body_shows_no_key() -> None:
    """The same for an exception in the middle of an answer."""
    answer = httpx.Response(200, stream=CutBody())
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer)) as client:
        with pytest.raises(httpx.ReadError) as caught:
            await send(client)
    assert KEY not in everything_in(caught.value)
    assert caught.value.__context__ is None


def test_a_copy_keeps_the_nearest_kind_of_httpx() -> None:
    """Kinds of other libraries are left out."""

    class Other(httpx.ReadTimeout):
        pass

    assert type(clean_copy(Other("late"))) is httpx.ReadTimeout
    assert str(clean_copy(Other(f"{KEY} late"), [KEY])) == "[redacted] late"
    assert type(clean_copy(httpx.HTTPError("odd"))) is httpx.TransportError
