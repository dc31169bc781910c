"""Rich output on a terminal, plain text in a pipe."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from registry.cli.terminal.streams import out, say
from registry.cli.terminal.text import harmless, one_line


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Re-raise: rich would exit with status 1 instead of the documented one."""
        raise


def console(*, stderr: bool = False) -> Console:
    """Return a console on the command's own output, or on standard error."""
    if stderr:
        return _Console(stderr=True, highlight=False, emoji=False)
    return _Console(file=out(), highlight=False, emoji=False)


def show_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    styles: Mapping[str, str] | None = None,
) -> None:
    """Print rows: as a table on a terminal, else with tabs between cells and without a header.

    Args:
        columns: The names of the columns.
        rows: The cells, as plain text.
        styles: Rich styles for cells, by their first word.
    """
    if not out().isatty():
        for row in rows:
            say("\t".join(" ".join(cell.split()) for cell in row))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place == 0)
    for row in rows:
        # Text, because rich would read markup in a str, and `tuple[str, ...]` looks like markup.
        table.add_row(*(Text(harmless(one_line(cell)), style_of(cell, styles)) for cell in row))
    console().print(table)


def style_of(cell: str, styles: Mapping[str, str] | None) -> str:
    """Return the style of a cell, by its first word."""
    return (styles or {}).get(cell.partition(":")[0], "")
