"""Credentials of agents: the key an agent shows us, and the one we show the agent.

An agent's key is an API key of the scope `agent` that is called by the agent's address. What we show at its
endpoint follows from the server's own secret: it is stored nowhere, and told again whenever the agent registers.
"""

from __future__ import annotations

from cpa.ports.clock import Clock
from cpa.ports.keys import KeyStore, Scope
from cpa.security.auth import Authenticator, Hasher, issue
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

    async def enrol(self, token: str, name: str) -> str:
        return await self._enrolment.use(token, name)

    async def make(self, tenant: str, address: str) -> tuple[str, str]:
        key, stored = issue(
            self._hasher,
            name=address,
            scopes=frozenset((Scope.AGENT,)),
            now=self._clock.now_ms(),
            tenant=tenant,
        )
        await self._store.add(stored)
        return key, stored.id

    async def revoke(self, tenant: str, address: str) -> None:
        now = self._clock.now_ms()
        for key in await self._store.list(tenant):
            if key.name == address and key.active(now):
                await self._store.revoke(tenant, key.id, now)
        if self._keys is not None:
            self._keys.forget()

    def callback(self, tenant: str, agent: str) -> str:
        return callback_key(self._hasher, tenant, agent)
