"""What `describe` tells."""

from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from registry.config.fields import ConfigField

Status = Literal["ok", "installed", "blocked", "ambiguous", "broken"]


@attrs.frozen
class AdapterInfo:
    """What is known of an installed adapter.

    Args:
        name: The name it was asked for by.
        distribution: The distribution that offers it; several with commas if it is ambiguous.
        version: The version of each.
        target: The target of each, as "module:attribute".
        status: "ok", "blocked", "ambiguous" or "broken"; "installed" if it was not loaded.
        reason: Why it cannot be used; "" if nothing is known against it.
        config_fields: Its options; empty unless it is ok.
    """

    name: str
    distribution: str
    version: str
    target: str
    status: Status
    reason: str = ""
    config_fields: "tuple[ConfigField, ...]" = ()
