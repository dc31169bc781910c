"""The nearest name."""

from registry.near import nearest


def test_nearest_ignores_case():
    """Only spelling decides, and what comes back is spelt as the choice is."""
    assert nearest("openai_HTTP", ["mock", "OpenAI-http"]) == "OpenAI-http"


def test_nothing_near():
    """A word unlike any choice has no nearest."""
    assert nearest("zebra", ["mock"]) is None
    assert nearest("zebra", []) is None
