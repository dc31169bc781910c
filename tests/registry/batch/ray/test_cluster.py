"""A local cluster of two nodes, one of which is killed in the middle of a run."""

import asyncio
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.batch.ray import stage
from tests.registry.batch.ray.counting import KEY, VARIABLE, CountingEngine
from tests.registry.batch.scripted_pool import ids

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("default"),  # what Ray warns of is not ours
]

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster with one node, on which tests run; they add others."""
    os.environ[VARIABLE] = KEY
    os.environ["PYTHONPATH"] = str(ROOT)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield made
    made.shutdown()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true."""
    while not condition():
        await asyncio.sleep(0.02)


def lost(cluster: Any, node: Any) -> None:
    """Kill a node."""
    cluster.remove_node(node, allow_graceful=False)


def finished(journal: Path) -> set[str]:
    """Return the answers that a journal has."""
    found = set()
    for line in journal.read_bytes().splitlines()[1:] if journal.exists() else ():
        try:
            body = json.loads(line.split(b" ", 3)[3])["response"]["body"]
        except (ValueError, IndexError):
            continue  # torn
        found.add(body["choices"][0]["message"]["content"])
    return found


async def test_a_killed_run_and_a_killed_node(cluster: Any, tmp_path: Path) -> None:
    """A run is killed, resumed, and loses a node: no row is lost, and none is there twice."""
    rows = [f"row {n}" for n in range(3000)]
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"custom_id": r, "prompt": r}) + "\n" for r in rows))
    journal = tmp_path / "out.jsonl.journal"
    async with CountingEngine() as engine:
        workers = tmp_path / "workers.toml"
        workers.write_text(engine.workers())
        command = [sys.executable, "-m", "registry.cli", "batch", "run", str(source)]
        command += ["-o", str(output), "--workers", str(workers), "--ray", cluster.address]

        async def begin() -> Any:
            with (tmp_path / "err.txt").open("wb") as err:
                return await asyncio.create_subprocess_exec(*command, stderr=err, cwd=ROOT)

        node = cluster.add_node(num_cpus=2)
        process = await begin()
        await until(lambda: len(finished(journal)) >= 500 or process.returncode is not None)
        process.kill()
        await process.wait()
        done, asked = finished(journal), engine.asked.copy()
        assert 500 <= len(done) < 2500

        process = await begin()
        await until(lambda: len(finished(journal)) >= 1500 or process.returncode is not None)
        done_later, asked_later = finished(journal), engine.asked.copy()
        assert len(done_later) < 2900, (tmp_path / "err.txt").read_text()
        await asyncio.to_thread(lost, cluster, node)
        assert await process.wait() == 0, (tmp_path / "err.txt").read_text()

        assert ids(output) == rows
        assert finished(journal) == set(rows)
        assert len(journal.read_bytes().splitlines()) == 1 + len(rows)
        assert all(engine.asked[row] == asked[row] for row in done)
        assert all(engine.asked[row] == asked_later[row] for row in done_later)


async def test_a_node_without_the_secret(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of an actor is one line that names the variable, and the status is 2."""
    source, workers = tmp_path / "in.jsonl", tmp_path / "workers.toml"
    source.write_text('{"prompt": "x"}\n')
    monkeypatch.setenv("ONLY_HERE", "k")
    async with CountingEngine() as engine:
        workers.write_text(engine.workers().replace(VARIABLE, "ONLY_HERE"))
        command = [sys.executable, "-m", "registry.cli", "batch", "run", str(source)]
        command += ["--workers", str(workers), "--ray", cluster.address]
        process = await asyncio.create_subprocess_exec(
            *command, stderr=asyncio.subprocess.PIPE, cwd=ROOT
        )
        _, err = await process.communicate()
    assert process.returncode == 2
    assert b"error: the cluster failed: " in err.splitlines()[-1]
    assert err.endswith(b"secrets.api_key: the environment variable ONLY_HERE is not set\n")


async def test_a_stage_loses_a_node(cluster: Any, tmp_path: Path) -> None:
    """A pipeline loses a node: each row is answered once, and what was finished is not asked again.

    The pickled stage has the name of the variable, and neither its value nor the file's comments.
    """
    import ray
    from ray import cloudpickle

    rows = [f"row {n}" for n in range(1200)]
    checkpoints = tmp_path / "checkpoints"

    def done() -> set[str]:
        return set().union(*map(finished, checkpoints.glob("*.journal")))

    async with CountingEngine() as engine:
        workers = tmp_path / "workers.toml"
        workers.write_text(engine.workers())
        answering = stage(workers=workers, actors=2, checkpoints=checkpoints)
        data = cloudpickle.dumps(answering)
        assert VARIABLE.encode() in data
        assert KEY.encode() not in data

        def run() -> list[dict[str, Any]]:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            try:
                dataset = ray.data.from_items([{"prompt": row} for row in rows])
                answered = dataset.repartition(24).map_batches(
                    answering,
                    batch_size=None,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=2, max_concurrent_calls_per_actor=4),
                )
                found: list[dict[str, Any]] = answered.take_all()
                return found
            finally:
                ray.shutdown()

        node = cluster.add_node(num_cpus=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            running = asyncio.create_task(asyncio.to_thread(run))
            await until(lambda: len(done()) >= 300 or running.done())
            before, asked = done(), engine.asked.copy()
            assert len(before) < 1100
            await asyncio.to_thread(lost, cluster, node)
            found = await running
        assert sorted(row["prompt"] for row in found) == sorted(rows)
        assert all(row["answer_text"] == row["prompt"] for row in found)
        assert all(engine.asked[row] == asked[row] for row in before)
