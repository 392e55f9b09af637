"""Our daemon without TLS, which the programs here do without, and one partner in its configuration."""

import json
import time
import uuid

import tokens
from daemon import ISSUER, Daemon, run
from partner import toml

# What the daemon shows the partner, and the partner the daemon.
OUR_TOKEN, THEIR_TOKEN = "daemon-presents-this-token-0123456789", "partner-presents-this-token-0123456789"

PARTNER_AUDIENCE = "https://receiver.interop.example"


async def make(place, alg: str = "ES256", **server: str) -> Daemon:
    daemon = await Daemon.make(place, alg)
    first, section, rest = daemon.config.read_text().partition("[server]\n")
    assert section, "the configuration has a section for the server"
    daemon.config.write_text(first + section + members(server) + rest)
    daemon.append('\n[server.tls]\nmode = "dangerous-plaintext"\n')
    for name, token in [("partner.token", OUR_TOKEN), ("from-partner.token", THEIR_TOKEN)]:
        (daemon.directory / name).write_text(token + "\n")
        (daemon.directory / name).chmod(0o600)
    return daemon


async def introduce(daemon: Daemon, **definition: str):
    """Gives the running daemon its partner: where that is, is known only now."""
    block = {"name": "partner", "issuer": tokens.PARTNER, "audience": PARTNER_AUDIENCE, **definition}
    daemon.append("\n[[peer]]\n" + members(block))
    await run("reload", "-c", daemon.config, "--admin", daemon.admin)


def members(table: dict[str, str]) -> str:
    return "".join(f"{key} = {toml(value)}\n" for key, value in table.items())


def keys_file(daemon: Daemon, *signers: tokens.Signer) -> str:
    """The partner's keys as a file. Whoever only receives has none, but the configuration wants one."""
    signers = signers or [tokens.Signer("ES256", "unused")]
    (daemon.directory / "partner.jwks.json").write_text(json.dumps(tokens.jwk_set(*signers)))
    return "partner.jwks.json"


async def submit_with_faults(daemon: Daemon) -> dict[str, str]:
    """Submits SETs that a partner must refuse, which we would never make by ourselves; by jti the code of each."""
    stranger = tokens.Signer("ES256", "unpublished")

    def claims(number: int, **changes) -> dict:
        sub_id = {"format": "iss_sub", "iss": ISSUER, "sub": f"uid-{number}"}
        sound = {
            "iss": ISSUER, "aud": PARTNER_AUDIENCE, "iat": int(time.time()), "jti": str(uuid.uuid4()), "sub_id": sub_id,
            "events": {tokens.SESSION_REVOKED: {"event_timestamp": int(time.time())}},
        }
        return {**sound, **changes}

    faulty = {
        "invalid_audience": {"claims": claims(1, aud="https://other.example")},
        "invalid_key": {"set": stranger.sign(claims(2))},
        "invalid_issuer": {"set": stranger.sign(claims(3, iss="https://mallory.example"))},
    }
    codes = {}
    for code, submission in faulty.items():
        [jti] = (await daemon.post("/api/v1/events", {"peer": "partner", **submission}, expected=202))["jtis"]
        codes[jti] = code
    return codes


async def all_settled(daemon: Daemon, sound: list[str], faulty: dict[str, str]):
    """Waits until the partner has acked the sound SETs and refused the others, each with its code."""
    await daemon.settled(acked=len(sound), refused=len(faulty))
    for jti in sound:
        assert (await daemon.record(jti))["state"] == "acked", jti
    for jti, code in faulty.items():
        record = await daemon.record(jti)
        assert (record["state"], record["err"]) == ("refused", code), record
