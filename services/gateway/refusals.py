"""What the doors refuse, each with its remedy."""

from shared.errors import OverspillError, Rejected, Unavailable


class LimitExceeded(Rejected):
    """{why}"""

    code = "limit_exceeded"


class TooManyQueued(Rejected):
    """{queued} jobs of {tenant} wait already and its limit is {limit}: wait until some have begun, or cancel some."""

    code = "too_many_queued"
    status = 429
    retry_after_seconds = 5


class TooManyRequests(Rejected):
    """{tenant} asks more than {rate:g} times a second: slow down, or use the bus door for bulk."""

    code = "rate_limited"
    status = 429

    def __init__(self, *, tenant: str, rate: float, retry_after_seconds: int) -> None:
        super().__init__(tenant=tenant, rate=rate)
        self.retry_after_seconds = retry_after_seconds


class IdempotencyConflict(Rejected):
    """This {what} was used before for a job with another spec ({job}): use a new one for new content."""

    code = "idempotency_conflict"


class JobDeleted(Rejected):
    """This name made the job {job}, which was deleted: use a new one; it becomes free some days after the deletion."""

    code = "job_deleted"
    status = 409


class JobIsLive(Rejected):
    """Job {job} is {state}: cancel it first (POST /v1/jobs/{job}/cancel), or delete it with `?cancel=true`."""

    code = "job_is_live"
    status = 409


class SourceMissing(Rejected):
    """The tree {tree} was never uploaded, or has expired: run `overspill run`, or POST /v1/sources and upload it."""

    code = "source_missing"


class NoSuchTenant(Rejected):
    """There is no tenant {tenant}: an operator creates it before its first job."""

    code = "no_such_tenant"
    status = 403


class BadRequest(Rejected):
    """{why}"""

    code = "bad_request"
    status = 400


class InvalidBody(Rejected):
    """{why}"""

    code = "invalid_request"


class ClusterInUse(Rejected):
    """{count} jobs run in the cluster {cluster} ({jobs}): drain it, wait until they have ended, or remove it by force,
    which loses what runs there.
    """

    code = "cluster_in_use"
    status = 409


class TenantInUse(Rejected):
    """{count} jobs of the tenant {tenant} run ({jobs}): wait until they have ended, or delete it by force, which
    cancels them.
    """

    code = "tenant_in_use"
    status = 409


class TenantCloses(Rejected):
    """The tenant {tenant} is being deleted: take another name; this one is free again some days after the deletion."""

    code = "tenant_closes"
    status = 409


class CordonUnconfirmed(Unavailable):
    """No scheduler confirms that nothing more is placed in {cluster} ({why}): try again, or remove it with force."""

    code = "cordon_unconfirmed"


class TooManyKeys(Rejected):
    """The tenant {tenant} has {limit} API keys, the most there may be: revoke one that is not used."""

    code = "too_many_keys"
    status = 409


class NamespaceTaken(Rejected):
    """The namespace {namespace} is {owner}'s: name another one."""

    code = "namespace_taken"
    status = 409


class BodyTooLarge(Rejected):
    """The body is larger than {limit} bytes: move long scripts and data into the source."""

    code = "body_too_large"
    status = 413


class UnsupportedMedia(Rejected):
    """The body must be {wanted}, and Content-Type must say so; it says {given}."""

    code = "unsupported_media_type"
    status = 415


class RangeUnsatisfiable(Rejected):
    """The log has {total} bytes so far; {wanted} lies outside of it."""

    code = "range_not_satisfiable"
    status = 416

    def __init__(self, *, total: int, wanted: str) -> None:
        super().__init__(total=total, wanted=wanted)
        self.total = total


class WrongHost(Rejected):
    """This server does not answer for the host {host}: use its address, or add the name to its allowed hosts."""

    code = "wrong_host"
    status = 421


class CrossSite(Rejected):
    """Requests from web pages of {origin} are refused: add it to the allowed origins if it is yours."""

    code = "cross_site"
    status = 403


class NotPlacedHere(Rejected):
    """Attempt {epoch} of job {job} is not placed on this machine: drop it and ask for your orders."""

    code = "not_placed_here"
    status = 409


class NoRoom(Unavailable):
    """No new job is taken right now: {why}. Running jobs go on; this one is taken when there is room: try again."""

    code = "no_room"
    retry_after_seconds = 10


class TooManyFollowers(Unavailable):
    """{what} has as many followers as it may ({why}); read without `follow`, or try again later."""

    code = "too_many_followers"


class TooManyOfYours(TooManyFollowers):
    """{what} has as many followers as it may ({why}); end some, or read without `follow`."""

    status = 429
    retry_after_seconds = 5


class ProjectionBehind(OverspillError):
    """The read model is being rebuilt and can't answer yet; jobs are accepted meanwhile. Try again in a few seconds."""

    code = "projection_behind"
    status = 503
