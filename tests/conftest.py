"""Settings of the whole suite."""

import gc
import signal

import pytest
from hypothesis import HealthCheck, settings

# Property tests judge results, not how fast the machine is.
settings.register_profile(
    "steady", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

DURATION = "default suite: about 3 minutes on two idle cores; `-m exhaustive`: about 10 more"


def pytest_report_header() -> str:
    """Return how long the run takes."""
    return DURATION


def pytest_configure(config: pytest.Config) -> None:
    """Restore SIGINT where a shell ignores it, as it does for `pytest &` in a script.

    Child processes inherit an ignored signal, and tests interrupt the processes they start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Spare the collector what the imports made: the tests that run it would spend time there."""
    gc.collect()
    gc.freeze()
