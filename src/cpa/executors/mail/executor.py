"""`mail.send`, `mail.search` and `mail.read`, over any `MailPort`.

How a sent message is proved (architecture, section 5). The Message-ID follows from the task, so it can be
looked for where the mail transaction itself puts the message. Found there: it happened. Not found proves
nothing until the server has had time to deliver: before the request's `age` has reached the settle time the
answer is UNKNOWN, with the rest of it as `look_again`; after that it is ABSENT.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from typing import Any, TypeVar

from cpa.core.classes import FailureClass
from cpa.errors import CPAError, NotFound
from cpa.executors.arguments import (
    Stopped,
    attempt,
    bad_argument,
    business,
    count,
    flag,
    prose,
    reference,
    refuse_tainted,
    text,
)
from cpa.executors.mail.message import compose, header_text, message_id, parse_addresses, safe_name
from cpa.ports.artifacts import Artifact, ArtifactStore
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.ports.mail import (
    MailAttachment,
    MailPort,
    MailQuery,
    MailRefused,
    MailTrouble,
    ReceivedMail,
)

T = TypeVar("T")

MAX_ATTACHMENTS = 25 * 1024 * 1024
"""Bytes of all attachments of one message, before encoding; most servers refuse more."""
MAX_INLINE = 16 * 1024
"""Bytes of text that appear in a result; longer text is kept whole as an artifact."""
SETTLE = 60.0
"""Seconds a mail server may take to deliver what it accepted before absence counts."""

_DEFAULT = "default"


class MailExecutor(BaseExecutor):
    """Sends and reads mail of configured accounts.

    `accounts` maps an account's name to its port, for the tenant `default`; accounts of other tenants are
    named `<tenant>/<account>`. The argument `account` chooses, `default` if it is not given. The executor
    owns the ports and closes them.
    """

    actions = ("mail.send", "mail.search", "mail.read")

    def __init__(
        self,
        accounts: Mapping[str, MailPort],
        artifacts: ArtifactStore,
        *,
        settle: float = SETTLE,
        max_attachments: int = MAX_ATTACHMENTS,
    ) -> None:
        self._accounts = dict(accounts)
        self._artifacts = artifacts
        self._settle = settle
        self._max_attachments = max_attachments

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        return await attempt(self._perform, request)

    async def verify(self, request: ActionRequest) -> Verification:
        if request.action != "mail.send":
            return Verification(
                verdict=Verdict.ABSENT, evidence="Reading changes nothing; it can be repeated."
            )
        try:
            port = self._port(request)
        except Stopped as stopped:
            return Verification(verdict=Verdict.UNKNOWN, evidence=f"There is no place to look: {stopped}.")
        try:
            letter = _Letter(request, port)
        except Stopped as stopped:
            return Verification(
                verdict=Verdict.ABSENT, evidence=f"It cannot have been sent: {stopped.error.message}."
            )
        return await self._look(request, port, letter)

    async def close(self) -> None:
        """Close every account, also when one of them fails to."""
        ports = list({id(port): port for port in self._accounts.values()}.values())
        outcomes = await asyncio.gather(*(port.close() for port in ports), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _perform(self, request: ActionRequest) -> ExecutionResult:
        port = self._port(request)
        if request.action == "mail.send":
            return await self._send(request, port)
        if request.action == "mail.search":
            return await self._search(request, port)
        return await self._read(request, port)

    def _port(self, request: ActionRequest) -> MailPort:
        refuse_tainted(request, ("account",))
        name = text(request, "account", _DEFAULT)
        key = name if request.tenant == _DEFAULT else f"{request.tenant}/{name}"
        port = None if "/" in name else self._accounts.get(key)
        if port is None:
            raise business(
                "unknown_account",
                f"no mail account '{name}' is configured",
                remedy="set smtp_url, imap_url and mail_from, or name one of the configured accounts",
                argument="account",
            )
        return port

    # -- sending ---------------------------------------------------------------------------------------------

    async def _send(self, request: ActionRequest, port: MailPort) -> ExecutionResult:
        refuse_tainted(request, ("to", "cc", "bcc"))
        letter = _Letter(request, port)
        # An earlier attempt may have got through although its answer was lost.
        may_be_there = request.epoch > 1 and port.proves(letter.envelope)
        if may_be_there and await _ask(port.find(letter.identity)) is not None:
            return ExecutionResult(success=True, result=letter.result)
        attachments = await self._attachments(request)
        message = await asyncio.to_thread(
            compose,
            sender=letter.sender,
            to=letter.to,
            cc=letter.cc,
            subject=letter.subject,
            text=letter.text,
            attachments=attachments,
            identity=letter.identity,
        )
        await _ask(port.send(message, sender=letter.sender.addr_spec, recipients=letter.envelope))
        return ExecutionResult(success=True, result=letter.result)

    async def _attachments(self, request: ActionRequest) -> list[MailAttachment]:
        """The attached files. Their sizes are asked of the store, not believed, before a byte is read."""
        given = request.arguments.get("attachments") or []
        wanted = [reference(request, "attachments", each) for each in _listed(given)]
        stored = []
        total = 0
        for digest, name, kind in wanted:
            artifact = await self._stat(request, digest)
            total += artifact.size
            stored.append((artifact, name or artifact.name, kind or artifact.media_type))
        if total > self._max_attachments:
            names = ", ".join(safe_name(name) for _, name, _ in stored)
            raise business(
                "attachment_too_large",
                f"the attachments ({names}) have {_megabytes(total)}, the limit is "
                f"{_megabytes(self._max_attachments)}",
                remedy="send a smaller file, or put it where the recipient can fetch it and mail the link",
                size=total,
                limit=self._max_attachments,
            )
        attachments = []
        for artifact, name, kind in stored:
            content = await self._artifacts.read(request.tenant, artifact.digest, limit=self._max_attachments)
            attachments.append(MailAttachment(name=safe_name(name), media_type=kind, content=content))
        return attachments

    async def _stat(self, request: ActionRequest, digest: str) -> Artifact:
        try:
            return await self._artifacts.stat(request.tenant, digest)
        except NotFound as error:
            raise business(
                "attachment_not_found",
                f"the attachment {digest[:19]}… is not stored",
                remedy="run the task again that produced the file",
                argument="attachments",
            ) from error

    # -- proving ---------------------------------------------------------------------------------------------

    async def _look(self, request: ActionRequest, port: MailPort, letter: _Letter) -> Verification:
        if not port.proves(letter.envelope):
            return Verification(
                verdict=Verdict.UNKNOWN,
                evidence="No mailbox is configured in which the mail transaction itself leaves a copy.",
            )
        try:
            found = await port.find(letter.identity)
        except (MailRefused, MailTrouble, CPAError) as error:
            return Verification(
                verdict=Verdict.UNKNOWN,
                evidence=f"The mailbox could not be searched: {error}",
                look_again=self._settle,
            )
        if found is not None:
            return Verification(
                verdict=Verdict.HAPPENED,
                evidence=f"{letter.identity} lies in the folder {found.folder} (uid {found.uid}).",
                result=letter.result,
            )
        if request.age < self._settle:
            return Verification(
                verdict=Verdict.UNKNOWN,
                evidence=f"{letter.identity} has not arrived yet; absence counts after {self._settle:g} s.",
                look_again=self._settle - request.age,
            )
        return Verification(
            verdict=Verdict.ABSENT,
            evidence=f"{letter.identity} did not arrive within the settle time of {self._settle:g} s.",
        )

    # -- reading ---------------------------------------------------------------------------------------------

    async def _search(self, request: ActionRequest, port: MailPort) -> ExecutionResult:
        refuse_tainted(request, ("folder", "unseen", "limit"))
        query = MailQuery(
            folder=text(request, "folder", "INBOX"),
            subject=text(request, "subject", ""),
            sender=text(request, "sender", ""),
            to=text(request, "to", ""),
            text=text(request, "text", ""),
            since=_since(request),
            unseen=flag(request, "unseen"),
            limit=count(request, "limit", 50, most=1000),
        )
        found = await _ask(port.search(query))
        messages = [
            {
                "uid": each.uid,
                "folder": each.folder,
                "message_id": each.message_id,
                "subject": _shortened(each.subject),
                "sender": each.sender,
                "to": list(each.to),
                "date": each.date.isoformat() if each.date else None,
            }
            for each in found
        ]
        return ExecutionResult(success=True, result={"messages": messages, "count": len(messages)})

    async def _read(self, request: ActionRequest, port: MailPort) -> ExecutionResult:
        refuse_tainted(request, ("folder",))
        folder = text(request, "folder", "INBOX")
        try:
            mail = await _ask(port.read(text(request, "uid"), folder=folder))
        except NotFound as error:
            raise business("mail_not_found", error.message, remedy=error.remedy or "") from error
        return await self._kept(request.tenant, mail)

    async def _kept(self, tenant: str, mail: ReceivedMail) -> ExecutionResult:
        """The result of reading; attachments and long text are stored."""
        files = [
            await self._artifacts.put(
                tenant, each.content, name=safe_name(each.name), media_type=each.media_type
            )
            for each in mail.attachments
        ]
        result: dict[str, Any] = {
            "subject": _shortened(mail.subject),
            "sender": mail.sender,
            "to": list(mail.to),
            "date": mail.date.isoformat() if mail.date else None,
            "text": _shortened(mail.text),
            "attachments": [each.as_reference() for each in files],
            "message_id": mail.message_id,
        }
        digests = [each.digest for each in files]
        if result["text"] != mail.text:
            whole = await self._artifacts.put(
                tenant, mail.text.encode(), name="mail.txt", media_type="text/plain; charset=utf-8"
            )
            result |= {"text_truncated": True, "text_file": whole.as_reference()}
            digests.append(whole.digest)
        return ExecutionResult(success=True, result=result, artifacts=tuple(digests))


class _Letter:
    """What a request to send means: read and checked, but not yet composed."""

    def __init__(self, request: ActionRequest, port: MailPort) -> None:
        self.sender: Address = parse_addresses("mail_from", port.sender)[0]
        self.to = parse_addresses("to", request.arguments.get("to"))
        self.cc = parse_addresses("cc", request.arguments.get("cc"))
        blind = parse_addresses("bcc", request.arguments.get("bcc"))
        if not self.to:
            raise bad_argument(request, "to", "is missing", "name at least one recipient")
        self.subject = header_text("subject", text(request, "subject", ""))
        self.text = prose(request, "text")
        self.identity = message_id(request.idempotency_key, self.sender)
        addressed = {each.addr_spec: None for each in (*self.to, *self.cc, *blind)}
        self.result = {"message_id": self.identity, "accepted": list(addressed)}
        known = {each.lower() for each in addressed}
        copies = [port.proof_copy] if port.proof_copy and port.proof_copy.lower() not in known else []
        self.envelope: Sequence[str] = [*addressed, *copies]


async def _ask(call: Awaitable[T]) -> T:
    """Await a call of the mail port; its refusals and troubles become reasons to stop."""
    try:
        return await call
    except MailRefused as refused:
        raise business(refused.code, str(refused), remedy=refused.remedy) from refused
    except MailTrouble as trouble:
        if trouble.sent_unknown:
            raise Stopped(FailureClass.UNKNOWN_OUTCOME, trouble.code, str(trouble)) from trouble
        failure = FailureClass.ENVIRONMENT if trouble.not_ready else FailureClass.TECHNICAL
        remedy = "it is tried again; check the mail server if it lasts"
        raise Stopped(failure, trouble.code, str(trouble), remedy=remedy) from trouble


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _since(request: ActionRequest) -> datetime | None:
    given = text(request, "since", "")
    if not given:
        return None
    try:
        since = datetime.fromisoformat(given)
    except ValueError as error:
        raise bad_argument(
            request, "since", "is no date", "write it as 2026-11-24 or 2026-11-24T08:00"
        ) from error
    return since if since.tzinfo else since.replace(tzinfo=UTC)


def _shortened(value: str) -> str:
    """At most `MAX_INLINE` bytes of UTF-8, cut between characters."""
    content = value.encode("utf-8", "replace")
    return content[:MAX_INLINE].decode("utf-8", "ignore")


def _megabytes(size: int) -> str:
    return f"{size / (1024 * 1024):.1f} MiB"
