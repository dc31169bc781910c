"""A toy engine behind a small OpenAI-compatible server."""
