"""The entry point of the command; everything else needs the extra `[cli]`."""

import os
import signal
import sys
from collections.abc import Sequence

from adapter_api.errors import RegistryError, WorkerError
from registry.cli.terminal import status
from registry.cli.terminal.streams import forget_output, soften


def main() -> None:
    """Run the command line and exit with its status."""
    # Shells start background commands of scripts with SIGINT ignored; here it always cancels.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _reopen()
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process is exiting already
    sys.exit(code)


def _reopen() -> None:
    """Read from and log to the null device where the parent closed the standard stream.

    Python has None in such a place, and what is meant for None goes to standard output.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  # for as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    An expected failure is a short message on standard error. Anything else is a defect and shows
    its traceback.

    Args:
        arguments: The words after the command's name.

    Returns:
        The exit status, one of `status.TABLE`.
    """
    if sys.stdout is None:
        status.complain("standard output is closed: there is nowhere to print to")
        return status.FAILED
    try:
        soften(sys.stdout)
        code = _run(arguments)
        sys.stdout.flush()
    except status.UsageError as error:
        status.complain(error)
        return status.USAGE
    except (RegistryError, WorkerError) as error:
        from registry.cli.terminal.wording import complain_about

        complain_about(error)
        return status.status_of(error)
    except KeyboardInterrupt:
        forget_output()
        status.complain("cancelled")
        return status.CANCELLED
    except BrokenPipeError:
        forget_output()
        return status.READER_GONE
    except OSError as error:  # for example, standard output is a file on a full disk
        forget_output()
        where = f"{error.filename}: " if error.filename else ""
        status.complain(f"{where}{error.strerror or error}")
        return status.FAILED
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        from registry.cli.app import run_app  # imports typer, and commands import rich

        return run_app(arguments)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich"):
            raise
        status.complain(f"the command line needs {error.name}: pip install 'worker-adapters[cli]'")
        return status.USAGE
