"""A known credential is found in any spelling, whole or in pieces, in linear time."""

import base64
import html
import json
import string
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.http_util import REDACTED, redact, safe_text
from adapters.http_util.recording.exchange import Chunk
from adapters.http_util.recording.masking import Mask
from adapters.http_util.secrets import MAX_SEARCHED_CHARS, credential_spans
from adapters.http_util.spellings import known_spans
from tests.timing import assert_linear

CANARY = "cAnary+7f/Q9_x-2bR=8&zL<4>Wk"

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda s: s,
    "upper case": str.upper,
    "lower case": str.lower,
    "URL": lambda s: quote(s, safe=""),
    "URL, lower hex": lambda s: quote(s, safe="").lower(),
    "URL twice": lambda s: quote(quote(s, safe=""), safe=""),
    "URL, every byte": lambda s: "".join(f"%{ord(c):02X}" for c in s),
    "form": quote_plus,
    "HTML": html.escape,
    "HTML, decimal": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "HTML, hex": lambda s: "".join(f"&#x{ord(c):x};" for c in s),
    "HTML twice": lambda s: html.escape(html.escape(s)),
    "JSON": json.dumps,
    "JSON, slashes": lambda s: json.dumps(s).replace("/", "\\/"),
    "JSON in JSON": lambda s: json.dumps(json.dumps(s)),
    "JSON, Go": lambda s: s.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003E"),
    "unicode escapes": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "unicode escapes in JSON": lambda s: "".join(f"\\\\u{ord(c):04x}" for c in s),
    "hex escapes": lambda s: "".join(f"\\x{ord(c):02x}" for c in s),
    "hex": lambda s: s.encode().hex(),
    "hex, upper": lambda s: s.encode().hex().upper(),
    "hex, spaced": lambda s: s.encode().hex(" "),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "base64 after a user": lambda s: base64.b64encode(f"user:{s}".encode()).decode(),
    "base64 after a name": lambda s: base64.b64encode(f"a:{s}@host".encode()).decode(),
    "wrapped": lambda s: "\n".join(s[n : n + 5] for n in range(0, len(s), 5)),
    "wrapped in JSON": lambda s: "\\n".join(s[n : n + 6] for n in range(0, len(s), 6)),
    "wrapped, indented": lambda s: "\r\n    ".join(s[n : n + 4] for n in range(0, len(s), 4)),
    "zero-width": lambda s: "\u200b".join(s),
    "cut behind": lambda s: s[:12],
    "cut before": lambda s: s[-12:],
    "cut on both sides": lambda s: s[5:19],
    "cut and escaped": lambda s: quote(s, safe="")[:30],
    "repr": lambda s: repr(s.encode()),
}
RARE: dict[str, Callable[[str], str]] = {
    "base32": lambda s: base64.b32encode(s.encode()).decode(),
    "base32, lower case": lambda s: base64.b32encode(f"k:{s}".encode()).decode().lower(),
    "base85": lambda s: base64.b85encode(s.encode()).decode(),
    "base85 after a name": lambda s: base64.b85encode(f"a:{s}".encode()).decode(),
    "base85 of Adobe": lambda s: base64.a85encode(s.encode(), adobe=True).decode(),
    "base64 twice": lambda s: base64.b64encode(base64.b64encode(s.encode())).decode(),
    "base64 twice, in a text": lambda s: base64.b64encode(
        b"a" + base64.b64encode(f"k:{s}".encode())
    ).decode(),
    "base64 of hex": lambda s: base64.b64encode(s.encode().hex().encode()).decode(),
    "base64 of UTF-16": lambda s: base64.b64encode(s.encode("utf-16-le")).decode(),
    "base64 of UTF-16, big end first": lambda s: base64.b64encode(s.encode("utf-16-be")).decode(),
    "hex of UTF-16": lambda s: s.encode("utf-16-le").hex(),
    "hex of UTF-16, big end first": lambda s: s.encode("utf-16-be").hex().upper(),
    "reversed": lambda s: s[::-1],
}
"""Each is found where it stands whole, also cut, but not followed over chunks of a few bytes."""

ALL = SPELLINGS | RARE


def pieces_in(text: str, secret: str) -> list[str]:
    """The pieces of eight characters that can be read in `text`."""
    pieces = [secret[n : n + 8] for n in range(len(secret) - 7)]
    return [piece for piece in pieces if piece.lower() in text.lower()]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("around", ["{}", "the key {} is wrong", '{{"m": "{}", "n": 1}}', "x{}y"])
def test_a_canary_survives_in_no_spelling(name: str, around: str) -> None:
    """The text around the key is shown."""
    spelled = ALL[name](CANARY)
    shown = redact(around.format(spelled), [CANARY])
    assert REDACTED in shown
    assert spelled not in shown
    assert pieces_in(shown, CANARY) == []
    rest = shown.replace(REDACTED, "")
    assert len(rest) <= len(around.format("")) + 12, "a few letters at the edges of base64"


@pytest.mark.parametrize("name", RARE)
def test_a_piece_of_a_rare_form_is_found(name: str) -> None:
    """Ten letters are missing."""
    piece = RARE[name](CANARY)[5:-5]
    assert redact(f"the key {piece} is wrong", [CANARY]).count(REDACTED) == 1


BEGUN = [name for name in SPELLINGS if name not in ("cut before", "cut on both sides")]


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in BEGUN for size in (1, 7)] + [(name, 1000) for name in ALL],
)
def test_a_canary_survives_in_no_recording(name: str, size: int) -> None:
    """Every spelling is masked, also split over chunks; lengths and line ends stay.

    Only a piece that lacks its beginning must come in one chunk: its beginning is unknown.
    """
    spelled = ALL[name](CANARY)
    body = f"data: the key {spelled} is wrong\n\n".encode()
    pieces = [body[n : n + size] for n in range(0, len(body), size)]
    mask = Mask([CANARY])
    chunks = [chunk for n, piece in enumerate(pieces) for chunk in mask.feed(Chunk(n, piece))]
    chunks += mask.finish()
    written = b"".join(chunk.data for chunk in chunks)
    assert [len(chunk.data) for chunk in chunks] == [len(piece) for piece in pieces]
    assert written.count(b"\n") == body.count(b"\n")
    assert known_spans(written.decode("latin-1"), [CANARY]) == []
    assert written.startswith(b"data: the key ")


secrets_in_use = st.text(string.ascii_letters + string.digits + "-_./+=", min_size=20, max_size=60)


@settings(max_examples=150)
@given(secrets_in_use, st.sampled_from(sorted(ALL)), st.text(max_size=20))
def test_any_key_survives_in_no_spelling(secret: str, name: str, around: str) -> None:
    """Keys of any letters, among any text."""
    spelled = ALL[name](secret)
    shown = redact(f"{around} {spelled} {around}", [secret])
    assert REDACTED in shown
    assert known_spans(shown.replace(REDACTED, " \x00 "), [secret]) == [] or secret in around


@pytest.mark.parametrize(
    "text",
    [
        "the model gpt-4o-mini does not exist",
        "batteries and horses are not included; 5% of 10% is 0.5%",
        '{"error": {"message": "max_tokens must be > 0", "code": null}}',
        "dGhlIG1vZGVsIGRvZXMgbm90IGV4aXN0 is base64",
        "a &amp; b &lt; c \\n d \\u00e9",
    ],
)
def test_other_texts_stay(text: str) -> None:
    """Text that is not a piece of the key is shown unchanged."""
    assert redact(text, ["sk-correct-horse-battery-staple", CANARY]) == text


def test_short_keys_are_found_as_they_are_and_escaped() -> None:
    """A dummy key of a few letters hides neither other cases nor parts of words' letters."""
    assert redact("EMPTY list is empty", ["EMPTY"]) == f"{REDACTED} list is empty"
    assert redact("key a%2Fb%2Bc", ["a/b+c"]) == f"key {REDACTED}"


def test_safe_text_is_one_bounded_line() -> None:
    """Control characters, terminal commands and directions of writing go; a cut shows itself."""
    text = f"a\x1b[31mred\x07\r\nb\u202ec\u2028d  {CANARY}\x00"
    assert safe_text(text, [CANARY]) == f"a [31mred b c d {REDACTED}"
    assert safe_text("x" * 600) == "x" * 497 + "..."
    assert safe_text("x" * 20, max_chars=10) == "xxxxxxx..."
    assert safe_text("") == ""
    assert len(safe_text("word " * 100_000)) <= 500


def test_what_is_not_searched_is_not_shown() -> None:
    """A key behind the bound, or on it, does not come through."""
    for place in (MAX_SEARCHED_CHARS - 14, MAX_SEARCHED_CHARS, MAX_SEARCHED_CHARS * 2):
        shown = redact("y" * place + CANARY, [CANARY])
        assert pieces_in(shown, CANARY) == []
        assert len(shown) <= MAX_SEARCHED_CHARS + len("...")


HOSTILE = [
    *("\\", "%41", "&#65;", "\\u0041", "&amp;", "\n", " ", "\u200b", "\\\\n", "%25", "&", "%"),
    *("aaaa", "cAnary", CANARY, CANARY[:8], CANARY[:6], "data:", "\ndata:", "\\u", "&#"),
    *("api_key=", "api_key=\\", 'api_key="', "api_key='\\", "authorization:", "('api-key", "(b'"),
    *(
        "password=",
        'token\\"',
        "secret\\\\",
        "bearer ",
        "basic ",
        "sk-",
        "eyJ.",
        "hf_a",
        "://",
        "@",
    ),
    *("gsk_", "sk-aaaaaa.", "secret=a", "token=1a", "Basic ", "<script", "api_key= ", "key "),
]


WORST = ("\\", "%41", "\n", "&amp;", "api_key=\\", CANARY[:6], "(b'", "://")


@pytest.mark.timing
@pytest.mark.parametrize(
    "piece",
    [p if p in WORST else pytest.param(p, marks=pytest.mark.exhaustive) for p in HOSTILE],
)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    """Eight times the text takes about eight times as long: `api_key=` and backslashes, too."""

    def hide(length: int) -> None:
        text = piece * (length // len(piece))
        known_spans(text, [CANARY, "a" * 40])
        for before in ("", "api_key=", 'api_key="', "authorization: "):
            for _ in credential_spans(before + text):
                pass

    assert_linear(hide, 500)


@pytest.mark.timing
def test_hostile_chunks_take_linear_time() -> None:
    """A text that could always begin a credential is not held without bound."""

    def record(count: int) -> None:
        mask = Mask([CANARY])
        for n in range(count):
            mask.feed(Chunk(n, CANARY[:5].encode() if n % 50 == 0 else b"\n" * 100))

    assert_linear(record, 100, 8)
