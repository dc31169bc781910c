"""Settings that cannot work are refused, or warned of."""

import logging

import pytest

import registry
from registry import AdapterHost
from registry.gateway.run import warn_of_aliases
from registry.gateway.settings import Settings


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://a.example",
        "http://localhost:3000",
        "http://[::1]:8000",
        "chrome-extension://abcdefgh",
    ],
)
def test_origins(origin: str) -> None:
    """What browsers send as an origin is one."""
    assert Settings(cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        *("", "nope", "a.example", "https://", "https://a b", "https://*.a.example"),
        *("https://a.example/", "https://a.example:443", "HTTPS://a.example"),
    ],
)
def test_what_no_browser_sends_is_not_an_origin(origin: str) -> None:
    """It would never match, and every page would be refused."""
    with pytest.raises(ValueError, match="cors_origins: .* is not an origin such as https://"):
        Settings(cors_origins=(origin,))


async def test_an_alias_of_an_unknown_pool_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """A mistyped pool is found at the start; a later version of the file may declare it."""
    async with AdapterHost() as host:
        host.bind("chat", "r0", registry.get("mock"))
        with caplog.at_level(logging.WARNING):
            warn_of_aliases(Settings(aliases={"gpt-4o": "chat", "gpt-5": "chta"}), host)
    assert caplog.messages == ["alias 'gpt-5' leads to pool 'chta', which is not declared"]
