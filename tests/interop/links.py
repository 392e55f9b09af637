"""The four ways in which partner and daemon can be connected, behind one face."""

import asyncio
import contextlib
import json
import time

from aiohttp import web

from daemon import Daemon
from initiator import Initiator, background
from partner import Partner
from responder import Responder, WebSocketResponder
from waiting import until


class Link:
    """A partner that publishes its keys, a daemon that knows it, and a connection that comes and goes."""

    def __init__(self, place, stack: contextlib.AsyncExitStack):
        self.place, self.stack = place, stack
        self.partner = Partner(place)
        self.keys = Responder(self.partner)
        self.initiator = self.daemon = None

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, place, alg="ES256", **changes):
        async with contextlib.AsyncExitStack() as stack:
            link = cls(place, stack)
            await stack.enter_async_context(link.keys.running())
            definition = await link.definition()
            link.daemon = await Daemon.make(place, alg)
            link.partner.introduce(link.daemon, **definition, **changes)
            await stack.enter_async_context(link.daemon)
            await link.come()
            yield link
            await link.go()

    async def definition(self) -> dict:
        return self.keys.definition("none")

    async def meet(self) -> Initiator:
        """Reads the daemon's card and its keys, as they are now."""
        self.initiator = await Initiator.of(self.partner, self.daemon)
        return self.initiator

    async def insist(self, sets: dict, seconds: float = 100):
        """Sends SETs again, as every Transmitter has to, until each has a verdict."""
        deadline = time.monotonic() + seconds
        while left := {jti: compact for jti, compact in sets.items() if not self.partner.answered(jti)}:
            assert time.monotonic() < deadline, f"no verdict on {len(left)} of {len(sets)}"
            await self.send(left)
            with contextlib.suppress(AssertionError):
                await until(lambda: all(map(self.partner.answered, left)), "a verdict", seconds=2)


class PartnerDialsWebSocket(Link):
    title = "the_partner_dials_a_websocket"

    async def come(self):
        await self.meet()
        self.open = contextlib.AsyncExitStack()
        self.socket = await self.open.enter_async_context(self.initiator.conversation())

    async def go(self):
        self.socket.transport.abort()
        await self.open.aclose()

    async def send(self, sets: dict):
        await self.socket.send(json.dumps({"sets": sets}))


class PartnerPosts(Link):
    title = "the_partner_posts"

    async def come(self):
        await self.meet()
        self.open = contextlib.AsyncExitStack()
        self.outgoing = {}
        http = await self.open.enter_async_context(self.initiator.http())
        await self.open.enter_async_context(background(self.ask(http)))

    async def ask(self, http):
        while True:
            sets, self.outgoing = self.outgoing, {}
            await http.exchange(sets)
            await asyncio.sleep(0.05)

    async def go(self):
        await self.open.aclose()

    async def send(self, sets: dict):
        self.outgoing |= sets


class DaemonDialsWebSocket(Link):
    title = "the_daemon_dials_a_websocket"

    async def definition(self) -> dict:
        self.sockets = WebSocketResponder(self.partner, self.keys)
        self.gone = 0
        await self.stack.enter_async_context(self.sockets.running())
        return self.keys.definition("websocket") | {"endpoint": f"wss://{self.sockets.address}/pushpull"}

    async def come(self):
        self.sockets.away = False
        await until(lambda: len(self.sockets.connections) > self.gone, "the daemon has dialled")
        await self.meet()

    async def go(self):
        self.sockets.away = True
        self.gone = len(self.sockets.connections)
        self.sockets.socket.transport.abort()

    async def send(self, sets: dict):
        await self.sockets.socket.send(json.dumps({"sets": sets}))


class DaemonPosts(Link):
    title = "the_daemon_posts"

    async def definition(self) -> dict:
        return self.keys.definition("http")

    async def come(self):
        self.keys.instead = lambda request, object: None
        before = len(self.keys.requests)
        await until(lambda: len(self.keys.requests) > before, "the daemon has posted")
        await self.meet()

    async def go(self):
        self.keys.instead = self.vanish

    @staticmethod
    def vanish(request, _object):
        request.transport.abort()
        # It reaches nobody.
        return web.Response()

    async def send(self, sets: dict):
        self.keys.outgoing |= sets


LINKS = [PartnerDialsWebSocket, PartnerPosts, DaemonDialsWebSocket, DaemonPosts]
