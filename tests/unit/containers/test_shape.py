"""Which containers an attempt gets, and what podman is told of them."""

from pathlib import Path

import pytest

from runner.agent.model import Key
from runner.containers.podman import run_words, whole_name
from runner.containers.shape import Images, Shape, Walls, shape
from runner.protocol.layout import Unrunnable
from shared.needs import Needs
from shared.spec import JobSpec

NEEDS = Needs(cpu_millis=1500, memory_bytes=64 << 20, disk_bytes=2**30)
STEPS = [
    {"run": "make", "image": "gcc:13", "env": {"TOKEN": "hush-hush"}},
    {"run": "serve", "background": True},
    {"run": "test", "image": "gcc:13"},
]


def made(containers: int = 32) -> Shape:
    spec = JobSpec.model_validate({"steps": STEPS})
    images, walls = Images("overspill/step-ctl:1", "debian:12"), Walls("bridge", 512, containers)
    return shape(Key("t", "j", 2), NEEDS, spec, Path("/data/j-2"), "me", Path("/bin/entrypoint"), images, walls)


def test_steps_of_one_image_share_a_container_and_all_names_follow_from_the_attempt() -> None:
    one = made()
    assert [(numbers, each.image) for numbers, each in one.steps.items()] == [((1, 3), "gcc:13"), ((2,), "debian:12")]
    assert [each.name for each in one.steps.values()] == [f"overspill-me-j-2-step-{n}" for n in (1, 2)]
    assert made() == one


def test_a_job_that_needs_more_containers_than_the_limit_is_refused() -> None:
    assert len(made(3).steps) == 2
    with pytest.raises(Unrunnable):
        made(2)


def test_only_step_ctl_sees_the_credential() -> None:
    one = made()
    seen = {mount.source.name for each in one.steps.values() for mount in each.mounts}
    assert seen == {"job", "plan", "entrypoint"}
    assert {mount.source.name for mount in one.step_ctl.mounts} == {"job", "own", "entrypoint"}


def test_a_step_is_walled_in_and_its_command_line_holds_no_secret() -> None:
    words = " ".join(run_words(made().steps[1, 3]))
    for wall in (
        "--cap-drop ALL", "--security-opt no-new-privileges", "--pids-limit 512", "--memory 67108864",
        "--memory-swap 67108864", "--cpus 1.5", "--pod overspill-me-j-2", "--http-proxy=false", "--pull never",
    ):  # fmt: skip
        assert wall in words
    for hole in (
        "--privileged",
        "--volume",
        "--env",
        "--device",
        "unconfined",
        "hush-hush",
        "--network",
        "/data/j-2/own",
    ):
        assert hole not in words
    assert words.count("type=bind") == 3
    assert words.count("ro=true") == 2
    assert "overspill.dev/job=j" in words
    assert "overspill.dev/epoch=2" in words


def test_step_ctl_is_not_within_the_jobs_limit_and_writes_to_nothing_but_the_attempt() -> None:
    words = " ".join(run_words(made().step_ctl))
    assert "--pod overspill" not in words
    assert "--memory" not in words
    assert "--read-only " in words
    assert words.endswith("docker.io/overspill/step-ctl:1 --pod /overspill/job --attempt /overspill/own/attempt.json")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("debian:12", "docker.io/library/debian:12"),
        ("a/b:1", "docker.io/a/b:1"),
        ("localhost/b:1", "localhost/b:1"),
        ("r.example/b", "r.example/b"),
        ("r:5000/b@sha256:0", "r:5000/b@sha256:0"),
    ],
)
def test_an_image_is_named_as_kubernetes_would_read_it(said: str, meant: str) -> None:
    assert whole_name(said) == meant
