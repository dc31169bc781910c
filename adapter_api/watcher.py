"""StreamWatcher: the callbacks of one stream."""

from typing import Protocol

from adapter_api.errors import WorkerError
from adapter_api.events import End, Started


class StreamWatcher(Protocol):
    """Receives lifecycle callbacks for one stream.

    Callbacks must not raise, block, or keep a reference to the stream. If one raises nevertheless,
    such as KeyboardInterrupt, the exception propagates to the reader after cleanup.
    """

    def opened(self) -> None:
        """Handle the first read of the stream, with which the job is sent."""

    def started(self, event: Started) -> None:
        """Handle the engine's acceptance of the job."""

    def first_token(self) -> None:
        """Handle the first Token, which is about to be delivered."""

    def ended(self, end: End | None, error: WorkerError | None, delivered: int) -> None:
        """Handle the end of the job: with `end`, with `error`, or dropped with neither. Called
        once.

        A drop is reported by a destructor, and so at any point of any thread.

        Args:
            end: The End event.
            error: The error it failed with, Cancelled included.
            delivered: How many Tokens were delivered.
        """
