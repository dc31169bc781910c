"""`python -m registry.cli`, the same as `worker-adapters`."""

from registry.cli.main import main

main()
