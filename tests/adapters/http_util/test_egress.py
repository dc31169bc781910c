"""The allow-list of hosts (ORCH-3080, OC-ADAPT-OAI 6021)."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import EgressDenied, ErrorCode
from adapters.http_util import check_egress


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("api.openai.com", "https://api.openai.com/v1"),
        ("API.OpenAI.com", "https://api.openai.com/v1"),
        ("*.openai.azure.com", "https://me.openai.azure.com"),
        ("*", "http://anything:1"),
        ("*:443", "https://anything"),
        ("*:80", "http://anything"),
        ("10.0.0.*", "http://10.0.0.5:8000"),
        ("10.0.0.5:8000", "http://10.0.0.5:8000"),
        ("::1", "http://[::1]:8000"),
        ("[::1]", "http://[::1]:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("[fe80::*]:8000", "http://[fe80::2]:8000"),
        ("api.openai.com", "https://API.openai.com./v1"),
        ("api.openai.com.", "https://api.openai.com"),
        ("b\u00fccher.example", "https://b\u00fccher.example"),
        ("xn--bcher-kva.example", "https://b\u00fccher.example"),
        ("*.b\u00fccher.example:443", "https://a.xn--bcher-kva.example"),
    ],
)
def test_what_a_pattern_names_may_be_called(pattern: str, url: str) -> None:
    """ORCH-3080: host names with `*`, each with an optional port; IPv6 with or without brackets."""
    check_egress(httpx.URL(url), ["elsewhere", pattern])


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("openai.com", "https://api.openai.com"),
        ("*.openai.com", "https://openai.com"),
        ("api.openai.com", "https://api.openai.com.evil.example"),
        ("*.openai.com", "https://evilopenai.com"),
        ("10.0.0.5:8000", "http://10.0.0.5:8001"),
        ("10.0.0.5:443", "http://10.0.0.5"),
        ("[::1]:8000", "http://[::1]:8001"),
        ("*:443", "http://[::443]:8000"),
        ("host[0-9]", "http://host1"),
        ("", "http://host"),
        ("*.azure.com", "https://me.openai.azure.com"),
        ("*", "https://api.openai.com"),
        ("10.*", "http://10.0.0.5"),
        ("**.azure.com", "https://me.openai.azure.com"),
    ],
)
def test_what_no_pattern_names_may_not(pattern: str, url: str) -> None:
    """OC-ADAPT-OAI 6021: near is not enough; the error names host, port and the option."""
    with pytest.raises(EgressDenied, match=r"add it to egress_allow") as caught:
        check_egress(httpx.URL(url), [pattern])
    assert caught.value.code is ErrorCode.EGRESS_DENIED
    assert caught.value.retriable is False


def test_none_allows_everything_and_an_empty_list_nothing() -> None:
    """ORCH-3080: without a policy there is none."""
    check_egress(httpx.URL("http://host"), None)
    with pytest.raises(EgressDenied):
        check_egress(httpx.URL("http://host"), [])


hosts = st.from_regex(r"[a-z0-9-]{1,8}(\.[a-z0-9-]{1,8}){0,2}", fullmatch=True)


@given(hosts, hosts, st.none() | st.integers(1, 65535))
def test_a_name_without_wildcard_allows_itself_only(one: str, other: str, port: int | None) -> None:
    """ORCH-3080: equal hosts pass, others do not."""
    url = httpx.URL(scheme="http", host=one, port=port)
    check_egress(url, [one])
    check_egress(url, [f"{one}:{port or 80}"])
    if one != other:
        with pytest.raises(EgressDenied):
            check_egress(url, [other, f"{other}:{port or 80}", f"{one}:{(port or 80) % 65535 + 1}"])


@pytest.mark.parametrize(
    "proxy", ["http://proxy:3128", "http://user:password@proxy:3128", "https://proxy:3128"]
)
def test_a_proxy_is_called_too(proxy: str) -> None:
    """The host of the proxy must be allowed as well as the one behind it."""
    url = httpx.URL("https://api.example")
    check_egress(url, ["api.example", "proxy:3128"], proxy)
    check_egress(url, None, proxy)
    for allow in (["api.example"], ["proxy"], ["api.example", "proxy:443"]):
        with pytest.raises(EgressDenied) as caught:
            check_egress(url, allow, proxy)
        assert "password" not in str(caught.value)
    with pytest.raises(EgressDenied, match="proxy:1080"):
        check_egress(url, ["api.example"], "socks5://proxy")


def test_many_stars_in_a_row_are_one() -> None:
    """Stars in a row are one."""
    with pytest.raises(EgressDenied):
        check_egress(httpx.URL("http://" + "a" * 63), ["*" * 60 + "b"])
