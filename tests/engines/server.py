"""llama.cpp's own HTTP server, from the prebuilt wheel `xllamacpp`, in the foreground.

python -m tests.engines.server MODEL.gguf PORT [--key KEY] [--alias NAME] [--ctx N] [--slots N]
"""

import argparse
import signal

import xllamacpp


def params(arguments: argparse.Namespace) -> "xllamacpp.CommonParams":
    """Return the server's settings."""
    found = xllamacpp.CommonParams()
    found.model.path = arguments.model
    found.model_alias = {arguments.alias}
    found.hostnames = ["127.0.0.1"]
    found.port = arguments.port
    found.n_ctx = arguments.ctx
    found.n_parallel = arguments.slots
    found.cpuparams.n_threads = found.cpuparams_batch.n_threads = 1
    found.use_jinja = True
    found.endpoint_metrics = found.endpoint_slots = found.endpoint_props = True
    if arguments.key:
        found.api_keys = [arguments.key]
    return found


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--key", default="")
    parser.add_argument("--alias", default="tiny")
    parser.add_argument("--ctx", type=int, default=4096)
    parser.add_argument("--slots", type=int, default=1)
    server = xllamacpp.Server(params(parser.parse_args()))
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
