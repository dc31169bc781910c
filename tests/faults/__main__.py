"""`python -m tests.faults [PORT]`: serve the scenarios until interrupted, for any client."""

import asyncio
import sys

from tests.faults.server import FaultServer


async def _serve(port: int) -> None:
    async with FaultServer(port=port) as server:
        print(f"serving at {server.base_url}/<scenario>", flush=True)
        for scenario in server.scenarios.values():
            print(f"  {scenario.name}: {scenario.summary}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
    except KeyboardInterrupt:
        sys.exit(0)
