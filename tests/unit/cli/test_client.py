"""The client against answers as a server, a proxy, or a stranger gives them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from overspill import client as client_module
from overspill.client import Client
from overspill.complaint import Complaint, Exit, NoSuch, Unreachable
from overspill.configuration import BadConfiguration, Server, find_server
from overspill.fetching import fetch, file_name
from overspill.following import Told, Wrote, facts, happenings
from overspill.logging_out import instant

SERVER = Server("http://127.0.0.1:1", "secret", "a test")
Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer) -> Client:
    return Client(SERVER, httpx.MockTransport(answer))


def problem(status: int, detail: str) -> httpx.Response:
    return httpx.Response(status, json={"detail": detail, "code": "x"})


@pytest.mark.parametrize(
    ("answer", "kind", "code", "words"),
    [
        (problem(422, "steps: is missing"), Complaint, Exit.USAGE, "steps: is missing"),
        (problem(404, "There is no job x."), NoSuch, Exit.USAGE, "no job x"),
        (problem(401, "unknown key"), Complaint, Exit.USAGE, "the token comes from a test"),
        (problem(503, "the bus is away"), Unreachable, Exit.PLATFORM, "the bus is away"),
        (problem(429, "slow down"), Unreachable, Exit.PLATFORM, "slow down"),
        (httpx.Response(502, text="<html>bad gateway"), Unreachable, Exit.PLATFORM, "502"),
        (httpx.Response(200, text="<html>hello"), Complaint, Exit.PLATFORM, "not as Overspill does"),
        (httpx.Response(200, json=[]), Complaint, Exit.PLATFORM, "not as Overspill does"),
    ],
)
async def test_every_answer_that_is_no_is_one_line_and_a_code(
    answer: httpx.Response, kind: type[Complaint], code: Exit, words: str
) -> None:
    async with client(lambda _: answer) as it:
        with pytest.raises(kind, match=words) as caught:
            await it.job("x")
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("failure", ["lost", 503, 429, 502])
async def test_what_may_be_asked_twice_is_asked_again(failure: str | int) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if len(asked) == 1 and failure == "lost":
            raise httpx.ReadError("gone", request=request)
        return problem(int(failure), "not now") if len(asked) == 1 else httpx.Response(200, json={"exists": True})

    async with client(answer) as it:
        assert await it.source("0" * 64, 1) == {"exists": True}
    assert asked == ["POST", "POST"]


async def test_a_server_that_says_when_to_come_again_is_left_in_peace_until_then() -> None:
    asked: list[float] = []

    def answer(_: httpx.Request) -> httpx.Response:
        asked.append(time.monotonic())
        if len(asked) == 1:
            return httpx.Response(503, json={"detail": "not now"}, headers={"Retry-After": "1"})
        return httpx.Response(200, json={"jobs": []})

    async with client(answer) as it:
        await it.jobs({})
    assert asked[1] - asked[0] >= 1


async def test_a_deletion_is_asked_for_once_as_the_second_would_find_nothing() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return problem(503, "the bus is away")

    async with client(answer) as it:
        with pytest.raises(Unreachable):
            await it.delete_tenant("acme", force=False)
    assert asked == ["DELETE"]


async def test_a_submission_whose_answer_was_lost_is_sent_again_under_the_same_key() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx.ReadError("gone", request=request)
        return httpx.Response(201, json={"id": "j"})

    async with client(answer) as it:
        assert (await it.submit(b"{}", "application/json", "k"))["id"] == "j"
    assert keys == ["k", "k"]


class Stream(httpx.AsyncByteStream):
    """Pieces, then an end or a broken connection."""

    def __init__(self, *pieces: str, breaks: bool = False) -> None:
        self._pieces, self._breaks = pieces, breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece.encode()
        if self._breaks:
            raise httpx.ReadError("cut")


def event(kind: str, data: object, event_id: str | None = None) -> str:
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data)}\n\n"


def view(number: int) -> dict[str, object]:
    return {"id": number, "type": "overspill.step.ready.v1", "epoch": 1, "time": "t", "data": {"n": number}}


async def test_a_cut_stream_goes_on_behind_the_last_whole_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_SECONDS", 0.0)
    asked: list[str | None] = []
    streams = [
        Stream(event("a", view(1), "1"), event("a", view(2), "2"), "id: 3\nevent: a\nda", breaks=True),
        Stream(": still here\n\n"),
        Stream(event("a", view(3), "3"), event("end", {})),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        if len(asked) == 2:
            return problem(503, "restarting")
        return httpx.Response(200, stream=streams.pop(0))

    async with client(answer) as it:
        got = [told.view["id"] async for told in facts(it, "j")]
    assert got == [1, 2, 3]
    assert asked == [None, "2", "2", "2"]


async def test_a_server_that_stays_away_is_given_up_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_SECONDS", 0.0)

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async with client(answer) as it:
        with pytest.raises(Unreachable, match="the job goes on without us"):
            _ = [told async for told in facts(it, "j")]


async def test_a_job_that_is_not_there_is_not_asked_for_again() -> None:
    async with client(lambda _: problem(404, "There is no job j.")) as it:
        with pytest.raises(NoSuch):
            _ = [happening async for happening in happenings(it, "j")]


async def test_facts_and_log_come_together_and_end_when_both_have() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, stream=Stream(event("a", view(1), "1"), event("end", {})))
        pieces = (
            {"epoch": 1, "step": 1, "offset": 0, "text": "hé\n"},
            {"epoch": 1, "step": 1, "offset": 4, "base64": "/wA="},
        )
        return httpx.Response(200, stream=Stream(*(event("log", piece) for piece in pieces), event("end", {})))

    async with client(answer) as it, asyncio.timeout(10):
        got = [happening async for happening in happenings(it, "j")]
    assert sum(isinstance(each, Told) for each in got) == 1
    assert b"".join(each.data for each in got if isinstance(each, Wrote)) == "hé\n".encode() + b"\xff\x00"


async def test_an_artifact_that_did_not_arrive_as_it_was_stored_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def download(_self: Client, _job: str, _name: str, target: Path) -> int:
        return target.write_bytes(b"other")

    monkeypatch.setattr(Client, "download", download)
    async with client(lambda _: problem(500, "never asked")) as it:
        with pytest.raises(Complaint, match="download it again"):
            await fetch(it, "j", {"name": "a", "sha256": "0" * 64}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("wheel", "wheel"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "artifact"),
        (".bashrc", "bashrc"),
        ("a\0b", "a_b"),
    ],
)
def test_an_artifacts_name_leads_nowhere_but_into_its_directory(name: str, file: str) -> None:
    assert file_name(name) == file


def test_ten_minutes_ago_is_an_instant_and_an_instant_stays_one() -> None:
    assert instant("10m", 1000.0) == "400.000"
    assert instant("1700000000", 1000.0) == "1700000000"
    assert instant("2026-01-31T12:00:00Z", 1000.0) == "2026-01-31T12:00:00Z"


def test_the_environment_goes_before_the_file_and_the_file_before_a_running_up(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "OVERSPILL_DATA": str(tmp_path / "data")}
    assert find_server(environ) is None
    (tmp_path / "overspill").mkdir()
    (tmp_path / "overspill" / "config.toml").write_text('url = "http://file/"\ntoken_file = "token"\n')
    (tmp_path / "overspill" / "token").write_text("a-secret\n")
    found = find_server(environ)
    assert found is not None
    assert (found.url, found.token) == ("http://file", "a-secret")
    assert "a-secret" not in repr(found)
    found = find_server({**environ, "OVERSPILL_URL": "http://env", "OVERSPILL_TOKEN": "e"})
    assert found is not None
    assert (found.url, found.token) == ("http://env", "e")


def test_what_a_dead_up_left_behind_is_no_server(tmp_path: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    told = {"url": "http://x", "token_file": str(tmp_path / "token"), "pid": 2**22 + 1, "boot_id": boot}
    (tmp_path / "server.json").write_text(json.dumps(told))
    environ = {"OVERSPILL_DATA": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    assert find_server(environ) is None
    (tmp_path / "server.json").write_text(json.dumps({**told, "pid": 1, "boot_id": "another"}))
    assert find_server(environ) is None


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OVERSPILL_URL": "http://x"}, "neither OVERSPILL_TOKEN nor OVERSPILL_TOKEN_FILE"),
        ({"OVERSPILL_URL": "x:1", "OVERSPILL_TOKEN": "t"}, "is no address"),
        ({"OVERSPILL_URL": "http://x", "OVERSPILL_TOKEN": "s\x01t"}, "the token beside it has characters"),
        ({"OVERSPILL_URL": "http://x", "OVERSPILL_TOKEN": "tök"}, "the token beside it has characters"),
        ({"OVERSPILL_URL": "http://x", "OVERSPILL_TOKEN_FILE": "/nowhere"}, "/nowhere can't be read"),
    ],
)
def test_a_bad_configuration_names_what_to_mend(environ: dict[str, str], words: str) -> None:
    with pytest.raises(BadConfiguration, match=words):
        find_server(environ)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://host", "http://ho\x01st", "http://ho\nst", "http://ho st", "http://", "http://:80", "http://[::1"),
        *("http://host:port", "http://host:99999", "http://host:0", "http://host:1:2", "http://256.1.1.1"),
        *(f"http://{'a' * 64}", "http://a..b", "http://xn--a--", "http://host/?q", "http://host/#f", "http://[zz]"),
    ],
)
def test_what_is_no_address_is_told_in_one_line_that_says_why_and_what_to_give(url: str) -> None:
    with pytest.raises(BadConfiguration, match=r"is no address .*give http://host:port") as caught:
        find_server({"OVERSPILL_URL": url, "OVERSPILL_TOKEN": "t"})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "https://ci.example.org/", "http://[::1]:80", "http://ü.de/x"]
)
def test_an_address_is_taken(url: str) -> None:
    found = find_server({"OVERSPILL_URL": url, "OVERSPILL_TOKEN": "t"})
    assert found is not None
    assert found.url == url.rstrip("/")
