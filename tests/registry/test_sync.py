"""The blocking front: one loop thread for all, interruptible, honest after a fork."""

import asyncio
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import registry
from adapter_api import Cancelled, End, HealthState, Started, TaskRequest, Token, WorkerError
from adapter_api.adapter import Adapter
from registry import Registry, sync
from registry.host import AdapterHost
from registry.sync import SyncAdapter
from tests.witness import Recorder
from tests.word_server import WordServer

WORDS = {"tokens": ["one ", "two ", "three"]}


def _task(**fields: Any) -> TaskRequest:
    return TaskRequest(**{"prompt": "hi", **fields})


def _loop_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "portal" in thread.name]


def test_each_way_to_read() -> None:
    """Events, tokens, text and answer are those of the stream, without an event loop."""
    with registry.sync.get("mock", WORDS) as adapter:
        kinds = [type(event) for event in adapter.submit(_task())]
        assert kinds == [Started, Token, Token, Token, End]
        assert [token.text for token in adapter.submit(_task()).tokens()] == WORDS["tokens"]
        assert adapter.submit(_task()).text() == "one two three"
        assert adapter.submit(_task()).answer().text == "one two three"
        frames = list(adapter.submit(_task()).frames())
        assert [frame["type"] for frame in frames] == ["started", *["token"] * 3, "end"]
        assert adapter.health().state is HealthState.HEALTHY
        assert adapter.engine_version() == adapter.props().engine_version == "1.0"
        assert not adapter.cancel("unknown")
    assert _loop_threads() == []


def test_a_failure_raises_where_it_is_read() -> None:
    """A job that fails after a Token raises from tokens, and never passes for a whole answer."""
    with registry.sync.get(
        "mock", {**WORDS, "error_code": "WORKER_RESET", "error_after": 1}
    ) as adapter:
        tokens = adapter.submit(_task()).tokens()
        assert next(tokens).text == "one "
        with pytest.raises(WorkerError) as caught:
            next(tokens)
        assert caught.value.code == "WORKER_RESET"
        with pytest.raises(WorkerError):
            adapter.submit(_task()).text()


@pytest.mark.parametrize(("after", "kinds"), [(0, []), (1, ["started", "token"])])
def test_a_failure_is_the_last_frame(after: int, kinds: list[str]) -> None:
    """Frames never raise: before Started and after a Token, the error is a frame."""
    options = {**WORDS, "error_code": "WORKER_RESET", "error_after": after}
    with registry.sync.get("mock", options) as adapter:
        frames = list(adapter.submit(_task()).frames())
    assert [frame["type"] for frame in frames] == [*kinds, "error"]
    assert frames[-1]["code"] == "WORKER_RESET"


def test_several_threads_share_one_loop() -> None:
    """Fronts made and used in many threads run in one loop thread, which ends with the last."""
    with registry.sync.get("mock", WORDS) as outer:

        def work(number: int) -> str:
            with sync.get("mock", WORDS) as own:
                assert len(_loop_threads()) == 1
                return outer.submit(_task()).text() + own.submit(_task()).text()

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(work, range(40))) == {"one two threeone two three"}
    assert _loop_threads() == []


async def test_in_a_thread_with_a_running_loop() -> None:
    """A notebook's main thread runs a loop; the blocking front works beside it."""
    assert asyncio.get_running_loop().is_running()
    with registry.sync.get("mock", WORDS) as adapter:
        assert adapter.submit(_task()).text() == "one two three"


def test_cancel_from_another_thread() -> None:
    """No Token comes after cancel returns; the reader gets Cancelled (ORCH-3026)."""
    with registry.sync.get("mock", {"delay_s": 60}) as adapter:
        stream = adapter.submit(_task())
        assert isinstance(next(stream), Started)
        cancelling = threading.Timer(0.05, adapter.cancel, [stream.job_id])
        cancelling.start()
        with pytest.raises(Cancelled):
            list(stream.tokens())
        cancelling.join()


def test_an_interruption_cancels_the_job() -> None:
    """Ctrl-C while a read waits ends the job, and the front works on (ORCH-3026)."""
    recorder = Recorder()
    with sync.wrap(Registry(observers=[recorder]).get("mock", {"delay_s": 60})) as adapter:
        stream = adapter.submit(_task())
        next(stream)
        main = threading.main_thread().ident
        assert main is not None
        timer = threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGINT])
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                next(stream)
        finally:
            timer.join()
            signal.signal(signal.SIGINT, before)
        assert recorder.outcomes() == ["job_cancelled"]
        with pytest.raises(Cancelled):
            next(stream)
        assert adapter.health().state is HealthState.HEALTHY


def test_tokens_read_by_another_thread_are_dropped_by_a_cancel() -> None:
    """No Token comes after the acknowledgement, although a thread had read some (ORCH-3024)."""
    with registry.sync.get("mock", {**WORDS, "delay_s": 0.0}) as adapter:
        stream = adapter.submit(_task())
        assert isinstance(next(stream), Started)
        real = stream._lease

        class Lease:
            """Cancels between the read of some Tokens and their delivery."""

            def wait(self, function: Any, *args: Any) -> Any:
                events = real.wait(function, *args)
                stream._lease = real
                assert isinstance(events[0], Token)
                assert stream.cancel()
                return events

        stream._lease = Lease()  # type: ignore[assignment]
        with pytest.raises(Cancelled):
            while True:
                assert not isinstance(next(stream), Token)


def test_leaving_a_loop_early_ends_the_job() -> None:
    """A `break` in tokens() closes the connection at once."""
    recorder = Recorder()
    with sync.wrap(Registry(observers=[recorder]).get("mock", WORDS)) as adapter:
        for _ in adapter.submit(_task()).tokens():
            break
        assert recorder.outcomes() == ["job_cancelled"]


def test_a_closed_front_says_so() -> None:
    """Using it afterwards is an error that says what to do; closing again is none."""
    adapter = registry.sync.get("mock", WORDS)
    adapter.close()
    with pytest.raises(RuntimeError, match="this adapter is closed: make a new one"):
        adapter.health()
    with registry.sync.get("mock", WORDS) as adapter:
        stream = adapter.submit(_task())
    adapter.close()
    with pytest.raises(RuntimeError, match="is closed"):
        stream.text()


def test_after_a_fork_it_is_refused(fresh_python) -> None:
    """A front of the parent is refused in the child, where a new one works."""
    code = """
        import os, registry, warnings
        from adapter_api import TaskRequest
        warnings.simplefilter("ignore", DeprecationWarning)
        with registry.sync.get("mock", {"tokens": ["x"]}) as adapter:
            adapter.health()
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                said = []
                for call in (adapter.health, adapter.close):
                    try:
                        call()
                    except RuntimeError as error:
                        said.append("made before a fork" in str(error))
                with registry.sync.get("mock", {"tokens": ["y"]}) as own:
                    said.append(own.submit(TaskRequest(prompt="x")).text())
                os.write(write, repr(said).encode())
                os._exit(0)
            os.waitpid(child, 0)
            print(os.read(read, 100).decode(), adapter.submit(TaskRequest(prompt="x")).text())
    """
    assert fresh_python(code) == "[True, True, 'y'] x"


def test_a_forked_child_ends_in_the_usual_way(fresh_python) -> None:
    """It does not wait at its exit for the loop thread, which only its parent has."""
    code = """
        import os, registry, sys, warnings
        from adapter_api import TaskRequest
        warnings.simplefilter("ignore", DeprecationWarning)
        adapter = registry.sync.get("mock", {"tokens": ["x"]})
        stream = adapter.submit(TaskRequest(prompt="x"))
        next(stream)
        child = os.fork()
        if child == 0:
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        adapter.close()
    """
    assert fresh_python(code) == "3"


def test_a_host_for_blocking_use() -> None:
    """Pools, jobs, cancels and changes of a host, without an event loop (ORCH-3056)."""
    found = Registry()
    with sync.host(AdapterHost) as host:
        host.call(lambda made: made.bind("chat", "r1", found.get("mock", WORDS)))
        assert host.submit("chat", _task()).text() == "one two three"
        with host.pool("chat") as pool:
            assert pool.submit(_task()).text() == "one two three"
        assert host.pool("chat").health().state is HealthState.HEALTHY
        assert not host.cancel("chat", "unknown")
        (pool,) = host.host.snapshot().pools
        assert pool.pool_id == "chat"
    assert _loop_threads() == []


def test_over_a_real_connection() -> None:
    """Streaming, keep-alive and closing work through the loop thread."""
    ready, over = threading.Event(), threading.Event()
    where: list[str] = []

    async def serve() -> None:
        async with WordServer() as server:
            where.append(server.base_url)
            ready.set()
            while not over.is_set():
                await asyncio.sleep(0.005)

    serving = threading.Thread(target=asyncio.run, args=(serve(),))
    serving.start()
    try:
        assert ready.wait(10)
        with registry.sync.get("openai-http", base_url=where[0]) as adapter:
            texts = {adapter.submit(_task(max_tokens=5)).text() for _ in range(3)}
            assert len(texts) == 1
            assert texts != {""}
    finally:
        over.set()
        serving.join()


def test_the_adapter_inside_is_an_adapter() -> None:
    """A SyncAdapter wraps every object with the caller's protocol."""
    front: SyncAdapter[Any] = registry.sync.get("mock", WORDS)
    inner: Adapter = front.adapter
    assert front.adapter is inner
    front.close()


def test_the_loop_thread_ends_although_closing_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C while `close` waits still gives the thread back."""
    adapter = registry.sync.get("mock", WORDS)
    assert adapter.submit(_task()).text()

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("registry.loop_thread._wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adapter.close()
    assert _loop_threads() == []
    with pytest.raises(RuntimeError, match="closed"):
        adapter.submit(_task()).text()
