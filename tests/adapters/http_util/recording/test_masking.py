"""No credential is written down, however it is split, spelled or cut off (HTU-1004)."""

import json
import tracemalloc

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http_util.recording.exchange import Chunk
from adapters.http_util.recording.masking import (
    MAX_HELD_BYTES,
    Mask,
    credentials_of,
    masked,
)

KEY = "correct-horse-battery-staple"
PARTS = [KEY, KEY[:5], KEY[-5:], KEY[:1], "x", " and ", "\n"]


def fed(mask: Mask, pieces: list[bytes]) -> list[Chunk]:
    """Everything the mask gives for these pieces."""
    out = [chunk for n, piece in enumerate(pieces) for chunk in mask.feed(Chunk(n, piece))]
    return out + mask.finish()


@given(st.data())
def test_a_key_is_masked_however_it_is_split(data: st.DataObject) -> None:
    """A careless server repeats the key in pieces; chunks, lengths and times stay."""
    whole = "".join(data.draw(st.lists(st.sampled_from(PARTS), max_size=6))).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[i:j] for i, j in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    out = fed(Mask([KEY]), pieces)
    assert [len(chunk.data) for chunk in out] == [len(piece) for piece in pieces]
    assert [chunk.at_ms for chunk in out] == list(range(len(pieces)))
    written = b"".join(chunk.data for chunk in out)
    assert written == whole.replace(KEY.encode(), b"x" * len(KEY))


@given(st.lists(st.text("ab", min_size=4, max_size=7), min_size=1, max_size=3), st.text("ab"))
def test_keys_that_overlap_are_masked_to_their_last_byte(keys: list[str], text: str) -> None:
    """One key may be a part of another, or begin inside it: no byte of either stays."""
    data, secrets = text.encode(), [key.encode() for key in keys]
    covered = {
        place
        for secret in secrets
        for start in range(len(data))
        if data.startswith(secret, start)
        for place in range(start, start + len(secret))
    }
    out = fed(Mask(keys), [data[n : n + 1] for n in range(len(data))])
    written = b"".join(chunk.data for chunk in out)
    assert written == bytes(120 if n in covered else byte for n, byte in enumerate(data))


def test_chunks_are_not_held_back_without_a_reason() -> None:
    """A recording can be watched, and is whole when the process dies: only what may be the
    beginning of a key waits for more."""
    mask = Mask([KEY])
    assert mask.feed(Chunk(1.0, b"data: hello\n\n")) == [Chunk(1.0, b"data: hello\n\n")]
    assert mask.feed(Chunk(2.0, b"data: corr")) == []
    assert mask.feed(Chunk(3.0, b"at\n\n")) == [
        Chunk(2.0, b"data: corr"),
        Chunk(3.0, b"at\n\n"),
    ]
    assert mask.finish() == []


def test_texts_that_are_not_secret_are_kept() -> None:
    """Without credentials nothing is changed; a very short one would tear words apart."""
    assert masked(b"abcabc", []) == masked(b"abcabc", ["abc"]) == b"abcabc"


@pytest.mark.parametrize(
    "shown",
    [
        '"a+b/c"d"',
        json.dumps('a+b/c"d'),
        json.dumps('a+b/c"d').replace("/", "\\/"),
        json.dumps('a+b/c"d').replace("+", "\\u002b"),
        json.dumps('a+b/c"d').replace("+", "\\u002B"),
        "https://x/?key=a%2Bb%2Fc%22d",
    ],
)
def test_every_usual_spelling_is_known(shown: str) -> None:
    """JSON encoders escape slashes and plus signs, URLs nearly everything."""
    written = masked(shown.encode(), ['a+b/c"d'])
    assert b"d" not in written
    assert len(written) == len(shown)


def test_the_credentials_of_a_request() -> None:
    """Without their scheme; the password behind basic; what only looks like a key."""
    headers = httpx.Headers(
        {
            "Authorization": "Bearer the-bearer",
            "api-key": "the-key",
            "X-Mine": "sk-abcdefghijkl",
            "X-Gateway-Token": "the-token",
            "X-Gateway-Key": "Bearer the-gateway",
            "Idempotency-Key": "no-secret",
            "Proxy-Authorization": "Basic dXNlcjpwYXNzd29yZA==",
            "Accept": "text/event-stream",
        }
    )
    found = credentials_of(headers)
    assert set(found) == {
        "the-bearer",
        "the-key",
        "sk-abcdefghijkl",
        "the-token",
        "the-gateway",
        "dXNlcjpwYXNzd29yZA==",
        "password",
    }
    assert credentials_of(httpx.Headers({"authorization": "Basic abcde"})) == ["abcde"]
    assert credentials_of(httpx.Headers({"authorization": "the-key"})) == ["the-key"]


@pytest.mark.parametrize(
    ("body", "written"),
    [
        ('{"error": "no key sk-abcdefghij"}', '{"error": "no key xxxxxxxxxxxxx"}'),
        (r'{"e": "api_key: \"abcdef\""}', r'{"e": "api_key: \"xxxxxx\""}'),
        (r'{"e": "sent \"api-key: abcdef\""}', r'{"e": "sent \"api-key: xxxxxx\""}'),
        ('{"e": "no", "api_key": null}', '{"e": "no", "api_key": null}'),
        ('{"e": "model not found"}', '{"e": "model not found"}'),
    ],
)
def test_guesses(body: str, written: str) -> None:
    """Another server's key is masked, too, and JSON stays JSON."""
    out = fed(Mask([], guess=True), [body[:20].encode(), body[20:].encode()])
    assert b"".join(chunk.data for chunk in out).decode() == written
    json.loads(written)


def test_guessing_holds_no_more_than_its_bound() -> None:
    """A refusal without end does not fill the memory (HTU-1003)."""
    for _ in range(2):  # tables that are made once are made in the first round
        mask = Mask([KEY], guess=True)
        tracemalloc.start()
        for n in range(40):
            mask.feed(Chunk(n, b"y" * 4096))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert held < 4 * MAX_HELD_BYTES
