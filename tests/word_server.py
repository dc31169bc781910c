"""An engine that says random words, always the same for one prompt and seed."""

from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

from adapter_api.faults import Request, Wire
from tests.fake_openai import FakeOpenAI, answers, fails, lists
from tests.openai_chunks import delta, piece, usage

MODEL = "words"
VERSION = "words-1.0"

_WORDS = ("the", "quiet", "river", "carries", "every", "lantern", "and", "keeps", "one", "token")


def words(prompt: str, seed: int | None) -> Iterator[str]:
    """Words without end, each with the space before it."""
    random = Random(f"{seed}:{prompt}")
    yield random.choice(_WORDS)
    while True:
        yield f" {random.choice(_WORDS)}"


class WordServer(FakeOpenAI):
    """Answers jobs with words, up to max_tokens.

    Args:
        api_key: If given, everything under /v1 needs it as bearer token.
        delay_s: Seconds before each word.
        max_words: The most words the engine has to say.

    Attributes:
        running: How many streams are being generated now.
    """

    def __init__(
        self, *, api_key: str | None = None, delay_s: float = 0.002, max_words: int = 400
    ) -> None:
        super().__init__(
            {
                "/health": answers({"status": "ok"}),
                "/version": answers({"version": VERSION}),
                "/v1/models": lists(MODEL),
                "/v1/completions": self._say,
                "/v1/chat/completions": self._say,
            }
        )
        self._key = api_key
        self._delay_s = delay_s
        self._max_words = max_words
        self.running = 0

    async def _route(self, request: Request, wire: Wire) -> None:
        secret = self._key is not None and request.path.startswith("/v1")
        if secret and request.headers.get("authorization") != f"Bearer {self._key}":
            await fails(401, "Incorrect API key provided")(request, wire)
            return
        await super()._route(request, wire)

    async def _say(self, request: Request, wire: Wire) -> None:
        job: dict[str, Any] = request.json()
        limit = job.get("max_tokens") or 16
        prompt = str(job.get("prompt", job.get("messages")))
        count = min(limit, self._max_words)
        await wire.stream_head()
        self.running += 1
        try:
            for word in islice(words(prompt, job.get("seed")), count):
                await wire.sleep(self._delay_s)
                await wire.event(_chunk(request, word))
        finally:
            self.running -= 1
        reason = "length" if count == limit else "stop"
        await wire.event(_chunk(request, "", reason))
        await wire.event(usage(len(prompt.split()), count))
        await wire.event("[DONE]")
        await wire.end()


def _chunk(request: Request, word: str, reason: str | None = None) -> dict[str, Any]:
    about = {"model": MODEL, "system_fingerprint": VERSION}
    if request.chat:
        return delta({"content": word}, reason, **about)
    return piece(word, reason, **about)
