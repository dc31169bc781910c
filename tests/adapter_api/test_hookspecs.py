"""WorkerAdapter is one contract for type checkers and for pluggy (ADAPT-3000)."""

import inspect
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pluggy
import pytest

from adapter_api import (
    API_VERSION,
    PROJECT,
    CancelHook,
    End,
    EngineProps,
    HealthState,
    HealthStatus,
    LifecycleHooks,
    Metrics,
    PropertyHooks,
    Started,
    TaskRequest,
    TokenEvent,
    TokenStream,
    WorkerAdapter,
    hookimpl,
)
from adapter_api.hookspecs import ADAPTER_HOOKS

HOOKS = {
    "submit": ["task"],
    "health": [],
    "start": [],
    "aclose": [],
    "cancel": ["job_id"],
    "props": [],
    "engine_version": [],
}


@attrs.define(eq=False)
class Whole:
    """Every hook, as a third party writes them."""

    config: None = None
    calls: list[str] = attrs.Factory(list)

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(task.job_id, "toy", "1")
        yield End(Metrics(0), "stop", "finish_reason")

    @hookimpl
    async def health(self) -> HealthStatus:
        return HealthStatus(HealthState.HEALTHY)

    @hookimpl
    async def start(self) -> None:
        self.calls.append("start")

    @hookimpl
    async def aclose(self) -> None:
        self.calls.append("aclose")

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        return job_id == "known"

    @hookimpl
    async def props(self) -> EngineProps:
        return EngineProps("toy")

    @hookimpl
    async def engine_version(self) -> str:
        return "1"


def _manager(*plugins: object) -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    for hooks in ADAPTER_HOOKS:
        manager.add_hookspecs(hooks)
    for plugin in plugins:
        manager.register(plugin)
    manager.check_pending()
    return manager


def test_the_hooks_are_those_of_the_contract() -> None:
    """Names and arguments are public; each hook is answered by one adapter (firstresult), and says
    what it is for."""
    hook: Any = _manager().hook
    for name, arguments in HOOKS.items():
        spec = getattr(hook, name).spec
        assert list(spec.argnames) == arguments
        assert spec.opts["firstresult"] is True
    specs = {n: v for hooks in ADAPTER_HOOKS for n, v in vars(hooks).items()}
    named = {name: spec for name, spec in specs.items() if hasattr(spec, f"{PROJECT}_spec")}
    assert named.keys() == HOOKS.keys()
    assert all(map(inspect.getdoc, named.values()))
    assert (PROJECT, API_VERSION) == ("worker_adapters", 1)


async def test_one_class_serves_the_type_checker_and_pluggy() -> None:
    """A class with every hook is a WorkerAdapter to mypy, and pluggy calls it by the same names."""
    adapter = Whole()
    required: WorkerAdapter = adapter
    optional: tuple[LifecycleHooks, CancelHook, PropertyHooks] = (adapter, adapter, adapter)
    assert {required, *optional} == {adapter}
    hook: Any = _manager(adapter).hook
    task = TaskRequest(prompt="x", job_id="j")
    assert await TokenStream(hook.submit(task=task), task).text() == ""
    assert (await hook.health()).live
    assert await hook.cancel(job_id="known") is True
    assert await hook.cancel(job_id="other") is False
    assert (await hook.props()).engine == "toy"
    assert await adapter.engine_version() == "1"
    await hook.start()
    await hook.aclose()
    assert adapter.calls == ["start", "aclose"]


async def test_hooks_are_called_with_the_names_given_here() -> None:
    """pluggy refuses an adapter that names an argument otherwise."""

    class Misnamed:
        @hookimpl
        async def cancel(self, job: str) -> bool:
            return False

    with pytest.raises(pluggy.PluginValidationError, match="job"):
        _manager(Misnamed())


async def test_middleware_wraps_the_same_hooks() -> None:
    """A wrapper sees what the adapter gives, and may give something else."""

    class Upper:
        @hookimpl(wrapper=True)
        def engine_version(self) -> Any:
            version = yield
            return f"wrapped {version!r:.10}"

    hook: Any = _manager(_Versioned(), Upper()).hook
    assert hook.engine_version() == "wrapped '7'"


class _Versioned:
    @hookimpl
    def engine_version(self) -> str:
        return "7"
