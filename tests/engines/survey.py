"""Ask running servers everything `worker-adapters probe` asks, and print one markdown table.

    python -m tests.engines.survey vllm=http://127.0.0.1:8000 llama=http://127.0.0.1:8080

A key is taken from ORCHD_OPENAI_API_KEY, the model from ORCHD_SURVEY_MODEL (`tiny` if not set). How
the servers in docs/reference/servers.md were started, with MODEL a GGUF file or a directory in
Hugging Face's format:

    vllm serve MODEL --served-model-name tiny --max-model-len 2048
    llama-server -m MODEL --alias tiny -c 4096 -np 2
    python -m llama_cpp.server --model MODEL --model_alias tiny
    transformers serve MODEL --device cpu
    litellm --config CONFIG     # model_name tiny -> text-completion-openai/tiny at one of the above
"""

import asyncio
import os
import sys

import registry
from registry.cli.commands.probe import Fact, Probe


async def survey(servers: dict[str, str]) -> dict[str, list[Fact]]:
    """The facts of each server, by its name."""
    key = os.environ.get("ORCHD_OPENAI_API_KEY")
    model = os.environ.get("ORCHD_SURVEY_MODEL", "tiny")
    found: dict[str, list[Fact]] = {}
    for name, url in servers.items():
        adapter = registry.get("openai-http", base_url=url, api_key=key)
        found[name] = [fact async for fact in Probe(adapter, model).facts()]
    return found


def table(found: dict[str, list[Fact]]) -> str:
    """The facts as a markdown table, a column for each server."""
    names = list(found)
    rows = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for facts in zip(*found.values(), strict=True):
        cells = " | ".join(fact.result.replace("|", "\\|") for fact in facts)
        rows.append(f"| {facts[0].name} | {cells} |")
    return "\n".join(rows)


if __name__ == "__main__":
    servers = dict(argument.split("=", 1) for argument in sys.argv[1:])
    print(table(asyncio.run(survey(servers))))
