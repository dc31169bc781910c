"""Families of wordings: how engines, gateways and clouds name the cause of an error.

tests/adapters/http_util/test_meaning.py holds examples of each, and some that look alike and mean
something else. Each pattern is compiled when the first error comes, and takes linear time.
"""

from adapter_api import ErrorCode

QUOTA, FILTER, OVERFLOW, AUTH, MISSING, BUSY, AWAY, INVALID, RESET = (
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

CODES = (
    (QUOTA, r"insufficient_(\w+_)?(quota|balance|credit|fund)|billing|payment|arrear|overdue"
             r"|budget|spend|(credit|balance)\w*_(low|exhausted|insufficient|depleted)|(no|out_of|not_enough)_"
             r"(credit|balance|fund)|current_quota|quota_(exhausted|depleted|reached)|free_tier_only"),
    (FILTER, r"content_?(filter|policy|management|moderation|block|safety|violation)|moderation"
              r"|responsible_ai|safety|prohibited_content|data_inspection|flagged|policy_violation"
              r"|guardrail|sensitive|block_?list|prompt_blocked|recitation|jailbreak|(^|_)unsafe_"),
    (OVERFLOW, r"context_?(length|window|size|limit|overflow)|exceed_context|token_limit_exceeded"
                r"|(prompt|input|sequence|messages?)(_tokens?)?_(is_)?(too_(long|large)|limit"
                r"|length_exceed)"
                r"|max_(prompt|input|context|model)_\w*exceed|max_prompt_tokens|too_many_tokens"
                r"|tokens?_(limit_(reached|exceeded)|too_long)|content_too_(large|long)"),
    (AUTH, r"authenti|authoriz|unauthor|api_?key|permission|access_denied|unrecognized_client"
            r"|(invalid|expired|bad|missing)_(\w+_)?(token|credential|auth)|token_(invalid|expired)"
            r"|(^|_)no_auth(_|$)"),
    (MISSING, r"not_found|not_exist|no_such_|unknown_(model|url|endpoint|deployment)|decommission"
               r"|model_(not_(found|exist|known|supported|available)|deprecated|retired)"
               r"|(invalid|unavailable)_model(_(name|id))?$"),
    (BUSY, r"rate_?limit|too_many_requests|thrott|overload|capacity|resource_exhausted|busy"
            r"|slow_down|concurren|queue_(is_)?full|requests_per|tokens_per|quota_exceeded"
            r"|(^|_)qps(_|$)|^(request_)?limit_exceeded"),
    (AWAY, r"unavailable|time_?out|deadline_exceeded|gateway|loading|no_healthy|connection"),
    (INVALID, r"invalid|bad_request|validation|unprocessable|unsupported|not_(supported|implement)"
               r"|unimplemented|failed_precondition|out_of_range|missing_required|malformed|parse"
               r"|tool_use_failed|too_large"),
)  # fmt: skip

LONG = (
    r"\b(?:(?:dai|week|month|year)ly|annual)\b"
    r"|(?:\bper[ -]|\ba |\bevery |/ ?)(?:calendar )?(?:day|week|month|year)\b"
    r"|\b(?:24|48|72)[ -]?h(?:ou)?rs?\b|\b\d{1,3}[ -](?:day|week|month)s?\b|\b[TR]P[DW]\b"
    r"|\btoday\b|\btomorrow\b"
    r"|\bfor the (?:day|week|month)\b|\bthis (?:billing )?(?:week|month|cycle|period)\b"
    r"|\bmidnight\b"
    # Chinese: a day, today, a week, a month.
    r"|[\u5f53\u6bcf\u4eca\u5355]\u65e5|[\u5f53\u6bcf\u4eca]\u5929|[\u672c\u6bcf\u5f53](?:\u5468|\u6708)"
)
"""A limit of a day or longer, which is not over when a request is repeated after seconds."""
LIMITED = (
    r"limit|quota|\bcap\b|too many|exceed|reached|\bused\b|\bhit\b|allowed|allocat|allowance"
    # Chinese: over, limit, used up.
    r"|\u8d85|\u9650|\u7528\u5b8c"
)
"""Words about a limit, without which a day is only when something happens."""
OFFER = r"\b(?:upgrad|subscri|purchas|switch to|sign up|contact)\w{0,4}\b[^.\n]{0,200}"
"""Words about what else can be had, such as a monthly plan."""
LONG_CODE = r"(?:^|_)(?:(?:dai|week|month)ly|day|week|month|[rt]pd|24_?h(?:ours)?)(?:_|$)"

LONG_QUOTA = r"_per_(?:day|week|month)"
"""Google's quotaId. The delay beside it is that of a limit per minute, which does not help."""

RATES = (
    r"\bper[ -](?:minute|min|hour|day|second|week|month)|\b[TRQ]P[MDS]\b|rate.?limit|please wait"
    r"|\b(?:key|account|team|user|worker|requests?|usage|api|plan)(?: total)? limit\b"
)
SOON = r"\bper[ -](?:minute|min|hour|second)|/ ?(?:min|minute|sec|second|s|hour)\b|\b[TRQ]P[MS]\b"
"""A limit that is over soon, whatever it is called."""

# A length that a limit is compared with. `max_tokens` is the caller's own number, and "input" alone
# is how a validator calls any field, so neither is enough.
_LENGTH = (
    r"(?:\bcontext(?! (?:deadline|cancel))|prompt|inputs?|sequence|conversation|total|requested?"
    r"|number of(?: input)?|too many|model|messages?|kv)[ _`'-]{0,3}(?:\w{1,12}[ _-]){0,2}"
    r"(?:token(?:s|_ids)?|length|len|size|window|limit|pool|cache|capacity)\b"
    r"|max_(?:seq|model|input|context|total|kv|position|num)\w{0,20}|\bn(?:um)?_ctx\w{0,8}"
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
COUNTS = r"max_new_tokens` must be <= (\d{1,9})\. given: (\d{1,9}) `inputs` tokens"
OVERFLOW_WORDS = (
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
    rf"|\btokens? in (?:the |your )?(?:prompt|input|messages?|request)\b[^\n]{{0,40}}?(?:{_MUCH})"
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
SUSPENDED = (
    r"\b(?:account|organi[sz]ation|subscription|free tier|trial)\b[^.\n]{0,160}\b"
    r"(?:suspended|paused|exhausted)\b|\bexhausted \w{1,5} free (?:tier|trial)"
)
"""Words about an account that does not come back by itself."""
URL = r"https?://\S+"
_ALLOWANCE = (
    r"quota|credits|balance|allowance|(?:token|request|usage|daily|monthly) allocation"
    r"|(?<!memory )(?<!thinking )(?<!reasoning )(?<!time )(?<!latency )\bbudget"
    r"|free (?:tier|trial)|usage (?:\w{1,12} )?limits?|spending limit|(?:^|: )key limit"
)
_USED_UP = r"exhausted|used up|depleted|reached|exceeded|consumed|hit (?:your|the)"
# These complain about the number of tokens to generate, not the length of the prompt.
OTHER_LIMITS = (
    r"\b(?:completion|output|new) tokens\b|max_(?:completion_|new_|output_)?tokens\b|\bimages?\b"
    r"|\bvocab|\bgrammar\b|logit_bias|\btools?\b|\bstop\b|\btop_logprobs\b|\bn\b must"
    r"|temperature|top_[pk]\b|string should"
    r"|input should be"
)
OWN_LIMIT = r"^\W{0,3}(?:the )?\W?max_(?:\w{1,12}_)?tokens\W? (?:must|should|cannot|can not) be\b"
"""A sentence about max_tokens itself, even if the context is named as the reason."""
MEDIA = r"\b(?:audio|video|image)s? (?:inputs?|files?|length|duration|is|are)\b"
SURE = (
    r"context|prompt|\binputs?[` ]|input[ _](?:length|tokens?)|total[ _]tokens|requested tokens"
    r"|sequence length|conversation|\u4e0a\u4e0b\u6587"
)

WORDS = {
    QUOTA: (
        r"exceed\w* (?:your|its|their) (?:\w{1,12} ){0,2}(?:quota|budget|spend|credits?)\b"
        r"|\bout of credits?\b|\bexceeded_?budget"
        r"|(?:does|do|has|have)(?: no|n[o\u2019']t have)(?: any| enough)? (?:remaining )?credits?\b"
        r"|(?:daily|weekly|monthly) (?:\w{1,12} ){0,2}(?:quota|limit|cap|allocation|allowance"
        r"|budget)\b|(?:run|ran) out of (?:\w{1,12} ){0,2}(?:quota|credits?)\b"
        rf"|(?:\bper[ -]|/ ?)(?:day|week|month)\b|\b[TR]PD\b|{SUSPENDED}"
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
    FILTER: (
        r"content (?:management )?(?:policy|polic|filter|moderation)|\bflagged\b|\bmoderation\b"
        r"|safety (?:system|filter|polic|setting|reason|check|classif)|nudity|guardrails?\b"
        r"|inappropriate content"
        r"|\bjailbreak|\bnsfw\b|disallowed content|\bpii (?:was )?(?:detected|found)"
        r"|content exists? risk|\brisk(?:y|s)? content|content risk|high[ -]risk\b"
        r"|prohibited (?:content|use)|(?:policy|policies|guidelines?) violation|harmful content"
        r"|violat\w{1,6} [^.]{0,60}(?:polic|guideline)|responsible ai|sensitive (?:content|words?)"
        r"|\b(?:input|output)\b[^.\n]{0,24}[ _](?<!case[ _-])sensitive\b"
        r"|\b(?:content|prompt|input|output)\b[^.\n]{0,20}? blocked\b"
        r"|\bblocked (?:content|prompt|input|output)\b|\bunsafe content"
        r"|\b(?:content|prompt|input|output|response|answer) (?:was|is|has been) filtered\b"
        r"|prompt injection|^refusal \("
        r"|(?:blocked|refused) [^.\n]{0,40}(?:usage polic|safety|model armor)"
        r"|(?:restricted|banned|prohibited) (?:words?|phrases?|topics?)\b"
        # Chinese: sensitive, not passed by the review, banned, a risk.
        r"|\u654f\u611f|\u5ba1\u6838(?:\u4e0d|\u672a)\u901a\u8fc7|\u8fdd\u7981|\u5b58\u5728\u98ce\u9669"
        r"|\u4e0d\u5b89\u5168|\u8fdd\u89c4"  # unsafe, against the rules
        r"|blocked (?:by|due to|because of) [^.]{0,40}(?:safety|polic|filter|content)"
    ),
    MISSING: (
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
    AUTH: (
        r"(?:invalid|incorrect|wrong|expired|missing|bad|no|malformed)(?: \w{1,12}){0,2}"
        r" (?:(?:x-)?(?:api|access|auth|authentication|bearer|secret|server)[ _-]?(?:key|token)"
        r"|credentials)"
        r"|authentication (?:failed|required|error|fails)|unauthori[sz]ed|not authori[sz]ed"
        r"|not authenticated"
        r"|(?:api|access|auth|authentication|bearer|security|session)[ _]?(?:key|token)"
        r"(?: (?:included|provided) in the request)?[ _](?:is |was |has |has been )?(?:not valid"
        r"|invalid|expired|missing|required|revoked|incorrect|disabled)|permission denied"
        r"|access denied"
        r"|\blog ?in fail"
        # Chinese: the token or the key is invalid, wrong or expired; authentication failed.
        r"|(?:token|key|\u4ee4\u724c|\u5bc6\u94a5)[^\u3002\n]{0,4}(?:\u975e\u6cd5"
        r"|\u65e0\u6548|\u9519\u8bef|\u8fc7\u671f)"
        r"|\u65e0\u6548\u7684(?:\u4ee4\u724c|\u5bc6\u94a5)|(?:\u9274\u6743|\u8ba4\u8bc1|\u9a8c\u8bc1)\u5931\u8d25"
    ),
    BUSY: (
        r"rate.?limit|too many (?:concurrent )?requests|overload|(?:at|over) capacity"
        r"|capacity exceeded|(?:queue|server) is full|queue(?: \w{1,12}){0,2} (?:full|exceeded)"
        r"|\bbusy\b|throttl"
        r"|(?:no|out of|insufficient)"
        r" (?:free |available )?(?:slots?|capacity)|maximum (?:number of )?concurren"
        r"|try again (?:later|in)|high demand"
        r"|\b(?:requests?|conn\w{0,8}|concurren\w{1,3}|qps) limit"
        r"|\u9650\u9891|\u9650\u6d41|\u5e76\u53d1|\u7e41\u5fd9"
    ),
    AWAY: (
        r"unavailable|no (?:healthy|available|live|ready) \w{1,20}"
        r"|no (?:\w{1,12} )?(?:workers?|backends?|replicas?|instances?|servers?|upstreams?|nodes?"
        r"|providers?) (?:is |are )?(?:available|ready|alive|healthy|online|up)\b"
        r"|connection (?:refused|error|reset|closed)|timed? ?out|deadline exceeded"
        r"|\bloading\b|not (?:yet )?ready|bad gateway|starting up"
    ),
    INVALID: (
        r"\bonly [^.\n]{1,60} (?:is|are) supported"
        r"|not supported|unsupported|does ?n[o\u2019']t support|validation error|failed to parse"
        r"|(?:could|can) ?not (?:be )?pars|invalid (?:request|argument|param|value|input|json"
        r"|type|format|field|image|url|role|message|schema|grammar|tool)|bad request"
        r"|not implemented"
        r"|must be (?:a|an|one|of|at|in|less|greater|between|non|positive|provided|set|specified)\b"
        r"|\broles? must\b|template ?error|cannot unmarshal"
        r"|missing (?:required )?(?:field|parameter|argument)|is required\b|unexpected (?:field|"
        r"keyword|parameter|argument|role)|unknown (?:field|parameter|argument)|unprocessable"
    ),
}  # fmt: skip

# Words with which a gateway refuses for now, whatever the status.
RATE_HIT = (
    r"rate.?limit(?:ed\b|(?: \w{1,12}){0,2} (?:exceeded|reached|hit)\b)|too many requests"
    r"|\b(?:exceeded|reached|hit) (?:\w{1,12} ){0,3}rate.?limit"
)

# Words of a crash, which may occur together with the words above.
CRASH = (
    r"\bcuda\b|out of memory|\boom\b|\bnccl\b|segmentation|traceback|illegal memory|assert|\bhip\b"
    r"|core dumped|unsupported operand|worker (?:died|exited)|engine (?:core|process|loop)"
    r"|broken pipe"
)
