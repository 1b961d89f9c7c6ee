"""What becomes a job, and what is refused, by the table and by property."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.model import Submission
from services.gateway.policy import ADMITTED_RECORD_LIMIT_BYTES, admit, check_queue
from services.gateway.refusals import LimitExceeded, TooManyQueued
from shared.errors import Rejected
from shared.facts import JobRecord
from shared.principal import Principal
from shared.spec import JobSpec
from shared.tenancy import TenantLimits, TenantRecord
from shared.wire import decode

STEPS = [{"run": "true"}]


def submission(raw: Any, size: int = 100) -> Submission:
    return Submission(Principal(tenant="t1", subject="key:x"), raw, size, "job1", "http", None)


def tenant(**limits: Any) -> TenantRecord:
    return TenantRecord(tenant="t1", namespaces=["builds"], limits=TenantLimits(**limits))


def test_the_record_says_what_the_spec_says() -> None:
    raw = {"name": "b", "runs-on": "linux", "priority": 5, "labels": {"a": "b"}, "steps": [{"run": "x", "image": "i"}]}
    admitted = admit(submission(raw), tenant(), 7, "w")
    record = admitted.record
    assert (record.state, record.epoch, record.created_unix_ns, record.write_id) == ("queued", 0, 7, "w")
    assert (record.isolation, record.runs_on, record.priority, record.step_count) == ("container", ["linux"], 5, 1)
    assert decode(JobRecord, admitted.record_bytes) == record
    assert JobSpec.model_validate_json(admitted.spec_bytes).content_hash() == record.content_hash


@pytest.mark.parametrize(
    ("raw", "limits", "says"),
    [
        ({"namespace": "theirs"}, {}, "it has builds"),
        ({"priority": 11}, {"max_priority": 10}, "take 10 or less"),
        ({"timeout": "2h"}, {"max_timeout_seconds": 3600}, "take 3600 s or less"),
        ({"machineType": "large"}, {"machine_types": ["small"]}, "take one of small"),
        ({"machineType": {"cpu": 1, "memory": "1Gi"}}, {"machine_types": ["small"]}, "'custom' is not open"),
        ({"machineType": "xlarge"}, {"max_cpu_millis": 2000}, "take one of nano, small, medium"),
        ({"machineType": "small"}, {"max_memory_bytes": 2**20}, "none of the named sizes"),
        ({"labels": {f"{n}" * 60: "v" * 100 for n in range(10)} | {f"x{n}" * 20: "ü" * 100 for n in range(6)}}, {},
         "shorten labels"),
    ],
)  # fmt: skip
def test_limits_are_refused_with_the_remedy(raw: dict[str, Any], limits: dict[str, Any], says: str) -> None:
    with pytest.raises(LimitExceeded) as refused:
        admit(submission({"steps": STEPS, **raw}), tenant(**limits), 0, "w")
    assert says in str(refused.value)


def test_a_large_spec_is_refused_by_its_size_before_it_is_read() -> None:
    with pytest.raises(LimitExceeded, match="move long scripts"):
        admit(submission("no spec at all", size=11), tenant(max_spec_bytes=10), 0, "w")


def test_the_queue_limit_counts_what_waits() -> None:
    check_queue(tenant(max_queued_jobs=3), 2)
    with pytest.raises(TooManyQueued):
        check_queue(tenant(max_queued_jobs=3), 3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
words = st.text(min_size=1, max_size=200)
specs = st.fixed_dictionaries(
    {"steps": st.lists(st.fixed_dictionaries({"run": words}, optional={"name": words}), min_size=1, max_size=5)},
    optional={
        "name": words,
        "labels": st.dictionaries(st.text(min_size=1, max_size=63), st.text(max_size=100), max_size=16),
        "runs-on": st.lists(st.text(min_size=1, max_size=100), max_size=16),
        "priority": st.integers(-200, 200),
        "timeout": json_values,
        "env": st.dictionaries(st.text(max_size=10), json_values, max_size=3),
    },
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(specs, json_values, st.dictionaries(st.sampled_from(list(JobSpec.model_fields)), json_values)))
def test_whatever_comes_is_admitted_within_bounds_or_refused_in_words(raw: Any) -> None:
    try:
        admitted = admit(submission(raw), tenant(), 1, "w" * 26)
    except Rejected:
        return
    assert len(admitted.record_bytes) <= ADMITTED_RECORD_LIMIT_BYTES
    assert decode(JobRecord, admitted.record_bytes) == admitted.record
    assert JobSpec.model_validate_json(admitted.spec_bytes).content_hash() == admitted.record.content_hash
