"""What happens when the partner dials: by WebSocket, by HTTP, well and badly."""

import asyncio
import json
import uuid

import websockets

import tokens
from certificate import pin_of
from cryptography import x509
from daemon import Daemon, run
from initiator import Initiator
from partner import ACK, SILENCE, Partner
from responder import Responder
from waiting import until

MANY = 50


async def the_partner_dials_a_websocket_and_sets_travel_both_ways(place):
    await both_ways_by_websocket(place, "ES256", lambda initiator: initiator.conversation())


async def the_partner_dials_a_websocket_with_aiohttp_and_sets_travel_both_ways(place):
    await both_ways_by_websocket(place, "EdDSA", lambda initiator: initiator.conversation_by_aiohttp())


async def both_ways_by_websocket(place, alg, connect):
    partner = Partner(place)
    daemon = await Daemon.make(place, alg)
    partner.introduce(daemon)
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        certificate = x509.load_pem_x509_certificate((daemon.directory / "tls.crt").read_bytes())
        assert pin_of(certificate) == initiator.card["tls_pin"]
        # Half of the events wait already, half come while the connection stands.
        jtis = await daemon.submit(MANY // 2)
        ours = tokens.make(partner.signers, MANY)
        names = list(ours)
        async with connect(initiator) as socket:
            send = getattr(socket, "send_str", None) or socket.send
            await send(json.dumps({"sets": {jti: ours[jti] for jti in names[:20]}}))
            jtis += await daemon.submit(MANY - MANY // 2, first=MANY // 2)
            for jti in names[20:]:
                await send(json.dumps({"sets": {jti: ours[jti]}}))
            await partner.all_received(jtis)
            await partner.all_acked(ours)
            await daemon.settled(acked=MANY, received=MANY)
            peer = await daemon.peer()
            assert (peer["link"], peer["transport"]) == ("up", "websocket"), peer
            await verification_events_are_acked_and_go_no_further(daemon, partner, send)
        await everything_arrived(daemon, partner, initiator.jwks, jtis, ours)
        await until(link_is(daemon, "down"), "the daemon sees that the partner has gone")


async def verification_events_are_acked_and_go_no_further(daemon, partner, send):
    answer = await daemon.post("/api/v1/peers/partner/verify")
    [compact] = partner.received.pop(answer["jti"])
    assert answer["ms"] > 0
    assert list(tokens.payload(compact)["events"]) == [tokens.VERIFICATION]
    content = tokens.claims(events={tokens.VERIFICATION: {}}, sub_id={"format": "opaque", "id": tokens.PARTNER})
    await send(json.dumps({"sets": {content["jti"]: partner.signers[0].sign(content)}}))
    await partner.all_acked([content["jti"]])


async def everything_arrived(daemon, partner, jwks, jtis, ours):
    """Each SET came to its end, as it was sent, once."""
    assert set(partner.received) == set(jtis), "neither more nor less"
    partner.only_identical_copies()
    for jti in jtis:
        content = tokens.check(jti, partner.received[jti][0], jwks)
        number = content["sub_id"]["email"].removeprefix("user-").split("@")[0]
        assert content["events"][tokens.SESSION_REVOKED]["reason_admin"]["en"].startswith(f"№ {number} \"\\\u2028<&>")
        assert (await daemon.record(jti))["state"] == "acked"
    inbox = await daemon.inbox()
    assert [received["jti"] for received in inbox] == list(dict.fromkeys(received["jti"] for received in inbox))
    assert {received["jti"]: received["set"] for received in inbox} == ours
    for received in inbox:
        assert received["peer"] == "partner" and received["claims"] == tokens.payload(received["set"])
    assert not partner.errors, partner.errors


async def the_partner_posts_and_sets_travel_both_ways(place):
    partner = Partner(place)
    daemon = await Daemon.make(place, "RS256")
    partner.introduce(daemon)
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        jtis = await daemon.submit(MANY)
        ours = tokens.make(partner.signers, MANY)
        names = list(ours)
        async with initiator.http() as http:
            none = await http.exchange(most=0)
            assert not none.get("sets"), "maxResponseEvents 0 means none"
            for first in range(0, MANY, 10):
                await http.exchange({jti: ours[jti] for jti in names[first : first + 10]}, most=7)
            await http.until(lambda: partner.received.keys() >= set(jtis), "all received")
            await http.until_acked(ours)
            # The last acks are still with us.
            await http.exchange()
            await daemon.settled(acked=MANY, received=MANY)
            peer = await daemon.peer()
            assert (peer["link"], peer["transport"]) == ("up", "http"), peer
        await everything_arrived(daemon, partner, initiator.jwks, jtis, ours)


async def two_organisations_are_paired_by_cards_while_the_daemon_runs(place):
    partner = Partner(place)
    responder = Responder(partner)
    daemon = await Daemon.make(place)
    async with responder.running(), daemon:
        card = place / "partner.card.toml"
        card.write_text(
            f'[[peer]]\nname = "somebody"\nissuer = "{tokens.PARTNER}"\ntransport = "none"\n'
            f'jwks_uri = "https://{responder.address}/jwks.json"\ntls_pin = "{partner.certificate.pin}"\n'
        )
        adding = ["peer", "add", "--card", card, "--name", "partner", "-c", daemon.config, "--admin", daemon.admin]
        added = (await run(*adding, "--json")).json()
        assert added["stored"] == "daemon", added
        # It is known with the very next request, by the token that the command made.
        with open(added["hand_over"]) as token:
            partner.token = token.read().strip()
        initiator = await Initiator.of(partner, daemon)
        ours = tokens.make(partner.signers, 3)
        [jti] = await daemon.submit(1)
        async with initiator.conversation() as socket:
            await socket.send(json.dumps({"sets": ours}))
            await partner.all_acked(ours)
            await partner.all_received([jti])
            await daemon.settled(acked=1, received=3)


async def what_the_partner_refuses_ends_refused_with_its_reason(place):
    partner = Partner(place)
    daemon = await Daemon.make(place)
    partner.introduce(daemon)
    reasons = [
        {"err": "access_denied", "description": "nicht für uns: 🚫"},
        {"err": "something_of_our_own", "description": "codes need not be registered"},
        # The multi-set push draft has descriptions optional.
        {"err": "invalid_state"},
    ]
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        jtis = await daemon.submit(len(reasons))
        verdicts = dict(zip(jtis, reasons))
        partner.answer = lambda jti, compact: verdicts.get(jti, ACK)
        async with initiator.conversation() as socket:
            await partner.all_received(jtis)
            # About SETs that never were, nothing happens.
            unknown = {"ack": [str(uuid.uuid4())], "setErrs": {str(uuid.uuid4()): reasons[0]}}
            await socket.send(json.dumps(unknown))
            await daemon.settled(refused=len(reasons))
            for jti, reason in verdicts.items():
                record = await daemon.record(jti)
                assert record["state"] == "refused" and record["err"] == reason["err"], record
                assert record["description"] == reason.get("description", ""), record
            # An ack that comes too late changes nothing, and the link lives on.
            await socket.send(json.dumps({"ack": jtis}))
            more = await daemon.submit(1, first=10)
            await partner.all_received(more)
            await daemon.settled(acked=1, refused=len(reasons))
        assert all(len(copies) == 1 for copies in partner.received.values()), "a refused SET is not sent again"


async def what_is_no_object_closes_the_websocket_and_the_next_one_works(place):
    partner = Partner(place)
    daemon = await Daemon.make(place)
    daemon.append('[limits]\nobject_bytes_max = "1MiB"\n')
    partner.introduce(daemon)
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        [(jti, compact)] = tokens.make(partner.signers, 1).items()
        good = f'"{jti}":"{compact}"'
        for code, message, text in [
            (1003, b'{"ack":[]}', False),
            (1003, b"\x00\xff", False),
            (1007, b"\xff\xfe{}", True),
            (1007, b'{"ack":["\xed\xa0\x80"]}', True),
            (1007, b"", True),
            (1007, b"hello", True),
            (1007, b"null", True),
            (1007, b"[]", True),
            (1007, b'{"sets":[]}', True),
            (1007, b'{"sets":{"j":1}}', True),
            (1007, b'{"sets":{"j":null}}', True),
            (1007, b'{"sets":null}', True),
            (1007, b'{"ack":"j"}', True),
            (1007, b'{"ack":[5]}', True),
            (1007, b'{"ack":[""]}', True),
            (1007, b'{"setErrs":{"j":"invalid_key"}}', True),
            (1007, b'{"setErrs":{"j":{"description":"no err"}}}', True),
            (1007, b'{"ack":["j"],"setErrs":{"j":{"err":"e","description":"d"}}}', True),
            (1007, b'{"maxResponseEvents":-1}', True),
            (1007, b'{"maxResponseEvents":"5"}', True),
            (1007, b'{"ack":[],"ack":[]}', True),
            (1007, b"{} {}", True),
            (1007, b"\xef\xbb\xbf{}", True),
            (1007, b'{"more":' + b"[" * 40 + b"]" * 40 + b"}", True),
            # A good SET beside a fault has no effect either.
            (1007, f'{{"sets":{{{good}}},"ack":5}}'.encode(), True),
            (1007, f'{{"sets":{{{good},{good}}}}}'.encode(), True),
            (1009, json.dumps({"sets": {str(n): "x" for n in range(1001)}}).encode(), True),
            (1009, b'{"more":"' + b"x" * (1 << 20) + b'"}', True),
            # So much that we are still writing it when the verdict falls.
            (1009, b'{"more":"' + b"x" * (8 << 20) + b'"}', True),
        ]:
            shown = message[:80]
            async with initiator.websocket() as socket:
                try:
                    await socket.send(message, text=text)
                    answer = await asyncio.wait_for(socket.recv(), 30)
                    raise AssertionError(f"{shown}: answered {answer!r}")
                except websockets.ConnectionClosed as closed:
                    assert closed.rcvd and closed.rcvd.code == code, f"{shown}: {closed}, expected {code}"
        assert (await daemon.peer())["received"] == 0
        async with initiator.conversation() as socket:
            await socket.send(json.dumps({"sets": {jti: compact}}))
            await partner.all_acked([jti])


async def messages_in_fragments_with_pings_between_them_are_understood(place):
    partner = Partner(place)
    daemon = await Daemon.make(place)
    partner.introduce(daemon)
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        ours = tokens.make(partner.signers, MANY)
        # Members that nobody knows are passed over; spaces and escapes mean nothing.
        message = json.dumps({"more": {"x": [None, 1.5e3, "\u00e9"]}, "sets": ours}, indent=2, ensure_ascii=True)

        async with initiator.conversation() as socket:
            async def fragments():
                for at in range(0, len(message), 1000):
                    yield message[at : at + 1000]
                    await (await socket.ping())

            await socket.send(fragments())
            await partner.all_acked(ours)
            await daemon.settled(received=MANY)


async def two_websockets_at_once_share_the_work(place):
    partner = Partner(place)
    daemon = await Daemon.make(place)
    partner.introduce(daemon)
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        ours = tokens.make(partner.signers, 20)
        async with initiator.conversation() as one, initiator.conversation() as two:
            # The same SETs by both: acked by both or by one, stored once.
            await one.send(json.dumps({"sets": ours}))
            await two.send(json.dumps({"sets": ours}))
            jtis = await daemon.submit(20)
            await partner.all_acked(ours)
            await partner.all_received(jtis)
            await daemon.settled(acked=20, received=20)
        partner.only_identical_copies()
        assert {received["jti"] for received in await daemon.inbox()} == set(ours)


async def an_answer_that_the_partner_never_read_is_sent_again(place):
    partner = Partner(place)
    daemon = await Daemon.make(place)
    partner.introduce(daemon)
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        ours = tokens.make(partner.signers, 5)
        jtis = await daemon.submit(5)
        request = json.dumps({"sets": ours}).encode()
        host, port = daemon.address.split(":")
        head = (
            f"POST /pushpull HTTP/1.1\r\nHost: {daemon.address}\r\nAuthorization: Bearer {partner.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(request)}\r\n\r\n"
        )
        for _ in range(3):
            _, writer = await asyncio.open_connection(host, int(port), ssl=initiator.context)
            writer.write(head.encode() + request)
            await writer.drain()
            writer.transport.abort()
        # They may or may not have been read; we cannot know, so we ask again, as the draft has it.
        async with initiator.http() as http:
            await http.exchange(ours)
            await http.until_acked(ours)
            await http.until(lambda: partner.received.keys() >= set(jtis), "all received")
            await http.exchange()
        await daemon.settled(acked=5, received=5)
        partner.only_identical_copies()
        assert len(await daemon.inbox()) == 5


async def sets_that_are_never_answered_come_again_with_the_same_bytes(place):
    partner = Partner(place)
    daemon = await Daemon.make(place)
    partner.introduce(daemon)
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        jtis = await daemon.submit(5)
        partner.answer = lambda jti, compact: SILENCE if len(partner.received[jti]) < 3 else ACK
        async with initiator.conversation():
            await daemon.settled(acked=5)
        partner.only_identical_copies()
        assert all(len(partner.received[jti]) >= 3 for jti in jtis)
        assert [(await daemon.record(jti))["state"] for jti in jtis] == ["acked"] * 5


async def requests_that_cannot_be_served_get_the_fixed_statuses(place):
    partner = Partner(place)
    daemon = await Daemon.make(place)
    daemon.append('[limits]\nobject_bytes_max = "256KiB"\n')
    partner.introduce(daemon)
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        async with initiator.http() as http:
            upgrade = {
                "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "pushpull",
            }
            stranger = {"Authorization": "Bearer nobody-knows-this-token-0123456789"}
            for status, method, body, headers, expected in [
                (400, "POST", b"{", {}, {}),
                (400, "POST", b"[]", {}, {}),
                (400, "POST", b"", {}, {}),
                (401, "POST", b"{}", stranger, {"WWW-Authenticate": "Bearer"}),
                (401, "GET", None, upgrade | stranger, {"WWW-Authenticate": "Bearer"}),
                (403, "POST", b"{}", {"Origin": "https://evil.example"}, {}),
                (405, "PUT", b"{}", {}, {"Allow": "POST"}),
                (405, "DELETE", None, {}, {"Allow": "POST"}),
                (413, "POST", b'"' + b"x" * (256 << 10) + b'"', {}, {}),
                (413, "POST", json.dumps({"sets": {str(n): "" for n in range(1001)}}).encode(), {}, {}),
                (415, "POST", b"{}", {"Content-Type": "text/plain"}, {}),
                (415, "POST", b"{}", {"Content-Type": "application/json; charset=utf-16"}, {}),
                (415, "POST", b"{}", {"Content-Encoding": "gzip"}, {}),
                (200, "POST", b"{}", {"Content-Type": 'Application/JSON; v=1; charset="UTF-8"'}, {}),
                (426, "GET", None, upgrade | {"Sec-WebSocket-Version": "8"}, {"Sec-WebSocket-Version": "13"}),
                (400, "GET", None, upgrade | {"Sec-WebSocket-Protocol": "chat, soap"}, {}),
            ]:
                headers = {"Content-Type": "application/json", **headers}
                asked = f"{method} {headers} {(body or b'')[:20]}"
                async with http.session.request(
                    method, initiator.http_url, data=body, headers=headers, ssl=initiator.context,
                    skip_auto_headers=["Content-Encoding"],
                ) as answer:
                    text = await answer.text()
                    assert answer.status == status, f"{asked}: {answer.status} {text}, expected {status}"
                    for name, value in expected.items():
                        assert value in answer.headers.get(name, ""), f"{asked}: {name} is {answer.headers.get(name)}"
                    if status >= 400:
                        error = json.loads(text)
                        assert error["err"] and error["description"], asked
                        assert answer.content_type == "application/json" and answer.headers["Content-Language"] == "en"


def link_is(daemon, link):
    async def seen():
        return (await daemon.peer())["link"] == link
    return seen


SCENARIOS = [
    the_partner_dials_a_websocket_and_sets_travel_both_ways,
    the_partner_dials_a_websocket_with_aiohttp_and_sets_travel_both_ways,
    the_partner_posts_and_sets_travel_both_ways,
    two_organisations_are_paired_by_cards_while_the_daemon_runs,
    what_the_partner_refuses_ends_refused_with_its_reason,
    what_is_no_object_closes_the_websocket_and_the_next_one_works,
    messages_in_fragments_with_pings_between_them_are_understood,
    two_websockets_at_once_share_the_work,
    an_answer_that_the_partner_never_read_is_sent_again,
    sets_that_are_never_answered_come_again_with_the_same_bytes,
    requests_that_cannot_be_served_get_the_fixed_statuses,
]
