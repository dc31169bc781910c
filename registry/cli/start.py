"""The function of the console script."""

import signal


def main() -> None:
    """Run the command line and exit with its status."""
    # While the rest is imported, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from registry.cli.entry import main as run_and_exit

    run_and_exit()
