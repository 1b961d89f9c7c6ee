"""What an edge of each kept version really said, read with today's code; what it left on disk, gone on with by it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.agent.claiming import ORDER_FILE
from runner.protocol.attempt import read_attempt
from runner.protocol.boot import of_former_boot
from runner.protocol.directory import AttemptDir, read_whole
from runner.step_ctl import policy, reading
from services.gateway.projection.fold import fold
from shared.bus import CE_TYPE, Message
from shared.facts import (
    ArtifactStored,
    AttemptAccepted,
    AttemptEnded,
    AttemptStarted,
    JobRecord,
    MachineBeat,
    Order,
    StepEnded,
    StepReady,
    StepStarted,
    StepSummarised,
)
from shared.facts.log import LogChunk
from shared.requests import DurableAsked, DurableTold, Grant, GrantAsked, OrdersAsked, OrdersTold, UrlsAsked, UrlsTold
from shared.wire import Model, decode, encode
from tests.protocol.compat import complaints
from tests.protocol.kept import HERE, VERSIONS, frozen, recorded

FACTS: dict[str, type[Any]] = {
    fact.token(): fact
    for fact in (
        AttemptAccepted,
        AttemptStarted,
        AttemptEnded,
        StepStarted,
        StepReady,
        StepEnded,
        StepSummarised,
        ArtifactStored,
    )
}
ASKED: dict[str, tuple[type[Model], type[Model]]] = {
    "orders": (OrdersAsked, OrdersTold),
    "grant": (GrantAsked, Grant),
    "urls": (UrlsAsked, UrlsTold),
    "durable": (DurableAsked, DurableTold),
}


def of(version: str, *kinds: str) -> list[dict[str, Any]]:
    found = [message for message in recorded(version) if message["subject"].split(".")[0] in kinds]
    assert found, kinds
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_fact_is_read_and_shown(version: str) -> None:
    seen = set()
    for number, message in enumerate(of(version, "evt"), start=1):
        token = message["subject"].rsplit(".", 1)[1]
        fact = decode(FACTS[token], message["data"].encode())
        assert message["headers"][CE_TYPE] == fact.event_type()
        assert fold(Message(message["subject"], message["data"].encode(), message["headers"], number, 1)).statements
        seen.add(token)
    assert seen == set(FACTS), "the recording has no example of some fact"


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_that_was_said_is_lost_in_reading(version: str) -> None:
    """What today's code reads and writes again is what was there: no field forgotten, none changed."""
    for message in of(version, "evt"):
        fact = decode(FACTS[message["subject"].rsplit(".", 1)[1]], message["data"].encode())
        again, before = json.loads(fact.model_dump_json(exclude_none=True)), json.loads(message["data"])
        assert {name: again[name] for name in before} == before


@pytest.mark.parametrize("version", VERSIONS)
def test_every_question_is_understood_and_every_answer_was(version: str) -> None:
    seen = set()
    for message in of(version, "edge", "ask"):
        op = message["subject"].rsplit(".", 1)[1]
        asks, tells = ASKED[op]
        decode(asks, message["data"].encode())
        if "Overspill-Error" not in message["answer_headers"]:
            told = decode(tells, message["answer"].encode())
            assert list(complaints(frozen(version, tells)["reads"], json.loads(encode(told)))) == []
        seen.add(op)
    assert seen == set(ASKED)


@pytest.mark.parametrize("version", VERSIONS)
def test_beats_and_orders_are_read(version: str) -> None:
    for message in of(version, "hb"):
        assert f"v{decode(MachineBeat, message['data'].encode()).protocol}" == version
    desired = {decode(Order, message["data"].encode()).desired.value for message in of(version, "desired")}
    assert {"run", "cancel"} <= desired


@pytest.mark.parametrize("version", VERSIONS)
def test_chunks_of_logs_are_read(version: str) -> None:
    chunks = [LogChunk.read(message["headers"], message["data"].encode()) for message in of(version, "log")]
    assert any(chunk.last and chunk.data for chunk in chunks)
    assert any(chunk.times for chunk in chunks)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_attempt_that_an_agent_of_that_version_laid_out_is_told_by_todays(version: str, tmp_path: Path) -> None:
    shutil.copytree(HERE / version / "attempt", tmp_path / "attempt")
    directory = AttemptDir(tmp_path / "attempt")
    attempt = read_attempt(directory)
    order = read_whole(directory.root / ORDER_FILE)
    assert order is not None
    assert decode(Order, order).job == attempt.grant.job
    assert of_former_boot(attempt.boot_id)
    background = tuple(step.background for step in attempt.grant.spec.steps)
    seen = reading.read(directory, background)
    verdict = policy.verdict(seen, attempt)
    assert verdict is not None
    assert (verdict.outcome, verdict.exit_code) == ("succeeded", 0)
    assert [step.exit.state for step in seen.steps if step.exit] == ["ended", "exited", "exited"]
    assert list(reading.cut_logs(directory, seen)) == []
    # One laid out before there were boot ids is gone on with: nothing is known against it.
    assert not of_former_boot(None)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_record_that_a_hub_of_that_version_left_is_read(version: str) -> None:
    left = json.loads((HERE / version / "record.json").read_bytes())
    record = decode(JobRecord, json.dumps(left).encode())
    assert record.job == "recorded"
    written = json.loads(encode(record))
    assert {key: written[key] for key in left} == left


def test_unknown_fields_are_kept_on_read_and_refused_on_write() -> None:
    told = json.dumps({"tenant": "t", "job": "j", "epoch": 1, "tomorrow": 1}).encode()
    asked = decode(GrantAsked, told)
    assert asked.model_extra == {"tomorrow": 1}
    with pytest.raises(ValueError, match="has no field tomorrow"):
        encode(asked)
