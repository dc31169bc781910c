"""Rich output on a terminal, plain text in a pipe."""

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from registry.cli.terminal.status import harmless, one_line


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would exit with status 1; registry.cli.entry knows better."""
        raise


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or error as they are now."""
    return _Console(stderr=stderr, highlight=False, emoji=False)


def show_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    styles: Mapping[str, str] | None = None,
) -> None:
    """Print rows: as a table on a terminal, else with tabs between the cells and without columns.

    Args:
        columns: The names of the columns.
        rows: The cells, as plain text.
        styles: Rich styles for cells, by their first word.
    """
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(" ".join(cell.split()) for cell in row))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place == 0)
    for row in rows:
        # Text, as a str would be searched for markup, and `tuple[str, ...]` looks like it.
        table.add_row(*(Text(harmless(one_line(cell)), _style(cell, styles)) for cell in row))
    console().print(table)


def _style(cell: str, styles: Mapping[str, str] | None) -> str:
    return (styles or {}).get(cell.partition(":")[0], "")
