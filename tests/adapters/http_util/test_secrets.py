"""No credential reaches a log, an error or a repr (HTU-1004, OC-ADAPT-OAI 6020)."""

import base64
import json
import string
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.http_util import REDACTED, redact, redact_headers
from tests.timing import assert_linear

alnum = st.text(string.ascii_letters + string.digits, min_size=24, max_size=48)
mixed = alnum.filter(lambda text: not text.islower())
signs = st.text(string.ascii_letters + string.digits + "._~+/-", min_size=8, max_size=60)
token68 = st.builds("{}7{}".format, st.sampled_from(string.ascii_letters), signs)
free = st.text(string.ascii_letters + string.digits + "!$%()*+-./:<>?@[]^_`{|~", min_size=4)

FORMS: dict[str, st.SearchStrategy[str]] = {
    "openai": st.builds("sk-proj-{}".format, alnum),
    "masked": st.builds("sk-{}****{}".format, alnum, alnum),
    "two parts": st.builds("sk-{}.{}".format, alnum, alnum),
    "jwt": st.builds("eyJ{}.{}.{}".format, alnum, alnum, alnum),
    "hugging face": st.builds("hf_{}".format, mixed),
    "github": st.builds("ghp_{}".format, mixed) | st.builds("github_pat_{}".format, alnum),
    "aws": st.builds("AKIA{}".format, alnum.map(str.upper)),
    "groq": st.builds("gsk_{}".format, mixed),
    "google": st.builds("AIza{}".format, mixed),
}

SURROUNDINGS: list[Callable[[str], str]] = [
    lambda secret: secret,
    lambda secret: f"the key {secret} is wrong",
    lambda secret: f"Incorrect API key provided: {secret}. See the docs.",
    lambda secret: json.dumps({"error": {"message": f"bad key '{secret}'", "n": 1}}),
    lambda secret: json.dumps(json.dumps({"key": secret})),
    lambda secret: f"https://host/v1?key={secret}&x=1",
    lambda secret: f"<p>{secret}</p>",
    lambda secret: repr({"key": secret}),
    lambda secret: f"KEY_{secret}",
    lambda secret: f"a\n{secret}\nb",
]

NAMED: list[Callable[[str], str]] = [
    lambda secret: f"Authorization: Bearer {secret}",
    lambda secret: f"authorization: {secret}",
    lambda secret: f"authorization: {secret} was refused",
    lambda secret: f"Authorization: Custom {secret}",
    lambda secret: f"Proxy-Authorization: Basic {secret}",
    lambda secret: f"api-key: {secret}",
    lambda secret: f"X-API-Key: {secret}\r\nHost: x",
    lambda secret: f"Ocp-Apim-Subscription-Key: {secret}",
    lambda secret: f"OPENAI_API_KEY={secret}",
    lambda secret: f"url?api-key={secret}&api-version=1",
    lambda secret: f"access_token={secret}",
    lambda secret: json.dumps({"api_key": secret, "model": "m"}),
    lambda secret: json.dumps(json.dumps({"apiKey": secret, "model": "m"})),
    lambda secret: repr({"client_secret": secret, "model": "m"}),
    lambda secret: repr([(b"authorization", secret.encode())]),
    lambda secret: repr([("api-key", f"Bearer {secret}")]),
    lambda secret: f"sent Bearer {secret} to it",
]


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
@settings(max_examples=60)
def test_a_token_of_a_known_form_survives_nowhere(form: str, data: st.DataObject) -> None:
    """HTU-1004: its form gives it away, whatever stands around it."""
    secret = data.draw(FORMS[form])
    text = data.draw(st.sampled_from(SURROUNDINGS))(secret)
    shown = redact(text)
    assert REDACTED in shown
    for part in secret.replace("****", ".").split("."):
        assert part not in shown


@given(token68, st.sampled_from(NAMED))
@settings(max_examples=600)
def test_the_value_of_a_secret_field_survives_nowhere(
    secret: str, surroundings: Callable[[str], str]
) -> None:
    """HTU-1004: headers, JSON, JSON in JSON, environment, query, and what Python shows of them."""
    shown = redact(surroundings(secret))
    assert secret not in shown
    assert REDACTED in shown


GUESSED: list[Callable[[str], str]] = [
    lambda secret: f"password={secret}",
    lambda secret: f"db_password = '{secret}'",
    lambda secret: f"https://host/v1?token={secret}&x=1",
    lambda secret: f"SECRET={secret}; path=/",
    lambda secret: json.dumps({"password": secret, "n": 1}),
    lambda secret: json.dumps({"auth_token": secret}),
    lambda secret: json.dumps(json.dumps({"secret": secret, "n": 1})),
    lambda secret: repr({"passwd": secret.encode()}),
]


@given(token68, st.sampled_from(GUESSED))
@settings(max_examples=300)
def test_the_value_of_a_password_survives_nowhere(
    secret: str, surroundings: Callable[[str], str]
) -> None:
    """HTU-1004: where a name and a value say so together."""
    shown = redact(surroundings(secret))
    assert secret not in shown
    assert REDACTED in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc123def", "Authorization: Bearer [redacted]"),
        ("authorization: basic abc123def", "authorization: basic [redacted]"),
        ("Authorization: abc123def", "Authorization: [redacted]"),
        ("api_key=b1b2b3b4", "api_key=[redacted]"),
        ("api_key=b'1b2b3b4'", "api_key=b'[redacted]'"),
        ("{'authorization': b'Bearer b1b2'}", "{'authorization': b'Bearer [redacted]'}"),
        ('{"password": "hunter22", "n": 1}', '{"password": "[redacted]", "n": 1}'),
        ("?token=abc12345&x=1", "?token=[redacted]&x=1"),
    ],
)
def test_names_and_schemes_stay(text: str, shown: str) -> None:
    """The text around a redacted credential stays."""
    assert redact(text) == shown


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12))
def test_basic_credentials_survive_nowhere(user: str, password: str) -> None:
    """HTU-1004: the base64 of user and password is as good as the two."""
    credentials = f"{user}:{password}".encode("utf-8", "replace")
    secret = base64.b64encode(credentials + b"\xff\x01").decode()
    assert secret not in redact(f"sent Basic {secret}")


@given(token68, token68, st.sampled_from(["{0}:{1}@", ":{1}@", "{1}@", "{0}:{1}@{1}@"]))
def test_who_calls_does_not_survive_in_a_url(user: str, password: str, form: str) -> None:
    """OC-ADAPT-OAI 6020: user and password of a URL, also of a proxy's."""
    user, password = user.replace("/", "-"), password.replace("/", "-")
    shown = redact(f"cannot connect to http://{form.format(user, password)}proxy.example:3128/x")
    assert password not in shown.replace("proxy.example:3128/x", "")
    assert shown.endswith(f"http://{REDACTED}@proxy.example:3128/x")


@given(st.lists(free, min_size=1, max_size=3), st.text(max_size=20), st.text(max_size=20))
def test_secrets_in_use_survive_nowhere(secrets: list[str], before: str, after: str) -> None:
    """HTU-1004: the keys that are known go, whatever their form, one in another too."""
    secrets += [secrets[0] + "tail", secrets[0][:4]]
    for secret in secrets:
        shown = redact(f"{before}{secret}{after}", secrets)
        assert secret not in shown.replace(REDACTED, "") or secret in before + after
    assert redact(f"x {secrets[0]}tail y", secrets) == f"x {REDACTED} y"


def test_secrets_that_overlap_leave_nothing_of_each_other() -> None:
    """Of what belongs to any of them not a character stays."""
    assert redact("a 0010000 b 0000 c", ["0000", "0010"]) == f"a {REDACTED} b {REDACTED} c"
    assert redact("abcdefgh", ["abcd", "efgh"]) == REDACTED


def test_a_secret_too_short_to_be_one_is_left() -> None:
    """Three characters would tear ordinary words apart."""
    assert redact("the cat sat", ["at", "sat", ""]) == "the cat sat"


@pytest.mark.parametrize(
    "text",
    [
        "Bearer authentication is required",
        "missing bearer token.",
        "use a bearer credential",
        "a basic arithmetic error; Basic Authentication is off",
        "call hf_hub_download, not hf_transformers_download",
        "expected one of 'api_key', 'model', 'prompt'",
        "set api_key (or ORCHD_OPENAI_API_KEY) to a key this server accepts",
        "max_tokens: 5, prompt_tokens = 7",
        "http://host:8000/v1/chat?x=a@b and mail to me@example.org",
        "task-specific risk-averse disk-encryption",
        "the maximum context length is 4096 tokens",
        "invalid token '<|im_end|>' at 3",
        "the token: 12345678 is not in the vocabulary",
        "token=12345678 and max_tokens=100000000a",
        "eos_token='<|reserved_special_token_250|>'",
        '{"token": " hello world 2", "secret": "", "password": null}',
        "password=short1",
        "password: must have 8 characters and 1 digit",
        "secret = os.environ",
    ],
)
def test_ordinary_words_survive(text: str) -> None:
    """A message that names no secret is shown as it is."""
    assert redact(text) == text


words = st.sampled_from(
    ["a", "the", "of", "model", "server", "basic", "bearer", "token", "tokens", "authorization",
     "key", "keys", "api", "error", "request", "context", "length", "exceeded", "prompt", "sk",
     "pk", "risk", "disk", "hf", "eyes", "secret", "client", "access"]
)  # fmt: skip


@given(st.lists(words, max_size=12))
def test_sentences_of_ordinary_words_survive(sentence: list[str]) -> None:
    """Words alone are not credentials, in any order."""
    text = " ".join(word for word in sentence if word not in ("bearer", "basic"))
    assert redact(text) == text


@given(st.text())
def test_any_text_can_be_redacted(text: str) -> None:
    """It never raises, and there is nothing it makes of nothing."""
    assert bool(redact(text)) == bool(text)


@pytest.mark.timing
@pytest.mark.parametrize(
    "piece",
    ["a://", "://a:", "x", "bearer ", "basic ", "sk-", "eyJ", "eyJaaaaaaaa.", "api_key='", "hf_",
     "authorization ", "api_key", "api_key\\", "api_key:", "('api-key',", "://aaaaaaaa", "token=",
     "password\"", "secret'=", "token=a", "token=1", "password=aaaaaaa1"],
)  # fmt: skip
def test_it_takes_linear_time(piece: str) -> None:
    """Hostile text is redacted in bounded time."""

    def hide(length: int) -> None:
        redact(piece * (length // len(piece)))
        redact(piece + " " * length)
        redact(piece + "a" * length)

    assert_linear(hide, 1024)


def test_headers_lose_their_secrets_and_keep_the_rest() -> None:
    """OC-ADAPT-OAI 6020: known names lose their value, others what looks like a credential."""
    headers = {
        "Authorization": "x",
        "proxy-authorization": "x",
        "API-Key": "x",
        "X-Api-Key": "x",
        "Cookie": "x",
        "Set-Cookie": "x",
        "Ocp-Apim-Subscription-Key": "x",
        "X-Forwarded": "to sk-abcdefghij",
        "Content-Type": "application/json",
    }
    shown = redact_headers(headers)
    assert list(shown) == list(headers)
    assert set(list(shown.values())[:7]) == {REDACTED}
    assert shown["X-Forwarded"] == f"to {REDACTED}"
    assert shown["Content-Type"] == "application/json"
    assert redact_headers(httpx.Headers(headers))["authorization"] == REDACTED


@pytest.mark.parametrize(
    "name",
    [
        "x-litellm-api-key",
        "x-goog-api-key",
        "openai-api-key",
        "apikey",
        "X-ApiKey",
        "x-api-key-2",
        "x_api_key",
        "x-functions-key",
        "x-access-token",
        "x-auth-token",
        "x-api-token",
        "private-token",
        "X-Amz-Security-Token",
        "x-amzn-oidc-accesstoken",
        "x-csrf-token",
        "cf-access-client-secret",
        "x-secret",
        "x-vault-secret-id",
        "x-goog-iap-jwt-assertion",
        "x-password",
        "x-forwarded-authorization",
        "x-auth",
        "x-oauth",
        "cookie2",
        "x-credentials",
    ],
)
def test_a_header_is_judged_by_the_words_of_its_name(name: str) -> None:
    """HTU-1004: every gateway has a header of its own for its key."""
    assert redact_headers({name: "correct-horse-battery"}) == {name: REDACTED}


@pytest.mark.parametrize(
    "name",
    [
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-token",
        "anthropic-ratelimit-input-tokens-remaining",
        "x-prompt-tokens",
        "x-token-count",
        "x-litellm-key-spend",
        "x-api-key-id",
        "keep-alive",
        "idempotency-key",
        "surrogate-key",
        "www-authenticate",
        "access-control-allow-credentials",
        "x-author",
        "x-request-id",
        "openai-organization",
        "cf-access-client-id",
        "etag",
    ],
)
def test_a_header_that_is_harmless_stays(name: str) -> None:
    """Counts, limits and ids are what a recording is read for."""
    assert redact_headers({name: "39"}) == {name: "39"}
    assert redact_headers({name: "sk-abcdefghij"}) == {name: REDACTED}, "its value may betray it"
