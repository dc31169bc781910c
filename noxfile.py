"""`nox`: the test suite on every supported Python, and the checks."""

import nox

nox.options.default_venv_backend = "venv"


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """The default suite."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def checks(session: nox.Session) -> None:
    """Linters and types."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def engine(session: nox.Session) -> None:
    """The suite against a real llama.cpp server; compiling it takes some minutes."""
    session.install("-e", ".[engine]")
    session.run("pytest", "-m", "engine", *session.posargs)
