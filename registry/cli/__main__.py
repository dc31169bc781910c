"""`python -m registry.cli`, the same as `worker-adapters`."""

from registry.cli.entry import main

if __name__ == "__main__":
    main()
