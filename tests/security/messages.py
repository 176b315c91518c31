"""Agents that sign, and requests and frames as they come over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from tests.repository.shell import SteppedClock

from cpa.agents.signing import Signer
from cpa.core.signatures import encoded, key_id
from cpa.ports.keys import Caller, Scope
from cpa.ports.signatures import Sent, SigningKey
from cpa.security.signatures import MessageSignatures, SignedMessages

TENANT = "default"
URL = "https://cpa.example/lam/message"
BODY = '{"id": "…", "payload": {"größe": 1.5}}'.encode()


class Agent:
    """A registered agent, its API key's caller and its signer. Its nonces are counted, so that runs are alike."""

    def __init__(
        self, clock: SteppedClock, name: str = "größe", *, tenant: str = TENANT, signs: bool = True
    ) -> None:
        self.id, self.address = f"ag_{name}", f"agent://web/{name}"
        self.tenant, self.signs = tenant, signs
        self.caller = Caller(
            tenant=tenant, key=f"key_{name}", name=self.address, scopes=frozenset((Scope.AGENT,))
        )
        numbers = count()
        seed = encoded(f"{tenant}/{name}".encode().ljust(32, b"."))
        self.signer = Signer(seed, clock, lambda: f"nonce-{next(numbers):016}")
        self.signer.key = key_id(tenant, self.id)

    def send(self, body: bytes = BODY, *, method: str = "POST", url: str = URL) -> Sent:
        """A signed request as the scheduler gets it."""
        return sent(method, url, self.signer.headers(method, url, body), body)


def sent(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
    host, _, target = url.partition("//")[2].partition("/")
    path, mark, query = f"/{target}".partition("?")
    raw = [(b"Host", host.encode()), *((name.encode(), value.encode()) for name, value in headers.items())]
    return Sent(method=method, path=path, query=f"?{query}" if mark else "?", headers=raw, body=body)


def judging(clock: SteppedClock, *agents: Agent, mode: str = "optional") -> MessageSignatures:
    """The scheduler's side, which knows these agents."""
    known = {
        (agent.tenant, agent.address): SigningKey(agent.id, agent.signer.public if agent.signs else "")
        for agent in agents
    }
    return MessageSignatures(
        SignedMessages(mode), lambda tenant, address: known.get((tenant, address)), clock
    )
