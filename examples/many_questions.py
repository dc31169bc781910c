"""Ask many questions at once, with a bound, and count how they ended."""

import asyncio
import sys
from collections import Counter

import registry
from adapter_api import TaskRequest, WorkerError
from registry.observers import MetricsObserver

URL = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"
AT_ONCE = 4


async def main() -> None:
    metrics, room = MetricsObserver(), asyncio.Semaphore(AT_ONCE)
    adapters = registry.Registry(observers=[metrics])
    async with adapters.get("openai-http", base_url=URL) as adapter:

        async def ask(number: int) -> str:
            async with room:
                try:
                    task = TaskRequest(prompt=f"Question {number}", max_tokens=5, deadline_s=60)
                    await adapter.submit(task).text()
                except WorkerError as error:
                    return error.code
                return "ok"

        outcomes = Counter(await asyncio.gather(*map(ask, range(12))))
    print(dict(outcomes))
    print(metrics.snapshot().total.tokens_out, "tokens")


asyncio.run(main())
