"""Standard output that belongs to the command, not to whatever a plugin prints."""

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from registry.cli.terminal.text import degrade

DEGRADE = "worker_adapters.degrade"
codecs.register_error(DEGRADE, degrade)

_ours: list[TextIO] = []


def out() -> TextIO:
    """Return the stream for the command's own output."""
    return _ours[-1] if _ours else sys.stdout


def say(message: object = "", end: str = "\n") -> None:
    """Print on the command's own output, at once."""
    print(message, end=end, file=out(), flush=True)


def soften(stream: TextIO) -> None:
    """Make a stream replace what its encoding lacks instead of raising UnicodeEncodeError."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=DEGRADE)


@contextlib.contextmanager
def own_output() -> Iterator[None]:
    """While entered, only `out()` writes to standard output.

    Everything else that prints goes to standard error: plugins and what they import, also when
    they write to descriptor 1 from C. A stray line would break `--frames` and `--json`.
    """
    theirs = sys.stdout
    theirs.flush()
    with contextlib.ExitStack() as stack:
        ours = theirs
        if _descriptor(theirs) == 1 and _descriptor(sys.stderr) == 2:
            ours = stack.enter_context(_private_copy(theirs))
        _ours.append(ours)
        sys.stdout = sys.stderr
        try:
            yield
        finally:
            sys.stdout = theirs
            _ours.pop()
        ours.flush()


@contextlib.contextmanager
def _private_copy(stream: TextIO) -> Iterator[TextIO]:
    """Yield a copy of standard output on a descriptor of its own; 1 goes to standard error."""
    private = os.dup(1)
    os.dup2(2, 1)
    with open(private, "w", encoding=stream.encoding, errors=DEGRADE) as copy:
        try:
            yield copy
            copy.flush()
        except BaseException:
            os.dup2(private, 1)
            # All output is flushed as it is made: the rest could not be written.
            _discard(copy)
            raise
        os.dup2(private, 1)


def forget_output() -> None:
    """Discard what standard output could not take, so that exiting does not try it again."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a stream without a file, or a closed one
        return None
