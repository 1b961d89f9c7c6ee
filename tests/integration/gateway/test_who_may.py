"""The attacker's side of the HTTP door."""

import time
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.principal import Role
from shared.tenancy import new_api_key
from tests.integration.gateway.conftest import SPEC, Gateway, running

PATHS = (
    "/v1/jobs/{job}",
    "/v1/jobs/{job}/events",
    "/v1/jobs/{job}/logs",
    "/v1/jobs/{job}/logs?step=1",
    "/v1/jobs/{job}/logs?follow=true",
    "/v1/jobs/{job}/spec",
    "/v1/jobs/{job}/why",
    "/v1/jobs/{job}/artifacts",
    "/v1/jobs/{job}/artifacts/x",
    "/v1/jobs/{job}/summary",
)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Basic dXNlcjpwYXNz",
        "Bearer osp_x_y",
        "Bearer osp_aaaaaaaaaaaa_" + "A" * 43,
        "Bearer a.b.c",
        "Bearer " + "x" * 9000,
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
    ],
)
async def test_without_a_valid_credential_nothing_is_answered(gateway: Gateway, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("/v1/jobs", "/v1/me", "/v1/clusters"):
        answer = await gateway.http.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_key_with_the_right_id_and_a_wrong_secret_opens_nothing(gateway: Gateway) -> None:
    key_id = gateway.token.split("_")[1]
    answer = await gateway.get("/v1/me", f"osp_{key_id}_{'A' * 43}")
    assert answer.status_code == 401


async def test_another_tenants_job_does_not_exist(gateway: Gateway) -> None:
    job = await gateway.submit()
    _, stranger = await gateway.new_tenant(Role.ADMIN)
    for path in PATHS:
        answer = await gateway.get(path.format(job=job), stranger)
        unknown = await gateway.get(path.format(job="nosuchjob"), stranger)
        assert answer.status_code == unknown.status_code == 404, path
        assert answer.json()["detail"].replace(job, "") == unknown.json()["detail"].replace("nosuchjob", "")
    assert (await gateway.post(f"/v1/jobs/{job}/cancel", stranger)).status_code == 404
    assert (await gateway.get("/v1/jobs", stranger)).json()["jobs"] == []


async def test_the_same_key_of_two_tenants_makes_two_jobs(gateway: Gateway) -> None:
    _, other = await gateway.new_tenant()
    key = {"Idempotency-Key": "one"}
    first = await gateway.post("/v1/jobs", json=SPEC, headers=key)
    second = await gateway.post("/v1/jobs", other, json=SPEC, headers=key)
    assert first.json()["id"] != second.json()["id"]


async def test_a_reader_reads_and_no_more(gateway: Gateway) -> None:
    job = await gateway.submit()
    token, key = new_api_key("viewer", Role.READER, 0)
    _, own = new_api_key("again", Role.SUBMITTER, 0)
    tenant, submitter = await gateway.new_tenant(Role.READER)
    assert (await gateway.get("/v1/jobs", submitter)).status_code == 200
    assert (await gateway.post("/v1/jobs", submitter, json=SPEC)).status_code == 403
    assert (await gateway.post(f"/v1/jobs/{job}/cancel", submitter)).status_code == 403
    assert (await gateway.post("/v1/sources", submitter, json={})).status_code == 403
    assert key.opens_with(token)
    assert not own.opens_with(token)
    assert tenant


async def test_no_body_can_name_a_tenant(gateway: Gateway) -> None:
    answer = await gateway.post("/v1/jobs", json={**SPEC, "tenant": "t1"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "attacker.example"}, 421),
        ({"Host": "127.0.0.1.attacker.example:8080"}, 421),
        ({"Host": "localhost:1"}, 200),
        ({"Origin": "https://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://127.0.0.1.attacker.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
async def test_a_web_page_in_the_users_browser_can_do_nothing(
    gateway: Gateway, headers: dict[str, str], status: int
) -> None:
    assert (await gateway.get("/v1/me", headers=headers)).status_code == status
    answer = await gateway.post("/v1/jobs", json=SPEC, headers=headers)
    assert answer.status_code == (201 if status == 200 else status)


async def test_a_page_of_the_server_itself_may_call_it(gateway: Gateway) -> None:
    assert (await gateway.get("/v1/me", headers={"Origin": gateway.url})).status_code == 200


def public(key: Any) -> bytes:
    raw: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return raw


async def test_jwts_are_taken_only_when_everything_about_them_is_right(
    bus_server: Any, hub_bus: Any, tmp_path: Path
) -> None:
    good, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    big = rsa.generate_private_key(65537, 2048)
    keys = [
        {**jwt.algorithms.ECAlgorithm.to_jwk(good.public_key(), as_dict=True), "kid": "k1"},
        {**jwt.algorithms.RSAAlgorithm.to_jwk(big.public_key(), as_dict=True), "kid": "k2"},
    ]
    path = tmp_path / "jwks.json"
    path.write_bytes(orjson.dumps({"keys": keys}))
    settings = {"jwt_keys_file": path, "jwt_issuer": "https://issuer.example"}
    async with running(bus_server, hub_bus, tmp_path, **settings) as gateway:
        now = int(time.time())
        claims = {
            "iss": "https://issuer.example",
            "aud": "overspill",
            "sub": "alice",
            "tenant": gateway.tenant,
            "role": "submitter",
            "exp": now + 300,
        }

        async def status(key: Any, algorithm: str, kid: str | None = "k1", **changes: Any) -> int:
            body = {name: value for name, value in {**claims, **changes}.items() if value is not None}
            headers = {"kid": kid} if kid else None
            return (await gateway.get("/v1/me", jwt.encode(body, key, algorithm, headers))).status_code

        assert await status(good, "ES256") == 200
        assert await status(big, "RS256", "k2") == 200
        assert await status(good, "ES256", None) == 200
        assert await status(other, "ES256") == 401
        assert await status(good, "ES256", "k2") == 401
        assert await status(good, "ES256", exp=now - 300) == 401
        assert await status(good, "ES256", exp=None) == 401
        assert await status(good, "ES256", aud="other") == 401
        assert await status(good, "ES256", iss="https://evil.example") == 401
        assert await status(good, "ES256", iss=None) == 401
        assert await status(good, "ES256", sub=None) == 401
        assert await status(good, "ES256", tenant="nosuch") == 401
        assert await status(good, "ES256", tenant=None) == 401
        assert await status(good, "ES256", tenant="a.>") == 401
        assert await status(good, "ES256", role="god") == 401
        # The public key as HMAC secret, and no signature at all. PyJWT won't make the first: by hand.
        import base64
        import hashlib
        import hmac

        def part(data: bytes) -> str:
            return base64.urlsafe_b64encode(data).decode().rstrip("=")

        signed = f"{part(orjson.dumps({'alg': 'HS256', 'kid': 'k2'}))}.{part(orjson.dumps(claims))}"
        confused = f"{signed}.{part(hmac.digest(public(big), signed.encode(), hashlib.sha256))}"
        assert (await gateway.get("/v1/me", confused)).status_code == 401
        unsigned = f"{part(orjson.dumps({'alg': 'none'}))}.{part(orjson.dumps(claims))}."
        assert (await gateway.get("/v1/me", unsigned)).status_code == 401
