"""Fixtures for the tests of TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from adapters.http_util import tls_context


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Iterator[str]:
    """Its certificate in a file. TLS contexts are cached by file names, which tests use again."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    tls_context.cache_clear()
    yield str(path)
    tls_context.cache_clear()
