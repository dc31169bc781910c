"""How a replica is bound to its pool, and the names by which its model is asked for."""

from typing import Any

import attrs

from adapter_api.validators import integer, number
from registry.adapter import BoundAdapter


@attrs.frozen(kw_only=True)
class ReplicaSettings:
    """What a host is told about a replica beside its adapter.

    Args:
        limit: The maximum number of streams; None: the engine's own, or the policy's.
        weight: Its share of the load compared with the other replicas.
        priority: Replicas with a higher number get work only where none with a lower has room.
        model: The engine's own name of its model: sent where a task names none, or an alias.
        aliases: Other names by which tasks may ask for that model.

    Raises:
        ValueError: If the limit is below 1, or the weight not above 0.
    """

    limit: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    weight: float = attrs.field(default=1.0, validator=number(above=0))
    priority: int = 0
    model: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name, for what takes them one by one."""
        return {field.name: getattr(self, field.name) for field in attrs.fields(ReplicaSettings)}


@attrs.frozen
class Binding(ReplicaSettings):
    """An adapter and the settings with which it is bound; these are given by name.

    Args:
        adapter: The adapter, from a registry or made by hand.
    """

    adapter: BoundAdapter | object

    def model_for(self, model: str | None) -> str | None:
        """Return the engine's name of the model that a task requests."""
        return self.model if model is None or model in self.aliases else model


def is_other_model(sent: str | None, answered: str | None) -> bool:
    """Return whether an answer names a model other than the requested one.

    A dated or tagged form of the name is the same model ("gpt-4o-2024-08-06", "llama3:latest").
    """
    if not sent or not answered:
        return False
    asked, said = _bare(sent), _bare(answered)
    return not (asked.startswith(said) or said.startswith(asked))


def _bare(model: str) -> str:
    """Return a model's name without its folder, its file's ending and its case."""
    return model.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".gguf").lower()
