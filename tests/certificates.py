"""TLS contexts of an authority of our own."""

import ssl
from typing import Any

import trustme


def server_context(authority: trustme.CA, **certificate: Any) -> ssl.SSLContext:
    """Return the context of a server at 127.0.0.1; `certificate` are options of its issue."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", **certificate).configure_cert(context)
    return context


def tls_pair(**certificate: Any) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context, and a client's that trusts its authority."""
    authority = trustme.CA()
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server_context(authority, **certificate), client
