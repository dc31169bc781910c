"""The URLs and the key's header for a base_url, in any form that users paste."""

import re
from typing import Literal
from urllib.parse import unquote

import attrs
import httpx

from adapters.http_util import redact
from adapters.openai_http.dialects import by_host

AZURE_API_VERSION = "2024-10-21"
"""The newest generally available version of Azure's deployment API. Source: Azure OpenAI in
Microsoft Foundry Models, REST API versions."""

# Versions that /openai/v1 knows. A dated one is of the deployments' API.
_V1_VERSIONS = ("v1", "preview", "latest")

_ENDPOINT = re.compile(
    r"/(chat/completions|completions|models|responses|embeddings)$|(?<=/v\d)/chat$"
)
_DEPLOYMENT = re.compile(r"(?P<prefix>.*?)/openai/deployments/(?P<deployment>[^/]+)(/.*)?$")
_VERSION_SEGMENT = re.compile(r"/v\d+[a-z]*\d*(/|$)")
_LONG_LABEL = re.compile(r"(?=.*\d)[\w-]{20,63}", re.ASCII)  # a host without a domain, or a key
_HOST_NAME = re.compile(r"(?!-)[\w-]{1,63}(\.[\w-]{1,63})*\.?", re.ASCII)
_HOST = re.compile(
    r"(localhost|\[[0-9a-fA-F:.]+\]|\d{1,3}(\.\d{1,3}){3}|([a-z0-9-]{1,63}\.){1,8}[a-z]{2,24})"
    r"(:\d{1,5})?(/[a-z0-9./_-]{0,40})?"
)


def parse_url(text: str) -> httpx.URL | None:
    """Return `text` as a URL; None if it is not one, or if its host is not a name or an address.

    This never raises, because httpx's errors may repeat a password as an invalid port.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):  # ValueError: not a name of the IDNA
        return None
    host = url.raw_host.decode("ascii")
    return url if not host or ":" in host or _HOST_NAME.fullmatch(host) else None


def show_url(base_url: str) -> str:
    """Return a base_url in a form that is safe to show: without userinfo and query."""
    text = re.sub(r"(?<=://)[^/?#]*@", "[redacted]@", base_url)
    start, separator, query = text.partition("?")
    secret = separator and not re.fullmatch(r"api-version=[\w.-]*", query)
    return f"{start}?[redacted]" if secret else text


def _shown(url: httpx.URL | None) -> str:
    return repr(None if url is None else show_url(str(url)))


@attrs.frozen
class Endpoints:
    """The URLs of one server.

    Args:
        completions: The URL for prompts.
        chat: The URL for messages.
        models: The URL of the model list; None where there is none.
        root: The URL that health and version paths are relative to.
        key_header: The header that takes an api_key.
        pasted: The endpoint whose whole URL is the base_url: every job goes there.
        userinfo: "user:password" from base_url; it is in none of the URLs.
        hidden: Parts of base_url that no text may show.
    """

    completions: httpx.URL = attrs.field(repr=_shown)
    chat: httpx.URL = attrs.field(repr=_shown)
    models: httpx.URL | None = attrs.field(repr=_shown)
    root: httpx.URL = attrs.field(repr=_shown)
    key_header: Literal["Authorization", "api-key"]
    pasted: Literal["chat", "completions"] | None = None
    userinfo: str | None = attrs.field(default=None, repr=False)
    hidden: tuple[str, ...] = attrs.field(default=(), repr=False)

    def at(self, path: str) -> httpx.URL:
        """Return the URL of a path below the root."""
        return self.root.copy_with(raw_path=(_path(self.root).rstrip("/") + path).encode("ascii"))


def resolve(
    base_url: str,
    *,
    azure: bool = False,
    azure_deployment: str | None = None,
    api_version: str | None = None,
    api_path: str | None = None,
) -> Endpoints:
    """Return the endpoints of a server.

    Args:
        base_url: Its address, or the whole URL of an endpoint, which is used unchanged.
        azure: The server is Azure OpenAI, whatever its host name.
        azure_deployment: The deployment's name; it makes the server Azure OpenAI, too.
        api_version: Azure's api-version.
        api_path: Where the API is below base_url; None: /v1, unless base_url names a version.

    Raises:
        ValueError: If base_url is not valid; the message says what to write.
    """
    url = _parse(base_url)
    userinfo = unquote(url.userinfo.decode("ascii")) if url.userinfo else None
    hidden = hidden_in(url)
    url = url.copy_with(userinfo=b"")
    found = _resolve(url, azure, azure_deployment, api_version, api_path)
    return attrs.evolve(found, userinfo=userinfo, hidden=hidden)


def _resolve(
    url: httpx.URL,
    azure: bool,
    azure_deployment: str | None,
    api_version: str | None,
    api_path: str | None,
) -> Endpoints:
    dialect = by_host(url.host)
    full = _path(url).rstrip("/")
    path = _ENDPOINT.sub("", full)
    pasted = _pasted(full)
    match = _DEPLOYMENT.fullmatch(path)
    if azure_deployment or match:
        _refuse_api_path(api_path, "a deployment of Azure OpenAI has its own")
        endpoints = _azure_deployment(url, path, match, azure_deployment, api_version)
        return attrs.evolve(endpoints, pasted=pasted)
    if (azure or (dialect is not None and dialect.name == "azure")) and api_path is None:
        if pasted is None or "/openai" in path or path in ("", "/v1"):
            return attrs.evolve(_azure_v1(url, path, api_version), pasted=pasted)
        query = f"?{url.query.decode('ascii')}" if url.query else ""
        endpoints = _below(url, path, path, "api-key", query, models=False)
        return attrs.evolve(endpoints, pasted=pasted)
    if api_version:
        raise ValueError(
            "api_version is for Azure OpenAI: set azure_deployment or dialect='azure' too"
        )
    root = _VERSION_SEGMENT.split(path, maxsplit=1)[0]
    if pasted is not None or path != full:
        _refuse_api_path(api_path, "base_url names an endpoint")
        query = f"?{url.query.decode('ascii')}" if url.query and pasted else ""
        if url.query and not pasted:
            _refuse_query()
        return attrs.evolve(_below(url, path, root, "Authorization", query), pasted=pasted)
    if url.query:
        _refuse_query()
    if api_path is not None:
        tail = api_path.rstrip("/")
        prefix = path if tail and path.endswith(tail) else path + tail
        return _below(url, prefix, prefix.removesuffix(tail), "Authorization")
    prefix = path if _VERSION_SEGMENT.search(path) else path + "/v1"
    return _below(url, prefix, root, "Authorization")


def _pasted(path: str) -> Literal["chat", "completions"] | None:
    if path.endswith("/chat/completions"):
        return "chat"
    return "completions" if path.endswith("/completions") else None


def _refuse_api_path(api_path: str | None, why: str) -> None:
    if api_path is not None:
        raise ValueError(f"api_path cannot be used here: {why}; leave api_path out")


def _refuse_query() -> None:
    raise ValueError(
        "base_url must not have a query (what follows '?') unless it is the whole URL of an "
        "endpoint; put credentials into api_key"
    )


def _parse(text: str) -> httpx.URL:
    text = text.strip()
    if "://" not in text:
        raise ValueError(
            f"base_url must begin with http:// or https://, such as http://{_harmless(text)}"
        )
    url = parse_url(text)
    if url is None:
        raise ValueError("base_url is not a valid URL; write it like http://HOST:PORT")
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("base_url must begin with http:// or https:// and name a host")
    if _LONG_LABEL.fullmatch(url.host) and redact(url.host) != url.host:
        raise ValueError("base_url must name a host, not a key: put the key into api_key")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError("base_url must have a port from 1 to 65535")
    if not url.userinfo and re.search(r"[^/]@", _path(url)):
        raise ValueError(
            "base_url has an '@' in its path; in a user or a password write '/' as %2F, '?' as %3F "
            "and '#' as %23"
        )
    if url.fragment:
        raise ValueError("base_url must not have a fragment (what follows '#')")
    return url


def _path(url: httpx.URL) -> str:
    """Return the path unchanged: decoding it would change %2F and %3F."""
    return url.raw_path.partition(b"?")[0].decode("ascii")


def hidden_in(url: httpx.URL) -> tuple[str, ...]:
    """Return the parts of a URL that may be secret: its userinfo and the values of its query."""
    raw = url.userinfo.decode("ascii")
    secrets = {raw, unquote(raw), *raw.split(":", 1), *map(unquote, raw.split(":", 1))}
    secrets |= {value for name, value in url.params.multi_items() if name != "api-version"}
    return tuple(sorted(secret for secret in secrets if secret))


def _harmless(text: str) -> str:
    """Return `text` if it looks like a host, and not like a key in the wrong place."""
    host = _HOST.fullmatch(text) or re.fullmatch(r"[a-z][a-z0-9-]{0,30}:\d{2,5}", text)
    return text if host and redact(text) == text else "HOST:PORT"


def _below(
    url: httpx.URL,
    prefix: str,
    root: str,
    key_header: Literal["Authorization", "api-key"],
    query: str = "",
    *,
    models: bool = True,
) -> Endpoints:
    def at(path: str) -> httpx.URL:
        return url.copy_with(raw_path=(path + query).encode("ascii"), fragment=None)

    return Endpoints(
        completions=at(prefix + "/completions"),
        chat=at(prefix + "/chat/completions"),
        models=at(prefix + "/models") if models else None,
        root=url.copy_with(raw_path=(root or "/").encode("ascii")),
        key_header=key_header,
    )


def _azure_deployment(
    url: httpx.URL,
    path: str,
    match: "re.Match[str] | None",
    azure_deployment: str | None,
    api_version: str | None,
) -> Endpoints:
    if match is not None:
        resource, deployment = match["prefix"], match["deployment"]
        if azure_deployment not in (None, deployment):
            raise ValueError(
                f"base_url names the deployment {deployment!r}, azure_deployment another: "
                "leave one of them out"
            )
    else:
        resource = re.sub(r"/openai(/v1)?$", "", path)
        deployment = azure_deployment or ""
    if not re.fullmatch(r"[\w.-]+", deployment) or deployment in (".", ".."):
        raise ValueError(
            "azure_deployment must be a name of letters, digits, '-', '_' and '.', other than '.' "
            "and '..'"
        )
    prefix = f"{resource}/openai/deployments/{deployment}"
    return _below(url, prefix, resource, "api-key", _query(url, api_version), models=False)


def _azure_v1(url: httpx.URL, path: str, api_version: str | None) -> Endpoints:
    if api_version not in (None, *_V1_VERSIONS):
        raise ValueError(
            f"api_version {api_version!r} belongs to a deployment: set azure_deployment to its "
            "name (or leave api_version out to use the resource's /openai/v1)"
        )
    version = api_version or url.params.get("api-version")
    if version not in _V1_VERSIONS:
        version = None  # that of another API, such as /openai/responses, pasted with its URL
    resource = re.sub(r"/openai(/v1)?$", "", path)
    query = f"?api-version={version}" if version else ""
    return _below(url, resource + "/openai/v1", resource, "api-key", query)


def _query(url: httpx.URL, api_version: str | None) -> str:
    version = api_version or url.params.get("api-version") or AZURE_API_VERSION
    if not re.fullmatch(r"[\w.-]+", version):
        raise ValueError("api_version must consist of letters, digits, '-', '_' and '.'")
    return f"?api-version={version}"
