"""What comes into a pod's workspace and what is kept of it, though step-ctl and the steps are different users."""

from pathlib import Path

from tests.integration.runner.hub import Hub
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet
from tests.node import forge, store


async def test_a_job_runs_on_the_commit_and_the_submodules_that_git_brings(
    hub: Hub, controller: ControllerProcess, pods: Kubelet, tmp_path: Path
) -> None:
    root = tmp_path / "repositories"
    forge.project(root)
    steps = [{"run": "cat greeting lib/tool"}, {"run": "echo more >>greeting; cat greeting"}]
    with forge.serving(root) as url:
        source = {"git": f"{url}/project", "ref": "main", "submodules": True}
        order = await hub.order({"name": "git", "source": source, "steps": steps}, "kube")
        ended = await hub.ended(order)
    told = (await hub.log(order.job, 0)).data.decode()
    assert ended.outcome == "succeeded", (ended, told, controller.complaints()[-3000:])
    assert [(await hub.log(order.job, step)).data for step in (1, 2)] == [b"hello\nof a submodule\n", b"hello\nmore\n"]
    assert "Source: commit" in told
    await pods.until_gone(name_of(order))


async def test_what_a_root_step_made_for_itself_alone_is_kept_as_an_artifact(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    made = "id -u; umask 077; mkdir -p out/deep other; echo secret >out/deep/key; echo x >other/x"
    spec = {
        "name": "private",
        "steps": [{"run": made}, {"run": "stat -c %A out/deep/key other"}],
        "artifacts": [{"name": "keys", "paths": ["out/**"]}],
    }
    with store.serving() as objects:
        hub.urls = objects.urls
        order = await hub.order(spec, "kube")
        ended = await hub.ended(order)
    told = (await hub.log(order.job, 0)).data.decode()
    assert ended.outcome == "succeeded", (ended, told, controller.complaints()[-3000:])
    assert (await hub.log(order.job, 1)).data == b"0\n", "as root"
    assert objects.names("keys") == ["out/deep/key"]
    assert (await hub.log(order.job, 2)).data.split() == [b"-rw-r-----", b"drwx--S---"], "no more than what is kept"
    await pods.until_gone(name_of(order))
