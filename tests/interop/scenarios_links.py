"""What partners do, over each of the four links: they refuse, rotate keys, see ours change, disappear, send garbage."""

import asyncio
import re

import tokens
from links import LINKS, DaemonDialsWebSocket
from partner import ACK, SILENCE
from waiting import until


async def it_refuses_with_set_errs(link):
    partner, daemon = link.partner, link.daemon
    reasons = [
        {"err": "access_denied", "description": "nicht für uns: 🚫"},
        # As the draft's own example has it.
        {"err": "invalid subject", "description": "subject format not supported"},
    ]
    # The partner decides by content, because it may see the SETs before we know their jtis.
    partner.answer = lambda jti, compact: refusals(compact, reasons)
    jtis = await daemon.submit(5)
    await partner.all_received(jtis)
    await daemon.settled(acked=3, refused=2)
    for jti, reason in zip(jtis, reasons):
        record = await daemon.record(jti)
        assert (record["state"], record["err"]) == ("refused", reason["err"]), record
        assert record["description"] == reason["description"], record
    seen = len(partner.received[jtis[0]])
    await asyncio.sleep(1)
    assert len(partner.received[jtis[0]]) == seen, "a refused SET is not sent again"


def refusals(compact, reasons):
    number = int(re.fullmatch(r"user-(\d+)@.*", tokens.payload(compact)["sub_id"]["email"])[1])
    return reasons[number] if number < len(reasons) else ACK


async def it_rotates_its_keys(link):
    partner, keys = link.partner, link.keys
    old = partner.signers[0]
    await link.insist(tokens.make([old], 5))
    new = tokens.Signer("ES256", "partner-next")
    partner.signers = [new, *partner.signers]
    mixed = tokens.make([old, new], 20)
    await link.insist(mixed)
    await partner.all_acked(mixed)
    assert not partner.errors, partner.errors
    partner.signers = [signer for signer in partner.signers if signer is not old]
    asked = keys.key_requests
    await until(lambda: keys.key_requests >= asked + 2, "the keys are fetched anew")
    withdrawn, valid = tokens.make([old], 2), tokens.make([new], 2)
    await link.insist(withdrawn | valid)
    assert {partner.errors[jti]["err"] for jti in withdrawn} == {"invalid_key"}, partner.errors
    await partner.all_acked(valid)


async def the_daemon_changes_its_key(link):
    """What was signed before the change and not yet answered stays valid, by the keys that are published after it."""
    partner, daemon = link.partner, link.daemon
    partner.answer = lambda jti, compact: SILENCE
    before = await daemon.submit(4)
    await partner.all_received(before)
    await link.go()
    await daemon.stop()
    daemon.log.clear()
    await daemon.start()
    # Before the partner could fetch it: it has to when it meets it.
    await daemon.post("/api/v1/keys/rotate", {"kid": "us-next", "now": True}, expected=202)
    partner.answer = lambda jti, compact: ACK
    await link.come()
    after = await daemon.submit(4, first=4)
    await partner.all_received(after)
    await daemon.settled(acked=8)
    partner.only_identical_copies()
    kids = []
    for jtis in before, after:
        headers = [tokens.read(partner.received[jti][-1], link.initiator.jwks)[0] for jti in jtis]
        kids.append({header["kid"] for header in headers})
    assert kids[1] == {"us-next"} and len(kids[0]) == 1 and kids[0] != kids[1], kids


async def it_disappears_in_the_middle_of_an_exchange(link):
    partner, daemon = link.partner, link.daemon
    partner.answer = lambda jti, compact: SILENCE
    jtis = await daemon.submit(5)
    await partner.all_received(jtis)
    # It goes without having answered, and without having heard what became of its own.
    ours = tokens.make(partner.signers, 5)
    await link.send(ours)
    await link.go()
    before = {jti: len(partner.received[jti]) for jti in jtis}
    jtis += await daemon.submit(3, first=5)
    await asyncio.sleep(0.5)
    partner.answer = lambda jti, compact: ACK
    await link.come()
    await partner.all_received(jtis)
    await link.insist(ours)
    await partner.all_acked(ours)
    await daemon.settled(acked=8, received=5)
    assert all(len(partner.received[jti]) > count for jti, count in before.items()), "it came again"
    partner.only_identical_copies()
    inbox = await daemon.inbox()
    assert len(inbox) == 5 and {received["jti"]: received["set"] for received in inbox} == ours


async def it_sends_garbage(link):
    """The same that `scenarios_dialling` sends when the partner dials."""
    partner, daemon, sockets = link.partner, link.daemon, link.sockets
    partner.answer = lambda jti, compact: SILENCE
    [jti] = await daemon.submit(1)
    await partner.all_received([jti])
    for code, message, text in [
        (1003, b"\x00\xff", False),
        (1007, b'{"ack":["%s"],"sets":[]}' % jti.encode(), True),
        (1007, b'{"ack":["%s\xff"]}' % jti.encode(), True),
        (1007, b'{"ack":["%s"]' % jti.encode(), True),
        (1009, b'{"more":"' + b"x" * (5 << 20) + b'"}', True),
    ]:
        socket, before = sockets.socket, len(sockets.connections)
        await socket.send(message, text=text)
        await asyncio.wait_for(socket.wait_closed(), 30)
        assert socket.close_code == code, f"{message[:60]}: {socket.close_code}, expected {code}"
        await until(lambda: len(sockets.connections) > before, "the daemon has dialled again")
    assert (await daemon.record(jti))["state"] != "acked"
    partner.answer = lambda jti, compact: ACK
    await daemon.settled(acked=1)


def on(link, happens, **options):
    """The scenario of what happens on a link of this kind."""

    async def scenario(place):
        async with link.opened(place, **options) as opened:
            await happens(opened)

    scenario.__name__ = f"{link.title}_{happens.__name__}"
    return scenario


SCENARIOS = [
    *[on(link, it_refuses_with_set_errs) for link in LINKS],
    *[on(link, it_rotates_its_keys, jwks_refresh="1s") for link in LINKS],
    *[on(link, the_daemon_changes_its_key, alg="EdDSA") for link in LINKS],
    *[on(link, it_disappears_in_the_middle_of_an_exchange) for link in LINKS],
    on(DaemonDialsWebSocket, it_sends_garbage),
]
