"""Adapter classes for the tests of the contract check."""

import attrs

from adapter_api import hookimpl
from registry.plugins.contract import (
    contract_problems,
)


@attrs.frozen
class Options:
    """The config of the adapters here."""


@attrs.define(eq=False)
class Good:
    """An adapter with nothing wrong; the others change it in one place."""

    config: Options

    @hookimpl
    async def submit(self, task):
        yield task

    @hookimpl
    async def health(self):
        return None


def only_problem(cls: object) -> str:
    """The one problem of `cls`."""
    problems = contract_problems(cls)
    assert len(problems) == 1, problems
    return problems[0]
