"""A pod's manifest is the same to the byte, and shows nothing that it must not."""

import json
import os
from pathlib import Path

import pytest

from deploy.docker.contents import CONTENTS, ENTRYPOINTS
from runner.controller.grouping import containers
from runner.controller.manifest import ATTEMPT_KEY, pod, secret
from runner.protocol.directory import AttemptDir
from runner.protocol.layout import Place, Unrunnable, Whose, layout
from runner.protocol.plan import plans
from shared.pods import PodTemplate
from tests.kube.pod_plans import ECI, INSTALLED, ONE, PLANS, SEVERAL, plan_of, spec_of

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_s_pod_is_the_golden_one(name: str) -> None:
    made = json.dumps(pod(PLANS[name]), indent=1, sort_keys=True) + "\n"
    file = GOLDEN / f"{name}.json"
    if os.environ.get("OVERSPILL_WRITE_GOLDEN"):
        file.write_text(made)
    assert made == file.read_text(), f"see the difference, then OVERSPILL_WRITE_GOLDEN=1 writes {file}"


def test_scripts_and_environments_do_not_show_in_a_pod_s_spec() -> None:
    shown = json.dumps(pod(SEVERAL))
    for hidden in ("s3cr3t", "make test", "exec postgres", "pg_isready"):
        assert hidden not in shown


def test_no_step_s_container_mounts_the_attempt_s_credential() -> None:
    made = pod(SEVERAL)
    own = next(volume for volume in made["spec"]["volumes"] if volume["name"] == "own")
    plan = next(volume for volume in made["spec"]["volumes"] if volume["name"] == "plan")
    assert [item["key"] for item in own["secret"]["items"]] == [ATTEMPT_KEY]
    assert ATTEMPT_KEY not in [item["key"] for item in plan["secret"]["items"]]
    users = [
        container["name"]
        for container in made["spec"]["containers"]
        if any(mount["name"] == "own" for mount in container["volumeMounts"])
    ]
    assert users == ["step-ctl"]


def test_the_secret_holds_a_plan_a_step_and_the_attempt() -> None:
    files = layout(ONE.spec, Whose("acme", "j0123456789", 1), Place(AttemptDir(Path("/overspill/job")), {}))
    made = secret(ONE, plans(files), b"{}")
    assert set(made["data"]) == {"001", ATTEMPT_KEY}
    assert made["immutable"] is True


def test_the_first_step_waits_for_no_other_container_unless_there_is_a_source_to_fetch() -> None:
    made = pod(SEVERAL)
    assert [container["name"] for container in made["spec"]["containers"]] == ["step-1", "step-ctl", "step-2"]
    fetched = pod(plan_of(spec_of({"run": "make"}, source={"git": "https://git.test/a.git"})))
    assert fetched["spec"]["containers"][0]["name"] == "step-ctl"
    assert "initContainers" not in made["spec"]


def few(limit: int) -> PodTemplate:
    return PodTemplate(container_limit=limit, share_containers="limit")


def test_foreground_steps_of_one_image_share_a_container() -> None:
    spec = spec_of(
        {"run": "a"},
        {"run": "b", "image": "other:1"},
        {"run": "c", "image": "base:1"},
        {"run": "d", "background": True, "ready": "true"},
        {"run": "e"},
    )
    assert containers(spec, PodTemplate(), "base:1") == [(1, 3, 5), (2,), (4,)]
    assert containers(spec, few(100), "base:1") == [(1,), (2,), (3,), (4,), (5,)]


def test_a_step_may_use_the_whole_machine_and_step_ctl_has_room_beyond_it() -> None:
    for plan in (ONE, ECI):
        made = pod(plan)["spec"]
        of = {container["name"]: container["resources"] for container in made["containers"]}
        step_ctl, steps = of.pop("step-ctl"), list(of.values())
        assert {step["limits"]["cpu"] for step in steps} == {"1000m"}
        assert step_ctl["limits"] == {"cpu": "2000m", "memory": str(2 * 2**30 + 128 * 2**20)}
        asked = [made["resources"]] if "resources" in made else [step_ctl]
        assert [each["requests"]["cpu"] for each in asked] == ["1000m"]
        assert {step["requests"]["cpu"] for step in steps} == {"0"}


def test_past_the_limit_the_last_steps_of_an_image_share_a_container() -> None:
    assert len(pod(ECI)["spec"]["containers"]) == 20
    assert ECI.groups[-2:] == (tuple(range(18, 25)), (25,))


def test_background_steps_never_share() -> None:
    steps = [{"run": "sleep 9", "background": True, "ready": "true"} for _ in range(3)]
    groups = containers(spec_of(*steps, *({"run": "true"} for _ in range(5))), few(6))
    assert groups[:3] == [(1,), (2,), (3,)]
    assert sum(len(group) for group in groups) == 8
    assert len(groups) == 5


def test_what_no_sharing_makes_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(Unrunnable, match="needs 6 containers, the pool allows 4"):
        containers(spec_of(*({"run": "true", "image": f"i:{n}"} for n in range(5))), few(4))


def test_an_installed_entrypoint_is_that_of_step_ctl_s_image() -> None:
    (installer,) = pod(INSTALLED)["spec"]["initContainers"]
    assert installer["image"] == INSTALLED.step_ctl_image
    assert installer["command"][0] == f"{ENTRYPOINTS}/own"
    assert CONTENTS["step-ctl"].entrypoints
