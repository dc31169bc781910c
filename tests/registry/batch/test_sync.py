"""Bulk runs in a program without an event loop."""

import signal
import threading
import time
from pathlib import Path

import pytest

import registry.sync
from registry import AdapterHost, BoundAdapter
from registry.batch import BatchError, Plan, sync
from registry.sync import SyncHost
from tests.registry.batch.scripted_pool import ScriptedEngine, ids, tasks


def blocking_host(engine: ScriptedEngine) -> SyncHost:
    """Return a blocking host whose pool "default" has the engine."""

    def make() -> AdapterHost:
        host = AdapterHost()
        host.bind("default", "r0", BoundAdapter(engine, name="scripted"))
        return host

    return registry.sync.host(make)


def test_tasks_run_and_resume(tmp_path: Path) -> None:
    """A script runs tasks without asyncio; the same call again sends nothing."""
    engine = ScriptedEngine()
    names = []
    with blocking_host(engine) as host:
        for _ in range(2):
            summary = sync.run(
                tasks(20),
                host,
                output=tmp_path / "out.jsonl",
                on_result=lambda name, result: names.append(name),
            )
            assert (summary.answered, summary.failed) == (20, 0)
    assert sorted(names, key=int) == ids(tmp_path / "out.jsonl") == [str(n) for n in range(20)]
    assert engine.asked.total() == 20


def test_an_input_file_runs(tmp_path: Path) -> None:
    """A plan runs without asyncio, too, and its errors are raised in the calling thread."""
    plan = Plan(input=tmp_path / "in.csv", output=tmp_path / "out.jsonl")
    with blocking_host(ScriptedEngine()) as host:
        with pytest.raises(BatchError, match="cannot be read"):
            sync.run_plan(plan, host)
        plan.input.write_text("prompt\na\nb\n")
        assert sync.run_plan(plan, host).rows == 2


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    """KeyboardInterrupt cancels the run; once the host is closed, the results are written."""
    engine = ScriptedEngine(answer_s=0.05, slots=2)
    output = tmp_path / "out.jsonl"

    def interrupt() -> None:
        while engine.asked.total() < 10:
            time.sleep(0.005)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt), blocking_host(engine) as host:
        sync.run(tasks(1000), host, output=output)
    thread.join()
    assert engine.running == 0
    assert 5 <= len(ids(output)) < 1000
