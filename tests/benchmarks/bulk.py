"""`python -m tests.benchmarks.bulk`: rows of one-token answers, CPU for each, in one run.

Four ways against the same loopback engine: a bulk run with its journal; the openai package behind
an asyncio semaphore; what `vllm bench serve` does with aiohttp; Ray Data's HTTP request processor.
With each round they take turns, and the least of the rounds counts. Ray's processes all count, but
not what starting them takes: its cost is that of many rows without that of few. Needs the extras
`[bench]` and `[ray]`.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tests.benchmarks.clients import Client, OnText, Product
from tests.benchmarks.peers import Aiohttp, OpenAISDK
from tests.benchmarks.server import loopback_server

AT_ONCE = 64
ROWS = 2_000
FEW, MANY = 500, 8_500
RAY, RAY_STAGE = "Ray Data's HTTP processor", "worker-adapters on Ray Data"
FOLLOW_S = 0.2
"""How often the processes are looked at: what one uses after that, and ends, is not counted."""

TICKS = os.sysconf("SC_CLK_TCK")


class VllmBench(Aiohttp):
    """A request as `vllm bench serve` sends it: streamed, each chunk decoded and timed."""

    name = "vllm bench serve"

    async def stream(self, on_text: OnText) -> None:
        body = {
            "model": "bench",
            "prompt": "x",
            "temperature": 0.0,
            "max_tokens": 1,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        times = [time.perf_counter()]
        headers = {"Authorization": "Bearer x", "Content-Type": "application/json"}
        async with self._session.post(self._url, json=body, headers=headers) as response:
            rest = b""
            async for piece in response.content.iter_any():
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    if (text := event.decode().removeprefix("data: ")) != "[DONE]":
                        times.append(time.perf_counter())
                        for choice in json.loads(text)["choices"]:
                            if choice["text"]:
                                on_text(choice["text"])


async def _rows(client: Client, base: str) -> float:
    """Return the CPU of a row, in microseconds."""
    await client.start(f"{base}/1/1/0")
    try:
        await client.rows(AT_ONCE, AT_ONCE)
        began = time.process_time()
        texts = await client.rows(ROWS, AT_ONCE)
        spent = time.process_time() - began
    finally:
        await client.aclose()
    assert texts == texts[:1] * ROWS, "each row has the same answer"
    return spent / ROWS * 1e6


# Ray


def _family_cpu_s() -> dict[int, float]:
    """Return the CPU of this process and all below it, by process."""
    children: dict[int, list[int]] = defaultdict(list)
    spent = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        pid = int(stat.parent.name)
        children[int(fields[1])].append(pid)
        spent[pid] = (int(fields[11]) + int(fields[12])) / TICKS
    family = [os.getpid()]
    for pid in family:
        family += children[pid]
    return {pid: spent[pid] for pid in family if pid in spent}


@contextmanager
def _family_cpu() -> Iterator[Callable[[], float]]:
    """CPU seconds of this process and all below it since it was entered, ended ones included."""
    before = _family_cpu_s()
    latest = dict(before)
    over = Event()

    def follow() -> None:
        while not over.wait(FOLLOW_S):
            latest.update(_family_cpu_s())

    thread = Thread(target=follow)
    thread.start()

    def spent() -> float:
        over.set()
        thread.join()
        latest.update(_family_cpu_s())
        return sum(latest.values()) - sum(before.values())

    yield spent


def _http_processor(base: str) -> Any:
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    body = {"model": "bench", "prompt": "x", "max_tokens": 1}
    config = HttpRequestProcessorConfig(
        url=f"{base}/v1/completions", concurrency=1, batch_size=AT_ONCE
    )
    return build_processor(
        config,
        preprocess=lambda row: {"payload": body},
        postprocess=lambda row: {"text": row["http_response"]["choices"][0]["text"]},
    )


def _stage(_: str) -> Any:
    import ray

    from registry.batch import Limits, Mapped
    from registry.batch.ray import stage

    answering = stage(
        mapped=Mapped(prompt_column="id", chat=False),
        fields={"model": "bench", "max_tokens": 1},
        limits=Limits(max_in_flight=AT_ONCE),
    )
    return lambda dataset: dataset.map_batches(
        answering,
        batch_size=AT_ONCE,
        batch_format="pyarrow",
        num_cpus=0.25,
        compute=ray.data.ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=4),
    )


def _on_ray(way: str, base: str) -> float:
    """Return the CPU of a row, in microseconds, over all processes of Ray."""
    import ray

    os.environ["ORCHD_OPENAI_URL"] = f"{base}/1/1/0"  # of the actors
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    process = (_stage if way == RAY_STAGE else _http_processor)(f"{base}/1/1/0")
    spent = []
    for rows in (FEW, FEW, MANY):  # the first warms up
        with _family_cpu() as total:
            assert process(ray.data.range(rows, override_num_blocks=1)).count() == rows
            spent.append(total())
    ray.shutdown()
    return (spent[2] - spent[1]) / (MANY - FEW) * 1e6


def _in_process(way: str, base: str) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.bulk", "--one", way, "--base", base]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bulk", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    options = parser.parse_args()
    clients = {client.name: client for client in (Product, OpenAISDK, VllmBench)}
    if options.one:
        if options.one in clients:
            print(asyncio.run(_rows(clients[options.one](), options.base)))
        else:
            print(_on_ray(options.one, options.base))
        return
    ways = [*clients] + ([] if options.without_ray else [RAY, RAY_STAGE])
    least: dict[str, float] = dict.fromkeys(ways, float("inf"))
    with loopback_server() as base:
        for _ in range(options.rounds):
            for way in ways:
                least[way] = min(least[way], _in_process(way, base))
    ours = least[Product.name]
    for way, cpu_us in least.items():
        print(f"{way:30} {cpu_us:8.0f} us of CPU a row   {cpu_us / ours:6.2f} times ours")


if __name__ == "__main__":
    main()
