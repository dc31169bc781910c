"""`nox`: the test suite on every supported Python, and the checks."""

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["checks", "tests"]


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the default suite."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def checks(session: nox.Session) -> None:
    """Run linters and type checkers."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("basedpyright")


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the default suite and report what it does not reach."""
    session.install("-e", ".[test]")
    session.run("pytest", "--cov", "--cov-report=term:skip-covered", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation as a site, in build/site, and add it to the versions in build/docs.

    A broken page or reference fails.
    """
    session.install(".[docs]")
    session.run("zensical", "build", "--strict")
    session.run("python", ".ci/site", "build/docs")


@nox.session
def exhaustive(session: nox.Session) -> None:
    """Run every case of what the default suite samples."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "exhaustive", *session.posargs)


@nox.session
@nox.parametrize("suite", ["engine", "clients", "browser", "ray", "frozen"])
def suites(session: nox.Session, suite: str) -> None:
    """Run a suite that needs more than Python: the extra of the same name brings it."""
    session.install("-e", f".[test,{suite}]")
    session.run("pytest", "-m", suite, *session.posargs)
