"""Which field a server refuses, read from the words of its 400 or 422."""

import re
from collections.abc import Iterable

from adapters.http_util import ErrorBody
from adapters.openai_http.wire import REQUIRED_FIELDS

# A field that is refused, as against one whose value is: only the former may be left out.
_REFUSED = re.compile(
    r"unrecogni[sz]ed|unexpected|unknown|unsupported|not supported|does ?n[o']t support"
    r"|not permitted|not allowed|extra[ _](?:inputs?|fields?|forbidden)|no such field"
    r"|invalid (?:argument|field|parameter|key)",
    re.IGNORECASE,
)


def refused_fields(
    status: int, body: ErrorBody, sent: Iterable[str], *, chat: bool
) -> frozenset[str]:
    """The fields that were sent, are refused by name, and may be left out or sent differently.

    Args:
        status: The answer's status.
        body: What it says.
        sent: The names of the request's fields.
        chat: Whether max_tokens has another name to go by (max_completion_tokens).
    """
    if status not in (400, 422) or not _REFUSED.search(f"{body.message} {' '.join(body.codes)}"):
        return frozenset()
    return frozenset(
        name
        for name in sent
        if name not in REQUIRED_FIELDS
        and (chat or name != "max_tokens")
        and (name == body.param or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", body.message))
    )
