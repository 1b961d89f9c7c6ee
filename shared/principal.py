"""Who asks."""

from enum import StrEnum

from shared.ids import TenantId
from shared.wire import Model


class Role(StrEnum):
    """What a principal may do within its tenant. Each role may do what the ones before it may."""

    READER = "reader"
    SUBMITTER = "submitter"
    ADMIN = "admin"
    OPERATOR = "operator"
    """Of the platform: every tenant, and the clusters."""


_ORDER = list(Role)


class Principal(Model):
    """Comes from a checked credential, never from a body."""

    tenant: TenantId
    subject: str
    """Who, as audit and `submitted_by` show it: `key:ci-bot`, `jwt:alice`, `bus:<service>`."""
    role: Role = Role.SUBMITTER

    def may(self, role: Role) -> bool:
        return _ORDER.index(self.role) >= _ORDER.index(role)
