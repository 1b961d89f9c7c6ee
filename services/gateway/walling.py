"""Tells a cluster's controller which tenants' walls are to stand, and which to go; keeps what it tells of them."""

from services.gateway.tenants import Directory
from shared.bus import Bus, Headers, Message
from shared.errors import Forbidden
from shared.flow import WALLS, Edge
from shared.pods import KUBE
from shared.requests import WallsAsked, WallsStanding, WallsTold
from shared.wire import decode, encode


class Walls:
    """Answers `edge.<cluster>.kube.walls`. A tenant is gone only if there is a trace of its deletion: a bus that lost
    its store must not tear down what stands.
    """

    subject = Edge.filter(op="walls")

    def __init__(self, bus: Bus, directory: Directory) -> None:
        self._bus, self._directory = bus, directory

    async def answer(self, message: Message) -> tuple[bytes, Headers]:
        at = Edge.parse(message.subject)
        if at.machine != KUBE:
            raise Forbidden(why="walls are a controller's business")
        asked = decode(WallsAsked, message.data)
        told = self.told(at.cluster, [each.tenant for each in asked.standing])
        for each in asked.standing:
            await self._keep(at.cluster, each)
        return encode(told), {}

    def told(self, cluster: str, tenants: list[str]) -> WallsTold:
        """Of a cluster without a record nothing is known, so nothing of it goes."""
        served = self._directory.clusters.get(cluster)
        keep, gone = [], []
        for tenant in tenants:
            record = self._directory.tenants.get(tenant)
            if record is None:
                gone += [tenant] if tenant in self._directory.tenants.removed else []
            elif record.closing_unix is not None:
                gone.append(tenant)
            elif served is not None and served.serves(tenant):
                keep.append(record.walls)
            elif served is not None:
                gone.append(tenant)
        return WallsTold(keep=keep, gone=gone)

    async def _keep(self, cluster: str, standing: WallsStanding) -> None:
        """Written when it changed."""
        bucket, key, value = self._bus.bucket(WALLS), f"{cluster}.{standing.tenant}", encode(standing)
        before = await bucket.get(key)
        if before is None or before.value != value:
            await bucket.put(key, value)
