"""OpenAI's names for the parts of an answer, however a server spells them. No I/O.

Gateways written in Java or C# send `toolCalls` and `FinishReason`. If another spelling were treated
as unknown, its content would be lost: a call, or the proof that the answer is whole.
"""

from typing import Any

_KNOWN = (
    # of a chunk
    *("choices", "system_fingerprint", "prompt_filter_results", "service_tier"),
    *("usage", "model", "id", "error"),
    # of a choice
    *("index", "delta", "message", "text", "finish_reason", "stop_reason", "logprobs"),
    *("native_finish_reason", "content_filter_results", "content_filter_result"),
    *("finish_details", "stop_details", "incomplete_details", "safety_ratings"),
    # of a delta or a message
    *("role", "content", "refusal", "audio", "images", "tool_calls", "tool_call"),
    *("function_call", "provider_specific_fields"),
    *("reasoning_content", "reasoning", "reasoning_text", "reasoning_details", "thinking"),
    *("reasoning_summary", "thinking_content", "thinking_blocks", "thought", "thoughts"),
    # of a call
    *("tool_call_id", "type", "function", "custom", "name", "arguments", "input"),
    # of the usage
    *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"),
    *("prompt_tokens_details", "completion_tokens_details", "cached_tokens"),
    "reasoning_tokens",
)
_BY_LETTERS = {name.replace("_", ""): name for name in _KNOWN}


def plain(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of an answer with OpenAI's names in OpenAI's spelling.

    Other names are unchanged: they may have to go back to the server. Of two spellings of one name,
    the non-empty one counts.
    """
    renamed = {name: known for name in part if (known := _usual(name)) != name}
    if not renamed:
        return part
    found = {name: value for name, value in part.items() if name not in renamed}
    for name, known in renamed.items():
        if not found.get(known):
            found[known] = part[name]
    return found


def _usual(name: str) -> str:
    return _BY_LETTERS.get(name.replace("_", "").replace("-", "").lower(), name)
