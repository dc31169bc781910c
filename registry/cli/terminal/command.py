"""Command: the definition that every module in `commands` has."""

from collections.abc import Callable

import attrs

Action = Callable[[], int]
"""The work of a command once its arguments are understood; returns the exit status."""


@attrs.frozen
class Command:
    """One command of `worker-adapters`.

    Args:
        name: The word that users type.
        function: Takes the command's options, as typer declares them, and returns an Action.
            The first line of its docstring is the command's description.
        examples: Commands that the help shows.
        subcommands: Commands that are typed behind this one's name. Without one of them the
            function runs.
    """

    name: str
    function: Callable[..., Action]
    examples: tuple[str, ...] = ()
    subcommands: "tuple[Command, ...]" = ()
