"""Needs a module that is not installed."""

import pack_dependency_that_is_absent  # noqa: F401
