"""The fields that a server refuses, read from the words of its 400 or 422."""

import re
from collections.abc import Collection

from adapters.http_util import ErrorBody
from adapters.openai_http.request import DROPPABLE_FIELDS

# Not compiled here: few servers refuse anything, and compiling would make every import slower.
_REFUSED = (
    r"(?i)unrecogni[sz]ed|unexpected|unknown|unsupported|not supported|does ?n[o']t support"
    r"|not permitted|not allowed|extra[ _](?:inputs?|fields?|forbidden)|no such field"
    r"|invalid (?:argument|field|parameter|key)"
)

# A field whose value is refused may not be left out: the engine would use a value of its own.
_VALUE = (
    r"(?i)(?:unsupported|invalid|unknown|unexpected)[ _](?:value|type)|\bvalues?\b|must be"
    r"|should be|at (?:most|least)|between|(?:greater|less|larger|smaller) than"
    r"|maximum|minimum|out of range"
)

_SENTENCE_END = r"[.!?;]\s+"


def refused_fields(
    status: int, body: ErrorBody, sent: Collection[str], *, chat: bool
) -> frozenset[str]:
    """Return the fields that the server refuses by name, and that may be left out or renamed.

    A field that can change the meaning of the answer is never among them.

    Args:
        status: The answer's status.
        body: The refusal.
        sent: The names of the request's fields.
        chat: Whether max_tokens can be sent as max_completion_tokens.
    """
    codes = " ".join(body.codes)
    if status not in (400, 422) or re.search(_VALUE, codes):
        return frozenset()
    by_code = re.search(_REFUSED, codes) is not None
    # Only the sentence with the refusal counts: the next one may list the allowed fields.
    refusals = [
        sentence
        for sentence in re.split(_SENTENCE_END, body.message)
        if (by_code or re.search(_REFUSED, sentence)) and not re.search(_VALUE, sentence)
    ]
    if refusals and body.param is not None and body.param in sent:
        refusals = [body.param]
    return frozenset(
        name
        for name in sent
        if (name in DROPPABLE_FIELDS or (chat and name == "max_tokens"))
        and any(_has_word(name, text) for text in refusals)
    )


def _has_word(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
