"""/v1/jobs: create, list, look, cancel, delete."""

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from services.gateway.desk import Admin, Caller, Desk, Submitter, TheDesk
from services.gateway.model import Submission
from services.gateway.presenting import job_view, summary
from services.gateway.projection.reading import Cursor, Filters, JobPicture
from services.gateway.refusals import BadRequest, UnsupportedMedia
from services.gateway.routes.answers import header, problems, show
from services.gateway.routes.reading_input import idempotency_key, instant_ns, label
from services.gateway.views import JobPage, JobView, SummaryView, WhyView
from shared.errors import NotFound, Unavailable
from shared.flow import Svc
from shared.ids import job_id_from_key, random_id
from shared.lifecycle import JobState
from shared.requests import WhyAsked, WhyTold
from shared.spec_reading import read_raw
from shared.telemetry import current_traceparent
from shared.wire import decode, encode

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JSON_TYPES = ("application/json",)
YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
SPEC_EXAMPLE = {
    "name": "build",
    "runs-on": ["linux"],
    "machineType": "small",
    "steps": [{"name": "greet", "run": "echo hello"}, {"name": "test", "run": "make test", "timeout": "10m"}],
    "artifacts": [{"name": "wheel", "paths": ["dist/*.whl"]}],
}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The job spec",
        "content": {
            kind: {"schema": {"$ref": "#/components/schemas/JobSpec"}, "example": SPEC_EXAMPLE}
            for kind in ("application/json", "application/yaml")
        },
    }
}


@router.post(
    "",
    status_code=201,
    response_model=JobView,
    openapi_extra=_BODY,
    responses={
        200: {
            "model": JobView,
            "description": "The same submission made it before (same Idempotency-Key and spec)",
            "headers": {
                **header("Location", "path of the job"),
                **header("Idempotency-Replayed", "`true`"),
            },
        },
        201: {"description": "Made", "headers": header("Location", "path of the job")},
        **problems(409, 413, 415),
    },
)
async def create_job(
    request: Request,
    caller: Submitter,
    desk: TheDesk,
    key: Annotated[str | None, Header(alias="Idempotency-Key", description="the same key makes one job")] = None,
) -> Response:
    """Submit a job. Answers from the record just written; `Location` names it."""
    key = idempotency_key(key)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    submission = Submission(
        principal=caller,
        raw=await _parse(kind, body),
        size_bytes=len(body),
        job=job_id_from_key(caller.tenant, key) if key else random_id(),
        via="http",
        named_by="Idempotency-Key" if key else None,
        traceparent=current_traceparent(),
    )
    outcome = await desk.admission.submit(submission)
    headers = {"Location": f"/v1/jobs/{outcome.record.job}"}
    if not outcome.created:
        headers["Idempotency-Replayed"] = "true"
    # A replay may find the job well on its way: its steps are then part of the answer.
    record = outcome.record
    picture = JobPicture(record) if outcome.created else await desk.picture(record.tenant, record.job)
    return show(await _view(desk, picture), 201 if outcome.created else 200, headers)


async def _parse(kind: str, body: bytes) -> Any:
    if kind in JSON_TYPES:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequest(why=f"the body is no JSON: {error}") from error
    if kind in YAML_TYPES:
        # A large one takes a second: other requests go on meanwhile.
        return await asyncio.to_thread(read_raw, body)
    raise UnsupportedMedia(wanted="application/json or application/yaml", given=repr(kind[:100]))


@router.get("", response_model=JobPage, responses=problems())
async def list_jobs(
    caller: Caller,
    desk: TheDesk,
    state: Annotated[list[JobState] | None, Query(description="may repeat: any of them")] = None,
    name: Annotated[str | None, Query(max_length=200, description="exactly this display name")] = None,
    labels: Annotated[
        list[str] | None, Query(alias="label", max_length=16, description="key=value; may repeat: all of them")
    ] = None,
    since: Annotated[str | None, Query(max_length=40, description="created at or after: RFC 3339 or unix")] = None,
    until: Annotated[str | None, Query(max_length=40, description="created before: RFC 3339 or unix")] = None,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """The tenant's jobs, newest first."""
    filters = Filters(
        states=tuple(sorted(set(state or ()))),
        name=name,
        labels=tuple(label(text) for text in labels or ()),
        since_ns=instant_ns("since", since),
        until_ns=instant_ns("until", until),
        after=Cursor.decode(cursor) if cursor is not None else None,
        limit=limit + 1,
    )
    found = await desk.reading.jobs(caller.tenant, filters)
    page = found[:limit]
    last = page[-1].record if len(found) > limit else None
    more = Cursor(last.created_unix_ns, last.job).encode() if last else None
    return show(JobPage(jobs=[summary(job) for job in page], next_cursor=more))


@router.get("/{job}", response_model=JobView, responses=problems(404))
async def get_job(job: str, caller: Caller, desk: TheDesk) -> Response:
    """One job with its steps, attempts, artifacts and where its time went."""
    return show(await _view(desk, await desk.picture(caller.tenant, job)))


async def _view(desk: Desk, picture: JobPicture) -> JobView:
    names: list[str] | None = None
    record = picture.record
    if len(picture.steps) < record.step_count:
        try:
            spec = await desk.spec(record.tenant, record.job)
        except Unavailable:
            # Names of steps to come are a courtesy; history is told without the bus.
            spec = None
        names = spec.step_names() if spec else None
    return job_view(picture, names, int(desk.clock.now() * 1e9))


@router.post(
    "/{job}/cancel",
    status_code=202,
    response_model=JobView,
    responses={200: {"model": JobView, "description": "It had ended already; nothing is done"}, **problems(404)},
)
async def cancel_job(job: str, caller: Submitter, desk: TheDesk) -> Response:
    """Ask for the job's end. Asking again changes nothing."""
    picture = await desk.picture(caller.tenant, job)
    record = await desk.cancelling.request(caller, job)
    if record.ended:
        return show(await _view(desk, await desk.picture(caller.tenant, job)))
    view = (await _view(desk, picture)).model_copy(update={"cancel_requested": True})
    return show(view, 202)


@router.delete(
    "/{job}",
    status_code=204,
    response_class=Response,
    responses={
        202: {"description": "It was live: it is being cancelled, and goes when it has ended"},
        204: {"description": "It is deleted"},
        **problems(404, 409),
    },
)
async def delete_job(
    job: str,
    caller: Admin,
    desk: TheDesk,
    cancel: Annotated[bool, Query(description="a live job: cancel it first")] = False,  # noqa: FBT002
) -> Response:
    """Delete a job that has ended, with its history, log and artifacts. Its Idempotency-Key stays used for a week."""
    await desk.picture(caller.tenant, job)
    had_ended = await desk.deleting.job(caller, job, cancel=cancel)
    return Response(status_code=204 if had_ended else 202)


@router.get(
    "/{job}/spec",
    responses={
        200: {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobSpec"}}}},
        **problems(404),
    },
)
async def get_spec(job: str, caller: Caller, desk: TheDesk) -> Response:
    """The spec as it was admitted, defaults left out."""
    await desk.picture(caller.tenant, job)
    spec = await desk.spec(caller.tenant, job)
    if spec is None:
        raise NotFound(what="spec any more: it left with the live record of job", name=job)
    return Response(spec.canonical(), media_type="application/json")


@router.get("/{job}/why", response_model=WhyView, responses=problems(404))
async def get_why(job: str, caller: Caller, desk: TheDesk) -> Response:
    """Why the job is where it is: what it waits for, or why it ended."""
    record = (await desk.picture(caller.tenant, job)).record
    if record.ended:
        reason = record.reason.value if record.reason else record.state.value
        return show(WhyView(state=record.state.value, code=reason, detail=record.message or reason.replace("_", " ")))
    reply = await desk.bus.request(Svc("scheduler", "why"), encode(WhyAsked(tenant=caller.tenant, job=job)))
    told = decode(WhyTold, reply.data)
    return show(
        WhyView(
            state=told.state, code=told.code, detail=told.detail, position=told.position, candidates=told.candidates
        )
    )


@router.get("/{job}/summary", response_model=list[SummaryView], responses=problems(404))
async def get_summary(job: str, caller: Caller, desk: TheDesk) -> Response:
    """The markdown its steps wrote to $OVERSPILL_SUMMARY, of the newest attempt, in step order."""
    record = (await desk.picture(caller.tenant, job)).record
    rows = await desk.reading.summaries(caller.tenant, job, record.epoch)
    views = [{"step": step, "markdown": markdown} for step, markdown in rows]
    return Response(orjson.dumps(views), media_type="application/json")
