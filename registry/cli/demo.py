"""The demo: the real adapter against a toy server, over real HTTP, in one process."""

import asyncio

from rich.console import Console

import registry
from adapter_api import End, Error, Started, TaskRequest, Token
from registry.cli.toy_server import ToyServer

PROMPT = "Tell me about streams you can trust"
TOKENS = 32
DELAY_S = 0.02


async def run_demo() -> int:
    """Stream an answer, then show its frames, its numbers, and what happens to a cut-off one."""
    console = Console(highlight=False)
    async with ToyServer(delay_s=DELAY_S) as server:
        console.print(f"A toy engine (no model, just words) listens at {server.base_url}.")
        console.print(f"registry.get(\"openai-http\", base_url=...) sends it\n{PROMPT!r}:\n")
        async with registry.get("openai-http", base_url=server.base_url) as adapter:
            task = TaskRequest(model="toy", prompt=PROMPT, max_tokens=TOKENS, seed=42)
            kinds: list[str] = []
            async with adapter.submit(task) as stream:
                async for event in stream:
                    kinds.append(type(event).__name__)
                    match event:
                        case Started(engine=engine, engine_version=version):
                            console.print(f"[dim]{engine} {version}[/dim] ", end="")
                        case Token(text=text):
                            console.print(text, end="", soft_wrap=True, markup=False)
                        case End(metrics=metrics, finish_reason=why, proof=proof):
                            console.print("\n")
                            end = (metrics, why, proof)
                        case Error(error=error):
                            console.print(f"\nerror: {error}")
                            return 1
            metrics, why, proof = end
            console.print(f"frames   started, token x {kinds.count('Token')}, end")
            console.print(f"proof    {proof} = {why}: the answer is whole")
            console.print(
                f"metrics  {metrics.tokens_generated} tokens ({metrics.usage_source}'s count), "
                f"first after {metrics.time_to_first_token_ms:.1f} ms, "
                f"all in {metrics.decode_time_ms:.0f} ms"
            )
            health = await adapter.health()
            console.print(f"health   {health.state}, {health.latency_ms:.1f} ms\n")
    console.print("Next: worker-adapters submit 'Hello' --base-url http://localhost:8000")
    console.print("      or write an adapter of your own: docs/tutorial/write-an-adapter.md")
    return 0


def demo() -> int:
    """Run the demo; returns the exit status."""
    return asyncio.run(run_demo())
