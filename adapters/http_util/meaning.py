"""The meaning of an error: its code in the taxonomy, by its structure first, then its words.

Order of the evidence, from the most to the least reliable:

1. codes and types of the body that name one cause (quota, filter, context, key, model);
2. words that name one of these causes;
3. the HTTP status, or the status that the body names;
4. codes and words that only name a kind (busy, unavailable, invalid).

Unknown words decide nothing: then the status decides, and without one the error counts as a failure
of the engine. wordings.py holds the families of wordings, because every engine and gateway has its
own.
"""

import re
from collections.abc import Iterable
from functools import cache

from adapter_api import ErrorCode
from adapters.http_util.error_body import ErrorBody
from adapters.http_util.wordings import (
    AUTH,
    AWAY,
    BUSY,
    CODES,
    COUNTS,
    CRASH,
    FILTER,
    INVALID,
    LIMITED,
    LONG,
    LONG_CODE,
    LONG_QUOTA,
    MEDIA,
    MISSING,
    OFFER,
    OTHER_LIMITS,
    OVERFLOW,
    OVERFLOW_WORDS,
    OWN_LIMIT,
    QUOTA,
    RATE_HIT,
    RATES,
    RESET,
    SOON,
    SURE,
    SUSPENDED,
    URL,
    WORDS,
)

_BY_STATUS = {
    **dict.fromkeys((401, 403, 407, 511), AUTH),
    402: QUOTA,
    **dict.fromkeys((404, 410), MISSING),
    # 498 is Groq's "flex capacity exceeded", 529 an overloaded site (Anthropic).
    **dict.fromkeys((408, 409, 420, 423, 425, 429, 449, 498, 529), BUSY),
    # 424 is a failed generation (TGI, Bedrock), 499 a client that a proxy lost.
    **dict.fromkeys((424, 499, 500, 520), RESET),
    # A feature that is not implemented now will not be on the next try.
    **dict.fromkeys((501, 505, 506, 508, 510), INVALID),
}

_ANY_REFUSAL = frozenset({None, 400, 403, 404, 409, 413, 422, 424, 500})
"""Statuses that may accompany an error about the key, the model or the request: None inside a
stream, 500 from servers that do not distinguish their own failures from the client's."""


def code_for(status: int | None, body: ErrorBody, *, delayed: bool = False) -> ErrorCode:
    """Return the code for an HTTP status and an error body.

    Args:
        status: The answer's status; of an error inside a stream, the status that the body names.
        body: The content of the error.
        delayed: The headers request a delay.
    """
    if status is not None and status < 400:
        return ErrorCode.UPSTREAM_PROTOCOL
    if status == 500 and body.status is not None and 400 <= body.status < 500:
        status = body.status  # a gateway reports the refusal of its upstream
    return _specific(status, body, delayed=delayed) or _general(status, body)


def _specific(status: int | None, body: ErrorBody, *, delayed: bool) -> ErrorCode | None:
    """Return the cause that a body names, or None if it names none that fits the status."""
    named = _by_codes(body.codes)
    if any(_matches(LONG_QUOTA, code) for code in body.codes):
        return QUOTA
    if BUSY in named and body.retry_after_ms is not None:
        # Google and others call a limit per minute a quota, and report when it is over.
        return BUSY if status in (None, 400, 403, 429, 500, 503) else None
    for code in (QUOTA, FILTER, OVERFLOW):
        if code in named and not (code is OVERFLOW and _matches(RATES, body.message)):
            return code
    if status == 402:
        return QUOTA
    if _is_overflow(body.message):
        return OVERFLOW
    if _may_refuse(status):
        limit = _limit(status, body, busy=BUSY in named, delayed=delayed)
        if limit is not None:
            return limit
    if _may_refuse(status) and status not in (401, 402, 429) and _says(FILTER, body.message):
        return FILTER
    if status not in _ANY_REFUSAL:
        return None
    for code in (AUTH, MISSING):
        if code in named and (status, code) != (404, AUTH):
            return code
    if BUSY in named and status != 413:
        return BUSY
    crashed = status in (None, 500) and _matches(CRASH, body.message)
    if status in (400, 403, 422, 500) and _matches(RATE_HIT, body.message):
        return BUSY
    if status in (None, 400, 422, 500) and not crashed:
        return next((code for code in (MISSING, AUTH) if _says(code, body.message)), None)
    return None


def _general(status: int | None, body: ErrorBody) -> ErrorCode:
    """Return the code of a status; if that decides nothing, of a kind that the body names."""
    if status not in (None, 500, 503):
        usual = INVALID if status is not None and status < 500 else AWAY
        return _BY_STATUS.get(status, usual)
    named = _by_codes(body.codes)
    if status == 503:
        return BUSY if BUSY in named or _says(BUSY, body.message) else AWAY
    crashed = _matches(CRASH, body.message)
    if INVALID in named or (_says(INVALID, body.message) and not crashed):
        return INVALID
    if status == 500:
        return RESET
    for code in (BUSY, AWAY):
        if code in named or (_says(code, body.message) and not crashed):
            return code
    return RESET


def _is_overflow(message: str) -> bool:
    """Return whether a message means that the prompt does not fit the model."""
    counts = _compiled(COUNTS).search(message)
    if counts is not None and int(counts[2]) < int(counts[1]):
        return False  # the prompt fits; the number of tokens to generate is too large
    if not _matches(OVERFLOW_WORDS, message):
        return False
    if any(_matches(words, message) for words in (RATES, MEDIA, OWN_LIMIT)):
        return False
    return not _matches(OTHER_LIMITS, message) or _matches(SURE, message)


def _limit(status: int | None, body: ErrorBody, *, busy: bool, delayed: bool) -> ErrorCode | None:
    """Return whether a limit that is reached is over soon (BUSY) or not (QUOTA).

    None if the words name neither a quota nor a limit of a day or longer.
    """
    words = re.sub(URL, "", body.message)
    said = re.sub(OFFER, "", words, flags=re.IGNORECASE)
    by_code = any(_matches(LONG_CODE, code) for code in body.codes)
    is_long = by_code or (_matches(LONG, said) and _matches(LIMITED, said))
    is_limit = busy or status == 429 or _says(BUSY, words)
    if not (_says(QUOTA, words) or (is_limit and is_long)):
        return None
    if body.retry_after_ms is not None or _matches(SOON, words) or (delayed and is_long):
        return BUSY
    return BUSY if busy and not is_long and not _matches(SUSPENDED, words) else QUOTA


def _may_refuse(status: int | None) -> bool:
    """Return whether an error with this status may be about the account, or about the content."""
    return status in (None, 500) or (
        400 <= status < 500 and status not in (404, 405, 407, 408, 410, 413)
    )


def _by_codes(codes: Iterable[str]) -> frozenset[ErrorCode]:
    """Return the cause that a body's codes name. For each code the first matching pattern
    counts."""
    return frozenset(filter(None, map(_by_code, codes)))


def _by_code(code: str) -> ErrorCode | None:
    return next((found for found, words in CODES if _matches(words, code)), None)


def _says(code: ErrorCode, message: str) -> bool:
    return _matches(WORDS[code], message)


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


@cache  # compiled when the first error comes: most processes see none
def _compiled(pattern: str) -> "re.Pattern[str]":
    return re.compile(pattern, re.IGNORECASE)
