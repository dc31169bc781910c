"""StreamWatcher: the callbacks of one stream."""

from typing import Protocol

from adapter_api.errors import WorkerError
from adapter_api.events import End, Started


class StreamWatcher(Protocol):
    """Receives lifecycle callbacks for one stream.

    Callbacks must not raise, block, or keep a reference to the stream. What one raises all the
    same, such as KeyboardInterrupt, propagates to the reader after cleanup.
    """

    def opened(self) -> None:
        """Note that the stream is read for the first time: the job is being sent."""

    def started(self, event: Started) -> None:
        """Note that the engine accepted the job."""

    def first_token(self) -> None:
        """Note that the first Token is about to be delivered."""

    def ended(self, end: End | None, error: WorkerError | None, delivered: int) -> None:
        """Note the end of the job: with `end`, with `error`, or dropped with neither. Called once.

        A drop is reported from a destructor, and so at any point of any thread.

        Args:
            end: The End event.
            error: The error it failed with, Cancelled included.
            delivered: How many Tokens were delivered.
        """
