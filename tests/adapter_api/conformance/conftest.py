"""The adapters that are examined."""

from collections.abc import Callable
from typing import Any

import pytest

from adapter_api.conformance import Subject
from registry import Registry
from tests.adapter_api.conformance.examine import WRONG


@pytest.fixture
def subject_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Subject]:
    """Makes the subject of an adapter, those of tests/distributions/wrong_adapters included."""
    monkeypatch.syspath_prepend(WRONG)
    registry = Registry()

    def make(name: str, options: dict[str, Any] | None = None, **more: Any) -> Subject:
        return Subject(lambda **other: registry.get(name, {**(options or {}), **other}), **more)

    return make
