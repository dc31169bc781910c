"""Characters outside the basic plane that a server cuts in two.

JSON writes such a character as a pair of surrogates. Some servers send one half in one event and
the other half in the next, which no encoder accepts.
"""

_HIGH = ("\ud800", "\udbff")


class Halves:
    """Holds the first half of a pair until the next piece of the same channel.

    Attributes:
        held: The halves that are held, by channel.
    """

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: dict[object, str] = {}

    def join(self, channel: object, text: str) -> str:
        """Return `text` as it can be encoded, with the half that was held before it.

        A half without its other half becomes a replacement character.
        """
        if not text or (not self.held and _is_whole(text)):
            return text
        text = self.held.pop(channel, "") + text
        if _HIGH[0] <= text[-1] <= _HIGH[1]:
            self.held[channel] = text[-1]
            text = text[:-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def rest(self, channel: object) -> str:
        """Return what is left of a channel at its end: a replacement character, or nothing."""
        return "\ufffd" if self.held.pop(channel, "") else ""


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
