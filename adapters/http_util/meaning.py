"""The meaning of an error: its code in the taxonomy, by its structure first, then its words.

Order of the evidence, from the most to the least reliable:

1. codes and types of the body that name one cause (quota, filter, context, key, model);
2. words that name one of these causes;
3. the HTTP status, or the status that the body names;
4. codes and words that only name a kind (busy, unavailable, invalid).

An unknown word decides nothing: the status does, and without one the error counts
as a failure of the engine. Patterns describe families of wordings, since every engine and gateway
has its own; tests/adapters/http_util/test_meaning.py holds examples of each, and some that look
alike and mean something else.
"""

import re
from collections.abc import Iterable
from functools import cache

from adapter_api import ErrorCode
from adapters.http_util.error_body import ErrorBody

_QUOTA, _FILTER, _OVERFLOW, _AUTH, _MISSING, _BUSY, _AWAY, _INVALID, _RESET = (
    ErrorCode.QUOTA_EXHAUSTED,
    ErrorCode.CONTENT_FILTER,
    ErrorCode.CONTEXT_OVERFLOW,
    ErrorCode.UPSTREAM_AUTH,
    ErrorCode.UPSTREAM_NOT_FOUND,
    ErrorCode.ADMISSION_REJECT,
    ErrorCode.POOL_UNAVAILABLE,
    ErrorCode.INVALID_PARAMS,
    ErrorCode.WORKER_RESET,
)

_BY_STATUS = {
    **dict.fromkeys((401, 403, 407, 511), _AUTH),
    402: _QUOTA,
    **dict.fromkeys((404, 410), _MISSING),
    # 498 is Groq's "flex capacity exceeded", 529 an overloaded site (Anthropic).
    **dict.fromkeys((408, 409, 420, 423, 425, 429, 449, 498, 529), _BUSY),
    # 424 is a failed generation (TGI, Bedrock), 499 a client that a proxy lost.
    **dict.fromkeys((424, 499, 500, 520), _RESET),
    # A feature that is not implemented now will not be on the next try.
    **dict.fromkeys((501, 505, 506, 508, 510), _INVALID),
}

_ANY_REFUSAL = frozenset({None, 400, 403, 404, 409, 413, 422, 424, 500})
"""Statuses with which an error about the key, the model or the request may come: None inside a
stream, 500 from servers that do not tell their failures from the client's."""

_CODES = (
    (_QUOTA, r"insufficient_(\w+_)?(quota|balance|credit|fund)|billing|payment|arrear|overdue"
             r"|budget|spend|(credit|balance)\w*_(low|exhausted|insufficient|depleted)|(no|out_of|not_enough)_"
             r"(credit|balance|fund)|current_quota|quota_(exhausted|depleted|reached)|free_tier_only"),
    (_FILTER, r"content_?(filter|policy|management|moderation|block|safety|violation)|moderation"
              r"|responsible_ai|safety|prohibited_content|data_inspection|flagged|policy_violation"
              r"|guardrail|sensitive|block_?list|prompt_blocked|recitation|jailbreak|(^|_)unsafe_"),
    (_OVERFLOW, r"context_?(length|window|size|limit|overflow)|exceed_context|token_limit_exceeded"
                r"|(prompt|input|sequence|messages?)(_tokens?)?_(is_)?(too_(long|large)|limit"
                r"|length_exceed)"
                r"|max_(prompt|input|context|model)_\w*exceed|max_prompt_tokens|too_many_tokens"
                r"|tokens?_(limit_(reached|exceeded)|too_long)|content_too_(large|long)"),
    (_AUTH, r"authenti|authoriz|unauthor|api_?key|permission|access_denied|unrecognized_client"
            r"|(invalid|expired|bad|missing)_(\w+_)?(token|credential|auth)|token_(invalid|expired)"
            r"|(^|_)no_auth(_|$)"),
    (_MISSING, r"not_found|not_exist|no_such_|unknown_(model|url|endpoint|deployment)|decommission"
               r"|model_(not_(found|exist|known|supported|available)|deprecated|retired)"
               r"|(invalid|unavailable)_model(_(name|id))?$"),
    (_BUSY, r"rate_?limit|too_many_requests|thrott|overload|capacity|resource_exhausted|busy"
            r"|slow_down|concurren|queue_(is_)?full|requests_per|tokens_per|quota_exceeded"
            r"|(^|_)qps(_|$)|^(request_)?limit_exceeded"),
    (_AWAY, r"unavailable|time_?out|deadline_exceeded|gateway|loading|no_healthy|connection"),
    (_INVALID, r"invalid|bad_request|validation|unprocessable|unsupported|not_(supported|implement)"
               r"|unimplemented|failed_precondition|out_of_range|missing_required|malformed|parse"
               r"|tool_use_failed|too_large"),
)  # fmt: skip

_LONG_QUOTA = r"_per_(?:day|week|month)"
"""Google's quotaId. The delay beside it is that of a limit per minute, which does not help."""

_RATES = (
    r"\bper[ -](?:minute|min|hour|day|second|week|month)|\b[TRQ]P[MDS]\b|rate.?limit|please wait"
    r"|\b(?:key|account|team|user|worker|requests?|usage|api|plan)(?: total)? limit\b"
)
_SOON = r"\bper[ -](?:minute|min|hour|second)|/ ?(?:min|minute|sec|second|s|hour)\b|\b[TRQ]P[MS]\b"
"""A limit that is over soon, whatever it is called."""

# A length that a limit is compared with. `max_tokens` is the caller's own number, and "input" alone
# is how a validator calls any field, so neither is enough.
_LENGTH = (
    r"(?:\bcontext(?! (?:deadline|cancel))|prompt|inputs?|sequence|conversation|total|requested?"
    r"|number of(?: input)?|too many|model|messages?|kv)[ _`'-]{0,3}(?:\w{1,12}[ _-]){0,2}"
    r"(?:token(?:s|_ids)?|length|len|size|window|limit|pool|cache|capacity)\b"
    r"|max_(?:seq|model|input|context|total|kv|position|num)\w{0,20}|\bn_ctx\w{0,8}"
    r"|token (?:count|limit)|\binput_ids\b"
)
_CONTEXT = r"\bcontext\b(?! (?:deadline|cancel|manager))"
_MUCH = (
    r"\bexceed(?:s|ed|ing)?\b|\boverflow(?:s|ed|ing)?\b|\btoo (?:long|large|many|big)\b"
    r"|\b(?:longer|larger|greater|bigger|more|higher) than\b|\bnot enough\b|\bcannot fit\b"
    r"|\bdo(?:es)?(?: no|n[o'\u2019])t fit\b|\btoo small\b|\blarge enough\b"
    r"|\b(?:is|window|cache) full\b|\bonly (?:handle|process|accept|hold)"
)
_EXCESS = (
    rf"{_MUCH}|\bover the\b|\bmust (?:be|have) (?:<|less|fewer|at most)"
    r"|\bonly (?:has|have|supports?|allows?|\d+)\b|>=?|\brun(?:s|ning)? out of\b"
    r"|\bwhile (?:the )?limit\b|\bbut (?:the )?(?:max|limit|`?max)|\blimit(?:ed)? (?:is|of|to)\b"
    r"|\breached\b|\bsurpass\w{0,4}\b|\babove\b|\bbeyond\b|\bshould not exceed\b"
)
# TGI's words hold both numbers: the limit for prompt and answer together, and the prompt's tokens.
_COUNTS = r"max_new_tokens` must be <= (\d{1,9})\. given: (\d{1,9}) `inputs` tokens"
_OVERFLOW_WORDS = (
    r"maximum (?:allowed )?(?:context|prompt|input|sequence|model) (?:length|size|window)"
    r"|\b(?:prompt|inputs?|conversation|chat|sequence|history|messages?)(?: \w{1,12}){0,2}"
    r" (?:is|are|was|were)? ?(?:far |much |way )?too (?:long|many tokens|(?:large|big) (?:to|for))"
    r"|(?:\d tokens|\btokens \(\d{1,9}\))[^\n]{0,40}\b(?:max\w{0,5} (?:\w{1,12} )?(?:length|len"
    r"|window)|model (?:only )?(?:supports|allows|accepts|limit))\b"
    # Chinese: the length, the tokens or the context exceed; the input or the context is too long.
    r"|(?:\u957f\u5ea6|tokens?|\u4e0a\u4e0b\u6587)[^\u3002\n]{0,20}(?:\u8d85\u8fc7|\u8d85\u51fa|\u8d85\u9650)"
    r"|(?:prompt|\u8f93\u5165|\u4e0a\u4e0b\u6587|\u63d0\u793a\u8bcd?)[^\u3002\n]{0,12}(?:\u8d85\u957f|\u592a\u957f|\u8fc7\u957f)"
    r"|(?:\u8d85\u8fc7|\u8d85\u51fa)[^\u3002\n]{0,20}(?:\u4e0a\u4e0b\u6587|\u6700\u5927\u957f\u5ea6)"
    r"|(?:\u8f93\u5165|\u4e0a\u4e0b\u6587|\u63d0\u793a\u8bcd?)(?:\u5185\u5bb9)?\u8fc7\u957f"
    r"|\btoo (?:large|long)\b[^\n]{0,80}\bmax\w{0,5} (?:size|length):? \d{1,9} tokens"
    r"|\bmax\w{0,5} length of (?:the |your )?(?:\w{1,12} )?(?:question|query|prompt"
    r"|input|messages?)\b"
    r"|expected maxlength: \d|\b(?:prompt|input|messages?) (?:is )?too large: \d{1,9} tokens"
    rf"|\btokens? in (?:the |your )?(?:prompt|input|messages?)\b[^\n]{{0,40}}?(?:{_MUCH})"
    r"|\b(?:prompt|input)\b[^\n]{0,30}\b\d{1,9} tokens\b[^\n]{0,20}\bmax\w{0,5} \d"
    r"|\b\d{1,9} tokens\b[^\n]{0,30}\bonly ha(?:s|ve) \d"
    r"|\bprompt\b[^\n]{0,12}\+ ?(?:max_tokens|completion)\b[^\n]{0,20}>"
    r"|\bmaximum (?:number of )?tokens exceeded|context(?:length|window)\w*error"
    r"|\bshorten (?:your|the) (?:prompt|input|messages?|conversation)"
    r"|\b(?:prompt|input|conversation|messages?|request)\b[^.]{0,60}\b(?:longer|larger|bigger) than"
    r" (?:what )?(?:the |this |our )?(?:max\w{0,5} )?(?:model|context|deployment)"
    r"|\btoo many (?:input )?tokens in (?:the |your )?(?:prompt|input|request|messages)"
    rf"|(?:{_LENGTH})[^\n]{{0,160}}?(?:{_EXCESS})"
    rf"|(?:{_EXCESS})[^\n]{{0,100}}?(?:{_LENGTH})"
    rf"|{_CONTEXT}[^\n]{{0,160}}?(?:{_MUCH})|(?:{_MUCH})[^\n]{{0,100}}?{_CONTEXT}"
    r"|\binputs?`? must (?:have|be)[^\n]{0,40}tokens|requires \d{1,9} pages"
    r"|reduce the length of (?:the|your) (?:messages|prompt|input)"
    r"|range of input length|(?:prompt|input)\w{0,3} exceeds? (?:the )?max(?:imum)? length"
)
_SUSPENDED = (
    r"\b(?:account|organi[sz]ation|subscription|free tier|trial)\b[^.\n]{0,160}\b"
    r"(?:suspended|paused|exhausted)\b|\bexhausted \w{1,5} free (?:tier|trial)"
)
"""Words about an account that does not come back by itself."""
_URL = r"https?://\S+"
_ALLOWANCE = (
    r"quota|credits|balance|allowance|free (?:tier|trial)|usage (?:\w{1,12} )?limits?"
    r"|spending limit|(?:^|: )key limit"
)
_USED_UP = r"exhausted|used up|depleted|reached|exceeded|consumed|hit (?:your|the)"
# These complain about the number of tokens to generate, not the length of the prompt.
_OTHER_LIMITS = (
    r"\b(?:completion|output|new) tokens\b|max_(?:completion_|new_|output_)?tokens\b|\bimages?\b"
    r"|\bvocab|\bgrammar\b|logit_bias|\btools?\b|\bstop\b|\btop_logprobs\b|\bn\b must"
    r"|temperature|top_[pk]\b|string should"
    r"|input should be"
)
_OWN_LIMIT = r"^\W{0,3}(?:the )?\W?max_(?:\w{1,12}_)?tokens\W? (?:must|should|cannot|can not) be\b"
"""A sentence about max_tokens itself, even if the context is named as the reason."""
_MEDIA = r"\b(?:audio|video|image)s? (?:inputs?|files?|length|duration|is|are)\b"
_SURE = (
    r"context|prompt|\binputs?[` ]|input[ _](?:length|tokens?)|total[ _]tokens|requested tokens"
    r"|sequence length|conversation|\u4e0a\u4e0b\u6587"
)

_WORDS = {
    _QUOTA: (
        r"exceed\w* (?:your|its|their) (?:\w{1,12} ){0,2}(?:quota|budget|spend|credits?)\b"
        r"|\bout of credits?\b"
        r"|(?:does|do|has|have)(?: no|n[o\u2019']t have)(?: any| enough)? (?:remaining )?credits?\b"
        r"|(?:daily|weekly|monthly) (?:\w{1,12} ){0,2}(?:quota|limit|cap|allocation|allowance"
        r"|budget)\b|(?:run|ran) out of (?:\w{1,12} ){0,2}(?:quota|credits?)\b"
        rf"|(?:\bper[ -]|/ ?)(?:day|week|month)\b|\b[TR]PD\b|{_SUSPENDED}"
        rf"|(?:{_ALLOWANCE})\b[^.\n]{{0,50}}?\b(?:{_USED_UP})"
        rf"|(?:{_USED_UP}) [^.\n]{{0,50}}?(?:{_ALLOWANCE})\b"
        r"|(?:subscription|trial|plan) (?:has |is )?expired|no more (?:requests|tokens|credits)\b"
        r"|\bhit your (?!rate|request|token|concurren)(?:\w{1,12} )?limit\b"
        # Chinese: the quota is used up, the day's maximum is reached.
        r"|\u914d\u989d(?:\u5df2|\u4e0d\u8db3|\u8017\u5c3d)"
        r"|(?:\u5f53\u65e5|\u6bcf\u65e5|\u4eca\u65e5|\u5f53\u5929)[^\u3002\n]{0,16}\u4e0a\u9650"
        # Chinese: balance insufficient, in arrears, allowance insufficient or used up.
        r"|\u4f59\u989d\u4e0d\u8db3|\u6b20\u8d39|\u989d\u5ea6(?:\u4e0d\u8db3|\u5df2\u7528|\u7528\u5c3d|\u8017\u5c3d|\u5931\u8d25)|\u4f7f\u7528\u4e0a\u9650"
        r"|insufficient (?:\w{1,12} )?(?:credits?|balance|funds|quota)"
        r"|balance (?:is )?(?:too low|insufficient)|not enough (?:credits?|balance|funds)"
        r"|billing|payment required|top up|recharge"
        r"|(?:spend(?:ing)?|budget|credit) (?:quota|limit|cap)\b|no (?:remaining )?credits?\b"
        r"|quota (?:is |has been |was )?(?:exhausted|used up|exceeded)"
        r"|credits? (?:is |are |have been )?(?:too low|exhausted|used up|depleted)"
        r"|add (?:more |\$?\d{1,6} )?(?:credits?|funds)|in arrears"
    ),
    _FILTER: (
        r"content (?:management )?(?:policy|polic|filter|moderation)|\bflagged\b|\bmoderation\b"
        r"|safety (?:system|filter|polic|setting|reason|check)|inappropriate content|guardrails?\b"
        r"|\bjailbreak|\bnsfw\b|disallowed content|\bpii (?:was )?(?:detected|found)"
        r"|content exists? risk|\brisk(?:y|s)? content|content risk|high[ -]risk\b"
        r"|prohibited (?:content|use)|(?:policy|policies|guidelines?) violation|harmful content"
        r"|violat\w{1,6} [^.]{0,60}(?:polic|guideline)|responsible ai|sensitive (?:content|words?)"
        r"|\b(?:input|output)\b[^.\n]{0,24}[ _](?<!case[ _-])sensitive\b"
        r"|\b(?:content|prompt|input|output)\b[^.\n]{0,20}? blocked\b"
        r"|\bblocked (?:content|prompt|input|output)\b|\bunsafe content"
        r"|prompt injection|^refusal \("
        r"|(?:blocked|refused) [^.\n]{0,40}(?:usage polic|safety|model armor)"
        r"|(?:restricted|banned|prohibited) (?:words?|phrases?|topics?)\b"
        # Chinese: sensitive, not passed by the review, banned, a risk.
        r"|\u654f\u611f|\u5ba1\u6838(?:\u4e0d|\u672a)\u901a\u8fc7|\u8fdd\u7981|\u5b58\u5728\u98ce\u9669"
        r"|\u4e0d\u5b89\u5168|\u8fdd\u89c4"  # unsafe, against the rules
        r"|blocked (?:by|due to|because of) [^.]{0,40}(?:safety|polic|filter|content)"
    ),
    _MISSING: (
        r"\b(?:model|deployment)\b[^.\n]{0,100}?(?:not found|does ?n[o\u2019']t exist|not exist\b"
        r"|(?:identifier|id|name) is invalid|is(?: not|n[\u2019']t) (?:available|known|recogni[sz]"
        r"ed|served|deployed|a valid model)"
        r"|is unknown|no longer (?:available|supported)|not available\b|has been (?:deprecated|"
        r"decommissioned|retired)|is unavailable on)"
        r"|(?:unknown|no such|unrecogni[sz]ed|could ?n[o\u2019']t find|cannot find)(?: the)?"
        r" (?:model|deployment)\b|no (?:model|endpoint)s? (?:named|found|called|matches)"
        r"|not a valid model|\bmodel\b[^.\n]{0,60}not in (?:the )?(?:list|set) of\b"
        r"|invalid model(?: (?:name|id|identifier)|[:'\"`]| ['\"`])"
        r"|(?:unexpected|unknown) (?:endpoint|url|route|path)"
        r"|(?:endpoint|route|path) not found"
        r"|\bno models? (?:is |are )?(?:currently )?loaded"
        r"|\bmodel (?:is|has) not (?:been )?loaded\b(?! yet)"
        r"|\u6a21\u578b[^\u3002\n]{0,20}(?:\u4e0d\u5b58\u5728|\u672a\u627e\u5230|\u5df2\u4e0b\u7ebf)"
    ),
    _AUTH: (
        r"(?:invalid|incorrect|wrong|expired|missing|bad|no|malformed)(?: \w{1,12}){0,2}"
        r" (?:(?:x-)?(?:api|access|auth|authentication|bearer|secret|server)[ _-]?(?:key|token)"
        r"|credentials)"
        r"|authentication (?:failed|required|error|fails)|unauthori[sz]ed|not authori[sz]ed"
        r"|not authenticated"
        r"|(?:api|access)[ _]?(?:key|token)[ _](?:is |was |has )?(?:not valid|invalid|expired"
        r"|missing|required|revoked|incorrect|disabled)|permission denied|access denied"
        r"|\blog ?in fail"
        # Chinese: the token or the key is invalid, wrong or expired; authentication failed.
        r"|(?:token|key|\u4ee4\u724c|\u5bc6\u94a5)[^\u3002\n]{0,4}(?:\u975e\u6cd5"
        r"|\u65e0\u6548|\u9519\u8bef|\u8fc7\u671f)"
        r"|\u65e0\u6548\u7684(?:\u4ee4\u724c|\u5bc6\u94a5)|(?:\u9274\u6743|\u8ba4\u8bc1|\u9a8c\u8bc1)\u5931\u8d25"
    ),
    _BUSY: (
        r"rate.?limit|too many (?:concurrent )?requests|overload|(?:at|over) capacity"
        r"|capacity exceeded|(?:queue|server) is full|queue full|\bbusy\b|throttl"
        r"|(?:no|out of|insufficient)"
        r" (?:free |available )?(?:slots?|capacity)|maximum (?:number of )?concurren"
        r"|try again (?:later|in)|high demand"
        r"|\b(?:requests?|conn\w{0,8}|concurren\w{1,3}|qps) limit"
        r"|\u9650\u9891|\u9650\u6d41|\u5e76\u53d1|\u7e41\u5fd9"
    ),
    _AWAY: (
        r"unavailable|no (?:healthy|available|live|ready) \w{1,20}"
        r"|connection (?:refused|error|reset|closed)|timed? ?out|deadline exceeded"
        r"|\bloading\b|not (?:yet )?ready|bad gateway|starting up"
    ),
    _INVALID: (
        r"\bonly [^.\n]{1,60} (?:is|are) supported"
        r"|not supported|unsupported|does ?n[o\u2019']t support|validation error|failed to parse"
        r"|(?:could|can) ?not (?:be )?pars|invalid (?:request|argument|param|value|input|json"
        r"|type|format|field|image|url|role|message|schema|grammar|tool)|bad request"
        r"|not implemented"
        r"|must be (?:a|an|one|of|at|in|less|greater|between|positive|provided|set|specified)\b"
        r"|missing (?:required )?(?:field|parameter|argument)|is required\b|unexpected (?:field|"
        r"keyword|parameter|argument|role)|unknown (?:field|parameter|argument)|unprocessable"
    ),
}  # fmt: skip

# Words of a crash, which may occur together with the words above.
_CRASH = (
    r"\bcuda\b|out of memory|\boom\b|\bnccl\b|segmentation|traceback|illegal memory|assert|\bhip\b"
    r"|core dumped|worker (?:died|exited)|engine (?:core|process|loop)|broken pipe"
)


def code_for(status: int | None, body: ErrorBody) -> ErrorCode:
    """Return the code for an HTTP status and what the body adds to it.

    Args:
        status: The answer's status; of an error inside a stream, the status that the body names.
        body: What the error says.
    """
    if status is not None and status < 400:
        return ErrorCode.UPSTREAM_PROTOCOL
    if status == 500 and body.status is not None and 400 <= body.status < 500:
        status = body.status  # a gateway reports the refusal of its upstream
    return _specific(status, body) or _general(status, body)


def _specific(status: int | None, body: ErrorBody) -> ErrorCode | None:
    """Return the cause that a body names, or None if it names none that fits the status."""
    named = _by_codes(body.codes)
    if any(_matches(_LONG_QUOTA, code) for code in body.codes):
        return _QUOTA
    if _BUSY in named and body.retry_after_ms is not None:
        # Google and others call a limit per minute a quota, and say when it is over.
        return _BUSY if status in (None, 400, 403, 429, 500, 503) else None
    for code in (_QUOTA, _FILTER, _OVERFLOW):
        if code in named and not (code is _OVERFLOW and _matches(_RATES, body.message)):
            return code
    if status == 402:
        return _QUOTA
    if _is_overflow(body.message):
        return _OVERFLOW
    if _may_refuse(status) and _says(_QUOTA, re.sub(_URL, "", body.message)):
        return _BUSY if _is_over_soon(body, busy=_BUSY in named) else _QUOTA
    if _may_refuse(status) and status not in (401, 402, 429) and _says(_FILTER, body.message):
        return _FILTER
    if status not in _ANY_REFUSAL:
        return None
    for code in (_AUTH, _MISSING):
        if code in named and (status, code) != (404, _AUTH):
            return code
    if _BUSY in named and status != 413:
        return _BUSY
    crashed = status in (None, 500) and _matches(_CRASH, body.message)
    if status in (None, 400, 422, 500) and not crashed:
        return next((code for code in (_MISSING, _AUTH) if _says(code, body.message)), None)
    return None


def _general(status: int | None, body: ErrorBody) -> ErrorCode:
    """Return the code of a status; if that decides nothing, of a kind that the body names."""
    if status not in (None, 500, 503):
        usual = _INVALID if status is not None and status < 500 else _AWAY
        return _BY_STATUS.get(status, usual)
    named = _by_codes(body.codes)
    if status == 503:
        return _BUSY if _BUSY in named or _says(_BUSY, body.message) else _AWAY
    crashed = _matches(_CRASH, body.message)
    if _INVALID in named or (_says(_INVALID, body.message) and not crashed):
        return _INVALID
    if status == 500:
        return _RESET
    for code in (_BUSY, _AWAY):
        if code in named or (_says(code, body.message) and not crashed):
            return code
    return _RESET


def _is_overflow(message: str) -> bool:
    """Return whether a message says that the prompt does not fit the model."""
    counts = _compiled(_COUNTS).search(message)
    if counts is not None and int(counts[2]) < int(counts[1]):
        return False  # the prompt fits; the number of tokens to generate is too large
    if not _matches(_OVERFLOW_WORDS, message):
        return False
    if any(_matches(words, message) for words in (_RATES, _MEDIA, _OWN_LIMIT)):
        return False
    return not _matches(_OTHER_LIMITS, message) or _matches(_SURE, message)


def _is_over_soon(body: ErrorBody, *, busy: bool) -> bool:
    """Return whether a used-up quota is one of a minute, or the server tells when it is over."""
    if body.retry_after_ms is not None or _matches(_SOON, body.message):
        return True
    return busy and not _matches(_SUSPENDED, body.message)


def _may_refuse(status: int | None) -> bool:
    """Return whether an error with this status may be about the account, or about the content."""
    return status in (None, 500) or (
        400 <= status < 500 and status not in (404, 405, 407, 408, 410, 413)
    )


def _by_codes(codes: Iterable[str]) -> frozenset[ErrorCode]:
    """Return what a body's codes name. The first pattern that fits a code decides about it."""
    return frozenset(filter(None, map(_by_code, codes)))


def _by_code(code: str) -> ErrorCode | None:
    return next((found for found, words in _CODES if _matches(words, code)), None)


def _says(code: ErrorCode, message: str) -> bool:
    return _matches(_WORDS[code], message)


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


@cache  # compiled when the first error comes: most processes see none
def _compiled(pattern: str) -> "re.Pattern[str]":
    return re.compile(pattern, re.IGNORECASE)
