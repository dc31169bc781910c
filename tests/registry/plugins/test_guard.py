"""Whatever a plugin raises, and wherever, is an error that names it; nothing else is disturbed."""

import pickle
from typing import Any

import pytest

from adapter_api import AdapterLoadError, ConfigError
from registry import Registry

EXITS = "raise SystemExit('its text')"

HEAD = f"""
import attrs
from adapter_api import End, HealthState, HealthStatus, Metrics, Started, hookimpl

def exits(*_): {EXITS}

class Odd:
    def __repr__(self): {EXITS}

class OddError(Exception):
    def __str__(self): {EXITS}

class Dir(type):
    def __dir__(cls): {EXITS}

class Attribute(type):
    def __getattribute__(cls, name):
        if name == "Config": {EXITS}
        return super().__getattribute__(name)
"""

HOOKS = """
    @hookimpl
    async def submit(self, task):
        yield Started(task.job_id, "made", "1")
        yield End(Metrics(0), "stop", "finish_reason")

    @hookimpl
    async def health(self):
        return HealthStatus(HealthState.HEALTHY)
"""


def adapter(option: str = "size: int = 1", body: str = "") -> str:
    """A module with an adapter that has this option and these members besides the hooks."""
    return f"""{HEAD}
@attrs.frozen
class Config:
    {option}

class Adapter:
    Config = Config
    def __init__(self, config): self.config = config
    {body}
{HOOKS}"""


BROKEN = {
    "raise GeneratorExit": "importing made_it raised GeneratorExit",
    f"{HEAD}raise OddError": "importing made_it raised OddError, which cannot be shown",
    f"{HEAD}Adapter = Odd().inner": "importing made_it raised AttributeError",
    f"{HEAD}class Adapter(metaclass=Dir): ...": "checking it raised SystemExit: its text",
    f"{HEAD}class Adapter(metaclass=Attribute): ...": "checking it raised SystemExit: its text",
    adapter("size: int = attrs.field(default=1, converter=exits)"): "making its config raised Sys",
    adapter("size: int = attrs.field(default=1, validator=exits)"): "making its config raised Sys",
    adapter("size: int = attrs.field(factory=exits)"): "making its config raised SystemExit",
    adapter(
        body="def __new__(cls, config): return None"
    ): "returned a NoneType: let __new__ return",
    adapter(
        body="def __new__(cls, config): return 5"
    ): "returned a int: let __new__ return an object",
    adapter(body="def __new__(cls, config): raise OddError"): "raised OddError, which cannot be",
    adapter(body="def __dir__(self): exits()"): "binding it raised SystemExit: its text",
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.items(), ids=list(BROKEN.values()))
def test_whatever_it_raises_is_a_load_error(site: Any, source: str, reason: str) -> None:
    """The error names adapter, distribution, version and target, survives pickling, and the plugin
    beside it works."""
    site.install("made", "a = made_it:Adapter", {"made_it.py": source}, version="3.1")
    site.install("good", "b = made_good:Adapter", {"made_good.py": adapter()})
    registry = Registry()
    with pytest.raises(AdapterLoadError) as caught:
        registry.get("a", {})
    error = caught.value
    assert reason in error.reason
    assert (error.name, error.distribution, error.version) == ("a", "made", "3.1")
    assert error.target == "made_it:Adapter"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert registry.get("b").name == "b"


def test_a_default_that_cannot_be_shown(site: Any) -> None:
    """Describing is guarded too: the status is broken, with who it is."""
    site.install("made", "a = made_it:Adapter", {"made_it.py": adapter("size: object = Odd()")})
    info = Registry().describe("a")
    assert info.status == "broken"
    assert "from made 1.0" in info.reason
    assert "describing its options raised SystemExit: its text" in info.reason


def test_an_object_that_cannot_be_shown(site: Any) -> None:
    """An object whose repr fails is named by its type."""
    source = f"{HEAD}Holder = Odd()"
    site.install("made", "a = made_it:Holder.inner", {"made_it.py": source})
    with pytest.raises(AdapterLoadError, match="an object of Odd has no inner"):
        Registry().get("a")


def test_a_secret_that_code_of_the_config_says(site: Any) -> None:
    """Given values may be secrets, so only the exception's type is shown."""
    source = adapter("key: str = attrs.field(default='', converter=says)").replace(
        "def exits", "def says(key): raise SystemExit(f'bad {key}')\ndef exits"
    )
    site.install("made", "a = made_it:Adapter", {"made_it.py": source})
    with pytest.raises(AdapterLoadError, match="making its config raised SystemExit$") as caught:
        Registry().get("a", key="hunter2")
    assert "hunter2" not in repr([caught.value.__cause__, caught.value.__context__])


def test_an_option_that_is_refused_stays_a_config_error(site: Any) -> None:
    """Exceptions of converters, validators and factories are about the options."""
    source = adapter("size: int = attrs.field(default=1, converter=int)")
    site.install("made", "a = made_it:Adapter", {"made_it.py": source})
    with pytest.raises(ConfigError, match=r"\$\.size"):
        Registry().get("a", size="x")


@pytest.mark.parametrize("place", ["__dir__", "__repr__", "__str__"])
def test_the_users_interruption_passes(site: Any, place: str) -> None:
    """Ctrl-C is the user's, wherever it strikes."""
    source = {
        "__dir__": f"{HEAD}class Adapter(metaclass=Dir): ...",
        "__repr__": adapter("size: object = Odd()"),
        "__str__": f"{HEAD}raise OddError",
    }[place].replace("SystemExit('its text')", "KeyboardInterrupt")
    site.install("made", "a = made_it:Adapter", {"made_it.py": source})
    with pytest.raises(KeyboardInterrupt):
        Registry().describe("a")
