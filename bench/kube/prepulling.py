"""A step's start where its image has to be pulled, and where it was pulled ahead: `python -m bench.kube.prepulling`, as
root. Each image is used until the controller keeps it, taken off the node, and comes back by itself.
"""

import argparse
import asyncio
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

from bench.kube.cluster import Cluster, opened
from bench.measuring import Gate, Row, Samples, ms, noted
from runner.controller.prepulling import Keeping
from shared.images import canonical
from shared.kube import NODE
from tests.kube.kubelet import Kubelet
from tests.node import node as nodes
from tests.node import registry
from tests.node.registry import Registry
from tests.node.runtime import BUSYBOX, busybox

COMMAND = "python -m bench.kube.prepulling"


def spec(image: str) -> dict[str, Any]:
    return {"name": "bench", "steps": [{"run": "true", "image": image}]}


async def until_held(cluster: Cluster, image: str, *, there: bool) -> None:
    """By the kubelet's own word."""
    await asyncio.to_thread(cluster.node.look_at_images)

    def look(node: Any) -> bool:
        names = {name for each in node["status"].get("images") or () for name in each.get("names") or ()}
        return (canonical(image) in names) == there

    await Kubelet(cluster.api, cluster.namespace).until(nodes.NAME, look, NODE)


def push(images: Registry, scratch: Path, number: int, size_bytes: int) -> str:
    """Unlike the others: nothing of it is on the node."""
    home = scratch / str(number)
    base = busybox(home / "busybox")
    (home / "more").mkdir()
    (home / "more/data").write_bytes(os.urandom(size_bytes))
    return images.push(dataclasses.replace(base, name=f"tool:{number}", layers=(*base.layers, home / "more")))


@dataclasses.dataclass(frozen=True)
class Starts:
    """Seconds from the order to the first step: the image was not there; a job before had pulled it; pulled ahead."""

    cold: float
    warm: float
    ahead: float


async def one_image(cluster: Cluster, image: str) -> Starts:
    cold = await cluster.job(spec(image))
    warm = [await cluster.job(spec(image)) for _ in range(Keeping().min_uses - 1)][-1]
    await until_held(cluster, image, there=True)
    await asyncio.to_thread(cluster.node.runtime.forget, image)
    await until_held(cluster, image, there=False)
    async with asyncio.timeout(120):
        while image not in cluster.node.runtime.images():
            await asyncio.sleep(0.2)  # the runtime tells nobody
    ahead = await cluster.job(spec(image))
    return Starts(cold.first_step, warm.first_step, ahead.first_step)


async def measure(options: argparse.Namespace, rows: list[Row]) -> None:
    size, rate = options.megabytes * 10**6, options.megabits * 10**6 / 8
    with tempfile.TemporaryDirectory(prefix="images-") as scratch:
        async with opened(PREPULL_IMAGES=str(options.rounds)) as cluster:
            with registry.running(Path(scratch)) as images:
                images.bytes_per_second = rate
                cluster.node.runtime.trust(images.address)
                await cluster.job(spec(BUSYBOX))  # the tenant's walls, the node's images
                found = [
                    await one_image(cluster, push(images, Path(scratch), number, size))
                    for number in range(options.rounds)
                ]
    cold, warm, ahead = (Samples.of([getattr(each, name) for each in found]).p50 for name in ("cold", "warm", "ahead"))
    rows.append(
        Row(
            f"first step where its image of {options.megabytes} MB was pulled ahead",
            f"**{ms(ahead)}**",
            f"pulled by the job itself at {options.megabits} Mbit/s: {ms(cold)}; there from a job before: {ms(warm)}",
            f"1/{cold / ahead:.1f} of the cold start; {ahead / warm:.2f}x the warm one",
            COMMAND,
            [Gate(ahead / warm, 1.25, "at most", "at most 1.25 x the start with an image that was there")],
            {"cold, warm, ahead": [tuple(round(value, 3) for value in dataclasses.astuple(each)) for each in found]},
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Images pulled ahead of time, on a real node.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=100, help="of each image")
    parser.add_argument("--megabits", type=int, default=400, help="a second, of the network to the registry")
    options = parser.parse_args()
    with noted("prepulling") as rows:
        asyncio.run(measure(options, rows))


if __name__ == "__main__":
    main()
