"""A port of a server that does not answer."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_port(*, accepts: bool = False) -> Iterator[int]:
    """Yield a port that takes a connection and says nothing, or whose backlog is full, so that a
    connect to it hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100 if accepts else 0)
        port: int = listener.getsockname()[1]
        fillers = [] if accepts else [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()
