"""Ids, subjects, states, facts, chunks: what every service takes for granted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import flow, ids, lifecycle, parties
from shared.errors import Poison
from shared.facts import AttemptEnded, JobRecord, StepEnded
from shared.facts.log import CHUNK_LIMIT_BYTES, MAX_LOG_BYTES, LogChunk
from shared.lifecycle import MOVES, TERMINAL, IllegalMove, JobState, Reason, move
from shared.needs import MACHINE_TYPES
from shared.parties import Party
from shared.wire import decode, encode


@given(st.text(min_size=1, max_size=200))
def test_any_name_becomes_a_token_and_a_token_stays_itself(name: str) -> None:
    token = ids.token_from(name)
    assert ids.is_token(token)
    assert ids.token_from(token) == token


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_ids_differ_when_any_part_differs(a: str, b: str, c: str, d: str) -> None:
    same = (a, b) == (c, d)
    assert (ids.job_id_from_key(a, b) == ids.job_id_from_key(c, d)) == same
    assert ids.job_id_from_key(a, b) != ids.job_id_from_event(a, b, "")


@given(st.integers(0, 999), st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True))
def test_a_subject_reads_back_as_itself(epoch: int, token: str) -> None:
    subject = flow.Evt(token, token, epoch, token)
    assert flow.Evt.parse(str(subject)) == subject


@pytest.mark.parametrize("bad", ["", "a.b", "*", ">", "A", "a b", "é", "x" * 41])
def test_what_is_no_token_never_reaches_a_subject(bad: str) -> None:
    with pytest.raises(Poison):
        str(flow.Job("acme", bad))


@pytest.mark.parametrize(
    "subject", ["evt.a.b.1", "evt.a.b.x.kind", "job.a.b.1.kind", "evt.a..1.kind", "evt.a.b.-1.kind", "evt.a.b.¹.kind"]
)
def test_a_foreign_subject_is_poison(subject: str) -> None:
    with pytest.raises(Poison):
        flow.Evt.parse(subject)


def test_a_filter_knows_only_its_own_fields() -> None:
    assert flow.Evt.filter(tenant="a", kind="step-ended") == "evt.a.*.*.step-ended"
    with pytest.raises(TypeError):
        flow.Evt.filter(cluster="x")


@given(st.sampled_from(JobState), st.sampled_from(JobState))
def test_only_moves_of_the_table_are_made(before: JobState, after: JobState) -> None:
    if after in MOVES[before]:
        assert move(before, after) is after
    else:
        with pytest.raises(IllegalMove):
            move(before, after)


def test_nothing_leaves_a_final_state_and_every_job_can_reach_one() -> None:
    assert all(not MOVES[state] for state in TERMINAL)
    assert all(MOVES[state] & TERMINAL for state in JobState if state not in TERMINAL)


def test_a_reason_is_our_fault_or_the_users_never_both() -> None:
    theirs = {Reason.STEP_FAILED, Reason.OUT_OF_MEMORY, Reason.ARTIFACT_MISSING, Reason.CANCELLED, Reason.TIMEOUT}
    assert not lifecycle.OUR_FAULT & theirs


def record(**changes: object) -> JobRecord:
    known = {
        "tenant": "acme",
        "job": "j",
        "name": "build",
        "state": JobState.QUEUED,
        "created_unix_ns": 1,
        "content_hash": "h",
        "needs": MACHINE_TYPES["small"],
        "timeout_seconds": 60,
        "step_count": 1,
        "submitted_by": "key:ci",
        "write_id": "w",
    }
    return JobRecord.model_validate(known | changes)


def test_a_fact_reads_back_as_itself_and_keeps_fields_it_does_not_know() -> None:
    assert decode(JobRecord, encode(record())) == record()
    newer = encode(record()).replace(b'"job":"j"', b'"job":"j","from_the_future":1')
    assert decode(JobRecord, newer).model_extra == {"from_the_future": 1}


def test_a_writer_can_not_invent_fields() -> None:
    with pytest.raises(ValueError, match="has no field colour"):
        encode(record(colour="red"))


def test_what_is_no_fact_is_poison_with_the_place() -> None:
    with pytest.raises(Poison, match="AttemptEnded tenant: Field required"):
        decode(AttemptEnded, b"{}")


def test_every_fact_has_a_type_and_a_token_of_its_own() -> None:
    assert StepEnded.event_type() == "overspill.step.ended.v1"
    assert ids.is_token(StepEnded.token())


@given(
    st.binary(max_size=300), st.integers(0, MAX_LOG_BYTES), st.lists(st.integers(0, 10**13), max_size=5), st.booleans()
)
def test_a_chunk_reads_back_as_itself(data: bytes, offset: int, times: list[int], last: bool) -> None:
    marks = tuple((offset + at, ms) for at, ms in enumerate(sorted(times)))
    total, digest = (offset + len(data), "f" * 64) if last else (None, None)
    chunk = LogChunk(offset, data, marks, total, digest)
    assert LogChunk.read(chunk.headers(), data) == chunk


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Overspill-Offset": "-1"},
        {"Overspill-Offset": "x"},
        {"Overspill-Offset": "0", "Overspill-Last": "1"},
        {"Overspill-Offset": "0", "Overspill-Last": "1", "Overspill-Total": "7"},
        {"Overspill-Offset": "0", "Overspill-Times": "a:b"},
    ],
)
def test_a_chunk_that_lies_about_itself_is_poison(headers: dict[str, str]) -> None:
    with pytest.raises(Poison):
        LogChunk.read(headers, b"abc")


def test_a_chunk_over_the_limit_is_poison() -> None:
    with pytest.raises(Poison):
        LogChunk.read({"Overspill-Offset": "0"}, bytes(CHUNK_LIMIT_BYTES + 1))


def test_an_attempts_credential_reaches_one_epoch_of_one_job() -> None:
    party = parties.attempt_party("acme", "j", 2)
    assert party.publishes == ("evt.acme.j.2.*", "log.acme.j.2.*", "ask.acme.j.2.*")
    assert party.subscribes == ("desired.*.*.acme.j",)


@pytest.mark.parametrize("party", parties.HUB_PARTIES, ids=lambda party: party.name)
def test_a_hub_service_writes_no_bucket_it_does_not_read(party: Party) -> None:
    assert set(party.writes_buckets) <= set(party.buckets)


def test_only_gateway_and_scheduler_write_records() -> None:
    writers = {party.name for party in parties.HUB_PARTIES if flow.Job.filter() in party.publishes}
    assert writers == {"gateway", "scheduler"}
