"""Print an answer as it comes, and what it took."""

import asyncio
import sys

import registry
from adapter_api import End, TaskRequest, Token, WorkerError

URL = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"


async def main() -> None:
    task = TaskRequest(prompt="Tell me about streams.", max_tokens=40, deadline_s=60)
    async with registry.get("openai-http", base_url=URL) as adapter:
        try:
            async with adapter.submit(task) as stream:
                async for event in stream:
                    if isinstance(event, Token):
                        print(event.text, end="", flush=True)
                    elif isinstance(event, End):
                        print(f"\n[{event.metrics.tokens_generated} tokens, {event.finish_reason}]")
        except WorkerError as error:
            sys.exit(f"\nnot the whole answer: {error}")


asyncio.run(main())
