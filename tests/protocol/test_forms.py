"""Hub and edge one version apart understand each other: by the forms of what they say, frozen for every version kept.

Adding an optional field is fine. Removing or retyping one, a new word in a closed vocabulary, a narrower bound, a field
that becomes needed: each breaks the other side, and fails here before it is released.
"""

import copy
import json
from typing import Any

import pytest

from shared.facts.log import LAST, OFFSET, SHA256, TIMES, TOTAL, LogChunk
from shared.placement.model import PROTOCOLS
from shared.requests import Grant
from shared.spec import JobSpec
from tests.protocol.compat import breaks, complaints, read_by, written_by
from tests.protocol.kept import EDGE_SAYS, EVERY, HERE, HUB_SAYS, SERVICES_HEAR, SERVICES_SAY, STORED, VERSIONS, frozen
from tests.protocol.record import keep_schemas

both = [(version, model) for version in VERSIONS for model in EVERY]


def _ids(pairs: list[tuple[str, Any]]) -> list[str]:
    return [f"{version}-{model.__name__}" for version, model in pairs]


def _pairs(models: tuple[type[Any], ...]) -> list[tuple[str, Any]]:
    return [(version, model) for version in VERSIONS for model in models]


OLD_TO_NEW = _pairs(tuple(dict.fromkeys([*EDGE_SAYS, *SERVICES_SAY, *STORED])))
NEW_TO_OLD = _pairs(tuple(dict.fromkeys([*HUB_SAYS, *SERVICES_HEAR])))


@pytest.mark.parametrize(("version", "model"), OLD_TO_NEW, ids=_ids(OLD_TO_NEW))
def test_the_hub_reads_what_a_kept_version_says_and_left_behind(version: str, model: Any) -> None:
    assert breaks(_without_spec(frozen(version, model)["writes"]), _without_spec(read_by(model))) == []


@pytest.mark.parametrize(("version", "model"), NEW_TO_OLD, ids=_ids(NEW_TO_OLD))
def test_an_edge_of_a_kept_version_reads_what_the_hub_says(version: str, model: Any) -> None:
    assert breaks(_without_spec(written_by(model)), _without_spec(frozen(version, model)["reads"])) == []


def _without_spec(schema: dict[str, Any]) -> dict[str, Any]:
    """A spec goes out as it was written, without defaults, which no schema says: it has rules of its own, below."""
    made: dict[str, Any] = copy.deepcopy(schema)
    for part in (made, *made.get("$defs", {}).values()):
        if part.get("title") == Grant.__name__:
            del part["properties"]["spec"]
            part["required"].remove("spec")
    return made


@pytest.mark.parametrize("version", VERSIONS)
def test_every_word_of_a_spec_that_an_old_edge_knows_is_still_there_and_absent_means_the_same(version: str) -> None:
    """What a spec leaves out is not sent: another default today would be run as the old one there."""
    old, new = frozen(version, JobSpec)["reads"], read_by(JobSpec)
    parts = {"": (old, new)} | {name: (part, new["$defs"].get(name, {})) for name, part in old["$defs"].items()}
    for name, (before, now) in parts.items():
        for word, field in before.get("properties", {}).items():
            assert word in now.get("properties", {}), f"{name}.{word} is gone"
            assert now["properties"][word].get("default") == field.get("default"), f"{name}.{word} has another default"


def test_a_grant_names_no_word_of_the_spec_that_the_job_does_not_use() -> None:
    """Else a new word with a default would make every job unreadable to an old edge."""
    spec = JobSpec.model_validate({"steps": [{"run": "true"}]})
    grant = Grant(tenant="t", job="j", epoch=1, spec=spec, bus_urls=[], bus_jwt="", bus_seed="", created_unix_ns=1)
    assert json.loads(grant.model_dump_json())["spec"] == {"steps": [{"run": "true"}]}
    assert Grant.model_validate_json(grant.model_dump_json()) == grant


@pytest.mark.parametrize(("version", "model"), both, ids=_ids(both))
def test_every_kept_version_has_every_form(version: str, model: Any) -> None:
    assert set(frozen(version, model)) == {"reads", "writes"}


def test_the_hub_gives_orders_to_every_version_that_is_kept() -> None:
    assert {f"v{number}" for number in PROTOCOLS} == set(VERSIONS)


def test_headers_of_chunks_keep_their_names() -> None:
    assert (OFFSET, LAST, TOTAL, SHA256, TIMES) == (
        "Overspill-Offset",
        "Overspill-Last",
        "Overspill-Total",
        "Overspill-Sha256",
        "Overspill-Times",
    )
    chunk = LogChunk(3, b"data", ((3, 1),), 7, "ff")
    assert LogChunk.read(chunk.headers(), chunk.data) == chunk


# The judge itself


FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "state": {"enum": ["on", "off"], "type": "string"},
        "part": {"$ref": "#/$defs/Part"},
        "size": {"type": "number"},
    },
    "required": ["name", "state"],
    "$defs": {"Part": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
}


def _changed(path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(FORM)
    *way, last = path.split("/")
    at = made
    for word in way:
        at = at[word]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("properties/name", None, ".name: is needed"),
        ("required", ["state"], ".name: is needed"),
        ("properties/name/type", "integer", ".name: integer is written, string is read"),
        ("properties/state/enum", ["on", "off", "half"], "'half'"),
        ("properties/name/maxLength", 20, "maxLength 10 is read"),
        ("$defs/Part/properties/n/type", "string", ".part.n: string is written"),
        ("$defs/Part/required", [], ".part.n: is needed"),
    ],
)
def test_what_would_break_an_old_reader_is_found(path: str, value: Any, said: str) -> None:
    found = breaks(_changed(path, value), FORM)
    assert any(said in line for line in found), found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties/more", {"type": "string"}),
        ("properties/state/enum", ["on"]),
        ("properties/size/type", "integer"),
        ("properties/name/maxLength", 5),
        ("properties/part", None),
    ],
)
def test_what_harms_no_old_reader_is_let_through(path: str, value: Any) -> None:
    assert breaks(_changed(path, value), FORM) == []


def test_a_value_that_a_form_does_not_take_is_complained_of() -> None:
    good = {"name": "a", "state": "on", "part": {"n": 1}, "more": 1}
    assert list(complaints(FORM, good)) == []
    for bad in ({"state": "on"}, good | {"state": "half"}, good | {"part": {"n": True}}, good | {"name": 3}):
        assert list(complaints(FORM, bad))


def test_the_newest_version_is_as_it_is_recorded(tmp_path: Any) -> None:
    """A field added since is fine; the copies say so when they are made anew, with `record.keep_schemas`."""
    keep_schemas(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in (HERE / VERSIONS[-1] / "schemas").iterdir()
    }
