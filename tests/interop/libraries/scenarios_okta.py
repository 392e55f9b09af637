"""The Go SDK of Okta: a Transmitter of pushes. What it pushes is signed by joserfc."""

import asyncio

import plain
import program
import tokens
from daemon import Daemon

COUNT = 50


async def okta_pushes_to_us(place):
    """RFC 8935: we are the Recipient."""
    signers = [tokens.Signer(alg, f"partner-{alg.lower()}") for alg in tokens.SIGNING]
    async with await plain.make(place) as daemon:
        await plain.introduce(
            daemon, jwks_file=plain.keys_file(daemon, *signers), transport="none", accept_token_file="from-partner.token"
        )
        sets = tokens.make(signers, COUNT)
        # Again, as after an answer that was lost.
        for _ in range(2):
            await pushed(daemon, sets.values(), ["202"] * COUNT)
        faulty = {
            "invalid_audience": signers[0].sign(tokens.claims(aud="https://other.example")),
            "invalid_issuer": signers[1].sign(tokens.claims(iss="https://mallory.example")),
            "invalid_key": tokens.Signer("ES256", signers[0].kid).sign(tokens.claims()),
            "invalid_request": signers[2].sign(tokens.claims(sub_id=...)),
        }
        for _ in range(2):
            await pushed(daemon, faulty.values(), [f"400 {code}" for code in faulty])
        await pushed(daemon, list(sets.values())[:1], ["401 401 Unauthorized"], token="unknown")
        received = await daemon.inbox()
        assert {one["jti"]: one["set"] for one in received} == sets and len(received) == COUNT


async def pushed(daemon: Daemon, sets, wanted: list[str], token: str = plain.THEIR_TOKEN):
    """Has the SDK push each of these, one after the other, and sees the status and the code of each answer."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        program.FOLDER / "okta", f"http://{daemon.address}/push", token, stdin=pipe, stdout=pipe
    )
    out, _ = await child.communicate("".join(one + "\n" for one in sets).encode())
    assert child.returncode == 0, f"it ended with {child.returncode}"
    found = [line.strip() for line in out.decode().splitlines()]
    assert found == wanted, found


SCENARIOS = [okta_pushes_to_us]
