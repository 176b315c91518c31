"""Keys are made strong, kept as keyed hashes only, and stop working within a second of being revoked."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from tests.api.fakes import MemoryKeys

from cpa.errors import BadInput, Conflict, Forbidden, Unauthorized, Unavailable
from cpa.ports.keys import IMPLIED, Caller, Scope, StoredKey
from cpa.security.auth import (
    CACHED,
    Authenticator,
    Hasher,
    check_name,
    ensure_admin_key,
    generate_key,
    issue,
    require,
    require_tenant,
    well_formed,
)

NOW = 1_795_000_000_000


class Clock:
    def __init__(self) -> None:
        self.wall, self.steady = NOW, 100.0

    def now_ms(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    async def sleep(self, seconds: float) -> None:
        self.steady += seconds


@pytest.fixture
def hasher() -> Hasher:
    return Hasher(b"\x07" * 32)


@pytest.fixture
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def make(
    keys: MemoryKeys, hasher: Hasher, *scopes: Scope, tenant: str = "default", expires: int = 0
) -> str:
    key, stored = issue(
        hasher, name="probe", scopes=frozenset(scopes), now=NOW, tenant=tenant, expires=expires
    )
    await keys.add(stored)
    return key


def test_generated_keys_are_well_formed_and_all_different() -> None:
    made = {generate_key() for _ in range(500)}

    assert len(made) == 500
    assert all(well_formed(key) and len(key) == 53 for key in made)


def test_any_single_changed_letter_breaks_the_checksum() -> None:
    key = generate_key()
    for place in range(4, len(key)):
        other = "A" if key[place] != "A" else "B"
        assert not well_formed(key[:place] + other + key[place + 1 :])


@pytest.mark.parametrize("key", ["", "cpa_", "cpb_" + "0" * 49, "cpa_" + "ü" * 49, "cpa_" + "0" * 50])
def test_what_cannot_be_a_key_is_not_well_formed(key: str) -> None:
    assert not well_formed(key)


def test_the_stored_key_holds_no_part_of_the_key(hasher: Hasher) -> None:
    key, stored = issue(hasher, name="probe", scopes=frozenset((Scope.READ,)), now=NOW)

    shown = repr(stored) + stored.hash.hex()
    assert not any(key[place : place + 8] in shown for place in range(4, len(key) - 8))
    assert stored.hash != Hasher(b"\x08" * 32).hash(key)


async def test_a_good_key_gives_its_tenant_and_identity(
    keys: MemoryKeys, hasher: Hasher, clock: Clock
) -> None:
    key = await make(keys, hasher, Scope.SUBMIT, tenant="nord")

    caller = await Authenticator(keys, hasher, clock).identify(key)

    assert (caller.tenant, caller.key, caller.scopes) == ("nord", keys.kept[0].id, frozenset((Scope.SUBMIT,)))


@pytest.mark.parametrize("key", [None, "", "cpa_wrong", "Schlüssel", "\udcff", generate_key()])
async def test_every_other_key_is_refused_in_the_same_words(
    key: str | None, keys: MemoryKeys, hasher: Hasher, clock: Clock
) -> None:
    await make(keys, hasher, Scope.ADMIN)

    with pytest.raises(Unauthorized, match=r"no API key|not accepted"):
        await Authenticator(keys, hasher, clock).identify(key)


async def test_a_key_with_a_wrong_checksum_costs_no_query(
    keys: MemoryKeys, hasher: Hasher, clock: Clock
) -> None:
    with pytest.raises(Unauthorized):
        await Authenticator(keys, hasher, clock).identify("cpa_" + "0" * 43 + "zzzzzz")

    assert keys.asked == 0


async def test_an_expired_key_is_refused_from_that_moment(
    keys: MemoryKeys, hasher: Hasher, clock: Clock
) -> None:
    key = await make(keys, hasher, Scope.READ, expires=NOW + 10)
    door = Authenticator(keys, hasher, clock)
    await door.identify(key)
    clock.wall += 10

    with pytest.raises(Unauthorized):
        await door.identify(key)


async def test_a_busy_client_costs_one_query_per_period(
    keys: MemoryKeys, hasher: Hasher, clock: Clock
) -> None:
    key = await make(keys, hasher, Scope.READ)
    door = Authenticator(keys, hasher, clock)
    for _ in range(100):
        await door.identify(key)

    assert keys.asked == 1


async def test_a_revoked_key_stops_working_within_a_second(
    keys: MemoryKeys, hasher: Hasher, clock: Clock
) -> None:
    key = await make(keys, hasher, Scope.READ)
    door = Authenticator(keys, hasher, clock)
    await door.identify(key)
    await keys.revoke("default", keys.kept[0].id, NOW)
    clock.steady += CACHED

    with pytest.raises(Unauthorized):
        await door.identify(key)
    assert CACHED < 1


async def test_what_is_remembered_stays_bounded(keys: MemoryKeys, hasher: Hasher, clock: Clock) -> None:
    door = Authenticator(keys, hasher, clock)
    for _ in range(5000):
        with pytest.raises(Unauthorized):
            await door.identify(generate_key())

    assert len(door._known) <= 4096


async def test_the_key_of_the_settings_is_an_admin_without_a_store(
    keys: MemoryKeys, hasher: Hasher, clock: Clock
) -> None:
    caller = await Authenticator(keys, hasher, clock, fixed_key="frei gewählt").identify("frei gewählt")

    assert (caller.tenant, caller.may(Scope.ADMIN), keys.asked) == ("default", True, 0)


@pytest.mark.parametrize("held", list(Scope))
@pytest.mark.parametrize("wanted", list(Scope))
def test_a_scope_opens_exactly_what_it_includes(held: Scope, wanted: Scope) -> None:
    caller = Caller(tenant="default", key="k", name="probe", scopes=frozenset((held,)))
    if wanted in IMPLIED[held]:
        require(caller, wanted)
    else:
        with pytest.raises(Forbidden, match=wanted) as caught:
            require(caller, wanted)
        assert (caught.value.field, caught.value.value) == ("X-API-Key", f"scopes: {held}")
        assert wanted in str(caught.value.remedy)


@pytest.mark.parametrize(
    "name",
    [
        "agent://user/anna",
        "agent://USER/anna",
        "agent://scheduler/cpa",
        "agent://builtin/local",
        "agent://channel/x",
    ],
)
def test_a_key_is_not_called_by_an_address_of_ours_or_of_a_person(name: str) -> None:
    """`anna` speaks as agent://user/anna already, and nobody as the scheduler or its hands."""
    with pytest.raises(BadInput) as refused:
        check_name(name, [])
    assert (refused.value.field, refused.value.value) == ("name", name)


@pytest.mark.parametrize("name", ["", "  ", "\u3000", "a" * 201])
def test_nobody_is_without_a_name_or_has_one_that_nobody_reads(name: str) -> None:
    """Who asked for a job under no name could allow it too."""
    with pytest.raises(BadInput) as refused:
        check_name(name, [])
    assert refused.value.field == "name"


@pytest.mark.parametrize("name", ["settings", "Settings", "sеttings"])
def test_nobody_is_called_as_who_holds_the_key_of_the_settings(name: str) -> None:
    """The two would count as one person, whose yes is not asked for twice."""
    with pytest.raises((Conflict, BadInput)) as refused:
        check_name(name, [])
    assert refused.value.field == "name"


def test_the_name_of_a_key_that_is_dead_is_still_that_persons(hasher: Hasher) -> None:
    """Else who asked as `anna` could allow it as `Anna`."""
    _, stored = issue(hasher, name="anna", scopes=[Scope.SUBMIT], now=NOW)
    dead = replace(stored, revoked=NOW)

    check_name("anna", [dead])
    with pytest.raises(Conflict, match="anna"):
        check_name("Anna", [dead])


@pytest.mark.parametrize("name", ["anna", "agent://data/eins", "agent://users/eins"])
def test_other_names_may_be_given_to_a_key(name: str) -> None:
    check_name(name, [])


def test_another_tenant_is_forbidden_and_none_is_fine() -> None:
    caller = Caller(tenant="nord", key="k", name="probe", scopes=frozenset())
    require_tenant(caller, None, "context.tenant")
    require_tenant(caller, "nord", "context.tenant")

    with pytest.raises(Forbidden) as caught:
        require_tenant(caller, "süd", "context.tenant")
    assert caught.value.field == "context.tenant"


def test_the_servers_secret_is_made_once_and_private(tmp_path: Path) -> None:
    first, again = Hasher.of(tmp_path), Hasher.of(tmp_path)

    assert first.hash("x") == again.hash("x")
    assert stat.S_IMODE((tmp_path / "keys" / "hmac.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["hmac.key"]


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    Hasher.of(tmp_path)
    (tmp_path / "keys" / "hmac.key").chmod(0o644)

    with pytest.raises(Unavailable, match="chmod 600"):
        Hasher.of(tmp_path)


async def test_the_first_start_writes_an_admin_key_that_works(
    keys: MemoryKeys, clock: Clock, tmp_path: Path
) -> None:
    path = await ensure_admin_key(keys, tmp_path, now=NOW)

    assert path == tmp_path / "admin.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    caller = await Authenticator(keys, Hasher.of(tmp_path), clock).identify(path.read_text().strip())
    assert caller.may(Scope.ADMIN)


async def test_later_starts_leave_the_admin_key_alone(keys: MemoryKeys, tmp_path: Path) -> None:
    await ensure_admin_key(keys, tmp_path, now=NOW)
    before = (tmp_path / "admin.key").read_bytes()

    assert await ensure_admin_key(keys, tmp_path, now=NOW + 1) is None
    assert ((tmp_path / "admin.key").read_bytes(), len(keys.kept)) == (before, 1)


async def test_an_admin_key_put_away_by_its_owner_is_not_replaced(keys: MemoryKeys, tmp_path: Path) -> None:
    await ensure_admin_key(keys, tmp_path, now=NOW)
    (tmp_path / "admin.key").unlink()

    assert await ensure_admin_key(keys, tmp_path, now=NOW + 1) is None
    assert not (tmp_path / "admin.key").exists()


async def test_a_crash_between_file_and_store_is_mended(
    keys: MemoryKeys, clock: Clock, tmp_path: Path
) -> None:
    await ensure_admin_key(keys, tmp_path, now=NOW)
    keys.kept.clear()

    await ensure_admin_key(keys, tmp_path, now=NOW + 1)

    key = (tmp_path / "admin.key").read_text().strip()
    assert (await Authenticator(keys, Hasher.of(tmp_path), clock).identify(key)).may(Scope.ADMIN)


async def test_a_revoked_admin_key_is_never_revived(keys: MemoryKeys, clock: Clock, tmp_path: Path) -> None:
    await ensure_admin_key(keys, tmp_path, now=NOW)
    old = (tmp_path / "admin.key").read_text().strip()
    await keys.revoke("default", keys.kept[0].id, NOW)

    await ensure_admin_key(keys, tmp_path, now=NOW + 1)

    new = (tmp_path / "admin.key").read_text().strip()
    door = Authenticator(keys, Hasher.of(tmp_path), clock)
    assert new != old
    assert (await door.identify(new)).may(Scope.ADMIN)
    with pytest.raises(Unauthorized):
        await door.identify(old)


async def test_a_key_that_is_revoked_while_it_is_looked_up_is_refused_and_not_remembered(
    keys: MemoryKeys, hasher: Hasher, clock: Clock
) -> None:
    key = await make(keys, hasher, Scope.READ)
    asked, answered = asyncio.Event(), asyncio.Event()

    class Slow(MemoryKeys):
        async def find(self, digest: bytes) -> StoredKey | None:
            found = await keys.find(digest)
            asked.set()
            await answered.wait()
            return found

    door = Authenticator(Slow(), hasher, clock)
    first = asyncio.create_task(door.identify(key))
    await asked.wait()
    await keys.revoke("default", keys.kept[0].id, NOW)
    door.forget()
    answered.set()

    for use in (first, door.identify(key)):
        with pytest.raises(Unauthorized):
            await use
