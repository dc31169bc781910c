"""The client's TLS, whatever the transport: contexts, certificates, keys (HTU-1001)."""

import ssl
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from adapter_api.faults import ScriptServer
from adapters.http_util import (
    ClientOptions,
    UntrustedCertificate,
    error_from_exception,
    make_client,
    may_repeat,
    post,
    tls_context,
)
from tests.adapters.http_util.conftest import hello
from tests.certificates import server_context


def test_one_context_for_one_configuration(ca_file: str) -> None:
    """HTU-1001: verification is on; a context is built once."""
    default = tls_context(None, None)
    assert tls_context(None, None) is default
    assert tls_context(ca_file, None) is tls_context(ca_file, None)
    assert tls_context(ca_file, None) is not default
    for context in (default, tls_context(ca_file, None)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


@pytest.mark.parametrize("combined", [True, False])
async def test_a_client_certificate_is_shown(
    authority: trustme.CA, ca_file: str, tmp_path: Path, combined: bool
) -> None:
    """One file with certificate and key, or a pair of files."""
    certificate = authority.issue_cert("client@example.org")
    whole, chain, key = (str(tmp_path / name) for name in ("both.pem", "chain.pem", "key.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(whole)
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    context = server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    options = ClientOptions(ca_file=ca_file, client_cert=whole if combined else (chain, key))
    async with ScriptServer(hello, tls=context) as server:
        async with make_client(options) as client:
            assert (await client.get(server.base_url)).text == "GET /"
        async with make_client(ClientOptions(ca_file=ca_file)) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(server.base_url)


async def test_files_that_cannot_be_used_are_named_as_the_cause(tmp_path: Path) -> None:
    """A wrong path or content is a mistake of ours, not of the server's: not worth a retry."""
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for name in (str(tmp_path / "missing.pem"), str(broken)):
        with pytest.raises(OSError, match=r".+"):
            tls_context(name, None)
        async with make_client(ClientOptions(ca_file=name)) as client:
            with pytest.raises(httpx.LocalProtocolError, match="files for TLS"):
                await client.get("https://127.0.0.1:9")


# What the environment and the terminal must not decide
@pytest.mark.parametrize("options", [{}, {"proxy": "https://127.0.0.1:9"}], ids=["own", "proxy"])
async def test_tls_keys_are_written_only_where_an_option_says_so(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ca_file: str
) -> None:
    """SSLKEYLOGFILE, which would let others read the traffic, is not obeyed."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "environment"))
    for given in (None, ca_file):
        async with make_client(ClientOptions(ca_file=given, **options)):
            assert tls_context(given, None).keylog_filename is None
    assert not (tmp_path / "environment").exists()
    wanted = tmp_path / "option"
    tls_context(None, None, keylog_file=str(wanted))
    assert wanted.exists()


def test_an_encrypted_key_is_refused_without_a_question(
    authority: trustme.CA, tmp_path: Path
) -> None:
    """OpenSSL would ask on the terminal, and wait."""
    certificate = authority.issue_cert("client.example")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    encrypted = serialization.BestAvailableEncryption(b"correct-horse")
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted
    )
    (tmp_path / "key.pem").write_bytes(pem)
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    files = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    with pytest.raises(ValueError, match="the key of client_cert is encrypted"):
        tls_context(None, files)


@pytest.mark.parametrize("http2", [False, True], ids=["own", "httpx"])
async def test_an_untrusted_certificate_is_final(authority: trustme.CA, http2: bool) -> None:
    """An untrusted certificate is final with any transport."""
    context = server_context(authority)
    async with (
        ScriptServer(hello, tls=context) as server,
        make_client(ClientOptions(http2=http2)) as client,
    ):
        with pytest.raises(UntrustedCertificate, match="certificate") as caught:
            await post(
                client,
                httpx.URL(server.base_url),
                headers={},
                correlation_id="1",
                content=b"",
                connect_timeout_s=5,
            )
        error = error_from_exception(caught.value)
        assert (error.code, error.retriable) == ("POOL_UNAVAILABLE", False)
        assert not may_repeat(error)
