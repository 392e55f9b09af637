"""The foreign partner: what it has sent and received, whichever way the objects travel."""

import collections
import json
from pathlib import Path

import strict_json
from certificate import Certificate
from daemon import Daemon
from tokens import PARTNER, SIGNING, Signer, jwk_set
from waiting import until

# What the partner says to every SET unless a scenario wants something else.
ACK = True
SILENCE = None


class Partner:
    """One side of the conversation.

    `answer` decides about each received SET: ACK, SILENCE, or an object for `setErrs`.
    """

    def __init__(self, directory: Path, signers: list[Signer] | None = None):
        self.directory = directory
        self.signers = signers or [Signer(alg, f"partner-{alg.lower()}") for alg in SIGNING]
        self.certificate = Certificate(directory)
        # What we present, and what is presented to us.
        self.token, self.token_of_daemon = "partner-presents-this-token-0123456789", "daemon-presents-this-token-0123456789"
        self.answer = lambda jti, compact: ACK
        self.received = collections.defaultdict(list)
        self.acked = collections.Counter()
        self.errors = {}
        self.objects = 0

    def jwks(self) -> dict:
        return jwk_set(*self.signers)

    def take(self, data: str | bytes) -> dict:
        """Takes a Communication Object in; returns what to answer, which may be the empty object."""
        value = strict_json.loads(data.encode() if isinstance(data, str) else data)
        assert value.keys() <= {"sets", "ack", "setErrs", "maxResponseEvents"}, value.keys()
        self.objects += 1
        for jti in value.get("ack", []):
            self.acked[jti] += 1
        for jti, error in value.get("setErrs", {}).items():
            assert error.keys() == {"err", "description"} and error["description"], error
            self.errors[jti] = error
        acks, errors = [], {}
        for jti, compact in value.get("sets", {}).items():
            self.received[jti].append(compact)
            match self.answer(jti, compact):
                case True:
                    acks.append(jti)
                case dict() as error:
                    errors[jti] = error
        return {name: part for name, part in [("ack", acks), ("setErrs", errors)] if part}

    def answered(self, jti: str) -> bool:
        return jti in self.acked or jti in self.errors

    async def all_acked(self, sets):
        """Waits until the daemon has acked each of these SETs and refused none."""
        def missing():
            refused = {jti: self.errors[jti] for jti in sets if jti in self.errors}
            assert not refused, refused
            return [jti for jti in sets if jti not in self.acked]
        await until(lambda: not missing(), "all acked", lambda: f"{len(missing())} of {len(sets)} not")

    async def all_received(self, jtis):
        def missing():
            return [jti for jti in jtis if jti not in self.received]
        await until(lambda: not missing(), "all received", lambda: f"{len(missing())} of {len(jtis)} not")

    def only_identical_copies(self):
        """However often a SET came, it had the same bytes each time."""
        for jti, copies in self.received.items():
            assert len(set(copies)) == 1, f"{jti} came with {len(set(copies))} different texts"

    def keys_file(self) -> Path:
        """The published keys as a file, for daemons that read them there."""
        file = self.directory / "partner.jwks.json"
        file.write_text(json.dumps(self.jwks()))
        return file

    def introduce(self, daemon: Daemon, **changes):
        """Writes the partner into the daemon's configuration; a change to `...` leaves a key out."""
        (daemon.directory / "partner.token").write_text(self.token_of_daemon + "\n")
        (daemon.directory / "from-partner.token").write_text(self.token + "\n")
        for name in ["partner.token", "from-partner.token"]:
            (daemon.directory / name).chmod(0o600)
        block = {
            "name": "partner", "issuer": PARTNER, "jwks_file": str(self.keys_file()), "transport": "none",
            "token_file": "partner.token", "accept_token_file": "from-partner.token", **changes,
        }
        lines = [f"{key} = {toml(value)}" for key, value in block.items() if value is not ...]
        daemon.append("\n[[peer]]\n" + "\n".join(lines) + "\n")


def toml(value) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
