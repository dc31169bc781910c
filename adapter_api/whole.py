"""Reading a whole job at once, on top of its single events."""

from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any, Self

from adapter_api.answer import Answer
from adapter_api.errors import WorkerError
from adapter_api.events import Error, Token, TokenEvent


class WholeReading(AsyncIterator[TokenEvent]):
    """Reads events to their end. A subclass provides the events and `was_read`."""

    __slots__ = ()

    job_id: str

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *exc_info: object) -> None: ...

    @abstractmethod
    async def aclose(self) -> None:
        """Release everything the job holds."""

    @property
    @abstractmethod
    def was_read(self) -> bool:
        """Return whether a Token or the end was read."""

    async def text(self) -> str:
        """Return the whole text of the answer; closes the stream. With tools, use `answer`.

        Raises:
            WorkerError: If the answer is not whole.
            RuntimeError: If a part of the stream was read already.
        """
        self._require_all()
        async with self:
            return "".join([event.text async for event in self if isinstance(event, Token)])

    async def answer(self) -> Answer:
        """Return the whole answer with calls and reasoning; closes the stream.

        Raises:
            WorkerError: If the answer is not whole.
            RuntimeError: If a part of the stream was read already.
        """
        self._require_all()
        async with self:
            return Answer.of([event async for event in self])

    async def tokens(self) -> AsyncIterator[Token]:
        """Yield the Tokens; closes the stream.

        Raises:
            WorkerError: If the answer is not whole.
        """
        async with self:
            async for event in self:
                if isinstance(event, Token):
                    yield event

    def _require_all(self) -> None:
        """Raise RuntimeError if an event was read: the rest would look like the whole answer."""
        if self.was_read:
            raise RuntimeError(
                f"the stream of job {self.job_id} was read already, and it can be read only once: "
                "submit the task again, or collect the events and use Answer.of(events)"
            )

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the events as JSON-able dicts; closes the stream.

        It never raises WorkerError: a failure is the last frame, of type "error".
        """
        from adapter_api.frames import to_frame  # cattrs takes as long to import as all the rest

        try:
            async for event in self:
                yield to_frame(event)
                if isinstance(event, Error):
                    return
        except WorkerError as error:
            yield to_frame(Error(error))
        finally:
            await self.aclose()
