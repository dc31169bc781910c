"""Checks for packages that a command needs in addition to the extra `[cli]`."""

from importlib.util import find_spec

from registry.cli.terminal.status import UsageError


def need_gateway() -> None:
    """Check that the packages of the gateway are installed.

    Raises:
        UsageError: If one of them is missing.
    """
    for package in ("starlette", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise UsageError(f"the gateway needs {package}: pip install 'worker-adapters[gateway]'")


def need_otel() -> None:
    """Check that OpenTelemetry's API is installed.

    Raises:
        UsageError: If it is missing.
    """
    if find_spec("opentelemetry") is None:
        raise UsageError("--otel needs opentelemetry: pip install 'worker-adapters[otel]'")
