"""The codec by itself: what it wrote it reads, under every setting; what it cannot read it says."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import WorkflowSerializationContext

from cpa.artifacts.claims import FolderClaims
from cpa.engines.temporal import codec as codecs
from cpa.engines.temporal.codec import CLAIM, INLINE, SEALED, ZLIB, Codec
from cpa.engines.temporal.hindrances import Hindrances
from cpa.engines.temporal.keyring import PREFIX, KeyRing
from cpa.errors import BadInput, CPAError, InternalError, NotFound, TooLarge, Unavailable

JOB = "0190aaaa-0000-7000-8000-000000000001"
MARKER = "Müller-Marker"


@dataclass
class Secrets:
    """Names and values, as an operator puts them there."""

    values: dict[str, str] = field(default_factory=dict)

    def add(self, key_id: str) -> None:
        self.values[PREFIX + key_id] = base64.b64encode(key_id.ljust(32, "-").encode()).decode() + "\n"

    def resolve(self, name: str) -> str:
        if name not in self.values:
            raise NotFound(f"no {name}", field="secret", value=name, remedy=f"set the file {name}")
        return self.values[name]


@pytest.fixture
def secrets() -> Secrets:
    found = Secrets()
    found.add("old")
    found.add("new")
    return found


@pytest.fixture
def claims(tmp_path: Path) -> FolderClaims:
    return FolderClaims(tmp_path / "claims", 100_000_000)


def bound(codec: Codec, job: str = JOB) -> Codec:
    return codec.with_context(WorkflowSerializationContext("default", job))


def noise(size: int) -> bytes:
    """What no compression makes smaller."""
    return b"".join((number * 2_654_435_761 % 2**32).to_bytes(4) for number in range(size // 4))


def value(data: bytes) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=data)


VALUES = [b"", b"{}", MARKER.encode() * 10, MARKER.encode() * 10_000, noise(INLINE - 100), noise(300_000)]


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("claimed", [False, True])
async def test_what_was_written_is_read(
    secrets: Secrets, claims: FolderClaims, keyed: bool, claimed: bool
) -> None:
    keys = KeyRing("old", secrets.resolve) if keyed else None
    codec = bound(Codec(keys, claims if claimed else None))
    values = [value(data) for data in VALUES]

    written = await codec.encode(values)

    assert await codec.decode(written) == values
    layers = {payload.metadata["encoding"] for payload in written}
    assert layers == {
        SEALED if keyed else ZLIB,
        *((b"json/plain",) if not keyed else ()),
        *((CLAIM,) if claimed else ()),
    }
    assert not claimed or max(payload.ByteSize() for payload in written) <= INLINE + 200
    if keyed:
        assert not any(MARKER.encode() in payload.SerializeToString() for payload in written)


async def test_a_new_key_still_reads_what_was_written_before(secrets: Secrets, claims: FolderClaims) -> None:
    old, new = (bound(Codec(KeyRing(name, secrets.resolve), claims)) for name in ("old", "new"))
    values = [value(data) for data in VALUES]

    assert await new.decode(await old.encode(values)) == values
    assert {each.metadata["key"] for each in await new.encode(values[:2])} == {b"new"}


@pytest.mark.parametrize("data", VALUES, ids=len)
async def test_with_a_key_what_is_not_encrypted_is_read_only_where_that_is_wanted(
    secrets: Secrets, claims: FolderClaims, data: bytes
) -> None:
    """Else whoever may write into the namespace could say in anybody's name that a question was answered."""
    written = await bound(Codec(None, claims)).encode([value(data)])
    hindrances = Hindrances()
    codec = Codec(KeyRing("old", secrets.resolve), claims).noting(hindrances)

    error = await unread(bound(codec), written)
    assert (type(error), error.field) == (Unavailable, "temporal_payload_plain")
    assert "CPA_TEMPORAL_PAYLOAD_PLAIN" in str(error.remedy)
    assert hindrances.why(JOB) == error

    lenient = bound(Codec(KeyRing("old", secrets.resolve), claims, plain=True))
    assert await lenient.decode([*written, *await lenient.encode([value(data)])]) == [value(data)] * 2
    assert {each.metadata["key"] for each in await lenient.encode([value(data[:9])])} == {b"old"}


async def test_what_says_nothing_at_all_is_no_exception(secrets: Secrets) -> None:
    codec = bound(Codec(KeyRing("old", secrets.resolve)))
    for empty in (Payload(), Payload(metadata={"encoding": b"binary/null"})):
        assert (await unread(codec, [empty])).field == "temporal_payload_plain"


async def test_small_values_that_are_equal_do_not_look_equal(secrets: Secrets) -> None:
    codec = bound(Codec(KeyRing("old", secrets.resolve)))
    assert len({each.data for each in await codec.encode([value(b"yes")] * 3)}) == 3


async def test_a_replay_writes_large_values_once(
    secrets: Secrets, claims: FolderClaims, tmp_path: Path
) -> None:
    large = value(noise(300_000))
    first = await bound(Codec(KeyRing("old", secrets.resolve), claims)).encode([large])
    again = await bound(Codec(KeyRing("old", secrets.resolve), claims)).encode([large])

    assert first == again
    files = [each for each in (tmp_path / "claims").rglob("*") if each.is_file() and not each.suffix]
    assert len(files) == 1
    assert noise(300_000)[:64] not in files[0].read_bytes()


# -- what cannot be read -------------------------------------------------------------------------------------


async def unread(codec: Codec, written: list[Payload]) -> CPAError:
    with pytest.raises(CPAError) as caught:
        await codec.decode(written)
    assert MARKER not in str(caught.value)
    return caught.value


async def test_a_missing_key_is_named_and_found_once_it_is_there(secrets: Secrets) -> None:
    written = await bound(Codec(KeyRing("old", secrets.resolve))).encode([value(MARKER.encode())])
    kept = secrets.values.pop(PREFIX + "old")
    hindrances = Hindrances()
    codec = Codec(KeyRing("new", secrets.resolve)).noting(hindrances)

    error = await unread(bound(codec), written)
    assert (error.field, error.value) == ("temporal_payload_key", "old")
    assert PREFIX + "old" in str(error.remedy)
    assert (hindrances.jobs, hindrances.why(JOB)) == ({JOB}, error)
    assert hindrances.why("another") is None

    secrets.values[PREFIX + "old"] = kept
    assert (await bound(codec).decode(written))[0].data == MARKER.encode()
    assert (hindrances.jobs, hindrances.why(JOB)) == (frozenset(), None)


async def test_each_value_hinders_by_itself(secrets: Secrets) -> None:
    """What else is read or written of the job, before and after, neither hides nor ends it."""
    old = bound(Codec(KeyRing("old", secrets.resolve)))
    first, second = [(await old.encode([value(data)]))[0] for data in (b"1", b"2")]
    [fine] = await bound(Codec(KeyRing("new", secrets.resolve))).encode([value(b"3")])
    kept = secrets.values.pop(PREFIX + "old")
    hindrances = Hindrances()
    codec = bound(Codec(KeyRing("new", secrets.resolve)).noting(hindrances))

    for unreadable in (first, second):
        await unread(codec, [fine, unreadable])
    await codec.decode([fine])
    await codec.decode(await codec.encode([value(b"4")]))
    assert hindrances.jobs == {JOB}

    secrets.values[PREFIX + "old"] = kept
    await codec.decode([first])
    assert hindrances.jobs == {JOB}, "the other one is not read yet"
    await codec.decode([second])
    assert hindrances.jobs == frozenset()


async def test_the_next_execution_of_a_job_is_not_hindered_by_what_the_last_one_could_not_read(
    secrets: Secrets,
) -> None:
    written = await bound(Codec(KeyRing("old", secrets.resolve))).encode([value(b"1")])
    secrets.values.pop(PREFIX + "old")
    hindrances = Hindrances()
    codec = bound(Codec(KeyRing("new", secrets.resolve)).noting(hindrances))

    await unread(codec, written)
    hindrances.forget(JOB)
    assert hindrances.why(JOB) is None
    await unread(codec, written)
    assert hindrances.why(JOB) is not None, "unless it cannot either"


async def test_who_calls_is_told_and_hinders_nobody(
    secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, hindrances = Codec(KeyRing("old", secrets.resolve)), Hindrances()
    codec.noting(hindrances)
    monkeypatch.setattr(codecs, "MOST", 100)
    with pytest.raises(TooLarge):
        await bound(codec).encode([value(bytes(200))])
    await unread(bound(codec), [value(b"in clear")])
    assert hindrances.jobs == frozenset()


async def test_without_any_key_the_remedy_is_the_setting(secrets: Secrets) -> None:
    written = await bound(Codec(KeyRing("old", secrets.resolve))).encode([value(b"{}")])
    assert "CPA_TEMPORAL_PAYLOAD_KEY" in str((await unread(bound(Codec()), written)).remedy)


async def test_another_key_under_the_same_id_is_noticed_and_can_be_mended(secrets: Secrets) -> None:
    written = await bound(Codec(KeyRing("old", secrets.resolve))).encode([value(b"{}")])
    right = secrets.values[PREFIX + "old"]
    secrets.values[PREFIX + "old"] = secrets.values[PREFIX + "new"]
    codec = bound(Codec(KeyRing("new", secrets.resolve)))

    error = await unread(codec, written)
    assert isinstance(error, Unavailable)
    assert error.value == "old"

    secrets.values[PREFIX + "old"] = right
    assert (await codec.decode(written))[0].data == b"{}"


async def test_the_id_of_the_key_is_authenticated(secrets: Secrets) -> None:
    """The same bytes under the id of a key that happens to be the same are not what was written."""
    secrets.values[PREFIX + "twin"] = secrets.values[PREFIX + "old"]
    codec = bound(Codec(KeyRing("old", secrets.resolve)))
    [sealed] = await codec.encode([value(b"{}")])
    sealed.metadata["key"] = b"twin"
    await unread(codec, [sealed])


async def test_changed_bytes_are_not_read(secrets: Secrets) -> None:
    codec = bound(Codec(KeyRing("old", secrets.resolve)))
    [sealed] = await codec.encode([value(MARKER.encode())])
    for at in (0, 12, len(sealed.data) - 1):
        changed = bytearray(sealed.data)
        changed[at] ^= 1
        await unread(codec, [Payload(metadata=sealed.metadata, data=bytes(changed))])


async def test_only_secrets_for_this_are_ever_looked_up(secrets: Secrets) -> None:
    """The id comes from the server: it must not lead to the password of a mailbox."""
    secrets.values["mail_password"] = secrets.values[PREFIX + "old"]
    codec = bound(Codec(KeyRing("old", secrets.resolve)))
    for name in (b"mail_password", b"../old", b"", b"\xff"):
        foreign = Payload(metadata={"encoding": SEALED, "key": name}, data=bytes(40))
        assert isinstance(await unread(codec, [foreign]), Unavailable)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        (ZLIB, b"no zlib"),
        (CLAIM, b"no reference"),
        (CLAIM, b'{"job":"../../etc","digest":"sha256:00"}'),
        (SEALED, b"no key beside it"),
    ],
)
async def test_what_is_broken_is_an_error_of_ours(
    secrets: Secrets, claims: FolderClaims, encoding: bytes, data: bytes
) -> None:
    codec = bound(Codec(KeyRing("old", secrets.resolve), claims))
    await unread(codec, [Payload(metadata={"encoding": encoding}, data=data)])


async def test_a_lost_large_value_is_named(secrets: Secrets, claims: FolderClaims) -> None:
    codec = bound(Codec(KeyRing("old", secrets.resolve), claims))
    written = await codec.encode([value(noise(300_000))])
    await claims.forget(JOB, -1)

    error = await unread(codec, written)
    assert error.field == "claims"
    assert JOB in error.message
    assert (await unread(bound(Codec(KeyRing("old", secrets.resolve))), written)).field == "claims"


async def test_what_is_too_large_is_refused_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    [packed] = await Codec().encode([value(bytes(100_000))])
    monkeypatch.setattr(codecs, "MOST", 90_000)

    with pytest.raises(TooLarge) as caught:
        await Codec().encode([value(bytes(100_000))])
    assert caught.value.remedy
    with pytest.raises(InternalError):
        await Codec().decode([packed])


@pytest.mark.parametrize("secret", ["", "größer", "AAAA", base64.b64encode(bytes(33)).decode(), "-" * 44])
def test_a_current_key_that_is_none_is_refused_at_once(secret: str) -> None:
    with pytest.raises(Unavailable) as caught:
        KeyRing("now", Secrets({PREFIX + "now": secret}).resolve)
    assert "cannot be used" in caught.value.message, "it is there"
    assert "openssl rand -base64 32" in str(caught.value.remedy)
    assert not secret or secret not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "a b", "ü", "x" * 41, "-a"])
def test_an_id_that_is_none_is_refused(secrets: Secrets, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        KeyRing(name, secrets.resolve)
    assert caught.value.field == "temporal_payload_key"
