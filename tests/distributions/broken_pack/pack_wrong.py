"""An adapter with several problems."""


class WrongAdapter:
    """It has no config class, and its only hook is misspelt and undecorated."""

    async def sumbit(self, task: object) -> None:
        """Meant to be submit."""
