"""Whether a cordon holds: asked before a cluster is removed, for a placement may be on its way when it is cordoned."""

from collections.abc import Callable

from services.scheduler.following import Follower
from services.scheduler.state import State
from shared.bus import Headers, Message
from shared.errors import Unavailable
from shared.requests import CordonAsked
from shared.wire import decode


class Cordons:
    """Of the leader: nobody else places, and the next one reads the clusters' records before it does."""

    def __init__(self, state: State, follower: Follower, leads: Callable[[], bool]) -> None:
        self._state, self._follower, self._leads = state, follower, leads

    async def answer(self, message: Message) -> tuple[bytes, Headers]:
        """svc.scheduler.cordoned: Unavailable until it holds."""
        asked = decode(CordonAsked, message.data)
        if not self._leads():
            raise Unavailable(what="the cordon", why="this scheduler does not lead any more")
        if self._follower.cluster_revisions.get(asked.cluster, 0) < asked.revision:
            raise Unavailable(what="the cordon", why="the scheduler has not heard of it yet")
        if any(job.placing is not None and job.placing.cluster == asked.cluster for job in self._state.jobs.values()):
            raise Unavailable(what="the cordon", why="a placement is on its way")
        return b"", {}
