"""Who makes credentials of the bus. `shared.adapters.identity.Identity` is the real one."""

from typing import Protocol

from shared.credential import Credential
from shared.parties import Party


class Issuer(Protocol):
    def credential(
        self,
        party: Party,
        *,
        tenant: str | None = None,
        cluster: str | None = None,
        expires_seconds: float | None = None,
    ) -> Credential:
        """A credential that allows exactly what `party` says, in the account of its `tenant` or `cluster`.

        Pure computation (signing). Raises OverspillError for one without an account.
        """
        ...
