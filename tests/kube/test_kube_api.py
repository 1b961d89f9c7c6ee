"""The docstrings of `shared.kube.KubeApi` and `follow`, on a real API server."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.kube_api import KubeServer, NoCluster
from shared.clock import SystemClock
from shared.errors import NotFound, Unavailable
from shared.kube import CONFIG_MAP, Change, KubeConflict, KubeRefused, TooOld
from shared.kube_following import Backoff, Listed, Selection, follow
from tests.kube import control_plane
from tests.kube.control_plane import ControlPlane


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    about = {"namespace": namespace, "name": name, "labels": {"app": "build"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


async def test_what_was_created_is_read_back(kube: KubeServer, namespace: str) -> None:
    await kube.create(CONFIG_MAP, config_map(namespace, "one", a="1"))
    found = await kube.get(CONFIG_MAP, "one", namespace)
    assert found["data"] == {"a": "1"}


async def test_a_name_is_taken_once(kube: KubeServer, namespace: str) -> None:
    await kube.create(CONFIG_MAP, config_map(namespace, "one"))
    with pytest.raises(KubeConflict):
        await kube.create(CONFIG_MAP, config_map(namespace, "one"))


async def test_what_is_not_there_is_not_found(kube: KubeServer, namespace: str) -> None:
    with pytest.raises(NotFound):
        await kube.get(CONFIG_MAP, "none", namespace)
    with pytest.raises(NotFound):
        await kube.create(CONFIG_MAP, config_map("no-such-namespace", "one"))
    await kube.delete(CONFIG_MAP, "none", namespace)


async def test_nonsense_is_refused_with_the_server_s_own_words(kube: KubeServer, namespace: str) -> None:
    with pytest.raises(KubeRefused, match="Invalid value") as refusal:
        await kube.create(CONFIG_MAP, config_map(namespace, "Not A Name"))
    assert refusal.value.reason == "Invalid"


async def test_a_replacement_needs_the_newest_version(kube: KubeServer, namespace: str) -> None:
    first = await kube.create(CONFIG_MAP, config_map(namespace, "one", a="1"))
    await kube.replace(CONFIG_MAP, {**first, "data": {"a": "2"}})
    with pytest.raises(KubeConflict):
        await kube.replace(CONFIG_MAP, {**first, "data": {"a": "3"}})
    assert (await kube.get(CONFIG_MAP, "one", namespace))["data"] == {"a": "2"}


async def test_apply_makes_it_so_whatever_was_there(kube: KubeServer, namespace: str) -> None:
    await kube.apply(CONFIG_MAP, config_map(namespace, "one", a="1"))
    await kube.replace(CONFIG_MAP, config_map(namespace, "one", a="drifted", b="another's"))
    applied = await kube.apply(CONFIG_MAP, config_map(namespace, "one", a="1"))
    assert applied["data"]["a"] == "1"


async def test_a_delete_by_uid_leaves_another_of_the_name_alone(kube: KubeServer, namespace: str) -> None:
    old = await kube.create(CONFIG_MAP, config_map(namespace, "one"))
    await kube.delete(CONFIG_MAP, "one", namespace, uid=old["metadata"]["uid"])
    await kube.create(CONFIG_MAP, config_map(namespace, "one"))
    with pytest.raises(KubeConflict):
        await kube.delete(CONFIG_MAP, "one", namespace, uid=old["metadata"]["uid"])
    await kube.get(CONFIG_MAP, "one", namespace)


async def test_a_list_of_many_pages_is_one_list(
    kube: KubeServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.adapters.kube_api.PAGE", 3)
    for number in range(8):
        await kube.create(CONFIG_MAP, config_map(namespace, f"m-{number}"))
    listing = await kube.list(CONFIG_MAP, namespace, labels="app=build")
    assert sorted(item["metadata"]["name"] for item in listing.items) == [f"m-{number}" for number in range(8)]


async def test_a_watch_goes_on_where_the_list_ended(kube: KubeServer, namespace: str) -> None:
    await kube.create(CONFIG_MAP, config_map(namespace, "before"))
    listing = await kube.list(CONFIG_MAP, namespace)
    await kube.create(CONFIG_MAP, config_map(namespace, "after"))
    await kube.delete(CONFIG_MAP, "before", namespace)
    seen = []
    async with contextlib.aclosing(kube.watch(CONFIG_MAP, namespace, version=listing.version)) as changes:
        async for change in changes:
            seen.append((change.type, change.resource["metadata"]["name"]))
            if len(seen) == 2:
                break
    assert seen == [("ADDED", "after"), ("DELETED", "before")]


async def test_no_kubeconfig_and_no_pod_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match="Give a kubeconfig"):
        async with KubeServer.connect():
            pass
    with pytest.raises(NoCluster):
        async with KubeServer.connect(tmp_path / "none"):
            pass


async def test_an_account_may_what_its_roles_say_and_no_more(api_server: ControlPlane, namespace: str) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "poor", "namespace": namespace}}
    api_server.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    async with KubeServer.connect(api_server.account_kubeconfig(namespace, "poor")) as api:
        with pytest.raises(KubeRefused, match="cannot list") as refusal:
            await api.list(CONFIG_MAP, namespace)
        assert refusal.value.reason == "Forbidden"


async def test_following_outlives_the_server_and_versions_that_are_no_more(tmp_path: Path) -> None:
    with control_plane.running(tmp_path) as plane:
        async with KubeServer.connect(plane.kubeconfig) as api:
            known: set[str] = set()
            changed = asyncio.Event()

            async def keep() -> None:
                selection = Selection(CONFIG_MAP, "default", labels="app=build")
                async for told in follow(api, selection, SystemClock(), Backoff(lambda: 0.1)):
                    match told:
                        case Listed(items):
                            known.clear()
                            known.update(item["metadata"]["name"] for item in items)
                        case Change("DELETED", resource):
                            known.discard(resource["metadata"]["name"])
                        case Change(_, resource):
                            known.add(resource["metadata"]["name"])
                    changed.set()

            async def until(names: set[str]) -> None:
                async with asyncio.timeout(60):
                    while known != names:
                        changed.clear()
                        await changed.wait()

            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(keep())
                await api.create(CONFIG_MAP, config_map("default", "one"))
                await until({"one"})
                plane.kill("kube-apiserver")
                with pytest.raises(Unavailable):
                    await api.get(CONFIG_MAP, "one", "default")
                plane.restart("kube-apiserver")
                plane.until_ready()
                with pytest.raises(TooOld):  # what the server knew before its restart it knows no more
                    await anext(api.watch(CONFIG_MAP, "default", version="1"))
                await api.create(CONFIG_MAP, config_map("default", "two"))
                await api.delete(CONFIG_MAP, "one", "default")
                await until({"two"})
                keeping.cancel()
