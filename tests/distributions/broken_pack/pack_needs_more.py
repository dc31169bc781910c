"""Needs a module that nobody installed."""

import pack_dependency_that_is_absent  # noqa: F401
