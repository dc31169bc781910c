"""Put a broken engine and a working one behind one name, and see a job move."""

import asyncio
import sys

import registry
from adapter_api import TaskRequest

URL = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"


async def main() -> None:
    async with registry.AdapterHost() as host:
        host.bind("chat", "broken", registry.get("mock", {"error_code": "WORKER_RESET"}))
        host.bind("chat", "working", registry.get("openai-http", base_url=URL))
        await host.check("chat")
        for number in range(4):
            task = TaskRequest(prompt=f"Question {number}", max_tokens=10)
            print(await host.submit("chat", task).text())
            print(host.explain(task.job_id))


asyncio.run(main())
