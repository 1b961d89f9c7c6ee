"""Everything the routes need, made once by `wiring` and handed to them by the application."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.gateway.admission import Admission
from services.gateway.auth.door import Door, require
from services.gateway.cancelling import Cancelling
from services.gateway.deleting import Deleting
from services.gateway.enrolling import Enrolling
from services.gateway.figures.ledger import Ledger
from services.gateway.figures.refusing import Refusing
from services.gateway.figures.status import Status
from services.gateway.log_reading.live import LiveLogs
from services.gateway.projection.feed import Feed
from services.gateway.projection.followers import Followers
from services.gateway.projection.reading import JobPicture, Reading
from services.gateway.room import Room
from services.gateway.settings import Settings
from services.gateway.standing import newest_record
from services.gateway.tenants import Directory
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import NotFound
from shared.flow import JOBS, Spec
from shared.ids import is_token
from shared.issuer import Issuer
from shared.principal import Principal, Role
from shared.spec import JobSpec


@dataclass(frozen=True, slots=True)
class Desk:
    settings: Settings
    bus: Bus
    clock: Clock
    directory: Directory
    door: Door
    admission: Admission
    cancelling: Cancelling
    room: Room
    deleting: Deleting
    enrolling: Enrolling
    issuer: Issuer
    feed: Feed
    reading: Reading
    followers: Followers
    live: LiveLogs
    ledger: Ledger
    status: Status
    refusing: Refusing

    async def picture(self, tenant: str, job: str) -> JobPicture:
        """The job as projected, or as the bus has it when the projection lags. Another tenant's job does not exist
        here. Raises NotFound.
        """
        if not is_token(job):
            raise NotFound(what="job", name=repr(job[:60]))
        picture = await self.reading.job(tenant, job)
        if picture is not None:
            return picture
        record = await newest_record(self.bus, tenant, job)
        if record is None:
            raise NotFound(what="job", name=job)
        return JobPicture(record)

    async def spec(self, tenant: str, job: str) -> JobSpec | None:
        """None: it left with the live record."""
        found = await self.bus.last(JOBS, Spec(tenant, job))
        return JobSpec.model_validate_json(found.data) if found else None


def desk_of(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


TheDesk = Annotated[Desk, Depends(desk_of)]


async def _caller(request: Request, desk: TheDesk) -> Principal:
    principal = desk.door.admit(request.headers.get("authorization"))
    request.state.tenant = principal.tenant
    return principal


Caller = Annotated[Principal, Depends(_caller)]


async def _submitter(caller: Caller) -> Principal:
    require(caller, Role.SUBMITTER)
    return caller


async def _admin(caller: Caller) -> Principal:
    require(caller, Role.ADMIN)
    return caller


async def _operator(caller: Caller) -> Principal:
    require(caller, Role.OPERATOR)
    return caller


Admin = Annotated[Principal, Depends(_admin)]
Operator = Annotated[Principal, Depends(_operator)]
Submitter = Annotated[Principal, Depends(_submitter)]
