"""The adapter for OpenAI-compatible servers."""

from adapters.http_util import RetryPolicy
from adapters.openai_http.adapter import OpenAIHttpAdapter
from adapters.openai_http.config import OpenAIHttpConfig
from adapters.openai_http.dialects import DIALECTS, Dialect

__all__ = ["DIALECTS", "Dialect", "OpenAIHttpAdapter", "OpenAIHttpConfig", "RetryPolicy"]
