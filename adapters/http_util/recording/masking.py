"""Credentials in a body that is written down: overwritten in place, so that every length stays."""

import base64
import binascii
import json
from collections import deque
from collections.abc import Iterable
from urllib.parse import quote

import httpx

from adapters.http_util.recording.exchange import Chunk
from adapters.http_util.secrets import REDACTED, credential_spans, redact_headers

MIN_SECRET_BYTES = 4
"""Shorter credentials would tear ordinary words apart."""

MIN_BEGUN_BYTES = 8
"""How much of a credential must stand at the end of a body, which broke off in the middle of it, to
be overwritten. Less is no secret: many keys begin like this one."""

MAX_HELD_BYTES = 64 << 10
"""Of a body that is searched for what looks like a credential: longer than any error message."""

_SCHEMES = ("bearer", "basic", "token")
_JSON_WORDS = ("null", "true", "false")


def credentials_of(headers: httpx.Headers) -> list[str]:
    """The credentials in the headers of a request, in each form that a server may repeat."""
    found = []
    for name, value in headers.multi_items():
        if redact_headers({name: value})[name] == REDACTED:
            scheme, _, token = value.partition(" ")
            if not (token and (name.endswith("authorization") or scheme.lower() in _SCHEMES)):
                found.append(value)
                continue
            found.append(token.strip())  # the scheme is no secret
            if scheme.lower() == "basic":
                found.append(_password(token))
    return [secret for secret in found if len(secret) >= MIN_SECRET_BYTES]


def _password(token: str) -> str:
    try:
        return base64.b64decode(token).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def spellings(secrets: Iterable[str]) -> frozenset[bytes]:
    """The bytes that credentials may be in a body: as they are, in a URL, and in JSON as the
    encoders of several languages escape them."""
    found = set()
    for secret in secrets:
        if len(secret) >= MIN_SECRET_BYTES:
            escaped = json.dumps(secret)[1:-1]
            slashes = escaped.replace("/", "\\/")
            plus = [escaped.replace("+", "\\u002b"), escaped.replace("+", "\\u002B")]
            found |= {secret, escaped, slashes, *plus, quote(secret, safe="")}
    return frozenset(text.encode("utf-8") for text in found)


class Mask:
    """Overwrites credentials in a body with x, also where one is split over chunks.

    A chunk is held back only while its end may be the beginning of a credential.

    Args:
        secrets: What to overwrite.
        guess: Overwrite what looks like a credential too. All of the body is held back then, up to
            MAX_HELD_BYTES.
    """

    def __init__(self, secrets: Iterable[bytes], *, guess: bool = False) -> None:
        self._secrets = tuple(secrets)
        self._guess = guess
        self._held: deque[Chunk] = deque()
        # The bytes of the chunks that are held, and what will be written for them. Searched is what
        # was sent: in what is written, a short credential would hide a longer one around it.
        self._sent = bytearray()
        self._written = bytearray()

    def feed(self, chunk: Chunk) -> list[Chunk]:
        """Take a chunk; returns those that no later one can change any more."""
        searched = len(self._sent)
        self._held.append(chunk)
        self._sent += chunk.data
        self._written += chunk.data
        for secret in self._secrets:
            at = self._sent.find(secret, max(0, searched - len(secret) + 1))
            while at >= 0:
                self._overwrite(at, at + len(secret))
                at = self._sent.find(secret, at + 1)
        if self._guess:
            return self.finish() if len(self._sent) >= MAX_HELD_BYTES else []
        return self._release(len(self._sent) - self._begun())

    def finish(self) -> list[Chunk]:
        """The chunks that are still held."""
        if self._guess:
            self._overwrite_guesses()
        begun = self._begun()
        if begun >= MIN_BEGUN_BYTES:
            self._overwrite(len(self._sent) - begun, len(self._sent))
        return self._release(len(self._sent))

    def _begun(self) -> int:
        return max((_begun(self._sent, secret) for secret in self._secrets), default=0)

    def _overwrite_guesses(self) -> None:
        text = self._sent.decode("latin-1")
        for start, end in credential_spans(text):
            # A backslash may belong to the quotation mark behind it, and JSON shall stay JSON.
            found = text[start:end].rstrip("\\")
            if found not in _JSON_WORDS:
                self._overwrite(start, start + len(found))

    def _overwrite(self, start: int, end: int) -> None:
        self._written[start:end] = b"x" * (end - start)

    def _release(self, safe_bytes: int) -> list[Chunk]:
        released = []
        while self._held and len(self._held[0].data) <= safe_bytes:
            chunk = self._held.popleft()
            size = len(chunk.data)
            released.append(Chunk(chunk.at_ms, bytes(self._written[:size])))
            del self._sent[:size], self._written[:size]
            safe_bytes -= size
        return released


def masked(data: bytes, secrets: Iterable[bytes], *, guess: bool = False) -> bytes:
    """The bytes with every credential overwritten, as a Mask with the same arguments does."""
    mask = Mask(secrets, guess=guess)
    return b"".join(chunk.data for chunk in [*mask.feed(Chunk(0, data)), *mask.finish()])


def _begun(data: bytearray, secret: bytes) -> int:
    """How many bytes at the end of the data are the beginning of the secret, but not all of it."""
    if not data:
        return 0
    last, end = data[-1:], min(len(secret) - 1, len(data))
    while (at := secret.rfind(last, 0, end)) >= 0:
        if data.endswith(secret[: at + 1]):
            return at + 1
        end = at
    return 0
