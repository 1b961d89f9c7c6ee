"""What may arrive on a subject that others write: from valid facts that lie to bytes that are nothing."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

HUGE = 10**40
LARGEST_BYTES = 900_000
"""With more than 1 MiB the server itself ends the connection."""
NASTY_NUMBERS = (-1, 2**63, HUGE, 1e308, -0.0)
NASTY_TEXTS = ("", "\x00", "\u202e", "é" * 300, "..", "*", ">", "a.b", "x" * 70_000, "𝄞", "' OR 1=1 --", "{}", "NaN")
NOT_JSON = (b"NaN", b'{"a": NaN}', b"\xff\xfe", b"\x00", b"", b"{", b'{"a":1}{', b"[" * 5000, b'{"a":' * 2000)
WRONG_SHAPES: tuple[Any, ...] = (None, True, 0, "text", [], {}, [{}], {"epoch": []}, {"tenant": {"deep": [[[[]]]]}})

Headers = tuple[tuple[bytes, bytes], ...]
NASTY_HEADERS: tuple[Headers, ...] = (
    (),
    ((b"x", b"\xff\xfe"),),
    ((b"traceparent", b"00-zz-\xff"),),
    ((b"traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"),),
    ((b"ce-type", b"overspill.nothing.v99"), (b"ce-id", b"x" * 4000)),
    ((b"Status", b"100"), (b"Nats-Last-Consumer", b"99")),
    ((b"Nats-Stream-Source", b"JOBS 99999999 > >"),),
    ((b"Nats-Msg-Id", b"same"),),
    ((b"Overspill-Error", b"1"), (b"Overspill-Answer", b"{")),
    ((b"Overspill-Offset", b"-5"), (b"Overspill-Times", b"x:y 1:2:3")),
    ((b"Overspill-Offset", str(HUGE).encode()),),
    ((b"big", b"h" * 20_000),),
)


@dataclass(frozen=True)
class Piece:
    """One message of the fuzzer. `seed` makes it again."""

    seed: str
    headers: Headers
    data: bytes

    def __str__(self) -> str:
        return f"seed {self.seed!r}: headers {self.headers!r:.300}, {len(self.data)} bytes {self.data!r:.300}"


def pieces(name: str, valid: dict[str, Any] | None, headers: Headers, count: int) -> Iterator[Piece]:
    """`valid`: a body of the right shape to begin from, None when the payload is bytes; `headers`: the right ones."""
    for number in range(count):
        seed = f"{name}/{number}"
        chance = random.Random(seed)
        told = headers if chance.random() < 0.7 else (*headers, *chance.choice(NASTY_HEADERS))
        if chance.random() < 0.15:
            told = chance.choice(NASTY_HEADERS)
        yield Piece(seed, told, _body(chance, valid)[:LARGEST_BYTES])


def _body(chance: random.Random, valid: dict[str, Any] | None) -> bytes:
    kind = chance.randrange(10)
    if kind == 0:
        return chance.choice(NOT_JSON)
    if kind == 1:
        return chance.randbytes(chance.choice((1, 100, 70_000)))
    if kind == 2 or valid is None:
        return orjson.dumps(chance.choice(WRONG_SHAPES))
    return spoiled(chance, valid)


def spoiled(chance: random.Random, valid: dict[str, Any]) -> bytes:
    """The valid body with one to three places changed; now and then none at all, which makes it a replay."""
    body = orjson.loads(orjson.dumps(valid))
    for _ in range(chance.randrange(4)):
        key = chance.choice([*body, "unknown"]) if body else "unknown"
        match chance.randrange(6):
            case 0:
                body.pop(key, None)
            case 1:
                body[key] = chance.choice(NASTY_TEXTS)
            case 2:
                body[key] = chance.choice(NASTY_NUMBERS)
            case 3:
                body[key] = chance.choice(WRONG_SHAPES)
            case 4:
                body[key] = {"nested": [body.get(key)] * 50}
            case 5:
                body[key] = "other" if isinstance(body.get(key), str) else 7
    return _dumps(body)


def _dumps(body: Any) -> bytes:
    # orjson knows no integer beyond 64 bits; on the wire there is no such limit.
    import json

    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
