"""From the Authorization header to a Principal that is within its rate."""

from services.gateway.auth.rates import Rates
from services.gateway.auth.tokens import Tokens
from services.gateway.refusals import TooManyRequests
from services.gateway.tenants import Directory
from shared.clock import Clock
from shared.errors import Forbidden, Unauthenticated, Unavailable
from shared.principal import Principal, Role
from shared.tenancy import api_key_id

MAX_TOKEN_CHARACTERS = 8192


class Door:
    def __init__(self, directory: Directory, tokens: Tokens, clock: Clock) -> None:
        self._directory, self._tokens, self._clock = directory, tokens, clock
        self._rates = Rates()

    def admit(self, authorization: str | None) -> Principal:
        """Raises Unauthenticated, TooManyRequests, Unavailable."""
        if not self._directory.loaded:
            raise Unavailable(what="the tenants", why="their bucket was not read yet")
        principal = self._principal(authorization)
        tenant = self._directory.tenants.get(principal.tenant)
        if tenant is None or tenant.closing_unix is not None:
            raise Unauthenticated(why=f"the tenant {principal.tenant} of this credential does not exist")
        limits = tenant.limits
        wait = self._rates.take(
            principal.tenant, limits.requests_per_second, limits.request_burst, self._clock.monotonic()
        )
        if wait > 0:
            raise TooManyRequests(
                tenant=principal.tenant, rate=limits.requests_per_second, retry_after_seconds=max(1, round(wait + 0.5))
            )
        return principal

    def _principal(self, authorization: str | None) -> Principal:
        if not authorization:
            raise Unauthenticated(why="say who you are: header `Authorization: Bearer <API key or JWT>`")
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated(why="Authorization must be `Bearer <API key or JWT>`")
        if not token.startswith("osp_"):
            return self._tokens.principal(token)
        return self._of_key(token)

    def _of_key(self, token: str) -> Principal:
        found = self._directory.key(api_key_id(token) or "")
        # The same words for an unknown id and a wrong secret: nothing is told to whoever guesses.
        if found is None or not found[1].opens_with(token):
            raise Unauthenticated(why="the API key is unknown or was withdrawn: ask your tenant's admin for a new one")
        tenant, key = found
        if key.expires_unix is not None and self._clock.now() >= key.expires_unix:
            raise Unauthenticated(why=f"the API key {key.id} has expired: ask your tenant's admin for a new one")
        return Principal(tenant=tenant, subject=f"key:{key.name or key.id}", role=key.role)


def require(principal: Principal, role: Role) -> None:
    """Raises Forbidden."""
    if not principal.may(role):
        raise Forbidden(why=f"this needs the role {role.value}; {principal.subject} is {principal.role.value}")
