"""Exceptions of foreign HTTP clients, replaced before they are chained to an error of ours.

Such an exception may carry the request with its key, a proxy's password in its text, and causes
that repeat both. Error reports and logs show causes.
"""

import ssl
from collections.abc import Iterable

import httpx

from adapters.http_util.secrets import safe_text
from adapters.http_util.transport.connecting import UntrustedCertificate

MAX_CAUSES = 16
"""The maximum number of causes that are followed."""


def clean_copy(exc: httpx.HTTPError, secrets: Iterable[str] = ()) -> httpx.HTTPError:
    """Return an exception of the same kind with a safe text, and without request and causes.

    Raise it outside the `except` block, or it gets the original as its context.

    Args:
        exc: The exception of a client or transport that is not ours.
        secrets: Credentials in use.
    """
    text = safe_text(str(exc), secrets)
    if _is_untrusted(exc):
        return UntrustedCertificate(text)
    for kind in type(exc).__mro__:
        if kind.__module__.partition(".")[0] == "httpx" and issubclass(kind, httpx.RequestError):
            return kind(text)
    return httpx.TransportError(text)


def _is_untrusted(exc: BaseException | None) -> bool:
    for _ in range(MAX_CAUSES):
        if isinstance(exc, ssl.SSLCertVerificationError):
            return True
        if exc is None:
            break
        exc = exc.__cause__ or exc.__context__
    return False
