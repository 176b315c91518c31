"""Agents: what is kept of them, what they say of themselves, and who takes their messages in.

An agent is registered once and durably; its presence is what its last beat said, and expires. The address
(`agent://<kind>/<name>`) is what its credential is called, so that a message's sender can be checked; the id is
what paths use. Agents belong to a tenant and are offered that tenant's tasks only.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Protocol

import msgspec

from cpa.core.lam_protocol import BaseMessage
from cpa.errors import Conflict, InvalidDocument
from cpa.ports.keys import Caller
from cpa.ports.repository import ActionLeaf

RESERVED: Final = frozenset(("scheduler", "user", "builtin", "channel"))
"""Kinds of addresses that no agent has: they are people's (`agent://user/<name of the key>`) and our own."""
ANY_KIND = "agent://*"
"""Begins the address of an agent whose kind is not known; no agent calls itself so."""


class AgentState(StrEnum):
    """What an operator decided about an agent."""

    ACTIVE = "active"
    DRAINING = "draining"
    """Ends what it has and is offered nothing new."""
    QUARANTINED = "quarantined"
    """As draining; its answers are recorded and change nothing until it is active again."""
    REVOKED = "revoked"
    """Its credential is dead, for good."""


class AgentStatus(StrEnum):
    """What an agent said of itself, or `offline` when its beats stopped."""

    ONLINE = "online"
    BUSY = "busy"
    OFFLINE = "offline"


class AgentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One registered agent. Times are milliseconds since 1970 UTC."""

    tenant: str
    id: str
    name: str
    type: str
    """DESKTOP_RPA, EMAIL, WEB, DATA, or another word."""
    address: str
    """`agent://<kind>/<name>`, the kind being the type in lower case."""
    actions: tuple[str, ...]
    """Canonical action names it performs."""
    tags: tuple[str, ...] = ()
    """Free capabilities besides the actions, such as `outlook`."""
    endpoint: str = ""
    """Where it listens; empty for an agent that opens a channel."""
    metadata: dict[str, str] = {}
    """version, platform, hostname …"""
    slots: int = 1
    """Attempts at the same time."""
    instance: str = ""
    """Drawn anew at each start of the agent's process: attempts of an older instance are lost. A secret between it
    and the scheduler, told to nobody else."""
    incarnation: int = 0
    """Greater at each start: by it a late registration of an older process is known. 0 is not said."""
    granted: tuple[str, ...] = ()
    """Actions it was enrolled for; empty is what `actions` says. It may offer less, and no other."""
    withheld: tuple[str, ...] = ()
    """Actions it named when it registered last and was not enrolled for: it is not given them."""
    key: str = ""
    """Id of its API key."""
    public_key: str = ""
    """Ed25519, base64, when it signs its messages."""
    state: AgentState = AgentState.ACTIVE
    registered: int = 0

    @property
    def unread(self) -> bool:
        """What is stored of it cannot be read: this is what is known all the same."""
        return self.address.startswith(f"{ANY_KIND}/")


class Readiness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Facts that decide whether an agent can work at all; None is not said."""

    session_locked: bool | None = None
    remote_session_closed: bool | None = None
    dpi: int | None = None
    user: str | None = None
    applications: dict[str, str] = {}
    """Name to version."""


class Named(msgspec.Struct, frozen=True):
    """An attempt an agent says it is running."""

    job: str
    task: str
    epoch: int


class Beat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent says at each heartbeat."""

    status: AgentStatus = AgentStatus.ONLINE
    load: float = 0.0
    """1.0 is fully busy."""
    free: int | None = None
    """Slots it has left; None leaves the counting to the scheduler."""
    running: tuple[Named, ...] = ()
    """Only what is named here keeps its lease; what is missing is lost."""
    readiness: Readiness = Readiness()
    instance: str = ""
    at: int = 0
    """When the scheduler received it."""


def named_in(message: BaseMessage) -> Named:
    """The attempt a message is about. `InvalidDocument` naming what it does not say."""
    about = message.correlation
    for name, value in (("jobId", about.job_id), ("taskId", about.task_id), ("epoch", about.epoch)):
        if value in ("", None):
            raise InvalidDocument(
                f"the message {message.type} says which attempt it is about",
                field=f"correlation.{name}",
                remedy="say jobId, taskId and epoch, in an answer as the request does",
            )
    return Named(about.job_id, about.task_id, about.epoch or 0)


def unread(tenant: str, id: str, name: str, registered: int, *, revoked: bool) -> AgentRecord:
    """What stands for an agent that cannot be read. It does nothing, and its name stays its own."""
    return AgentRecord(
        tenant=tenant,
        id=id,
        name=name,
        type="",
        address=f"{ANY_KIND}/{name}",
        actions=(),
        state=AgentState.REVOKED if revoked else AgentState.QUARANTINED,
        registered=registered,
    )


def check_legible(agent: AgentRecord) -> None:
    """`Conflict` for an agent that cannot be read: what stands for it must not take the place of what is stored."""
    if agent.unread:
        raise Conflict(
            "what is stored of this agent cannot be read",
            field="agent_id",
            value=agent.id,
            remedy="remove it (`cpa agents remove`); its keys are dead then, and it can register anew",
        )


def taken(name: str) -> Conflict:
    """The refusal of a name that another agent has."""
    return Conflict(
        f"another agent is called {name}",
        field="name",
        value=name,
        remedy="choose another name (--name), start that agent from its own folder (--data), where its key lies, "
        f"or remove it first: `cpa agents remove {name}`",
    )


class AgentStore(Protocol):
    """Keeps agents and their last beats. Names are unique within a tenant among agents that are not revoked.

    One contract for all backends. Every method looks only inside the tenant given, except `all`. An agent that
    cannot be read comes as `unread`, and keeps its name; a beat that cannot be read was none. A `leaf` is what the
    trail tells of it: both are stored, or neither.
    """

    async def put(self, agent: AgentRecord, leaf: ActionLeaf | None = None) -> None:
        """Add, or replace the one of the same id; durable on return. `Conflict` when the name is another's, and for
        one that cannot be read: it can only be removed."""
        ...

    async def get(self, tenant: str, id: str) -> AgentRecord | None: ...

    async def find(self, tenant: str, name: str) -> AgentRecord | None:
        """The agent of this name that is not revoked."""
        ...

    async def all(self) -> tuple[AgentRecord, ...]:
        """Every agent of every tenant that is not revoked: what a starting scheduler needs."""
        ...

    async def revoked(self, tenant: str) -> tuple[AgentRecord, ...]:
        """Those that are revoked, in the order of their registration."""
        ...

    async def remove(self, tenant: str, id: str, leaf: ActionLeaf | None = None) -> bool:
        """Durable on return; False when there is none, and then nothing is told of it."""
        ...

    async def beat(self, tenant: str, id: str, beat: Beat) -> None:
        """Keep the newest beat; need not be durable on return, an agent sends the next one soon."""
        ...

    async def last_beat(self, tenant: str, id: str) -> Beat | None: ...


class AgentKeys(Protocol):
    """Credentials of agents."""

    async def tenant(self, token: str, name: str) -> str:
        """The tenant that an agent of this name would enter with the token. Uses nothing; raises as `enrol`."""
        ...

    async def enrol(self, token: str, name: str, secret: str = "", agent: str = "") -> str:
        """Use an enrolment token once for an agent of this name; gives its tenant. `Unauthorized` when it is not
        accepted. With a secret of the agent's it is kept which agent (its id) the token was used for."""
        ...

    async def enrolled(self, token: str, name: str, secret: str) -> tuple[str, str] | None:
        """Tenant and id of the agent of this name that used the token with this secret, as long as the token is
        neither revoked nor expired."""
        ...

    async def make(self, tenant: str, address: str, agent: str, secret: str = "") -> tuple[str, str]:
        """An API key for the agent of this address and id, and the key's id. Durable on return. With a secret of
        the agent's it is the same key each time, `Unauthorized` once that is revoked; else a new one."""
        ...

    async def revoke(self, tenant: str, address: str) -> None:
        """Every key of the agent of this address is dead, at once; of any kind where that is `ANY_KIND`."""
        ...

    async def check(self, tenant: str, key: str) -> None:
        """Raises `Unauthorized` when the key of this id is dead, or never was. The key of the settings lives."""
        ...

    def callback(self, tenant: str, agent: str) -> str:
        """What the scheduler shows to the endpoint of the agent of this id."""
        ...


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message."""

    message_id: str
    new: bool
    """False when the same message of the same sender was here before; then nothing happened."""
    effect: str
    """What it did: `job_created`, `progress`, `task_succeeded`, or why nothing changed (`duplicate`,
    `stale_epoch` …)."""
    job: str = ""
    """The job it made or concerned."""
    left_out: tuple[str, ...] = ()
    """Digests of files that it named beside its result and that are not kept with the task: nobody stored them."""


class MessageHandler(Protocol):
    """Takes every LAM message that comes in from outside."""

    async def handle(self, message: BaseMessage, caller: Caller) -> Acknowledgement:
        """Durable on return. The tenant is the caller's; `Forbidden` when the message names another one or a
        sender that is not the caller. Duplicates by (sender, id) and stale epochs are acknowledged and change
        nothing; `InvalidDocument` for a type this server does not take."""
        ...
