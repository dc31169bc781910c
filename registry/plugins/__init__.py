"""Finding, checking and loading adapter plugins."""
