"""A credential that the bus refuses is told at once, not when the patience is over."""

import pytest

from shared.adapters.identity import Identity
from shared.adapters.nats_bus import CredentialRefused, NatsBus
from shared.parties import GATEWAY


async def test_a_foreign_credential_is_refused_by_name(bus_server, tmp_path) -> None:
    foreign = Identity.create(tmp_path / "identity").credential(GATEWAY)
    with pytest.raises(CredentialRefused, match="refuses this credential"):
        # Far beyond any test's time: only a refusal can end this.
        async with NatsBus.connect(bus_server.url, foreign, timeout_seconds=3600):
            pass
