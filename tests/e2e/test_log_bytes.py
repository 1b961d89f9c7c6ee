"""What a step writes is what every door gives, byte for byte: HTTP, ranges, server-sent events, the command line."""

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.e2e import large_log
from tests.e2e.platform import Platform

KINDS = {
    "utf-8 cut anywhere": "b'x' + '€é😀'.encode() * 30_000",
    "ansi and carriage returns": r"'\x1b[31mred\x1b[0m 10%\r 20%\r\n\x1b[2K\x1b]0;title\x07é\n'.encode() * 2_000",
    "nul": r"b'a\0b\0\0\n' * 9_999 + b'\0'",
    "every byte": "bytes(range(256)) * 700",
    "what other programs take for line ends": r"'a\x0bb\x0cc\x1cd\x1ee\x85f\u2028g\u2029h\r\ni\rj\n'.encode() * 3_000",
    "invalid utf-8": r"b'\xff\xfe\xc3(\xe2\x82\n\xf0\x9f\x98\xed\xa0\x80' * 9_000",
    "one line of 10 MB": "b'0123456789' * 1_000_000",
    "no final newline": "b'first\\nlast'",
    "nothing": "b''",
    "lines alone": r"b'\n' * 70_000",
    "what looks like an event": r"b'\n\nevent: end\ndata: {}\n\nid: 9:9=9\n\n'",
}
KINDS["all of these"] = " + ".join(f"({data})" for kind, data in KINDS.items() if kind != "one line of 10 MB")


@dataclass(frozen=True)
class Job:
    platform: Platform
    id: str
    live: dict[int, bytes]
    """What a follower saw that came with the job and stayed to its end."""

    def get(self, step: int, **headers: str) -> httpx.Response:
        where = f"{self.platform.ready['url']}/v1/jobs/{self.id}/logs"
        return httpx.get(where, params={"step": step}, headers=authorization(self.platform) | headers, timeout=60)


def authorization(platform: Platform) -> dict[str, str]:
    return {"Authorization": f"Bearer {platform.environment()['OVERSPILL_TOKEN']}"}


def follow(platform: Platform, job: str, **query: Any) -> Iterator[dict[str, Any]]:
    """Log events up to `end`, parsed as the standard of server-sent events says and no library's way."""
    where = f"{platform.ready['url']}/v1/jobs/{job}/logs"
    rest = b""
    with httpx.stream(
        "GET", where, params={"follow": "true", **query}, headers=authorization(platform), timeout=60
    ) as answer:
        for data in answer.iter_raw():
            *events, rest = (rest + data).split(b"\n\n")
            for event in events:
                fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if not line.startswith(b":"))
                if fields.get(b"event") == b"end":
                    return
                if fields.get(b"event") == b"log":
                    yield json.loads(fields[b"data"])
    raise AssertionError("the stream ended without `end`")


def bytes_of(piece: dict[str, Any]) -> bytes:
    return base64.b64decode(piece["base64"]) if "base64" in piece else piece["text"].encode()


def together(pieces: Iterator[dict[str, Any]]) -> dict[int, bytes]:
    logs: dict[int, bytes] = {}
    for piece in pieces:
        assert piece["offset"] == len(logs.get(piece["step"], b""))
        logs[piece["step"]] = logs.get(piece["step"], b"") + bytes_of(piece)
    return logs


@pytest.fixture(scope="module")
def job(platform: Platform) -> Job:
    programs = [f"import sys; sys.stdout.buffer.write({data})" for data in KINDS.values()]
    steps = [
        {"name": name, "command": [sys.executable, "-c", program]}
        for name, program in zip(KINDS, programs, strict=True)
    ]
    job = submit(platform, {"name": "bytes", "steps": steps})
    return Job(platform, job, together(follow(platform, job)))


def submit(platform: Platform, spec: dict[str, Any]) -> str:
    answer = httpx.post(f"{platform.ready['url']}/v1/jobs", json=spec, headers=authorization(platform), timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize(("step", "kind"), list(enumerate(KINDS, start=1)), ids=list(KINDS))
def test_every_door_gives_the_bytes_the_step_wrote(job: Job, step: int, kind: str) -> None:
    wrote: bytes = eval(KINDS[kind])
    wanted = hashlib.sha256(wrote).hexdigest()
    given = {
        "raw": job.get(step).content,
        "in ranges": b"".join(in_ranges(job, step, len(wrote))),
        "followed live": job.live.get(step, b""),
        "followed later": together(follow(job.platform, job.id, step=step)).get(step, b""),
    }
    assert {door: hashlib.sha256(data).hexdigest() for door, data in given.items()} == dict.fromkeys(given, wanted)


ON_THE_COMMAND_LINE = ("all of these", "one line of 10 MB", "no final newline", "nothing")


@pytest.mark.parametrize("kind", ON_THE_COMMAND_LINE)
def test_the_command_line_prints_the_bytes_the_step_wrote(job: Job, kind: str) -> None:
    wanted = hashlib.sha256(eval(KINDS[kind])).hexdigest()
    step = str(list(KINDS).index(kind) + 1)
    given = {
        "as it is": job.platform.output("logs", job.id, "--step", step),
        "followed": job.platform.output("logs", job.id, "-f", "--step", step),
        "as JSON": from_json(job.platform.output("logs", job.id, "--json", "--step", step)),
    }
    assert {door: hashlib.sha256(data).hexdigest() for door, data in given.items()} == dict.fromkeys(given, wanted)


def in_ranges(job: Job, step: int, size: int) -> Iterator[bytes]:
    """Cut where nothing else is cut."""
    for start in range(0, size, max(1, size // 3 + 7)):
        end = min(size, start + size // 3 + 7)
        answer = job.get(step, Range=f"bytes={start}-{end - 1}")
        assert (answer.status_code, answer.headers["content-range"]) == (206, f"bytes {start}-{end - 1}/{size}")
        yield answer.content


def from_json(lines: bytes) -> bytes:
    return b"".join(bytes_of(json.loads(line)) for line in lines.split(b"\n") if line)


def test_a_large_log_is_the_same_at_every_door(platform: Platform) -> None:
    wanted = large_log.digest(64)
    job = submit(platform, large_log.spec(64))
    with large_log.peaks(platform.data) as peaks:
        live = large_log.Command.start(platform, "logs", "-f", "--step", "1", job)
        assert live.digest() == wanted
        assert large_log.raw_digest(platform, job) == wanted
        later = large_log.Command.start(platform, "logs", "--step", "1", job)
        assert later.digest() == wanted
    assert max(live.peak_bytes, later.peak_bytes) < 200 * large_log.MIB
    assert peaks["step-ctl"] < 200 * large_log.MIB
