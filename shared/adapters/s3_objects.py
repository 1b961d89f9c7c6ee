"""`shared.objects.Objects` over aioboto3: any S3 that knows path-style addresses and signature version 4."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal, Self
from urllib.parse import quote

import structlog

from shared.errors import NotFound, OverspillError, Unavailable
from shared.objects import ObjectInfo
from shared.settings import ObjectSettings

log = structlog.get_logger()

DELETE_BATCH = 1000
CONNECTIONS = 32
_ABSENT = ("404", "NoSuchKey", "NotFound")
_BUSY = ("SlowDown", "RequestTimeout", "RequestLimitExceeded", "Throttling")


class BadCredentialsFile(OverspillError):
    """{path} holds no object store credentials; it needs two lines, access key id and secret access key."""

    code = "bad_credential"


class StoreRefused(OverspillError):
    """The object store refused {what}: {why}. Check its credentials, bucket and free space."""

    code = "object_store_refused"


class S3Objects:
    """See `shared.objects.Objects`. Make it with `S3Objects.connect`."""

    def __init__(self, client: Any, signer: Any, settings: ObjectSettings) -> None:
        self._s3 = client
        self._signer = signer
        self._bucket = settings.bucket
        self._url = settings.url

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: ObjectSettings) -> AsyncIterator[Self]:
        """One session for as long as the context lasts. Touches no network: the store may come later than its users."""
        # aioboto3 costs 0.3 s to import: paid by who really connects.
        import aioboto3
        from aiobotocore.config import AioConfig

        config = AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=3,
            read_timeout=30,
            max_pool_connections=CONNECTIONS,
            # Stores that are not Amazon's know no default checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        options: dict[str, Any] = {"region_name": settings.region, "config": config, **_credentials(settings)}
        session = aioboto3.Session()
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(session.client("s3", endpoint_url=settings.url, **options))
            signer = client
            if settings.public_url not in (None, settings.url):
                signer = await stack.enter_async_context(
                    session.client("s3", endpoint_url=settings.public_url, **options)
                )
            yield cls(client, signer, settings)

    async def ensure_bucket(self) -> None:
        """Make the bucket if it isn't there."""
        with self._errors("the bucket"):
            try:
                await self._s3.head_bucket(Bucket=self._bucket)
            except self._s3.exceptions.ClientError as error:
                if _code(error) not in (*_ABSENT, "NoSuchBucket"):
                    raise
                with contextlib.suppress(self._s3.exceptions.BucketAlreadyOwnedByYou):
                    await self._s3.create_bucket(Bucket=self._bucket)

    async def put(self, key: str, data: bytes) -> None:
        with self._errors(key):
            await self._s3.put_object(Bucket=self._bucket, Key=key, Body=data)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        if end is not None and end <= start:
            return b""
        whole = start == 0 and end is None
        span = {} if whole else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        with self._errors(key):
            try:
                answer = await self._s3.get_object(Bucket=self._bucket, Key=key, **span)
            except self._s3.exceptions.ClientError as error:
                if _code(error) in ("InvalidRange", "416"):
                    return b""
                raise
            async with answer["Body"] as body:
                data: bytes = await body.read()
        return data

    async def info(self, key: str) -> ObjectInfo | None:
        try:
            with self._errors(key):
                head = await self._s3.head_object(Bucket=self._bucket, Key=key)
        except NotFound:
            return None
        return ObjectInfo(key, head["ContentLength"], head["LastModified"].timestamp())

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """In the order of their keys."""
        token: dict[str, str] = {}
        while True:
            with self._errors(prefix):
                page = await self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **token)
            for item in page.get("Contents", ()):
                yield ObjectInfo(item["Key"], item["Size"], item["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def delete(self, *keys: str) -> None:
        for first in range(0, len(keys), DELETE_BATCH):
            batch = [{"Key": key} for key in keys[first : first + DELETE_BATCH]]
            with self._errors(batch[0]["Key"]):
                answer = await self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True})
            refused = [item for item in answer.get("Errors", ()) if item.get("Code") not in _ABSENT]
            if refused:
                raise StoreRefused(what=f"to delete {refused[0].get('Key')}", why=refused[0].get("Message"))

    async def presign(
        self,
        method: Literal["GET", "PUT"],
        key: str,
        *,
        expires_seconds: int,
        size_bytes: int | None = None,
        filename: str = "",
    ) -> str:
        params: dict[str, Any] = {"Bucket": self._bucket, "Key": key}
        if method == "PUT" and size_bytes is not None:
            params["ContentLength"] = size_bytes
        if method == "GET" and filename:
            params["ResponseContentDisposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        call = "get_object" if method == "GET" else "put_object"
        url: str = await self._signer.generate_presigned_url(call, Params=params, ExpiresIn=expires_seconds)
        return url

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """The store's errors as ours."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _ABSENT:
                raise NotFound(what="object", name=what) from error
            if status >= 500 or code in _BUSY:  # noqa: PLR2004 - HTTP: the server's fault
                why = f"it answered {status} {code}; see to its log and to free space on its disk"
                raise Unavailable(what=f"the object store at {self._url}", why=why) from error
            raise StoreRefused(what=what, why=str(error)) from error
        except (BotoCoreError, OSError, TimeoutError) as error:
            raise Unavailable(
                what=f"the object store at {self._url}", why=str(error) or type(error).__name__
            ) from error


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _credentials(settings: ObjectSettings) -> dict[str, str]:
    """Without a file: the environment and the machine's role, as every S3 client looks for them."""
    if settings.credentials_file is None:
        return {}
    lines = [line.strip() for line in settings.credentials_file.read_text().splitlines() if line.strip()]
    if len(lines) != 2:  # noqa: PLR2004 - the id and the secret
        raise BadCredentialsFile(path=settings.credentials_file)
    return {"aws_access_key_id": lines[0], "aws_secret_access_key": lines[1]}
