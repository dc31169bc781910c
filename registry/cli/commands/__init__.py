"""The commands of worker-adapters, one module each."""
