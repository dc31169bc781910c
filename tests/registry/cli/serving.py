"""A run of `worker-adapters serve`."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Start = Callable[..., "subprocess.Popen[str]"]
Frame = dict[str, Any]


def workers(*urls: str, head: str = "") -> str:
    """Return a workers file with a replica of pool p at each of these addresses."""
    tables = [
        f'[[replicas]]\npool = "p"\nreplica = "r{number}"\nadapter = "openai-http"\n'
        f'options = {{ base_url = "{url}" }}\n'
        for number, url in enumerate(urls)
    ]
    return head + "\n".join(tables)


class Serving:
    """A run of `serve`."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        self.folder = folder
        self.state = folder / "state"
        self._in, self._out = process.stdin, process.stdout
        self._heard = ""

    def say(self, line: object) -> None:
        self._in.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
        self._in.flush()

    def frame(self) -> Frame:
        line = self._out.readline()
        assert line, self.process.communicate()[1]
        return json.loads(line)

    def frames(self, job_id: str) -> list[Frame]:
        """The frames of a job up to its last one; those of others are skipped."""
        found = []
        while not found or found[-1]["type"] not in ("end", "error"):
            frame = self.frame()
            if frame["job_id"] == job_id:
                found.append(frame)
        return found

    def frames_until(self, condition: Callable[[Frame], bool]) -> list[Frame]:
        """The frames up to the first for which the condition holds."""
        found = [self.frame()]
        while not condition(found[-1]):
            found.append(self.frame())
        return found

    def end(self) -> tuple[int, list[Frame], str]:
        """End its input and wait: status, the remaining frames, and what it said."""
        out, err = self.process.communicate(timeout=20)
        frames = [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, frames, self._heard + err

    def hear(self, words: str) -> None:
        """Wait until it has said so on standard error."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._heard += line
            if words in line:
                return
        raise AssertionError(f"it ended without a word of {words!r}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def snapshot(self) -> Any:
        try:
            return json.loads((self.state / "snapshot.json").read_text())
        except FileNotFoundError:
            return {"host": {"pools": []}}

    def replicas(self) -> list[str]:
        pools = self.snapshot()["host"]["pools"]
        return [replica["replica_id"] for pool in pools for replica in pool["replicas"]]
