"""The partner as Initiator: it dials the daemon, by WebSocket with two libraries, and by HTTP."""

import asyncio
import contextlib
import json
import tomllib

import aiohttp
import websockets

import certificate
from daemon import Daemon, run
from partner import Partner


class Initiator:
    """Knows of the daemon what its card says, and nothing else."""

    def __init__(self, partner: Partner, card: dict, context, jwks: dict):
        self.partner, self.card, self.context, self.jwks = partner, card, context, jwks
        self.websocket_url = card["endpoint"]
        self.http_url = card["endpoint"].replace("wss://", "https://", 1)

    @classmethod
    async def of(cls, partner: Partner, daemon: Daemon) -> "Initiator":
        card = await read_card(daemon)
        context = await certificate.pinned(daemon.address, card["tls_pin"])
        async with aiohttp.ClientSession() as session, session.get(card["jwks_uri"], ssl=context) as answer:
            assert answer.status == 200, answer.status
            jwks = json.loads(await answer.text())
        for jwk in jwks["keys"]:
            assert not jwk.keys() & {"d", "p", "q", "dp", "dq", "qi", "k"}, "no private member is published"
        return cls(partner, card, context, jwks)

    def headers(self) -> dict:
        return {"Authorization": f"Bearer {self.partner.token}"}

    @contextlib.asynccontextmanager
    async def websocket(self, **more):
        """An open WebSocket by the library `websockets`; nobody reads from it yet."""
        async with websockets.connect(
            self.websocket_url, ssl=self.context, subprotocols=["pushpull"], additional_headers=self.headers(),
            max_size=None, **more,
        ) as socket:
            assert socket.subprotocol == "pushpull", socket.subprotocol
            # The library offers compression; a reply that took it would break "no Extension data" of the draft.
            assert not socket.response.headers.get("Sec-WebSocket-Extensions"), socket.response.headers
            yield socket

    @contextlib.asynccontextmanager
    async def conversation(self, **more):
        """A WebSocket on which whatever arrives is taken in and answered."""
        async with self.websocket(**more) as socket:
            async with background(converse(self.partner, socket)):
                yield socket

    @contextlib.asynccontextmanager
    async def conversation_by_aiohttp(self):
        """The same with the other library."""
        async with aiohttp.ClientSession(headers=self.headers()) as session:
            connecting = session.ws_connect(
                self.websocket_url, ssl=self.context, protocols=["pushpull"], autoping=True, max_msg_size=0,
            )
            async with connecting as socket:
                assert socket.protocol == "pushpull", socket.protocol

                async def talk():
                    async for message in socket:
                        assert message.type == aiohttp.WSMsgType.TEXT, message
                        if answer := self.partner.take(message.data):
                            await socket.send_str(json.dumps(answer))

                async with background(talk()):
                    yield socket

    @contextlib.asynccontextmanager
    async def http(self):
        async with aiohttp.ClientSession(headers=self.headers()) as session:
            yield Http(self, session)


class Http:
    """Exchanges by POST, one after the other. What was received is answered in the request that follows."""

    def __init__(self, initiator: Initiator, session: aiohttp.ClientSession):
        self.initiator, self.session = initiator, session
        self.owed = {}

    async def exchange(self, sets: dict | None = None, most: int | None = None) -> dict:
        """One request; the object of its answer, which the partner has taken in."""
        request = self.owed | ({"sets": sets} if sets else {})
        if most is not None:
            request["maxResponseEvents"] = most
        async with self.post(json.dumps(request)) as answer:
            body = await answer.read()
            assert answer.status == 200, f"{answer.status} {body}"
            assert answer.content_type == "application/json", answer.content_type
        value = json.loads(body)
        assert "maxResponseEvents" not in value, "only requests may have it"
        assert most is None or len(value.get("sets", {})) <= most, f"{len(value['sets'])} SETs, at most {most} wanted"
        self.owed = self.initiator.partner.take(body)
        return value

    def post(self, body, **headers):
        headers = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.session.post(self.initiator.http_url, data=body, headers=headers, ssl=self.initiator.context)

    async def until_acked(self, sets):
        """Asks until each of these SETs has its verdict, which must be an ack."""
        await self.until(lambda: all(self.initiator.partner.answered(jti) for jti in sets), "all answered")
        await self.initiator.partner.all_acked(sets)

    async def until(self, condition, what: str):
        for _ in range(600):
            if condition():
                return
            await self.exchange()
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within 600 exchanges: {what}")


async def converse(partner: Partner, socket):
    """Answers on a WebSocket of the library `websockets`, either end, until it is closed."""
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in socket:
            assert isinstance(message, str), "objects are text messages"
            if answer := partner.take(message):
                await socket.send(json.dumps(answer))


@contextlib.asynccontextmanager
async def background(work):
    """Runs beside the block; what fails there fails the block."""
    owner = asyncio.current_task()
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception() is None or owner.cancel())
    try:
        yield task
    except asyncio.CancelledError:
        if task.done() and not task.cancelled() and task.exception():
            owner.uncancel()
            raise task.exception()
        raise
    finally:
        task.cancel()
        await asyncio.wait([task])


async def read_card(daemon: Daemon) -> dict:
    """What `peer card` tells partners, as any TOML reader sees it."""
    card = await run("peer", "card", "-c", daemon.config, "--public", daemon.address)
    [peer] = tomllib.loads(card.out)["peer"]
    return peer
