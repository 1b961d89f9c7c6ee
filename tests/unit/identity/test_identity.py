"""The identity's directory, keys and permissions."""

import base64
import stat
import threading
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from shared.adapters.identity import BadName, Identity, NoAccount, NoIdentity
from shared.adapters.nats_config import server_config
from shared.adapters.nats_permissions import publishes, user_claim
from shared.adapters.nkeys import BadSeed, KeyKind, KeyPair
from shared.parties import GATEWAY, HUB_PARTIES, Party, attempt_party, machine_party, service_party


def claims(jwt: str) -> dict:
    body = jwt.split(".")[1]
    return orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def test_secrets_are_their_owners_alone(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "identity")
    identity.add_tenant("acme")
    identity.add_cluster("east", ("acme",))
    for path in (tmp_path / "identity").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == 0o700 if path.is_dir() else mode & 0o077 == 0 or path.name == ".lock", path
    assert stat.S_IMODE((tmp_path / "identity").stat().st_mode) == 0o700
    assert not list((tmp_path / "identity").rglob("*.new"))


def test_what_was_created_is_loaded_again(tmp_path: Path) -> None:
    created = Identity.open(tmp_path)
    created.add_tenant("acme")
    created.add_cluster("east")
    loaded = Identity.load(tmp_path)
    assert [account.public for account in loaded.accounts()] == [account.public for account in created.accounts()]
    assert loaded.names("tenant") == ["acme"]
    assert loaded.names("cluster") == ["east"]


def test_of_two_creators_at_once_both_hold_the_same_identity(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    found: list[str] = []

    def create() -> None:
        start.wait()
        found.append(Identity.open(tmp_path / "identity").system_account)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_directory_without_identity_is_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(NoIdentity):
        Identity.load(tmp_path)


def test_a_creation_that_was_cut_short_is_finished_later(tmp_path: Path) -> None:
    Identity.create(tmp_path)
    hub = (tmp_path / "hub.seed").read_text()
    (tmp_path / "operator.seed").unlink()
    assert Identity.open(tmp_path).system_account
    assert (tmp_path / "hub.seed").read_text() == hub


def test_adding_twice_changes_no_key(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path)
    assert [a.public for a in identity.add_tenant("acme")] == [a.public for a in identity.add_tenant("acme")]
    assert identity.add_cluster("east").public == identity.add_cluster("east", ("acme",)).public


@pytest.mark.parametrize("name", ["", "../x", "A", "a.b", "a/b", "*", ">", "x" * 41])
def test_a_name_that_is_no_token_names_no_account(tmp_path: Path, name: str) -> None:
    identity = Identity.create(tmp_path)
    with pytest.raises(BadName):
        identity.add_tenant(name)
    with pytest.raises(BadName):
        identity.add_cluster(name)
    with pytest.raises(NoAccount):
        identity.credential(service_party("t"), tenant=name)


def test_there_is_no_credential_for_an_unknown_tenant_or_cluster(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path)
    for party in (attempt_party("t", "j", 1), service_party("t")):
        with pytest.raises(NoAccount):
            identity.credential(party, tenant="t")
    with pytest.raises(NoAccount):
        identity.credential(machine_party("c", "m"), cluster="c")


def test_a_seed_shows_in_no_repr(tmp_path: Path) -> None:
    credential = Identity.create(tmp_path).credential(GATEWAY)
    assert credential.seed not in repr(credential)
    key = KeyPair.from_seed(credential.seed)
    assert credential.seed == key.seed
    assert key.seed not in repr(key)
    assert repr(bytes(key._key)) not in repr(key)


@given(st.sampled_from(KeyKind), st.binary(min_size=32, max_size=32))
def test_a_seed_names_its_key(kind: KeyKind, secret: bytes) -> None:
    key = KeyPair(kind, SigningKey(secret))
    again = KeyPair.from_seed(key.seed)
    assert again == key
    assert again.public == key.public
    assert key.seed[0] == "S"
    assert key.seed[1] == key.public[0] == {KeyKind.ACCOUNT: "A", KeyKind.OPERATOR: "O", KeyKind.USER: "U"}[kind]


@given(st.data())
def test_a_damaged_seed_is_refused(data: st.DataObject) -> None:
    seed = KeyPair.generate(KeyKind.USER).seed
    at = data.draw(st.integers(0, len(seed) - 1))
    letter = data.draw(st.sampled_from([c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" if c != seed[at]]))
    with pytest.raises(BadSeed):
        KeyPair.from_seed(seed[:at] + letter + seed[at + 1 :])


def test_no_party_may_publish_or_hear_everything() -> None:
    for party in (*HUB_PARTIES, attempt_party("t", "j", 1), machine_party("c", "m"), service_party("t")):
        claim = user_claim(party)
        for side in ("pub", "sub"):
            assert claim[side]["allow"]
            assert not {">", "*", "$JS.>", "$JS.API.>", "$KV.>", "_INBOX.>"} & set(claim[side]["allow"])


def test_a_party_without_publishes_publishes_nothing() -> None:
    assert user_claim(Party("mute", "tenant", publishes=()))["pub"] == {"deny": [">"]}


def test_edges_touch_no_jetstream() -> None:
    for party in (attempt_party("t", "j", 1), machine_party("c", "m"), service_party("t")):
        assert not any(subject.startswith("$") for subject in publishes(party))


def test_an_attempts_credential_ends_with_it(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path)
    identity.add_tenant("t")
    told = claims(identity.credential(attempt_party("t", "j", 1), tenant="t", expires_seconds=60).jwt)
    assert told["exp"] - told["iat"] == 60
    assert "exp" not in claims(identity.credential(GATEWAY).jwt)


def test_only_the_hub_has_jetstream(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path)
    identity.add_tenant("t")
    identity.add_cluster("c")
    for account in identity.accounts():
        limits = claims(account.jwt)["nats"]["limits"]
        assert (limits.get("disk_storage", 0) != 0) == (account.name == "hub")


def test_only_wildcards_are_imported_where_attempts_and_machines_are(tmp_path: Path) -> None:
    """An answer sent to a reply subject is taken by an import without wildcards, whoever chose that reply."""
    identity = Identity.create(tmp_path)
    identity.add_tenant("t")
    identity.add_cluster("c", ("t",))
    for kind, name in (("attempts", "t"), ("cluster", "c")):
        imports = claims(identity.account(kind, name).jwt)["nats"]["imports"]
        services = [each["subject"] for each in imports if each["type"] == "service"]
        assert services
        assert all("*" in subject for subject in services)


def test_a_path_with_quotes_stays_a_path_in_the_servers_configuration(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "identity")
    text = server_config(identity, tmp_path / 'a "b" \\c')
    assert '/a \\"b\\" \\\\c/jetstream"' in text
    assert "http:" not in text
