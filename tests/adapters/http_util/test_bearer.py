"""Credentials go into headers whole or not at all (HTU-CAP-1005)."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import ErrorCode, InvalidRequest
from adapters.http_util import check_credential, with_bearer


def test_the_bearer_token_is_put_where_it_belongs() -> None:
    """HTU-CAP-1005: the header is added to the mapping, which is returned; others stay."""
    headers = {"X-Team": "a"}
    assert with_bearer(headers, "sk-1") is headers
    assert headers == {"X-Team": "a", "Authorization": "Bearer sk-1"}


def test_a_request_takes_the_bearer_token_too() -> None:
    """HTU-CAP-1005: its header is set, once, and the request is returned."""
    request = httpx.Request("GET", "http://h", headers={"authorization": "old", "X-Team": "a"})
    assert with_bearer(request, "sk-1") is request
    assert request.headers.get_list("authorization") == ["Bearer sk-1"]
    assert request.headers["x-team"] == "a"
    with pytest.raises(InvalidRequest, match="the bearer token must be"):
        with_bearer(request, "sk-1\n")


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "sk-1\n",
        "\tsk-1",
        "sk-1 ",
        "sk-1\r\nX-Evil: 1",
        "sk-1\0",
        "schlüssel",
        "sk-1\u2028",
    ],
)
def test_what_cannot_stand_in_a_header_is_refused_without_showing_it(value: str) -> None:
    """HTU-1004: a line break from a file, a space too many, other alphabets; still secret."""
    with pytest.raises(InvalidRequest) as caught:
        check_credential(value, "api_key")
    assert caught.value.code is ErrorCode.INVALID_PARAMS
    assert caught.value.message.startswith("api_key must be")
    if value.strip():
        assert value.strip() not in str(caught.value)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_every_key_without_spaces_around_is_kept_as_it_is(value: str) -> None:
    """Printable ASCII is what headers carry."""
    assert check_credential(value, "api_key") == value


@given(st.text())
def test_what_passes_is_one_line_of_ascii(value: str) -> None:
    """Whatever comes: it is refused, or it is safe in a header."""
    try:
        checked = check_credential(value, "api_key")
    except InvalidRequest:
        return
    assert checked.encode("ascii").isalnum() or all(32 <= ord(sign) < 127 for sign in checked)
