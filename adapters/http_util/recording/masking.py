"""Masks credentials in recorded bodies: overwritten in place, so that every length stays."""

import base64
import binascii
from collections import deque
from collections.abc import Iterable

import httpx

from adapters.http_util.recording.exchange import Chunk
from adapters.http_util.secrets import credential_spans, is_secret_header, redact
from adapters.http_util.spellings import MIN_SECRET_CHARS, begun_at, known_spans

MAX_HELD_BYTES = 64 << 10
"""Bound of a body that is searched for what looks like a credential: longer than any error."""

MAX_WAITING_BYTES = 8 << 10
"""Bound of the bytes that wait because they may begin a credential: more than any escaped key."""

_SCHEMES = ("bearer", "basic", "token")
_JSON_WORDS = ("null", "true", "false")
_COVER = ord("x")
_LINE_ENDS = b"\r\n"  # they separate events


def credentials_of(headers: httpx.Headers) -> list[str]:
    """Return the credentials in the headers of a request, in each form a server may repeat."""
    found = []
    for name, value in headers.multi_items():
        if is_secret_header(name) or redact(value) != value:
            scheme, _, token = value.partition(" ")
            if not (token and (name.endswith("authorization") or scheme.lower() in _SCHEMES)):
                found.append(value)
                continue
            found.append(token.strip())  # the scheme is not secret
            if scheme.lower() == "basic":
                found.append(_password(token))
    return [secret for secret in found if len(secret) >= MIN_SECRET_CHARS]


def _password(token: str) -> str:
    try:
        return base64.b64decode(token).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


class Mask:
    """Overwrites credentials in a body with x, also where one is spelled otherwise or is split
    over chunks.

    A chunk is held back only while its end may be the beginning of a credential.

    Args:
        secrets: The secrets to overwrite.
        guess: Overwrite what looks like a credential too. The whole body is then held back, up to
            MAX_HELD_BYTES.
    """

    def __init__(self, secrets: Iterable[str], *, guess: bool = False) -> None:
        # Bodies are searched as Latin-1, in which each byte is a character.
        self._secrets = tuple(secret.encode("utf-8").decode("latin-1") for secret in secrets)
        self._guess = guess
        self._max_held_bytes = MAX_HELD_BYTES if guess else MAX_WAITING_BYTES
        self._held: deque[Chunk] = deque()
        # The bytes of the chunks that are held, and what will be written for them. What was sent
        # is searched: in what is written, a short credential would hide a longer one around it.
        self._sent = bytearray()
        self._written = bytearray()

    def feed(self, chunk: Chunk) -> list[Chunk]:
        """Take a chunk and return those that no later one can change."""
        self._held.append(chunk)
        self._sent += chunk.data
        self._written += chunk.data
        if self._guess:
            return self.finish() if len(self._sent) >= self._max_held_bytes else []
        text = self._sent.decode("latin-1")
        self._overwrite_known(text)
        safe_bytes = begun_at(text, self._secrets)
        if len(text) - safe_bytes > self._max_held_bytes:
            safe_bytes = len(text)
        return self._release(safe_bytes)

    def finish(self) -> list[Chunk]:
        """Return the chunks that are still held."""
        text = self._sent.decode("latin-1")
        self._overwrite_known(text)
        if self._guess:
            self._overwrite_guesses(text)
        return self._release(len(text))

    def _overwrite_known(self, text: str) -> None:
        for start, end in known_spans(text, self._secrets):
            self._overwrite(start, end)

    def _overwrite_guesses(self, text: str) -> None:
        for start, end in credential_spans(text):
            # A backslash may belong to the quotation mark behind it, and JSON must stay JSON.
            found = text[start:end].rstrip("\\")
            if found not in _JSON_WORDS:
                self._overwrite(start, start + len(found))

    def _overwrite(self, start: int, end: int) -> None:
        self._written[start:end] = bytes(
            byte if byte in _LINE_ENDS else _COVER for byte in self._written[start:end]
        )

    def _release(self, safe_bytes: int) -> list[Chunk]:
        released = []
        while self._held and len(self._held[0].data) <= safe_bytes:
            chunk = self._held.popleft()
            size = len(chunk.data)
            released.append(Chunk(chunk.at_ms, bytes(self._written[:size])))
            del self._sent[:size], self._written[:size]
            safe_bytes -= size
        return released


def masked(data: bytes, secrets: Iterable[str], *, guess: bool = False) -> bytes:
    """Return the bytes with every credential overwritten, as by a Mask."""
    mask = Mask(secrets, guess=guess)
    return b"".join(chunk.data for chunk in [*mask.feed(Chunk(0, data)), *mask.finish()])
