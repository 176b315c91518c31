"""What an agent says of itself when it registers, and whether that is in order."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from cpa.core.catalogue import OWN_NAMES, ActionCatalogue, is_own
from cpa.core.names import deceives
from cpa.errors import Conflict, Forbidden, InvalidDocument, NotFound
from cpa.ports.agents import RESERVED, AgentRecord
from cpa.ports.keys import Caller, Scope

_NAME = re.compile(r"\w[\w.@+~-]{0,99}")
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_MOST = 500
_UNGUESSED = 22
"""Signs of 128 random bits in base64."""


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says when it registers."""

    name: str
    type: str
    capabilities: tuple[str, ...]
    endpoint: str = ""
    metadata: dict[str, str] = {}
    slots: int = 1
    instance: str = ""
    incarnation: int = 0
    public_key: str = ""

    @property
    def address(self) -> str:
        """`agent://<kind>/<name>`"""
        return f"agent://{self.type.lower()}/{self.name}"

    @property
    def secret(self) -> str:
        """What only this process of the agent knows: its `instance`, where that is too long to be guessed, for one
        signing key. Empty otherwise."""
        return f"{self.public_key}\n{self.instance}" if len(self.instance) >= _UNGUESSED else ""


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent learns when it registers."""

    agent: AgentRecord
    new: bool
    key: str | None
    """Its API key, until it has beaten; None when it came with one."""
    callback_key: str
    """What the scheduler shows when it hands tasks to the agent's endpoint."""
    withheld: tuple[str, ...] = ()
    """Actions it named and was not enrolled for: they are not offered to it."""


def checked(wanted: Registration, catalogue: ActionCatalogue) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The actions and tags of a registration that is in order. Raises `InvalidDocument` naming what is wrong."""
    _check_name(wanted)
    return capabilities(wanted.capabilities, catalogue)


def record_of(
    wanted: Registration, catalogue: ActionCatalogue, tenant: str, id: str, key: str, now: int
) -> AgentRecord:
    """What is kept of a registration, for an agent of this id with the API key of that id. Raises as `checked`."""
    actions, tags = checked(wanted, catalogue)
    return AgentRecord(
        tenant=tenant,
        id=id,
        name=wanted.name,
        type=wanted.type,
        address=wanted.address,
        actions=actions,
        tags=tags,
        endpoint=wanted.endpoint,
        metadata=wanted.metadata,
        slots=wanted.slots,
        instance=wanted.instance,
        incarnation=wanted.incarnation,
        key=key,
        public_key=wanted.public_key,
        registered=now,
    )


def told(record: AgentRecord) -> dict[str, object]:
    """What the trail says of an agent besides who it is."""
    return {
        "address": record.address,
        "state": record.state.value,
        "actions": list(record.actions),
        "endpoint": record.endpoint,
    }


def _check_name(wanted: Registration) -> None:
    if not _NAME.fullmatch(wanted.name):
        raise InvalidDocument(
            f"{wanted.name[:100]!r} is no name for an agent",
            field="name",
            value=wanted.name,
            remedy="use up to 100 letters, digits and . @ + ~ - _, beginning with a letter or digit",
        )
    if deceives(wanted.name):
        raise InvalidDocument(
            "this name could be taken for another",
            field="name",
            value=wanted.name,
            remedy="use the letters of one alphabet, in their usual form, and the digits 0 to 9",
        )
    if not _TYPE.fullmatch(wanted.type) or wanted.type.lower() in RESERVED:
        raise InvalidDocument(
            "this is no type of agent",
            field="type",
            value=wanted.type,
            remedy="use DESKTOP_RPA, EMAIL, WEB, DATA or a word of your own; "
            f"taken are {', '.join(sorted(RESERVED))}",
        )


def capabilities(given: Sequence[str], catalogue: ActionCatalogue) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Dotted names are actions, the others tags; each once, in their order."""
    if not given or len(given) > _MOST:
        raise InvalidDocument(
            "an agent says what it can do",
            field="capabilities",
            value=len(given),
            remedy=f"name between 1 and {_MOST} actions (`web.click`) and tags (`outlook`)",
        )
    actions, tags = dict[str, None](), dict[str, None]()
    for index, name in enumerate(given):
        if not name or len(name) > 100 or not name.isprintable() or name != name.strip():
            raise InvalidDocument(
                "this is no capability",
                field=f"capabilities[{index}]",
                value=name,
                remedy="use up to 100 characters, such as `web.click` or `outlook`",
            )
        if "." not in name:
            tags[name] = None
        elif name in catalogue or is_own(name):
            actions[name] = None
        else:
            raise _no_action(name, index, catalogue)
    if not actions:
        raise InvalidDocument(
            "an agent does at least one action",
            field="capabilities",
            remedy="name one, such as `web.click`, or one of your own, such as `x.calculator.add`",
        )
    return tuple(actions), tuple(tags)


def granted(known: AgentRecord, wanted: AgentRecord) -> tuple[AgentRecord, tuple[str, ...]]:
    """What a known agent offers anew, reduced to what it was enrolled for; and what it may not offer. Otherwise
    who steals one agent's key would be given the tasks of all others. Raises `Forbidden` when nothing is left."""
    may = known.granted or known.actions
    kept = tuple(action for action in wanted.actions if action in may)
    withheld = tuple(action for action in wanted.actions if action not in may)
    if not kept:
        raise beyond(known, withheld)
    record = replace(wanted, actions=kept, granted=may if may != kept else (), withheld=withheld)
    return record, withheld


def check_newer(known: AgentRecord, wanted: Registration) -> None:
    """`Conflict` for a process older than the registered one: its registration can be under way while it dies and
    the next one registers."""
    if wanted.instance != known.instance and 0 < wanted.incarnation < known.incarnation:
        raise Conflict(
            f"a newer process of {known.address} is registered",
            field="incarnation",
            value=wanted.incarnation,
            remedy=f"say a number above {known.incarnation}; one agent runs as one process, from one data folder",
        )


def unknown(id: str) -> NotFound:
    """The refusal of an agent nobody knows."""
    return NotFound(
        "there is no such agent",
        field="agent_id",
        value=id,
        remedy="GET /agents lists them; an agent that was removed registers anew",
    )


def anew(name: str) -> str:
    """How an agent that was revoked comes again."""
    start = f"start it with a new token (`cpa agents token --name {name}`, then --token)"
    return f"its name is free: remove its folder, then {start}"


def not_its_key(caller: Caller, address: str) -> Forbidden:
    """The refusal of a key that is not called by the address it would register."""
    return Forbidden(
        "this key cannot register that agent",
        field="name",
        value=address,
        remedy=f"the key is called {caller.name}; an agent's own key has the scope agent and its address",
    )


def offers_more(known: AgentRecord, wanted: AgentRecord) -> bool:
    """Whether there is something it was not enrolled for."""
    return not set(wanted.actions) <= set(known.granted or known.actions)


def beyond(known: AgentRecord, actions: Sequence[str]) -> Forbidden:
    """The refusal of actions that an agent was not enrolled for."""
    return Forbidden(
        f"this agent was not enrolled for {', '.join(actions)}",
        field="capabilities",
        value=known.address,
        remedy=f"let it register once more, with its key and a token: `cpa agents token --name {known.name}`",
    )


def _no_action(name: str, index: int, catalogue: ActionCatalogue) -> InvalidDocument:
    field = f"capabilities[{index}]"
    try:
        catalogue.canonical(name, field=field)
    except InvalidDocument as error:
        return error
    # A short name for an action is none for an agent.
    return InvalidDocument(f"unknown action {name!r}", field=field, value=name, remedy=OWN_NAMES)


def only_own(caller: Caller, record: AgentRecord, otherwise: Scope) -> None:
    """An agent may look after itself; after others only who holds this scope."""
    if not caller.may(otherwise) and caller.name != record.address:
        raise Forbidden(
            "this is another agent",
            field="agent_id",
            value=record.id,
            remedy=f"this key speaks for {caller.name}",
        )


def check_key(record: AgentRecord, caller: Caller) -> None:
    """`Forbidden` for a key of this address with which its agent did not register: only that one speaks for it."""
    if caller.key != record.key:
        raise Forbidden(
            f"this is not the key that {record.address} is registered with",
            field="X-API-Key",
            value=caller.key,
            remedy="register with this key first, or use the one of the registration",
        )
