"""`worker-adapters demo --serve` in another terminal, for the pages that need a server."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread


@contextmanager
def demo_served(command: Sequence[str], folder: Path) -> Iterator[str]:
    """Run the command on a free port in `folder`; give the address it listens on."""
    arguments = [*command, "demo", "--serve", "--port", "0"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stderr is not None
        found = re.search(r"listening on (\S+);", process.stderr.readline())
        assert found is not None
        drain = Thread(target=process.stderr.read)
        drain.start()
        yield found[1]
        process.kill()
        drain.join()
