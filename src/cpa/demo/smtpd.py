"""The demo's SMTP server: asks for a password, takes any recipient, hands each message on.

Built on aiosmtpd, inside the running event loop. Loopback only, hence without TLS.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cpa.demo.serving import HOST, bind

Deliver = Callable[[str, Sequence[str], bytes], Awaitable[None]]
"""Takes (sender, recipients, message). Returning means: every recipient has it."""


class DeliveryRefusedError(Exception):
    """The mailbox does not take the message; the text goes to the SMTP client after a 550."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How to reach a mail server, and as whom."""

    host: str
    port: int
    user: str
    password: str


@dataclass(frozen=True)
class _Handler:
    """What aiosmtpd calls; its method names are aiosmtpd's. Without slots: it looks at every attribute, and up to
    CPython 3.11.4 asking such a class for its `__weakref__` fails."""

    deliver: Deliver

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        try:
            await self.deliver(envelope.mail_from, tuple(envelope.rcpt_tos), envelope.content)
        except DeliveryRefusedError as error:
            return f"550 5.1.1 {error}"
        except OSError as error:
            return f"451 4.3.0 cannot be stored now: {error.strerror or error}"
        return "250 2.0.0 delivered"


@asynccontextmanager
async def serve_smtp(user: str, password: str, deliver: Deliver, *, port: int = 0) -> AsyncIterator[Account]:
    """Listen while the block runs; port 0 takes a free one, `Unavailable` when the port is taken."""
    # aiosmtpd logs each step of each conversation, and a warning for every AUTH without TLS.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    factory = _protocol_factory(_Handler(deliver), user, password)
    server = await asyncio.get_running_loop().create_server(factory, sock=bind(port, "mail server"))
    try:
        bound: int = server.sockets[0].getsockname()[1]
        yield Account(host=HOST, port=bound, user=user, password=password)
    finally:
        server.close()
        await server.wait_closed()


def _protocol_factory(handler: _Handler, user: str, password: str) -> Callable[[], asyncio.Protocol]:
    from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> Any:
        right = (
            isinstance(given, LoginPassword)
            and secrets.compare_digest(given.login, user.encode())
            and secrets.compare_digest(given.password, password.encode())
        )
        # `handled=False` makes aiosmtpd answer a refusal; else the client would wait for ever.
        return AuthResult(success=right, handled=False)

    def connect() -> asyncio.Protocol:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            protocol: asyncio.Protocol = SMTP(
                handler,
                hostname="localhost",
                ident="demo mail server",
                enable_SMTPUTF8=True,
                auth_required=True,
                auth_require_tls=False,
                authenticator=authenticate,
                loop=asyncio.get_running_loop(),
            )
        return protocol

    return connect
