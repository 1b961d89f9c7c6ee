import pytest

from services.cache.model import Marker, artifact_key, source_key, used_key, used_key_of
from services.cache.policy import (
    Expire,
    Extend,
    Forget,
    NotCurrent,
    NotInSpec,
    NotYours,
    artifacts_of,
    check_current,
    check_own,
    judge,
    log_has_expired,
    tree_of,
)
from shared.facts import JobRecord
from shared.lifecycle import JobState
from shared.needs import Needs
from shared.spec import JobSpec

TREE = "ab" * 32


def record(state: JobState, epoch: int) -> JobRecord:
    return JobRecord(
        tenant="acme", job="j1", name="n", state=state, created_unix_ns=1, content_hash="x", timeout_seconds=1,
        step_count=1, needs=Needs(cpu_millis=1, memory_bytes=1, disk_bytes=0), submitted_by="me",
        epoch=epoch, write_id="w",
    )  # fmt: skip


def spec(**more: object) -> JobSpec:
    return JobSpec.model_validate({"steps": [{"run": "true"}], **more})


def test_only_the_current_attempt_of_a_placed_job_gets_anything() -> None:
    check_current(record(JobState.PLACED, 2), 2)
    for state, epoch in ((JobState.PLACED, 1), (JobState.PLACED, 3), (JobState.QUEUED, 2), (JobState.SUCCEEDED, 2)):
        with pytest.raises(NotCurrent):
            check_current(record(state, 2), epoch if state is JobState.PLACED else 2)


def test_an_attempt_gets_what_its_spec_names_and_nothing_else() -> None:
    named = spec(source={"tree": TREE}, artifacts=[{"name": "Räder", "paths": ["dist/*"]}])
    assert tree_of(named) == TREE
    assert [artifact.name for artifact in artifacts_of(named, ["Räder", "Räder"])] == ["Räder"]
    with pytest.raises(NotInSpec):
        artifacts_of(named, ["Räder", "other"])
    with pytest.raises(NotInSpec):
        tree_of(spec(source={"git": "https://example.org/x.git"}))


@pytest.mark.parametrize(
    "key",
    [
        "t/other/sources/x.tar.gz",
        "t/acme/../other/sources/x",
        "t/acme/sources/./x",
        "t/acme//sources/x",
        "t/acme/used/x",
        "t/acme/sources",
        "t/acme/sources/",
        "t/acmeother/sources/x",
        "expiry/1/t/acme/sources/x",
        "",
    ],
)
def test_a_tenant_downloads_nothing_but_its_own_objects(key: str) -> None:
    with pytest.raises(NotYours):
        check_own("acme", key)


def test_a_tenant_downloads_its_sources_artifacts_and_logs() -> None:
    for key in (source_key("acme", TREE), artifact_key("acme", "j1", 1, "Räder"), "t/acme/logs/j1/1/1/x.zst"):
        check_own("acme", key)


def test_a_marker_survives_its_path_and_sorts_by_due_time() -> None:
    marker = Marker.after(source_key("acme", TREE), 1000.0, 86_400.0)
    assert Marker.read(marker.path, marker.body()) == marker
    assert marker.due_unix >= 1000 + 86_400
    assert marker == Marker.after(source_key("acme", TREE), 1001.0, 86_400.0)
    assert Marker("k", 999).path < Marker("a", 1000).path < Marker("a", 10_000_000_000).path


def test_only_sources_live_longer_by_use() -> None:
    assert used_key_of(source_key("acme", TREE)) == used_key("acme", TREE)
    assert used_key_of(artifact_key("acme", "j1", 1, "a")) is None


def test_what_is_due_is_judged_by_what_is_stored() -> None:
    marker = Marker("k", due_unix=1000, keep_seconds=500)
    assert judge(marker, None, None, 1000) == Forget()
    assert judge(marker, 500, None, 1000) == Expire()
    assert judge(marker, 400, 500, 1000) == Expire()
    extended = judge(marker, 501, None, 1000)
    assert isinstance(extended, Extend)
    assert extended.marker.due_unix > 1000
    assert isinstance(judge(marker, 10, 900, 1000), Extend)


def test_a_log_goes_at_its_age() -> None:
    assert log_has_expired(100, 50, 150)
    assert not log_has_expired(100, 50, 149)
