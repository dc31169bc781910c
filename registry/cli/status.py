"""Exit statuses, and every expected error as one clear line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from adapter_api import ConfigError, ErrorCode, InvalidRequest, RegistryError, WorkerError

OK = 0
JOB_FAILED = 1
USAGE = 2
NO_ADAPTER = 3
CANCELLED = 130  # as shells report an end by SIGINT
TERMINATED = 143  # by SIGTERM


def complain(message: object) -> None:
    """Print one line on standard error."""
    text = " ".join(str(message).split("\n")) if "\n  -" not in str(message) else str(message)
    print(f"error: {text}", file=sys.stderr, flush=True)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the errors a user can meet into a line and an exit status; anything else is a defect."""
    try:
        yield
    except (ConfigError, InvalidRequest) as error:
        complain(error)
        raise typer.Exit(USAGE) from None
    except RegistryError as error:
        complain(error)
        raise typer.Exit(NO_ADAPTER) from None
    except WorkerError as error:
        complain(error)
        cancelled = error.code is ErrorCode.CANCELLED
        raise typer.Exit(CANCELLED if cancelled else JOB_FAILED) from None
