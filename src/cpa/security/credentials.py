"""Credentials of agents: the key an agent shows us, and the one we show the agent.

An agent's key is an API key of the scope `agent` that is called by the agent's address. What we show at its
endpoint follows from the server's own secret: it is stored nowhere, and told again whenever the agent registers.
So does a key made for a process that gave a secret of its own, so that an answer that got lost can be given again,
and late copies of a registration kill no key that is in use.
"""

from __future__ import annotations

from cpa.errors import Unauthorized
from cpa.ports.agents import ANY_KIND
from cpa.ports.clock import Clock
from cpa.ports.keys import KeyStore, Scope
from cpa.security.auth import FIXED, Authenticator, Hasher, generate_key, issue, not_accepted
from cpa.security.enrolment import Enrolment


def callback_key(hasher: Hasher, tenant: str, agent: str) -> str:
    """What the scheduler shows as `X-CPA-Key` to the endpoint of the agent of this id, hexadecimal."""
    return hasher.hash(f"callback:{tenant}:{agent}").hex()


class AgentCredentials:
    """`ports.agents.AgentKeys` on the API keys."""

    def __init__(
        self,
        store: KeyStore,
        hasher: Hasher,
        clock: Clock,
        enrolment: Enrolment,
        keys: Authenticator | None = None,
    ) -> None:
        """`keys` is who recognises callers in this process: what is revoked here is dead there at once."""
        self._store = store
        self._hasher = hasher
        self._clock = clock
        self._keys = keys
        self._enrolment = enrolment

    async def tenant(self, token: str, name: str) -> str:
        return await self._enrolment.tenant(token, name)

    async def enrol(self, token: str, name: str, secret: str = "", agent: str = "") -> str:
        return await self._enrolment.use(token, name, secret, agent)

    async def enrolled(self, token: str, name: str, secret: str) -> tuple[str, str] | None:
        return await self._enrolment.used(token, name, secret)

    async def make(self, tenant: str, address: str, agent: str, secret: str = "") -> tuple[str, str]:
        bits = self._hasher.hash(f"agent key\n{tenant}\n{agent}\n{secret}") if secret else b""
        now = self._clock.now_ms()
        key, stored = issue(
            self._hasher,
            name=address,
            scopes=frozenset((Scope.AGENT,)),
            now=now,
            tenant=tenant,
            key=generate_key(bits),
        )
        known = await self._store.find(stored.hash) if secret else None
        if known is None:
            await self._store.add(stored)
        elif not known.active(now):
            raise Unauthorized(
                "this agent was removed, and its key is dead",
                field="X-Enrolment-Token",
                remedy="start it again with a new token (`cpa agents token`)",
            )
        return key, stored.id

    async def revoke(self, tenant: str, address: str) -> None:
        now = self._clock.now_ms()
        for key in await self._store.list(tenant):
            if _means(address, key.name) and key.active(now):
                await self._store.revoke(tenant, key.id, now)
        if self._keys is not None:
            self._keys.forget()

    async def check(self, tenant: str, key: str) -> None:
        if key == FIXED.key:
            return
        known = await self._store.get(tenant, key)
        if known is None or not known.active(self._clock.now_ms()):
            raise not_accepted()

    def callback(self, tenant: str, agent: str) -> str:
        return callback_key(self._hasher, tenant, agent)


def _means(address: str, name: str) -> bool:
    """Whether the key of this name is the agent's of this address."""
    scheme, _, known = address.rpartition("/")
    if scheme != ANY_KIND:
        return name == address
    return name.startswith("agent://") and name.rpartition("/")[2] == known
