"""/v1/jobs/{job}/artifacts and /v1/sources: addresses of bytes; the bytes themselves never pass here."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Request
from pydantic import Field, ValidationError
from starlette.responses import RedirectResponse, Response

from services.gateway.desk import Caller, Submitter, TheDesk
from services.gateway.presenting import artifact_view, time_of
from services.gateway.refusals import BadRequest, InvalidBody, LimitExceeded
from services.gateway.routes.answers import header, problems, show
from services.gateway.views import ArtifactView, DownloadView, SourceView, View
from shared.clock import iso
from shared.errors import NotFound
from shared.flow import Svc
from shared.requests import DownloadAsked, Presigned, SourceUploadAsked, SourceUploadTold
from shared.wire import decode, encode

router = APIRouter(prefix="/v1", tags=["artifacts and sources"])


class SourceAsked(View):
    """A packed tree that the client has."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the packed tree")
    size_bytes: int = Field(ge=1, le=5 * 2**30)


@router.get("/jobs/{job}/artifacts", response_model=list[ArtifactView], responses=problems(404))
async def list_artifacts(job: str, caller: Caller, desk: TheDesk) -> Response:
    """What the newest attempt stored, by name."""
    picture = await desk.picture(caller.tenant, job)
    views = [artifact_view(artifact, job).model_dump() for artifact in picture.artifacts]
    return Response(orjson.dumps(views), media_type="application/json")


@router.get(
    "/jobs/{job}/artifacts/{name:path}",
    response_model=DownloadView,
    responses={
        302: {
            "description": "`Location` is the presigned address",
            "headers": header("Location", "where the bytes are, for some minutes"),
        },
        **problems(404),
    },
)
async def get_artifact(
    job: str, name: str, caller: Caller, desk: TheDesk, accept: Annotated[str, Header()] = "*/*"
) -> Response:
    """With `Accept: application/json` the address in JSON, else a redirect to it."""
    picture = await desk.picture(caller.tenant, job)
    artifact = next((artifact for artifact in picture.artifacts if artifact.name == name), None)
    if artifact is None:
        known = ", ".join(repr(artifact.name) for artifact in picture.artifacts[:10]) or "none yet"
        raise NotFound(what=f"artifact (the job has {known}) named", name=repr(name[:200]))
    asked = DownloadAsked(tenant=caller.tenant, key=artifact.key, filename=f"{artifact.name}.tar.gz")
    reply = await desk.bus.request(Svc("cache", "download"), encode(asked))
    presigned = decode(Presigned, reply.data)
    if "application/json" in accept.lower():
        return show(_download(presigned))
    return RedirectResponse(presigned.url, 302)


@router.post(
    "/sources",
    response_model=SourceView,
    responses=problems(413),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/SourceAsked"},
                    "example": {
                        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                        "size_bytes": 4,
                    },
                }
            },
        }
    },
)
async def create_source(request: Request, caller: Submitter, desk: TheDesk) -> Response:
    """Where to PUT a packed tree of exactly this content; nothing to upload when it `exists`."""
    try:
        body = SourceAsked.model_validate(orjson.loads(await request.body()))
    except orjson.JSONDecodeError as error:
        raise BadRequest(why=f"the body is no JSON: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidBody(why=f"body {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    limit = desk.directory.tenant(caller.tenant).limits.max_source_bytes
    if body.size_bytes > limit:
        raise LimitExceeded(
            why=f"the packed tree has {body.size_bytes} bytes, {caller.tenant}'s limit is {limit}: leave files out "
            "(.overspillignore), or fetch them in a step"
        )
    asked = SourceUploadAsked(tenant=caller.tenant, sha256=body.sha256, size_bytes=body.size_bytes)
    reply = await desk.bus.request(Svc("cache", "source-upload"), encode(asked))
    told = decode(SourceUploadTold, reply.data)
    return show(SourceView(source=told.source, exists=told.exists, put=_download(told.put) if told.put else None))


def _download(presigned: Presigned) -> DownloadView:
    return DownloadView(
        url=presigned.url,
        method=presigned.method,
        headers=presigned.headers,
        expires=time_of(presigned.expires_unix * 1_000_000_000) or iso(0),
    )
