"""Looking host names up without waiting long for any.

The system is asked (`getaddrinfo`), for it knows what people have set up: the hosts file, search domains, name
servers. That blocks, cannot be broken off, and lasts while a name server keeps silent, half a minute or more. So it
happens in threads, a bounded number of them, and who asks waits `PATIENCE` seconds at most. What is silent holds up
nothing else:

    who asks for a name that is being looked up waits for that look-up, and begins none
    a name that was not answered in time is refused until its look-up has ended and `REFUSED` seconds more, without
      another; an answer that came late is given meanwhile
    the names of one domain have a quarter of the places: where its servers are silent, all of them hang
    a quarter of the places is for names that were answered before; this machine's own name needs none
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Final, NamedTuple

import structlog

from cpa.ports.addresses import REFUSED, not_resolved

log = structlog.get_logger(__name__)

PATIENCE: Final = 8.0
"""Seconds. The system goes on to the second name server after 5, if the first is silent (resolv.conf): one that is
down may not make every name unknown."""
PLACES: Final = 64
"""Names that are looked up at the same time."""
_REMEMBERED: Final = 4_096
"""Names that were answered, the last ones."""

Ask = Callable[[str], Sequence[str]]


class _Search(NamedTuple):
    until: float
    """When those who asked give up, on the loop's clock."""
    found: asyncio.Task[Sequence[str]]


def ask_system(host: str) -> Sequence[str]:
    """The addresses of a host, as this machine is set up to find them; blocks."""
    return [str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


class Names:
    """Which addresses hosts have. Belongs to one event loop."""

    def __init__(
        self,
        ask: Ask = ask_system,
        *,
        patience: float = PATIENCE,
        refused: float = REFUSED,
        places: int = PLACES,
    ) -> None:
        """`ask` is called in threads. Seconds; `places` is a multiple of four."""
        self._ask = ask
        self._patience = patience
        self._refused = refused
        self._most = places
        self._searches: dict[str, _Search] = {}
        """By name: those under way, and for a while those that took too long."""
        self._places: dict[str, str] = {}
        """The domain of each name that has a thread."""
        self._freed = asyncio.Event()
        self._answered: OrderedDict[str, None] = OrderedDict()
        self._quiet = 0.0

    async def look_up(self, host: str) -> Sequence[str]:
        """The addresses of a host in the system's order. `NameNotResolved` if that lasts too long; raises what the
        system says of it otherwise (`OSError`, `UnicodeError`)."""
        search = self._searches.get(host)
        if search is None:
            loop = asyncio.get_running_loop()
            until = loop.time() + self._patience
            search = _Search(until, loop.create_task(self._search(host, until)))
            search.found.add_done_callback(_heard)
            self._searches[host] = search
        try:
            async with asyncio.timeout_at(search.until):
                return await asyncio.shield(search.found)
        except TimeoutError as error:
            raise not_resolved(host) from error

    # -- inside ----------------------------------------------------------------------------------------------

    async def _search(self, host: str, until: float) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        if not await self._placed(host, until):
            del self._searches[host]
            raise not_resolved(host)
        try:
            found = await _in_thread(self._ask, host)
        except OSError as error:
            if loop.time() > until:
                raise not_resolved(host) from error
            raise
        finally:
            del self._places[host]
            self._freed.set()
            self._freed.clear()
            if loop.time() > until:
                self._answered.pop(host, None)
                loop.call_later(self._refused, self._searches.pop, host)
            else:
                del self._searches[host]
        if loop.time() <= until:
            self._remember(host)
        return found

    async def _placed(self, host: str, until: float) -> bool:
        """Wait for a place; False when there was none in time."""
        try:
            async with asyncio.timeout_at(until):
                while not self._has_room(host):
                    await self._freed.wait()
        except TimeoutError:
            self._tell(host)
            return False
        self._places[host] = _domain(host)
        return True

    def _tell(self, host: str) -> None:
        """Why names that were not even asked for fail: once a minute, not once a name."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet:
            self._quiet = now + 60
            log.warning("names_not_answered", waited=host, domains=sorted(set(self._places.values())))

    def _has_room(self, host: str) -> bool:
        if host == "localhost":
            return True
        if host in self._answered:
            return len(self._places) < self._most
        domain = _domain(host)
        of_it = sum(each == domain for each in self._places.values())
        return len(self._places) < self._most * 3 // 4 and of_it < self._most // 4

    def _remember(self, host: str) -> None:
        self._answered[host] = None
        self._answered.move_to_end(host)
        if len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)


def _domain(host: str) -> str:
    """Names that are likely to be answered by the same servers have the same; those without a dot all have one."""
    return ".".join(host.split(".")[-2:]) if "." in host else ""


def _heard(search: asyncio.Task[Sequence[str]]) -> None:
    """Whoever asked may have left; nobody is to be told then."""
    if not search.cancelled():
        search.exception()


def _in_thread(ask: Ask, host: str) -> asyncio.Future[Sequence[str]]:
    """The answer, from a thread that does not hold up the end of the process."""
    answer: Future[Sequence[str]] = Future()
    answer.set_running_or_notify_cancel()  # Who stops waiting does not take it from the thread.

    def work() -> None:
        try:
            found = ask(host)
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            answer.set_exception(error)
        else:
            answer.set_result(found)

    try:
        Thread(target=work, name="name", daemon=True).start()
    except RuntimeError as error:
        raise OSError(f"this process may begin no more threads: {error}") from error
    return asyncio.wrap_future(answer)
