"""The entry of the command: the rest needs the extra `[cli]`."""

import contextlib
import os
import sys
from collections.abc import Sequence

from adapter_api.errors import RegistryError, WorkerError
from registry.cli.terminal import status


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status.

    Every expected failure is one line on standard error. What is left over is a defect, and shows
    its traceback.

    Args:
        arguments: What was typed after the command's name.
    """
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except (RegistryError, WorkerError, status.UsageError) as error:
        status.complain(error)
        return status.status_of(error)
    except KeyboardInterrupt:
        _forget_output()
        status.complain("cancelled")
        return status.CANCELLED
    except BrokenPipeError:
        _forget_output()
        return status.READER_GONE
    except OSError as error:  # standard output is a full disk, for instance
        _forget_output()
        where = f"{error.filename}: " if error.filename else ""
        status.complain(f"{where}{error.strerror or error}")
        return status.FAILED
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        from registry.cli.app import run_app  # with it come typer and rich
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich"):
            raise
        status.complain(f"the command line needs {error.name}: pip install 'worker-adapters[cli]'")
        return status.USAGE
    return run_app(arguments)


def _forget_output() -> None:
    """What could not be written must not be tried again, and fail or block again, at exit."""
    with contextlib.suppress(OSError):  # an output that is no file
        output = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output)
        os.close(nowhere)
