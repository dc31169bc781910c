"""The entry of the command: the rest needs the extra `[cli]`."""

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from registry.cli.app import app
    except ImportError as error:
        if error.name not in ("typer", "rich"):
            raise
        print(
            f"error: the command line needs {error.name}: pip install 'worker-adapters[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    app(prog_name="worker-adapters")
