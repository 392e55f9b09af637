"""What happens when the daemon dials the partner: by HTTP, by WebSocket, and while the partner comes and goes."""

import asyncio
import contextlib
import json
import time

from aiohttp import web

import tokens
from certificate import Certificate
from daemon import Daemon, event
from initiator import Initiator
from partner import ACK, SILENCE, Partner
from responder import Responder, WebSocketResponder
from scenarios_dialling import MANY, everything_arrived, link_is
from waiting import until


@contextlib.asynccontextmanager
async def dialled_by_http(place, alg="ES256"):
    """A daemon that posts to a running partner."""
    partner = Partner(place)
    responder = Responder(partner)
    daemon = await Daemon.make(place, alg)
    async with responder.running():
        partner.introduce(daemon, **responder.definition("http"))
        async with daemon:
            yield partner, responder, daemon


@contextlib.asynccontextmanager
async def dialled_by_websocket(place, alg="ES256"):
    """A daemon that opens a WebSocket to a running partner."""
    partner = Partner(place)
    keys = Responder(partner)
    sockets = WebSocketResponder(partner, keys)
    daemon = await Daemon.make(place, alg)
    async with keys.running(), sockets.running():
        definition = keys.definition("websocket") | {"endpoint": f"wss://{sockets.address}/pushpull"}
        partner.introduce(daemon, **definition)
        async with daemon:
            await until(lambda: sockets.connections, "the daemon has dialled")
            yield partner, sockets, daemon


async def the_daemon_posts_and_sets_travel_both_ways(place):
    async with dialled_by_http(place, "EdDSA") as (partner, responder, daemon):
        jtis = await daemon.submit(MANY)
        ours = tokens.make(partner.signers, MANY)
        responder.outgoing = dict(ours)
        await partner.all_received(jtis)
        await partner.all_acked(ours)
        await daemon.settled(acked=MANY, received=MANY)
        peer = await daemon.peer()
        assert (peer["link"], peer["transport"]) == ("up", "http"), peer
        jwks = (await Initiator.of(partner, daemon)).jwks
        await everything_arrived(daemon, partner, jwks, jtis, ours)


async def acks_that_come_in_later_answers_settle_their_sets(place):
    async with dialled_by_http(place) as (partner, responder, daemon):
        first = await daemon.submit(3)
        partner.answer = lambda jti, compact: SILENCE
        await partner.all_received(first)
        # An answer to an exchange that has nothing to do with these SETs (draft §Out Of Order Responses).
        partner.answer = lambda jti, compact: ACK
        late = {"ack": first[:2], "setErrs": {first[2]: {"err": "access_denied", "description": "on reflection"}}}
        take = partner.take
        partner.take = lambda body: take(body) and {} or late
        await daemon.settled(acked=2, refused=1)
        partner.take = take
        second = await daemon.submit(1, first=3)
        await partner.all_received(second)
        await daemon.settled(acked=3, refused=1)
        partner.only_identical_copies()


async def the_daemon_dials_a_websocket_that_lives_on_pings_and_comes_back_after_1001(place):
    async with dialled_by_websocket(place, "RS256") as (partner, sockets, daemon):
        ours = tokens.make(partner.signers, MANY)
        jtis = await daemon.submit(MANY)
        await sockets.socket.send(json.dumps({"sets": ours}))
        await partner.all_received(jtis)
        await partner.all_acked(ours)
        await daemon.settled(acked=MANY, received=MANY)
        assert (await daemon.peer())["transport"] == "websocket"
        # Nobody has anything to say: it pings us and hears our pongs, and answers our pings.
        first, already = sockets.socket, sockets.pings
        for _ in range(3):
            await asyncio.wait_for(await first.ping(), 30)
        await until(lambda: sockets.pings >= already + 4, "several pings of the daemon")
        assert sockets.connections == [first], "pongs keep the connection"
        # What is not answered when we go away comes again on the next connection, which the daemon opens.
        partner.answer = lambda jti, compact: SILENCE
        waiting = await daemon.submit(5, first=MANY)
        await partner.all_received(waiting)
        before = {jti: len(partner.received[jti]) for jti in waiting}
        await first.close(1001, "going away")
        assert first.close_code == 1001, f"our close was answered with {first.close_code}"
        await until(lambda: len(sockets.connections) > 1, "the daemon has dialled again")
        partner.answer = lambda jti, compact: ACK
        await daemon.settled(acked=MANY + 5, received=MANY)
        assert all(len(partner.received[jti]) > before[jti] for jti in waiting)
        jwks = (await Initiator.of(partner, daemon)).jwks
        await everything_arrived(daemon, partner, jwks, jtis + waiting, ours)


async def a_websocket_that_dies_without_a_word_is_opened_again(place):
    async with dialled_by_websocket(place) as (partner, sockets, daemon):
        partner.answer = lambda jti, compact: SILENCE
        jtis = await daemon.submit(5)
        await partner.all_received(jtis)
        first = sockets.socket
        first.transport.abort()
        await until(lambda: len(sockets.connections) > 1, "the daemon has dialled again")
        partner.answer = lambda jti, compact: ACK
        await daemon.settled(acked=5)
        partner.only_identical_copies()


async def a_websocket_whose_partner_is_frozen_is_given_up_and_opened_again(place):
    async with dialled_by_websocket(place) as (partner, sockets, daemon):
        first = sockets.socket
        # Nothing is read any more, so no ping is answered; the connection itself stands.
        first.transport.pause_reading()
        await until(lambda: len(sockets.connections) > 1, "the daemon has dialled again")
        [jti] = await daemon.submit(1)
        await partner.all_received([jti])
        await daemon.settled(acked=1)
        first.transport.abort()


async def a_partner_without_websockets_is_served_by_http(place):
    """`transport = "websocket"`, but the endpoint knows POST alone: 405 to the handshake, then HTTP."""
    partner = Partner(place)
    responder = Responder(partner)
    daemon = await Daemon.make(place)
    async with responder.running():
        partner.introduce(daemon, **responder.definition("websocket"))
        async with daemon:
            ours = tokens.make(partner.signers, 5)
            responder.outgoing = dict(ours)
            jtis = await daemon.submit(5)
            await partner.all_received(jtis)
            await partner.all_acked(ours)
            await daemon.settled(acked=5, received=5)
            assert (await daemon.peer())["transport"] == "http"


async def a_partner_that_vanishes_after_the_request_gets_it_again_with_the_same_bytes(place):
    async with dialled_by_http(place) as (partner, responder, daemon):
        seen = []

        def vanish(request, object):
            if object.get("sets") and len(seen) < 3:
                seen.append(object["sets"])
                request.transport.abort()
                # It reaches nobody.
                return web.Response()
            return None

        responder.instead = vanish
        jtis = await daemon.submit(5)
        await partner.all_received(jtis)
        await daemon.settled(acked=5)
        assert len(seen) == 3
        for sets in seen:
            for jti, compact in sets.items():
                assert partner.received[jti] == [compact], "the same bytes, and once after the partner was back"


async def a_partner_that_answers_rubbish_gets_everything_again(place):
    """Bodies that are no Communication Object, and statuses of gateways, decide nothing about SETs."""
    async with dialled_by_http(place) as (partner, responder, daemon):
        rubbish = [
            web.Response(text="<html>200 and yet wrong</html>", content_type="text/html"),
            web.Response(body=b'{"ack":', content_type="application/json"),
            web.json_response({"ack": "all of them"}),
            web.json_response({"ack": [], "sets": []}),
            web.Response(status=202, text="{}"),
            web.Response(status=502, text="bad gateway"),
            web.Response(status=503, headers={"Retry-After": "0"}),
            web.Response(status=302, headers={"Location": f"https://{responder.address}/elsewhere"}),
            web.Response(status=401),
            web.json_response({"err": "authentication_failed", "description": "your token has expired"}, status=400),
        ]
        # One at a time: after a success the daemon is as patient as at the start.
        for number, wrong in enumerate(rubbish, 1):
            left = [wrong]
            responder.instead = lambda request, object: left.pop() if left and object.get("sets") else None
            jtis = await daemon.submit(1, first=number)
            await partner.all_received(jtis)
            await daemon.settled(acked=number)
            assert not left
        partner.only_identical_copies()


async def a_partner_that_minds_a_batch_gets_it_in_smaller_ones(place):
    """400 and 413 are about the object: one SET among many that the partner cannot stand must not stop the others."""
    async with dialled_by_http(place) as (partner, responder, daemon):
        jtis = [f"jti-{number}" for number in range(20)]
        poison = jtis[13]

        def minds(request, object):
            if poison in object.get("sets", {}):
                return web.json_response({"err": "invalid_request", "description": "I cannot read this"}, status=400)
            if len(object.get("sets", {})) > 8:
                return web.json_response({"err": "invalid_request", "description": "too many"}, status=413)
            return None

        responder.instead = minds
        for number, jti in enumerate(jtis):
            await daemon.post("/api/v1/events", {"peer": "partner", "jti": jti, **event(number)}, expected=202)
        await partner.all_received(set(jtis) - {poison})
        await until(lambda: counts(daemon, acked=19, refused=0), "all but one are acked", daemon.peer)
        assert (await daemon.record(poison))["state"] in ("queued", "in_flight")
        # It is alone in its suffering, and comes through as soon as it is wanted.
        responder.instead = lambda request, object: None
        await daemon.settled(acked=20)


async def counts(daemon, **wanted) -> bool:
    peer = await daemon.peer()
    return all(peer[name] == count for name, count in wanted.items())


async def a_daemon_never_talks_to_a_server_with_another_key(place):
    """The pin decides: no token, no SET and no request reaches a server with another certificate."""
    partner = Partner(place)
    impostor = Responder(partner)
    pinned = partner.certificate.pin
    partner.certificate = Certificate(place)
    daemon = await Daemon.make(place)
    async with impostor.running():
        partner.introduce(daemon, **impostor.definition("http") | {"tls_pin": pinned})
        async with daemon:
            [jti] = await daemon.submit(1)
            await until(link_is(daemon, "down"), "the link is down")

            async def trouble():
                return "pin" in (await daemon.peer()).get("trouble", "")

            await until(trouble, "the trouble is the pin", daemon.peer)
            assert not impostor.requests and not impostor.key_requests
            assert (await daemon.record(jti))["state"] == "queued"


async def a_new_key_in_the_middle_of_the_traffic_makes_no_wrong_verdict(place):
    """The partner signs with a key that the daemon has never seen: one fetch, and all is acked."""
    async with dialled_by_websocket(place) as (partner, sockets, daemon):
        keys = sockets.keys
        old = partner.signers[0]
        await exchange(partner, sockets, [old], 10)
        fetched = keys.key_requests
        new = tokens.Signer("ES256", "partner-next")
        partner.signers = [new, *partner.signers]
        # Old and new are mixed, in many objects at once.
        sets = list(tokens.make([old, new], 40).items())
        for first in range(0, 40, 4):
            await sockets.socket.send(json.dumps({"sets": dict(sets[first : first + 4])}))
        await insist(partner, sockets, dict(sets))
        await partner.all_acked(dict(sets))
        assert keys.key_requests == fetched + 1, f"{keys.key_requests - fetched} fetches for one new key"
        assert not partner.errors
        # With a key that was never published there is a refusal, after another fetch to be sure.
        partner.signers = [signer for signer in partner.signers if signer is not old]
        unknown = tokens.make([tokens.Signer("ES256", "never-published")], 1)
        await insist(partner, sockets, unknown)
        assert {error["err"] for error in partner.errors.values()} == {"invalid_key"}, partner.errors
        # That fetch has also told the daemon that the old key is withdrawn.
        withdrawn, valid = tokens.make([old], 1), tokens.make([new], 1)
        await sockets.socket.send(json.dumps({"sets": withdrawn | valid}))
        await partner.all_acked(valid)
        assert not withdrawn.keys() & partner.acked.keys()


async def while_the_keys_cannot_be_had_there_is_no_verdict(place):
    async with dialled_by_websocket(place) as (partner, sockets, daemon):
        keys = sockets.keys
        await exchange(partner, sockets, partner.signers, 3)
        keys.key_failure = 503
        new = tokens.Signer("EdDSA", "partner-next")
        partner.signers = [new, *partner.signers]
        doubtful = tokens.make([new], 3)
        certain = tokens.make(partner.signers[1:], 3)
        await sockets.socket.send(json.dumps({"sets": doubtful | certain}))
        await partner.all_acked(certain)
        assert not any(partner.answered(jti) for jti in doubtful), "neither ack nor setErr"
        keys.key_failure = None
        await insist(partner, sockets, doubtful)
        await partner.all_acked(doubtful)


async def exchange(partner, sockets, signers, count):
    sets = tokens.make(signers, count)
    await insist(partner, sockets, sets)
    await partner.all_acked(sets)


async def insist(partner, sockets, sets):
    """Sends SETs again, as every Transmitter has to, until each has a verdict.

    The daemon fetches keys on demand only twice a minute, so that this may take a while.
    """
    deadline = time.monotonic() + 150
    while left := {jti: compact for jti, compact in sets.items() if not partner.answered(jti)}:
        assert time.monotonic() < deadline, f"no verdict on {len(left)} of {len(sets)}"
        await sockets.socket.send(json.dumps({"sets": left}))
        with contextlib.suppress(AssertionError):
            await until(lambda: all(map(partner.answered, left)), "a verdict", seconds=2)


SCENARIOS = [
    the_daemon_posts_and_sets_travel_both_ways,
    acks_that_come_in_later_answers_settle_their_sets,
    the_daemon_dials_a_websocket_that_lives_on_pings_and_comes_back_after_1001,
    a_websocket_that_dies_without_a_word_is_opened_again,
    a_websocket_whose_partner_is_frozen_is_given_up_and_opened_again,
    a_partner_without_websockets_is_served_by_http,
    a_partner_that_vanishes_after_the_request_gets_it_again_with_the_same_bytes,
    a_partner_that_answers_rubbish_gets_everything_again,
    a_partner_that_minds_a_batch_gets_it_in_smaller_ones,
    a_daemon_never_talks_to_a_server_with_another_key,
    a_new_key_in_the_middle_of_the_traffic_makes_no_wrong_verdict,
    while_the_keys_cannot_be_had_there_is_no_verdict,
]
