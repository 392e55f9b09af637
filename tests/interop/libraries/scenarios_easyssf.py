"""easyssf: a Recipient of pushes, and both roles of polling."""

import collections
import json

import plain
from daemon import ISSUER, Daemon
from program import Program
from waiting import until

COUNT = 50

# As easyssf-test has them.
TRANSMITTER = "https://transmitter.example/realms/test"
TRANSMITTER_AUDIENCE = "https://receiver.example"
TRANSMITTER_TOKEN = "transmitter-access-token"


async def easyssf_takes_what_we_push(place):
    """RFC 8935: we are the Transmitter."""
    async with await plain.make(place, "ES256") as daemon, receiver(daemon, "push", "ES256", plain.OUR_TOKEN) as easyssf:
        await plain.introduce(
            daemon, jwks_file=plain.keys_file(daemon), transport="push", token_file="partner.token",
            endpoint=f"http://{await easyssf.address()}/push",
        )
        jtis = await daemon.submit(COUNT)
        faulty = await plain.submit_with_faults(daemon)
        await plain.all_settled(daemon, jtis, faulty)
        each_once(easyssf.told("SET"), jtis)


async def easyssf_long_polls_us(place):
    """RFC 8936: we are the Transmitter, and hold polls until there is something."""
    await polled(place, "RS256", "long")


async def easyssf_short_polls_us(place):
    """RFC 8936: we are the Transmitter, and answer at once."""
    await polled(place, "EdDSA", "short")


async def polled(place, alg: str, waits: str):
    async with await plain.make(place, alg) as daemon:
        await plain.introduce(
            daemon, jwks_file=plain.keys_file(daemon), transport="none", accept_token_file="from-partner.token"
        )
        # More than it takes at once, before it comes; then what it waits for.
        jtis = await daemon.submit(COUNT)
        url = f"http://{daemon.address}/poll"
        async with receiver(daemon, "poll", alg, plain.THEIR_TOKEN, url, waits) as easyssf:
            await daemon.settled(acked=COUNT)
            jtis += await daemon.submit(COUNT, first=COUNT)
            faulty = await plain.submit_with_faults(daemon)
            await plain.all_settled(daemon, jtis, faulty)
            each_once(easyssf.told("SET"), jtis)


async def we_poll_easyssf(place):
    """RFC 8936: we are the Recipient."""
    daemon = await plain.make(place, audience=TRANSMITTER_AUDIENCE)
    (daemon.directory / "partner.token").write_text(TRANSMITTER_TOKEN + "\n")
    async with daemon, Program("easyssf", "transmit") as easyssf:
        realm = f"http://{await easyssf.address()}/realms/test"
        jtis = await queue(easyssf, ["sound"] * COUNT)
        await plain.introduce(
            daemon, issuer=TRANSMITTER, jwks_uri=f"{realm}/jwks", transport="poll", endpoint=f"{realm}/poll",
            token_file="partner.token",
        )
        await all_said(easyssf, acknowledged=COUNT)
        # One by one, which come while we wait.
        for number in range(COUNT, COUNT + 5):
            jtis += await queue(easyssf, ["sound"])
            await all_said(easyssf, acknowledged=number + 1)
        kinds = {
            "another-audience": "invalid_audience", "another-issuer": "invalid_issuer", "another-key": "invalid_key",
            "no-signature": "invalid_key", "no-subject": "invalid_request", "no-type": "invalid_request",
        }
        codes = dict(zip(await queue(easyssf, kinds), kinds.values(), strict=True))
        said = await all_said(easyssf, acknowledged=len(jtis), errors=len(codes), left=0)
        each_once(said["acknowledged"], jtis)
        assert {jti: error["err"] for jti, error in said["errors"].items()} == codes, said["errors"]
        each_once([received["jti"] for received in await daemon.inbox()], jtis)


def receiver(daemon: Daemon, role: str, alg: str, token: str, *arguments: str) -> Program:
    """A Recipient that knows whose SETs to expect."""
    return Program(
        "easyssf", role, *arguments, ISSUER=ISSUER, AUDIENCE=plain.PARTNER_AUDIENCE, ALG=alg, TOKEN=token,
        JWKS_URL=f"http://{daemon.address}/jwks.json",
    )


async def queue(easyssf: Program, kinds) -> list[str]:
    """Has the Transmitter queue SETs of these kinds; their jtis."""
    before, kinds = len(easyssf.told("queued")), list(kinds)
    for kind in kinds:
        easyssf.tell(kind)
    await until(lambda: len(easyssf.told("queued")) == before + len(kinds), "all queued")
    return easyssf.told("queued")[before:]


async def all_said(easyssf: Program, left: int = 0, **counts: int) -> dict:
    """What we have told the Transmitter, once it is so much."""
    async def said() -> dict:
        before = len(easyssf.told("told"))
        easyssf.tell("tell")
        await until(lambda: len(easyssf.told("told")) > before, "it tells")
        return json.loads(easyssf.told("told")[-1])

    async def enough():
        found = await said()
        return found if found["left"] == left and all(len(found[name]) == n for name, n in counts.items()) else None

    return await until(enough, f"it was told {counts}", said)


def each_once(found: list[str], wanted: list[str]):
    counts = collections.Counter(found)
    assert counts == collections.Counter(wanted), counts - collections.Counter(wanted) or "some are missing"


SCENARIOS = [easyssf_takes_what_we_push, easyssf_long_polls_us, easyssf_short_polls_us, we_poll_easyssf]
