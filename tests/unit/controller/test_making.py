"""From an order and its grant to the objects of its pod."""

import base64

from runner.controller.making import Made, Site, objects
from shared.facts import Desired, Order
from shared.needs import Needs
from shared.pods import PodTemplate
from shared.requests import Grant, PodGrant
from shared.spec_reading import admit_spec
from shared.walls import TenantWalls

SITE = Site(
    cluster="c1", step_ctl_image="step-ctl:1", default_image="base:1", architecture="amd64",
    environment={"MIRROR": "http://mirror"}, step_ctl_environment={}, grace_seconds=10, log_limit_bytes=0,
)  # fmt: skip


def made(**order: object) -> Made:
    fields = {
        "tenant": "t", "job": "j", "epoch": 1, "cluster": "c1", "target": "kube", "desired": Desired.RUN,
        "needs": Needs(cpu_millis=1, memory_bytes=1, disk_bytes=1), "on_lost": "rerun", "fence_seconds": 60,
        "timeout_seconds": 60, "term": 1,
    }  # fmt: skip
    pod = PodGrant(pool="p", namespace="n", template=PodTemplate(), walls=TenantWalls(tenant="t", namespaces=["n"]))
    grant = Grant(
        tenant="t", job="j", epoch=1, spec=admit_spec({"steps": [{"run": "true"}, {"run": "true"}]}), bus_urls=["nats://b"],
        bus_jwt="jwt", bus_seed="seed", created_unix_ns=1, pod=pod,
    )  # fmt: skip
    return objects(Order.model_validate(fields | order), grant, SITE, 1)


def plan(pod: Made, step: str) -> bytes:
    return base64.b64decode(pod.secret["data"][step])


def test_a_step_finds_the_sites_environment_and_a_workspace_that_git_trusts() -> None:
    planned = plan(made(), "001")
    assert b"MIRROR=http://mirror\0" in planned
    assert b"GIT_CONFIG_KEY_0=safe.directory\0" in planned


def test_without_a_source_the_first_turn_comes_with_the_plan() -> None:
    assert b"go/001\nok\n" in plan(made(), "001")


def test_under_a_fence_the_first_turn_waits_for_a_contact_with_the_hub() -> None:
    planned = plan(made(on_lost="rerun-fenced"), "001")
    assert b"go/001" not in planned
    assert b"contact /overspill/job/contact\n" in planned
    assert b"since_boot_ns" not in planned
