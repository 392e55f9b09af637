"""The partner as Responder: it publishes keys, takes POSTs, and accepts WebSockets. The daemon dials."""

import contextlib
import http
import json
import logging

import websockets
from aiohttp import web
from websockets.asyncio.server import serve

from initiator import converse
from partner import Partner


class Responder:
    """An HTTPS server by aiohttp: `GET /jwks.json` and `POST /pushpull`."""

    def __init__(self, partner: Partner):
        self.partner = partner
        # Sets for the daemon, which leave with the next answers.
        self.outgoing = {}
        # How often the keys were asked for, and what is answered instead if it is not None.
        self.key_requests, self.key_failure = 0, None
        # Sees each request before it is taken in, and may answer it instead.
        self.instead = lambda request, object: None
        self.requests = []
        self.address = None

    @contextlib.asynccontextmanager
    async def running(self):
        app = web.Application(client_max_size=1 << 24)
        app.add_routes([web.get("/jwks.json", self.keys), web.post("/pushpull", self.exchange)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.partner.certificate.context)
            await site.start()
            host, port = runner.addresses[0]
            self.address = f"{host}:{port}"
            yield self
        finally:
            await runner.cleanup()

    def definition(self, transport: str) -> dict:
        """The members of a `[[peer]]` block that follow from this server."""
        return {
            "jwks_file": ..., "jwks_uri": f"https://{self.address}/jwks.json", "transport": transport,
            "endpoint": f"https://{self.address}/pushpull" if transport != "none" else ...,
            "tls_pin": self.partner.certificate.pin,
        }

    async def keys(self, _request):
        self.key_requests += 1
        if self.key_failure is not None:
            return web.Response(status=self.key_failure, text="<html>out of order</html>", content_type="text/html")
        return web.json_response(self.partner.jwks(), content_type="application/jwk-set+json")

    async def exchange(self, request: web.Request):
        if request.headers.get("Authorization") != f"Bearer {self.partner.token_of_daemon}":
            return web.json_response({"err": "authentication_failed", "description": "who?"}, status=401)
        assert request.content_type == "application/json", request.content_type
        body = await request.read()
        self.requests.append(json.loads(body))
        if (other := self.instead(request, self.requests[-1])) is not None:
            return other
        answer = self.partner.take(body)
        most = self.requests[-1].get("maxResponseEvents", len(self.outgoing))
        leaving = list(self.outgoing.items())[:most]
        if leaving:
            answer["sets"] = dict(leaving)
            for jti, _ in leaving:
                del self.outgoing[jti]
        return web.json_response(answer)


class WebSocketResponder:
    """A server by `websockets`, which answers on every connection and keeps the latest at hand."""

    def __init__(self, partner: Partner, keys: Responder):
        self.partner, self.keys = partner, keys
        self.connections = []
        self.pings = 0
        # While it is away it lets nobody in.
        self.away = False
        self.address = None

    @contextlib.asynccontextmanager
    async def running(self):
        # The library tells of pings nowhere but in its debug log.
        logger = logging.Logger("partner", logging.DEBUG)
        logger.addFilter(self.count_pings)
        logger.addHandler(logging.NullHandler())
        async with serve(
            self.connected, "127.0.0.1", 0, ssl=self.partner.certificate.context, subprotocols=["pushpull"],
            process_request=self.admit, logger=logger, ping_interval=None, max_size=None,
        ) as server:
            host, port = server.sockets[0].getsockname()
            self.address = f"{host}:{port}"
            yield self

    def count_pings(self, record) -> bool:
        self.pings += record.msg == "< %s" and "PING" in str(record.args[0])
        return True

    def admit(self, connection, request):
        if self.away:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "not now\n")
        if request.headers.get("Authorization") != f"Bearer {self.partner.token_of_daemon}":
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "who?\n")
        if request.path != "/pushpull":
            return connection.respond(http.HTTPStatus.NOT_FOUND, "not here\n")
        return None

    async def connected(self, socket):
        assert socket.subprotocol == "pushpull", socket.subprotocol
        self.connections.append(socket)
        await converse(self.partner, socket)

    @property
    def socket(self) -> websockets.ServerConnection:
        return self.connections[-1]
