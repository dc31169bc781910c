"""Where to send what: the URLs and the key's header behind a base_url, in any form people paste."""

import re
from typing import Literal

import attrs
import httpx

from adapters.openai_http.dialects import by_host

AZURE_API_VERSION = "2024-10-21"
"""The newest generally available version of Azure's deployment API. Source: Azure OpenAI in
Microsoft Foundry Models, REST API versions."""

# Versions that /openai/v1 knows. A dated one is of the deployments' API.
_V1_VERSIONS = ("v1", "preview", "latest")

_ENDPOINT = re.compile(r"/(chat/completions|completions|models|responses|embeddings)$")
_DEPLOYMENT = re.compile(r"(?P<prefix>.*?)/openai/deployments/(?P<deployment>[^/]+)(/.*)?$")
_VERSION_SEGMENT = re.compile(r"/v\d+[a-z]*\d*(/|$)")


@attrs.frozen
class Endpoints:
    """The URLs of one server.

    Args:
        completions: Where prompts go.
        chat: Where messages go.
        models: Where the model list is; None where there is none.
        root: What health and version paths are relative to.
        key_header: Which header takes an api_key.
    """

    completions: httpx.URL
    chat: httpx.URL
    models: httpx.URL | None
    root: httpx.URL
    key_header: Literal["Authorization", "api-key"]

    def at(self, path: str) -> httpx.URL:
        """The URL of a path below the root."""
        return self.root.copy_with(raw_path=(_path(self.root).rstrip("/") + path).encode("ascii"))


def resolve(
    base_url: str,
    *,
    azure: bool = False,
    azure_deployment: str | None = None,
    api_version: str | None = None,
) -> Endpoints:
    """The endpoints of a server.

    Args:
        base_url: Its address.
        azure: It is Azure OpenAI, whatever its host's name says.
        azure_deployment: The deployment's name; it makes it Azure OpenAI too.
        api_version: Azure's api-version.

    Raises:
        ValueError: If base_url is not one; the message says what to write.
    """
    url = _parse(base_url)
    dialect = by_host(url.host)
    path = _ENDPOINT.sub("", _path(url).rstrip("/"))
    match = _DEPLOYMENT.fullmatch(path)
    if azure_deployment or match:
        return _azure_deployment(url, path, match, azure_deployment, api_version)
    if azure or (dialect is not None and dialect.name == "azure"):
        return _azure_v1(url, path, api_version)
    if api_version:
        raise ValueError(
            "api_version is for Azure OpenAI: set azure_deployment or dialect='azure' too"
        )
    if url.query:
        raise ValueError(
            "base_url must not have a query (what follows '?'); put credentials into api_key"
        )
    prefix = path if _VERSION_SEGMENT.search(path) else path + "/v1"
    return _below(url, prefix, _VERSION_SEGMENT.split(path, maxsplit=1)[0], "Authorization")


def _parse(text: str) -> httpx.URL:
    text = text.strip()
    if "://" not in text:
        raise ValueError(
            f"base_url must begin with http:// or https://; perhaps http://{_harmless(text)}"
        )
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as exc:
        raise ValueError(f"base_url is not a valid URL: {exc}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("base_url must begin with http:// or https:// and name a host")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError(f"base_url must have a port from 1 to 65535, not {url.port}")
    if url.userinfo:
        raise ValueError("base_url must not hold a user or password; put the key into api_key")
    if url.fragment:
        raise ValueError("base_url must not have a fragment (what follows '#')")
    return url


def _path(url: httpx.URL) -> str:
    """The path as it stands in the URL: decoding it would make another one of %2F and %3F."""
    return url.raw_path.partition(b"?")[0].decode("ascii")


def _harmless(text: str) -> str:
    return text if re.fullmatch(r"[\w.\[\]:-]+(/[\w./-]*)?", text) else "HOST:PORT"


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
    if not re.fullmatch(r"[\w.-]+", deployment):
        raise ValueError("azure_deployment may have letters, digits, '-', '_' and '.' only")
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
        raise ValueError("api_version may have letters, digits, '-', '_' and '.' only")
    return f"?api-version={version}"
