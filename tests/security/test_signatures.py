"""Signed messages with the real primitive: bound to one agent, one message, one moment. An independent library
agrees about what is signed."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    algorithms,
)
from tests.repository.shell import SteppedClock
from tests.security.messages import BODY, TENANT, URL, Agent, judging, sent

from cpa.core.signatures import COMPONENTS, WINDOW, claim, digest, encoded
from cpa.errors import CPAError, InvalidDocument, Unauthorized
from cpa.ports.keys import Caller, Scope
from cpa.ports.nonces import Nonce
from cpa.ports.signatures import Sent
from cpa.security.signatures import SMALL, MessageSignatures, check_public_key

CHANNEL = "/agents/ag_1/channel"
PERSON = Caller(tenant=TENANT, key="key_anna", name="anna", scopes=frozenset((Scope.SUBMIT,)))


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def agent(clock: SteppedClock) -> Agent:
    return Agent(clock)


@pytest.fixture
def door(clock: SteppedClock, agent: Agent) -> MessageSignatures:
    return judging(clock, agent)


def refused(door: MessageSignatures, caller: Caller, request: Sent) -> Unauthorized:
    with pytest.raises(Unauthorized) as caught:
        door.check(caller, request)
    return caught.value


# -- the standard ----------------------------------------------------------------------------------------------


def test_the_primitive_verifies_the_example_of_rfc_9421() -> None:
    """Appendix B.2.6, key of B.1.4."""
    public = bytes.fromhex("26b40b8f93fff3d897112f7ebc582b232dbd72517d082fe83cfb30ddce43d1bb")
    base = "\n".join(
        (
            '"date": Tue, 20 Apr 2021 02:07:55 GMT',
            '"@method": POST',
            '"@path": /foo',
            '"@authority": example.com',
            '"content-type": application/json',
            '"content-length": 18',
            '"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length")'
            ';created=1618884473;keyid="test-key-ed25519"',
        )
    )
    signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    key = Ed25519PublicKey.from_public_bytes(check_public_key(encoded(public)))
    key.verify(base64.b64decode(signature), base.encode())


class Resolver(HTTPSignatureKeyResolver):  # type: ignore[misc]
    def __init__(self, agent: Agent) -> None:
        self.seed = f"{agent.tenant}/{agent.id[3:]}".encode().ljust(32, b".")

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed).public_key()

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def test_another_library_verifies_what_we_sign(clock: SteppedClock, agent: Agent) -> None:
    clock.now = int(datetime.now(UTC).timestamp() * 1000)
    for url in (URL, URL + "?a=b%20c&d", "http://127.0.0.1:8700/agents/ag_1/heartbeat"):
        message = SimpleNamespace(method="POST", url=url, headers=agent.signer.headers("POST", url, BODY))
        verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=Resolver(agent))
        found = verifier.verify(message, body=BODY, expect_tag="cpa-lam")
        assert [each.label for each in found] == ["cpa"]
        assert found[0].parameters["keyid"] == agent.signer.key


def test_we_verify_what_another_library_signs(
    clock: SteppedClock, agent: Agent, door: MessageSignatures
) -> None:
    message = SimpleNamespace(
        method="POST", url=URL, headers={"Content-Type": "application/json", "Content-Digest": digest(BODY)}
    )
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=Resolver(agent))
    now = clock.now_ms() // 1000
    signer.sign(
        message,
        key_id=agent.signer.key,
        created=datetime.fromtimestamp(now, UTC),
        expires=datetime.fromtimestamp(now + WINDOW, UTC),
        nonce="nonce-of-another",
        label="cpa",
        tag="cpa-lam",
        covered_component_ids=COMPONENTS,
        use_existing_digest=True,
    )
    caller = door.check(agent.caller, sent("POST", URL, message.headers, BODY))
    assert caller.nonce == Nonce(agent.signer.key, "nonce-of-another", (now + WINDOW + 1) * 1000)


# -- who must sign ---------------------------------------------------------------------------------------------


def test_a_good_signature_gives_the_caller_its_nonce(
    clock: SteppedClock, agent: Agent, door: MessageSignatures
) -> None:
    first, second = door.check(agent.caller, agent.send()), door.check(agent.caller, agent.send())
    assert first.nonce is not None
    assert first.nonce != second.nonce
    assert replace(first, nonce=None) == agent.caller


def plain(url: str = URL) -> Sent:
    return sent("POST", url, {"Content-Type": "application/json"}, BODY)


def test_who_registered_a_key_signs_everything(agent: Agent, door: MessageSignatures) -> None:
    error = refused(door, agent.caller, plain())
    assert (error.field, error.status) == ("Signature", 401)
    admin = replace(agent.caller, scopes=frozenset((Scope.ADMIN,)))
    assert refused(door, admin, plain()).field == "Signature"


@pytest.mark.parametrize("mode", ["off", "optional", "required"])
def test_who_must_sign_is_a_setting(clock: SteppedClock, mode: str) -> None:
    signs, silent = Agent(clock), Agent(clock, "b", signs=False)
    unknown = Agent(clock, "c")
    door = judging(clock, signs, silent, mode=mode)

    assert door.check(PERSON, plain()) == PERSON
    if mode == "off":
        for each in (signs, silent, unknown):
            assert door.check(each.caller, plain()) == each.caller
            assert door.check(each.caller, each.send()) == each.caller
        return
    assert door.check(signs.caller, signs.send()).nonce
    refused(door, signs.caller, plain())
    for each in (silent, unknown):
        assert refused(door, each.caller, each.send()).field in ("keyid", "Signature")
        if mode == "required":
            assert "public_key" in (refused(door, each.caller, plain()).remedy or "")
        else:
            assert door.check(each.caller, plain()) == each.caller


def test_a_signature_that_nobody_can_check_is_refused(agent: Agent, door: MessageSignatures) -> None:
    assert refused(door, PERSON, agent.send()).field == "keyid"


# -- bound to one agent ----------------------------------------------------------------------------------------


def test_another_agents_signature_or_key_does_not_do(clock: SteppedClock, agent: Agent) -> None:
    other, foreign = Agent(clock, "b"), Agent(clock, tenant="nord")
    door = judging(clock, agent, other, foreign)
    for thief in (other, foreign):
        assert refused(door, agent.caller, thief.send()).field == "keyid"
        assert refused(door, thief.caller, agent.send()).field == "keyid"
        thief.signer.key = agent.signer.key
        assert refused(door, agent.caller, thief.send()).field == "Signature"


def test_a_key_of_small_order_is_refused_because_everybody_could_sign_for_it() -> None:
    identity = (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), b"what was never signed")
    assert small_orders() == SMALL
    for number in SMALL:
        for sign in (0, 1):
            with pytest.raises(InvalidDocument) as caught:
                check_public_key(encoded((number | sign << 255).to_bytes(32, "little")))
            assert caught.value.field == "public_key"


def small_orders() -> set[int]:
    """Second coordinates of all points whose eightfold is the neutral one, from the curve's equation, and what else
    they may be written as.

    1 is the neutral point's, -1 that of order 2, 0 those of order 4. Doubling a point gives a second coordinate of
    0 where x² = -y², which makes of the curve's equation d·y⁴ + 2·y² - 1 = 0.
    """
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    root = square_root(1 + d, p)
    assert root is not None
    squares = [(sign * root - 1) * pow(d, -1, p) % p for sign in (1, -1)]
    roots = [found for square in squares if (found := square_root(square, p)) is not None]
    found = {0, 1, p - 1, *roots, *(p - each for each in roots)}
    return found | {y + p for y in found if y + p < 2**255}


def square_root(value: int, p: int) -> int | None:
    root = pow(value, (p + 3) // 8, p)
    for found in (root, root * pow(2, (p - 1) // 4, p) % p):
        if found * found % p == value % p:
            return found
    return None


@pytest.mark.parametrize(
    "text", ["", "AAAA", encoded(b"x" * 31), encoded(b"x" * 33), encoded(b"x" * 32)[:-2] + "1="]
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidDocument):
        check_public_key(text)


# -- bound to one message --------------------------------------------------------------------------------------


def flips(data: bytes) -> list[bytes]:
    """The data with one bit changed, every bit once."""
    return [
        data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        for at in range(len(data))
        for bit in range(8)
    ]


def test_every_changed_byte_is_noticed(agent: Agent, door: MessageSignatures) -> None:
    """Of the body, of what names the target, and of every header that is signed or signs."""
    good = agent.send(url=URL + "?a=b")
    altered = [msgspec.structs.replace(good, body=body) for body in flips(good.body)]
    for name in ("method", "path", "query"):
        changed = flips(getattr(good, name).encode())
        altered += [msgspec.structs.replace(good, **{name: each.decode("latin-1")}) for each in changed]
    for place, (name, value) in enumerate(good.headers):
        for each in flips(value):
            if name == b"Host" and each.lower() == value:
                continue  # a host is the same in capitals
            headers = [*good.headers]
            headers[place] = (name, each)
            altered.append(msgspec.structs.replace(good, headers=headers))
    assert len(altered) > 3000
    for request in altered:
        with pytest.raises(CPAError):
            door.check(agent.caller, request)
    assert door.check(agent.caller, good).nonce


def test_every_changed_bit_of_what_was_signed_is_noticed(agent: Agent) -> None:
    key = Ed25519PublicKey.from_public_bytes(check_public_key(agent.signer.public))
    good = agent.send()
    found = claim(good.method, good.path, good.query, good.headers, good.body)
    assert found is not None
    key.verify(found.signature, found.base)
    for at in range(len(found.base) * 8):
        base = bytearray(found.base)
        base[at // 8] ^= 1 << at % 8
        with pytest.raises(InvalidSignature):
            key.verify(found.signature, bytes(base))


def test_a_signature_for_one_place_does_not_do_for_another(agent: Agent, door: MessageSignatures) -> None:
    good = agent.send()
    for change in ({"path": "/agents/register"}, {"method": "DELETE"}, {"query": "?x"}):
        assert refused(door, agent.caller, msgspec.structs.replace(good, **change)).field == "Signature"  # type: ignore[arg-type]


@pytest.mark.parametrize("late", [-WINDOW - 1, WINDOW + 1])
def test_a_signature_has_its_time(
    clock: SteppedClock, agent: Agent, door: MessageSignatures, late: int
) -> None:
    request = agent.send()
    clock.now += late * 1000
    assert refused(door, agent.caller, request).field == "created"


# -- registering -----------------------------------------------------------------------------------------------


def test_who_is_new_brings_a_key_where_all_must_sign(clock: SteppedClock, agent: Agent) -> None:
    door = judging(clock, mode="required")
    url = "https://cpa.example/agents/register"
    for caller in (None, PERSON, agent.caller):
        assert door.admit(caller, plain(url), agent.signer.public) == caller
        with pytest.raises(InvalidDocument) as caught:
            door.admit(caller, plain(url), "")
        assert caught.value.field == "public_key"
    with pytest.raises(InvalidDocument):
        judging(clock, mode="off").admit(None, plain(url), "no key")


def test_who_comes_back_signs_with_the_key_it_has(
    clock: SteppedClock, agent: Agent, door: MessageSignatures
) -> None:
    """Otherwise a stolen API key could bring a signing key of its own."""
    thief = Agent(clock, "dieb")
    url = "https://cpa.example/agents/register"
    for public in (thief.signer.public, agent.signer.public, ""):
        with pytest.raises(Unauthorized):
            door.admit(agent.caller, plain(url), public)
        with pytest.raises(Unauthorized):
            door.admit(agent.caller, thief.send(url=url), public)
    admitted = door.admit(agent.caller, agent.send(url=url), thief.signer.public)
    assert admitted is not None
    assert admitted.nonce is not None


# -- frames ----------------------------------------------------------------------------------------------------

HELLO, BEAT = '{"hello":{"stream":"größe","cursor":0}}', '{"beat":{"status":"online"}}'


def test_a_channel_opens_with_a_nonce_and_goes_on_without(agent: Agent, door: MessageSignatures) -> None:
    signer, frames = agent.signer.channel(CHANNEL), door.frames(agent.caller, CHANNEL)
    text, nonce = frames.take(signer(HELLO))
    assert text == HELLO
    assert nonce is not None
    assert nonce.key == agent.signer.key
    assert [frames.take(signer(BEAT)) for _ in range(3)] == [(BEAT, None)] * 3


def test_a_frame_is_not_taken_twice_nor_elsewhere(clock: SteppedClock, agent: Agent) -> None:
    other = Agent(clock, "b")
    door = judging(clock, agent, other)
    signer, frames = agent.signer.channel(CHANNEL), door.frames(agent.caller, CHANNEL)
    hello, beat, next_beat = signer(HELLO), signer(BEAT), signer(BEAT)
    for broken in (beat, next_beat):
        with pytest.raises(Unauthorized):
            door.frames(agent.caller, CHANNEL).take(broken)
    for caller, path in ((other.caller, CHANNEL), (agent.caller, "/agents/ag_2/channel")):
        with pytest.raises(Unauthorized):
            door.frames(caller, path).take(hello)
    frames.take(hello)
    for broken in (hello, next_beat, BEAT):
        with pytest.raises(Unauthorized):
            frames.take(broken)
    frames.take(beat)
    with pytest.raises(Unauthorized):
        frames.take(beat)
    frames.take(next_beat)


def test_a_frame_of_another_connection_is_not_taken(agent: Agent, door: MessageSignatures) -> None:
    first, second = (agent.signer.channel(CHANNEL) for _ in range(2))
    hello, _ = first(HELLO), second(HELLO)
    frames = door.frames(agent.caller, CHANNEL)
    frames.take(hello)
    with pytest.raises(Unauthorized):
        frames.take(second(BEAT))


def test_every_changed_byte_of_a_frame_is_noticed(agent: Agent, door: MessageSignatures) -> None:
    signer = agent.signer.channel(CHANNEL)
    hello, beat = signer(HELLO), signer(BEAT)
    for flipped in flips(hello.encode()):
        with pytest.raises(Unauthorized):
            door.frames(agent.caller, CHANNEL).take(flipped.decode("utf-8", "surrogateescape"))
    for flipped in flips(beat.encode()):
        frames = door.frames(agent.caller, CHANNEL)
        frames.take(hello)
        with pytest.raises(Unauthorized):
            frames.take(flipped.decode("utf-8", "surrogateescape"))


def test_who_need_not_sign_sends_frames_as_they_are(clock: SteppedClock, agent: Agent) -> None:
    silent = Agent(clock, "b", signs=False)
    assert judging(clock, silent).frames(silent.caller, CHANNEL).take(BEAT) == (BEAT, None)
    assert judging(clock, agent, mode="off").frames(agent.caller, CHANNEL).take(BEAT) == (BEAT, None)
    with pytest.raises(Unauthorized):
        judging(clock, silent, mode="required").frames(silent.caller, CHANNEL)
    with pytest.raises(Unauthorized):
        judging(clock, agent).frames(agent.caller, CHANNEL).take(BEAT)
