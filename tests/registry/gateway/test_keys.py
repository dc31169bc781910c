"""Keys of the gateway's clients: who is let in, what they may do, how the file is followed."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import registry
from adapter_api.errors import ConfigError
from registry.gateway import Keyring
from registry.gateway.key_file import KeyLimits, KeysWatch, hash_of, new_key
from registry.gateway.keys import Key
from registry.serving.openai_api.errors import ApiError
from tests.registry.gateway.conftest import CHAT, Start
from tests.registry.gateway.raw import RawClient, events, text_of

PATH = "/v1/chat/completions"


async def test_a_key_without_a_model_stays_in_its_pools(
    start: Start, http: httpx.AsyncClient, keyring: Callable[[str], Keyring]
) -> None:
    """A request that names no model gets no pool that its key may not use."""
    served = await start(
        keys=keyring(f'[keys.b]\nsha256 = "{hash_of("b")}"\npools = ["other"]\n'),
        aliases={"*": "default"},
    )
    answer = await http.post(
        served.url + PATH,
        json={"messages": CHAT["messages"]},
        headers={"Authorization": "Bearer b"},
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no key"),
        ("[", "Invalid"),
        ("keys = [1]", "got list"),
        ('[keys.a]\nsha256 = "wa-hidden"\n', "64 hexadecimal digits"),
        (f'[keys.a]\nsha256 = "{hash_of("a")}"\npools = "chat"\n', "pools"),
        (f'[keys.a]\nsha256 = "{hash_of("a")}"\nrpm = 3\n', "unknown option"),
        (f'[keys.a]\nsha256 = "{hash_of("a")}"\nmax_in_flight = 0\n', "max_in_flight"),
        (f'[keys]\na.sha256 = "{hash_of("a")}"\nb.sha256 = "{hash_of("a")}"\n', "same key"),
    ],
)
def test_a_wrong_key_file_is_refused(
    keyring: Callable[[str], Keyring], text: str, problem: str
) -> None:
    """The error names the place, and never shows a key that stands where its hash should."""
    with pytest.raises(ConfigError, match=problem) as caught:
        keyring(text)
    assert "wa-hidden" not in str(caught.value)


async def test_a_browser_gives_the_key_as_a_password(
    start: Start, http: httpx.AsyncClient, keyring: Callable[[str], Keyring]
) -> None:
    """Pages ask for Basic authentication; the API takes Bearer alone, as browsers add Basic."""
    served = await start(keys=keyring(f'[keys.a]\nsha256 = "{hash_of("a:b")}"\nmetrics = true\n'))
    away = {"X-Forwarded-For": "203.0.113.9"}
    refused = await http.get(served.url, headers=away)
    assert refused.headers["www-authenticate"].startswith("Basic ")
    for password, status in (("a:b", 200), ("c", 401), ("", 401)):
        auth = httpx.BasicAuth("anyone", password)
        assert (await http.get(served.url, headers=away, auth=auth)).status_code == status
    broken = {**away, "Authorization": "Basic !!"}
    assert (await http.get(served.url, headers=broken)).status_code == 401
    answer = await http.post(served.url + PATH, json=CHAT, auth=httpx.BasicAuth("x", "a:b"))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_keys_let_their_clients_in(
    start: Start, http: httpx.AsyncClient, keyring: Callable[[str], Keyring]
) -> None:
    """With keys, a request needs one; health stays open; the model list needs one, too."""
    key, lines = new_key("laptop")
    served = await start(keys=keyring(lines))
    bearer = {"Authorization": f"Bearer {key}"}
    assert (await http.post(served.url + PATH, json=CHAT)).status_code == 401
    wrong = await http.post(served.url + PATH, json=CHAT, headers={"Authorization": "Bearer wa-no"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "wa-no" not in wrong.text
    assert (await http.post(served.url + PATH, json=CHAT, headers=bearer)).status_code == 200
    assert (await http.get(f"{served.url}/v1/models")).status_code == 401
    assert (await http.get(f"{served.url}/health/live")).status_code == 200
    assert served.gateway.recent[-1].key == "laptop"


async def test_a_key_is_limited(
    start: Start, http: httpx.AsyncClient, keyring: Callable[[str], Keyring]
) -> None:
    """A key has its pools, its requests a minute and its jobs in flight."""
    served = await start(
        keys=keyring(
            f'[keys.a]\nsha256 = "{hash_of("a")}"\nrequests_per_minute = 1\n'
            f'[keys.b]\nsha256 = "{hash_of("b")}"\npools = ["other"]\n'
        )
    )
    first = await http.post(served.url + PATH, json=CHAT, headers={"Authorization": "Bearer a"})
    second = await http.post(served.url + PATH, json=CHAT, headers={"Authorization": "Bearer a"})
    assert (first.status_code, second.status_code) == (200, 429)
    assert 0 < int(second.headers["retry-after-ms"]) <= 60_000
    other = await http.post(served.url + PATH, json=CHAT, headers={"Authorization": "Bearer b"})
    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")


async def test_other_machines_need_a_key_for_the_figures(
    start: Start, http: httpx.AsyncClient, keyring: Callable[[str], Keyring]
) -> None:
    """Behind a proxy the dashboard and the jobs need a key with `metrics = true`."""
    served = await start(
        keys=keyring(
            f'[keys.a]\nsha256 = "{hash_of("a")}"\nmetrics = true\n'
            f'[keys.b]\nsha256 = "{hash_of("b")}"\n'
        )
    )
    away = {"X-Forwarded-For": "203.0.113.9"}
    assert (await http.get(served.url)).status_code == 200
    assert (await http.get(served.url, headers=away)).status_code == 401
    for key, status in (("a", 200), ("b", 403)):
        headers = {**away, "Authorization": f"Bearer {key}"}
        assert (await http.get(served.url, headers=headers)).status_code == status


def test_a_wrong_key_file_is_named(tmp_path: Path) -> None:
    """Each problem has the file and the place in it."""
    path = tmp_path / "keys.toml"
    for text in ("", "[", f'[keys.a]\nsha256 = "{hash_of("a")}"\nmetrics = 1\n'):
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            Keyring.from_file(path)
        assert all(str(path) in problem.path for problem in caught.value.problems)
    assert caught.value.problems[0].path == f"{path}: $.keys['a'].metrics"
    with pytest.raises(ConfigError, match="no such file"):
        Keyring.from_file(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "sent",
    [
        ("Basic Ong6YQ==",),
        ("a",),
        ("Bearer",),
        ("Bearer \xe9",),
        ("Bearer " + "a" * 60_000,),
        ("Bearer " + hash_of("a"),),
        ("Bearer a", "Bearer b"),
        ("Bearer b", "Bearer a"),
        ("Bearer a", "Bearer a"),
    ],
)
async def test_what_is_not_exactly_one_key_is_refused(
    start: Start, keyring: Callable[[str], Keyring], sent: tuple[str, ...]
) -> None:
    """Two headers are no key, whichever comes first: a proxy may have checked the other one."""
    served = await start(keys=keyring(f'[keys.a]\nsha256 = "{hash_of("a")}"\n'))
    async with RawClient(served.port) as client:
        lines = "".join(f"Authorization: {value}\r\n" for value in sent)
        head = f"POST {PATH}?api_key=a HTTP/1.1\r\nContent-Length: 2\r\n{lines}\r\n{{}}"
        client.writer.write(head.encode("latin-1"))
        status, headers = await client.head()
    assert (status, headers["www-authenticate"]) == (401, "Bearer")


async def test_a_page_that_leads_a_browser_here_sees_no_figures(
    start: Start, http: httpx.AsyncClient, keyring: Callable[[str], Keyring]
) -> None:
    """A request of this machine is local only under a name of this machine."""
    served = await start(keys=keyring(new_key("a")[1]))
    for host, status in (
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 401),
        ("127.0.0.1.evil.example:8080", 401),
    ):
        answer = await http.get(served.url, headers={"Host": host})
        assert answer.status_code == status, host


def _key(**limits: int) -> Key:
    return Key("a", KeyLimits(hash_of("a"), **limits))


def test_requests_a_minute_are_counted_in_a_sliding_window() -> None:
    """A refusal names the moment at which the next request is admitted."""
    key = _key(requests_per_minute=2)
    key.admit(0.0)
    key.admit(10.0)
    with pytest.raises(ApiError) as caught:
        key.admit(20.0)
    assert (caught.value.status, caught.value.retry_after_ms) == (429, 40_000)
    key.admit(60.0)
    with pytest.raises(ApiError) as caught:
        key.admit(60.0)
    assert caught.value.retry_after_ms == 10_000


def test_tokens_a_minute_are_counted_when_jobs_end() -> None:
    """A key that has used its tokens begins nothing more until enough of them are a minute old."""
    key = _key(tokens_per_minute=100)
    for at, tokens in ((0.0, 40), (0.5, 30), (30.0, 50)):
        key.admit(at)
        key.release(at, tokens)
    with pytest.raises(ApiError, match="100 tokens") as caught:
        key.admit(31.0)
    assert caught.value.retry_after_ms == 29_000
    key.admit(60.0)
    assert key.in_flight == 1


async def test_a_key_pays_for_prompts_and_answers(
    start: Start, http: httpx.AsyncClient, keyring: Callable[[str], Keyring]
) -> None:
    """A whole answer counts with the engine's numbers, streamed or not."""
    served = await start(
        keys=keyring(f'[keys.a]\nsha256 = "{hash_of("a")}"\ntokens_per_minute = 10\n')
    )
    statuses = []
    for stream in (True, False, False):
        answer = await http.post(
            served.url + PATH,
            json={**CHAT, "stream": stream},
            headers={"Authorization": "Bearer a"},
        )
        statuses.append(answer.status_code)
    assert statuses == [200, 200, 429]  # of nine tokens each
    assert int(answer.headers["retry-after-ms"]) > 0


async def test_the_access_log_names_the_key(
    start: Start, keyring: Callable[[str], Keyring], caplog: pytest.LogCaptureFixture
) -> None:
    """Each request is one JSON object with the name of its key, also where it was refused."""
    served = await start(
        keys=keyring(f'[keys.a]\nsha256 = "{hash_of("a")}"\nrequests_per_minute = 1\n')
    )
    with caplog.at_level(logging.INFO, "worker_adapters.access"):
        async with RawClient(served.port) as client:
            for _ in range(2):
                client.post(PATH, CHAT, Authorization="Bearer a", X_Request_Id="r")
                _, headers = await client.head()
                await client.reader.readexactly(int(headers["content-length"]))
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    assert [(line["key"], line["status"]) for line in lines] == [("a", 200), ("a", 429)]
    assert lines[0].keys() == {
        "at_s",
        "client",
        "key",
        "method",
        "model",
        "path",
        "request_id",
        "sent_bytes",
        "status",
        "took_ms",
    }
    assert (lines[0]["model"], lines[0]["request_id"]) == ("mock", "r")


async def test_a_revoked_key_ends_no_stream_and_begins_none(
    start: Start, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """The file is followed: a key that is gone is refused, and the answer that runs comes whole."""
    path = tmp_path / "keys.toml"
    lines = [f'[keys.{name}]\nsha256 = "{hash_of(name)}"\n' for name in ("a", "b")]
    path.write_text("".join(lines))
    keys = Keyring.from_file(path)
    served = await start(registry.get("mock", {"delay_s": 0.02}), keys=keys)
    async with KeysWatch(path, keys.replace, 0.001), RawClient(served.port) as client:
        client.post(PATH, {**CHAT, "stream": True}, Authorization="Bearer a")
        assert (await client.head())[0] == 200
        path.write_text(lines[1])
        while len(keys) == 2:
            await asyncio.sleep(0.001)
        statuses = [
            (await http.get(f"{served.url}/v1/models", headers={"Authorization": f"Bearer {key}"}))
            for key in ("a", "b")
        ]
        assert [answer.status_code for answer in statuses] == [401, 200]
        found = events(await client.body())
    assert found[-1] == "[DONE]"
    assert text_of(found)


def test_a_key_that_stays_keeps_its_counts() -> None:
    """New limits hold at once, for what was counted before, too."""
    limits = KeyLimits(hash_of("a"), requests_per_minute=5)
    keys = Keyring({"a": limits})
    scope = {"headers": [(b"authorization", b"Bearer a")]}
    keys.find(scope).admit(0.0)
    keys.replace({"a": KeyLimits(hash_of("a"), requests_per_minute=1)})
    with pytest.raises(ApiError):
        keys.find(scope).admit(1.0)


async def test_a_broken_version_of_the_file_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused with one warning, and read again when it changes; half a write is not read."""
    path = tmp_path / "keys.toml"
    path.write_text(new_key("a")[1])
    watch = KeysWatch(path, lambda _: None)
    assert watch.look() is None
    path.write_text("[keys.")
    assert watch.look() is None  # it may be being written
    with pytest.raises(ConfigError):
        watch.look()
    assert watch.look() is None
    path.unlink()
    assert watch.look() is None
    with pytest.raises(ConfigError, match="no such file"):
        watch.look()
    path.write_text(new_key("b")[1] + new_key("c")[1])
    watch.look()
    found = watch.look()
    assert found is not None
    assert list(found) == ["b", "c"]
    taken: list[object] = []
    path.write_text("")
    with caplog.at_level(logging.WARNING, "worker_adapters.gateway"):
        async with KeysWatch(path, taken.append, 0.001):
            path.write_text("x = ")
            async with asyncio.timeout(5):
                while not caplog.records:
                    await asyncio.sleep(0.001)
    assert "the old ones stay" in caplog.text
    assert taken == []
