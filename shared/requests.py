"""Questions and answers on the bus (core request and reply, never stored). Errors come back as `Refusal`."""

from typing import Annotated, Literal

import orjson
from pydantic import Field, PlainSerializer

from shared.facts.order import Order
from shared.ids import ClusterId, Epoch, JobId, PoolId, StepNumber, TenantId
from shared.pods import PodTemplate
from shared.spec import JobSpec
from shared.walls import TenantWalls
from shared.wire import Model


class Refusal(Model):
    """An answer that is no: in header `Overspill-Error: 1`."""

    code: str
    detail: str
    status: int = 500


class OrdersAsked(Model):
    """edge.<cluster>.<machine>.orders"""

    after: str | None = None
    """Go on behind this order: `<tenant>.<job>` of the last one told."""


class OrdersTold(Model):
    """Orders that stand for this target."""

    orders: list[Order]
    complete: bool = True
    """False: there are more; ask again with `after` the last of these."""


class GrantAsked(Model):
    """edge.<cluster>.<machine>.grant: the machine took, or is about to take, this attempt."""

    tenant: TenantId
    job: JobId
    epoch: Epoch
    claim: str | None = None
    """Given when in doubt: granted only if the accepted claim is this one and nobody
    told the attempt's end.
    """


class PodGrant(Model):
    """What a controller needs beside, to make a pod of the attempt."""

    pool: PoolId
    namespace: str = Field(max_length=63)
    template: PodTemplate
    walls: TenantWalls


class Grant(Model):
    """What an attempt needs and an order must not hold. Written by the edge into the attempt directory, mode 0600."""

    tenant: TenantId
    job: JobId
    epoch: Epoch
    spec: Annotated[JobSpec, PlainSerializer(lambda spec: orjson.loads(spec.canonical()))]
    """Told without its defaults: an edge of the version before refuses words that it does not know, so it must meet
    only those which the job really uses."""
    bus_urls: list[str]
    bus_jwt: str
    """User credential for exactly this epoch of this job."""
    bus_seed: str
    created_unix_ns: int
    traceparent: str | None = None
    pod: PodGrant | None = None
    """Told to a controller; not written into the attempt directory."""


class WallsStanding(Model):
    """How a tenant's walls stand in the asking cluster."""

    tenant: TenantId
    stands: bool = True
    why: str = Field(default="", max_length=500)
    """Why not."""


class WallsAsked(Model):
    """edge.<cluster>.kube.walls: what is to become of these tenants' walls."""

    standing: list[WallsStanding] = Field(max_length=100)


class WallsTold(Model):
    """Of a tenant in neither list the hub knows nothing: what stands stays."""

    keep: list[TenantWalls] = Field(default_factory=list)
    gone: list[TenantId] = Field(default_factory=list)
    """Deleted, or being deleted."""


class UrlsAsked(Model):
    """ask.<tenant>.<job>.<epoch>.urls: presigned addresses for this attempt's source and artifacts."""

    source: bool = False
    artifacts: list[str] = Field(default_factory=list, max_length=64)
    """Display names of artifacts to be stored."""


class Presigned(Model):
    method: Literal["GET", "PUT"]
    url: str
    key: str
    headers: dict[str, str] = Field(default_factory=dict)
    expires_unix: int


class UrlsTold(Model):
    source: Presigned | None = None
    artifacts: dict[str, Presigned] = Field(default_factory=dict)


class SourceUploadAsked(Model):
    """svc.cache.source-upload: where a client may put a packed tree of exactly this content."""

    tenant: TenantId
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=1, le=5 * 2**30)


class SourceUploadTold(Model):
    source: str
    """What the spec's `source: {tree: …}` names."""
    exists: bool
    """The object store has it already: nothing to upload."""
    put: Presigned | None = None


class DownloadAsked(Model):
    """svc.cache.download: a presigned GET of one of the tenant's own objects."""

    tenant: TenantId
    key: str
    filename: str = ""


class SourceCheckAsked(Model):
    """svc.cache.source-check: is the tree there that a spec names?"""

    tenant: TenantId
    source: str


class SourceCheckTold(Model):
    exists: bool


class DurableAsked(Model):
    """ask.<tenant>.<job>.<epoch>.durable"""

    steps: list[StepNumber] = Field(max_length=256)
    flush: bool = False
    """Write what is waiting now: the attempt is over."""


class DurableTold(Model):
    """Bytes of each step's log that are in the object store, from offset 0 without a gap. `complete`: its last chunk
    too.
    """

    durable_bytes: dict[StepNumber, int]
    complete: list[StepNumber]


class DesiredTold(Model):
    """ask.<tenant>.<job>.<epoch>.desired: what should be of this attempt, for one that no edge brings its orders to.

    The newest order of the job, which may be for a later attempt. None: nothing of the job is wanted anywhere.
    """

    order: Order | None = None


class LogAsked(Model):
    """svc.log-collector.read: the log so far, from the object store and from what still waits in the stream."""

    tenant: TenantId
    job: JobId
    epoch: Epoch
    step: StepNumber
    offset: int = Field(default=0, ge=0)
    limit_bytes: int = Field(default=524_288, ge=1, le=524_288)
    since_unix_ms: int | None = None
    """Begin at the first byte that came at or after this instant, if that is later than `offset`."""
    over: bool = False
    """The attempt is over: the answer has all that ever came of the log, else it is Unavailable; and says what was
    written.
    """


ANSWER = "Overspill-Answer"
"""Header of a reply whose payload is bytes: what is to be said of them."""


class LogTold(Model):
    """Rides in header `Overspill-Answer` of a reply whose payload is the bytes."""

    offset: int
    """Where the payload begins (it differs from what was asked after `since_unix_ms`, or past a hole)."""
    end: int
    """Bytes known of this log so far."""
    complete: bool
    """`end` is the whole log."""
    times: list[tuple[int, int]] = Field(default_factory=list)
    """(offset, unix milliseconds), ascending, covering the payload."""
    missing_bytes: int = 0
    """Given up before others that came: lost with their machine."""
    written_bytes: int = 0
    """How long the log was on its machine as far as the hub was told; asked for with `over`. Past `end`: lost, or on
    their way.
    """
    verified: bool | None = None
    """Whether the whole log has the sha256 the runner said; told with its last bytes. None: not known, or bytes are
    missing."""


class ForgetAsked(Model):
    """svc.log-collector.forget: delete all logs of a job that is over. svc.cache.forget: all its artifacts."""

    tenant: TenantId
    job: JobId | None = None
    """None: of all its jobs, and whatever else the tenant has."""


class ForgetTold(Model):
    objects: int
    """How many were deleted."""


class CordonAsked(Model):
    """svc.scheduler.cordoned: answered, with nothing, once no placement in the cluster is decided or on its way."""

    cluster: ClusterId
    revision: int
    """Of the record that cordons it, in bucket CLUSTERS."""


class WhyAsked(Model):
    """svc.scheduler.why"""

    tenant: TenantId
    job: JobId


class WhyTold(Model):
    state: str
    code: str
    """The binding reason, a stable word."""
    detail: str
    """One line for a person, naming the remedy where there is one."""
    position: int | None = None
    """Jobs of all tenants that go before it, when queued."""
    candidates: dict[str, str] = Field(default_factory=dict)
    """For each machine looked at: why it can't take the job."""
