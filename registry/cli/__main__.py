"""`python -m registry.cli`, the same as `worker-adapters`."""

from registry.cli.start import main

if __name__ == "__main__":
    main()
