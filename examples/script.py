"""Ask one question from a script, without asyncio."""

import sys

import registry
from adapter_api import TaskRequest

URL = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"

with registry.sync.get("openai-http", base_url=URL) as adapter:
    answer = adapter.submit(TaskRequest(prompt="Hello!", max_tokens=40)).answer()
    print(answer.text)
    print(adapter.health().state)
