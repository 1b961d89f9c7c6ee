"""JWTs: signature by a configured key whose kind decides the algorithm, audience, issuer and expiry checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import orjson

from services.gateway.settings import Settings
from shared.errors import OverspillError, Unauthenticated
from shared.ids import is_token
from shared.principal import Principal, Role

# Never the token's own choice: a public RSA key must not serve as an HMAC secret.
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA", "oct": "HS256"}
_MIN_SECRET_CHARACTERS = 43
"""256 bits in base64."""


class BadKeyFile(OverspillError):
    """{path} holds no usable JWKS ({why}): give {{"keys": [...]}} with RSA, EC P-256, Ed25519 or 256-bit oct keys."""

    code = "bad_key_file"


@dataclass(frozen=True, slots=True)
class Key:
    key_id: str | None
    algorithm: str
    key: Any


class Tokens:
    """Raises BadKeyFile when made from a file that isn't right."""

    def __init__(self, keys: list[Key], issuer: str | None, audience: str) -> None:
        self._keys, self._issuer, self._audience = keys, issuer, audience

    @classmethod
    def from_settings(cls, settings: Settings) -> "Tokens":
        keys = read_keys(settings.jwt_keys_file) if settings.jwt_keys_file else []
        return cls(keys, settings.jwt_issuer, settings.jwt_audience)

    def principal(self, token: str) -> Principal:
        """Raises Unauthenticated."""
        if not self._keys:
            raise Unauthenticated(why="this server takes no JWTs: use an API key (osp_…), or configure jwt_keys_file")
        try:
            key = self._key_for(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options={"require": ["exp", "aud", "sub", *(["iss"] if self._issuer else [])]},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthenticated(why=f"the JWT is refused: {error}; get a new one from its issuer") from error
        return _principal(claims)

    def _key_for(self, header: dict[str, Any]) -> Key:
        wanted = header.get("kid")
        for key in self._keys:
            if key.algorithm == header.get("alg") and (wanted is None or key.key_id in (None, wanted)):
                return key
        raise ValueError("it is signed by no key this server knows")


def _principal(claims: dict[str, Any]) -> Principal:
    tenant, subject = claims.get("tenant"), claims["sub"]
    if not isinstance(tenant, str) or not is_token(tenant):
        raise Unauthenticated(why="the JWT has no claim `tenant` with a tenant's id")
    try:
        role = Role(claims.get("role", Role.READER))
    except ValueError as error:
        roles = ", ".join(Role)
        raise Unauthenticated(why=f"the JWT's claim `role` is none of {roles}") from error
    return Principal(tenant=tenant, subject=f"jwt:{subject}"[:200], role=role)


def read_keys(path: Path) -> list[Key]:
    try:
        document = orjson.loads(path.read_bytes())
        keys = [_read_key(entry) for entry in document["keys"]]
    except (OSError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
        raise BadKeyFile(path=path, why=str(error) or type(error).__name__) from error
    if not keys:
        raise BadKeyFile(path=path, why="it is empty")
    return keys


def _read_key(entry: dict[str, Any]) -> Key:
    algorithm = _ALGORITHMS[entry["kty"]]
    if entry["kty"] == "oct" and len(entry["k"]) < _MIN_SECRET_CHARACTERS:
        raise ValueError("an oct key has less than 256 bits")
    return Key(entry.get("kid"), algorithm, jwt.PyJWK(entry, algorithm=algorithm).key)
