"""Output for terminals, shown to a file that claims to be one."""

import io
import sys

import pytest

from adapter_api import HealthState, HealthStatus
from adapter_api.events import End, Metrics
from registry.cli.commands.health import health_rows
from registry.cli.terminal.output import summary
from registry.cli.terminal.show import console, show_rows


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        """It says so."""
        return True


def test_rows_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table has its columns' names, and cells are shown as they are, but for what is harmful."""
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    show_rows(("a", "b"), [("[bold]x[/bold]", "y\x1b[2J\nz")], {"[bold]x[/bold]": "red"})
    shown = out.getvalue()
    assert "[bold]x[/bold]" in shown
    assert "y\ufffd[2J; z" in shown


def test_rows_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """A row is a line and a cell has no tab, whatever is in it."""
    show_rows(("a", "b"), [("x\ty", "1\n2"), ("", "z")])
    assert capsys.readouterr().out == "x y\t1 2\n\tz\n"


def test_a_closed_pipe_is_for_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich does not end the process in its own way."""

    class Closed(Terminal):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        console().print("x")


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (
            End(Metrics(10, 2, 12.4, 200.0, "engine"), "stop", "finish_reason"),
            "10 tokens · first after 12 ms · 50 tokens/s · finish_reason stop",
        ),
        (End(Metrics(0), None, "done"), "0 tokens (counted) · finish_reason unknown"),
    ],
)
def test_the_numbers_of_a_job(end: End, line: str) -> None:
    """Known facts are on the line, unknown ones are left out."""
    assert summary(end) == line


def test_health_has_a_row_for_all_that_is_known() -> None:
    """Unknown facts have no row."""
    least = HealthStatus(HealthState.UNHEALTHY)
    most = HealthStatus(HealthState.HEALTHY, "well", latency_ms=1.0, model_listed=False)
    assert [name for name, _ in health_rows(least)] == ["state", "live", "ready"]
    assert dict(health_rows(most)) == {
        "state": "healthy",
        "message": "well",
        "live": "yes",
        "ready": "yes",
        "model listed": "no",
        "took": "1.0 ms",
    }
