"""The program under test, as an operator uses it: its commands, its daemon, its admin API."""

import asyncio
import json
import os
import sys
from pathlib import Path

import aiohttp

from waiting import until

PROGRAM = os.environ.get("PUSHPULL_BIN", "pushpull")
ISSUER = "https://us.interop.example"

# Pauses short enough for a test; everything else is as by default.
CONFIGURATION = """
[network]
allow = ["127.0.0.0/8"]

[delivery]
retry_first = "300ms"
speak_interval = "250ms"
ping_interval = "1s"
"""


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err

    def json(self):
        return json.loads(self.out)


async def run(*arguments, input: str | bytes = "", ok: bool = True) -> Ended:
    """Runs a command of the program to its end. With `ok` it has to succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PUSHPULL_")}
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        PROGRAM, *map(str, arguments), stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    )
    try:
        out, err = await child.communicate(input.encode() if isinstance(input, str) else input)
    finally:
        if child.returncode is None:
            child.kill()
    ended = Ended(child.returncode, out.decode(), err.decode())
    assert not ok or ended.code == 0, f"{arguments} ended with {ended.code}: {ended.err}"
    return ended


class Daemon:
    """`pushpull serve` in a directory of its own, on ports that the system chose."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.config = directory / "pushpull.toml"
        self.process = None
        self.session = None
        self.log = []
        self.address = self.admin = None

    @classmethod
    async def make(cls, place: Path, alg: str = "ES256", name: str = "us") -> "Daemon":
        """Everything that a daemon needs, made with `init`. It does not run yet."""
        directory = place / name
        anywhere = "127.0.0.1:0"
        await run("init", directory, "--issuer", ISSUER, "--listen", anywhere, "--admin-listen", anywhere, "--alg", alg)
        daemon = cls(directory)
        daemon.append(CONFIGURATION)
        return daemon

    def append(self, text: str):
        """Adds to the configuration."""
        self.config.write_text(self.config.read_text() + text)

    async def start(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PUSHPULL_")}
        self.process = await asyncio.create_subprocess_exec(
            PROGRAM, "serve", "-c", self.config, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment,
        )
        self.reader = asyncio.create_task(self.read_log(self.process.stderr))
        ready = await until(lambda: self.ready(), "the daemon is ready")
        self.address, self.admin = ready["listen"], ready["admin"]
        token = (self.directory / "admin.token").read_text().strip()
        self.session = aiohttp.ClientSession(
            f"http://{self.admin}", headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=60),
        )

    async def stop(self):
        if self.session:
            await self.session.close()
        if self.process:
            if self.process.returncode is None:
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 30)
            except asyncio.TimeoutError:
                self.process.kill()
                await self.process.wait()
            await self.reader
            self.process = None

    async def __aenter__(self) -> "Daemon":
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_):
        await self.stop()

    def ready(self):
        if self.process.returncode is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}: {self.log[-5:]}")
        return next((line for line in self.log if line.get("message") == "ready"), None)

    async def read_log(self, stream):
        with open(self.directory / "serve.log", "ab") as file:
            async for line in stream:
                file.write(line)
                file.flush()
                try:
                    self.log.append(json.loads(line))
                except ValueError:
                    self.log.append({"message": line.decode(errors="replace")})

    @staticmethod
    def show_logs(place: Path):
        for log in sorted(place.glob("*/serve.log")):
            print(f"--- the end of {log.parent.name}'s log", file=sys.stderr)
            sys.stderr.write("\n".join(log.read_text(errors="replace").splitlines()[-25:]) + "\n")

    # The operator's and the application's side.

    async def get(self, path: str) -> dict:
        async with self.session.get(path) as answer:
            assert answer.status == 200, f"GET {path}: {answer.status} {await answer.text()}"
            return await answer.json()

    async def post(self, path: str, body=None, expected: int = 200) -> dict:
        async with self.session.post(path, json=body) as answer:
            assert answer.status == expected, f"POST {path}: {answer.status} {await answer.text()}"
            return await answer.json()

    async def submit(self, count: int, peer: str = "partner", first: int = 0) -> list[str]:
        """Submits events for the partner, many in one request; their jtis."""
        lines = [json.dumps({"peer": peer, **event(number)}) for number in range(first, first + count)]
        headers = {"Content-Type": "application/x-ndjson"}
        async with self.session.post("/api/v1/events", data="\n".join(lines), headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            jtis = (await answer.json())["jtis"]
        assert len(set(jtis)) == count
        return jtis

    async def peer(self, name: str = "partner") -> dict:
        return await self.get(f"/api/v1/peers/{name}")

    async def record(self, jti: str, direction: str = "out") -> dict:
        records = (await self.get(f"/api/v1/events/{jti}"))["records"]
        return next(record for record in records if record["direction"] == direction)

    async def inbox(self) -> list[dict]:
        """Everything in the inbox, without changing it."""
        sets, after = [], 0
        while page := (await self.get(f"/api/v1/inbox?max=1000&after={after}"))["sets"]:
            sets += page
            after = page[-1]["seq"]
        return sets

    async def settled(self, **counts):
        """Waits until the partner's counters are these and nothing is under way."""
        wanted = {"queued": 0, "in_flight": 0, "owed": 0, "refused": 0, "dead": 0, **counts}

        async def agree():
            peer = await self.peer()
            return all(peer[name] == count for name, count in wanted.items())

        async def found():
            peer = await self.peer()
            return {name: peer[name] for name in wanted}

        await until(agree, f"the counters are {wanted}", found)


def event(number: int) -> dict:
    """An event as an application submits it; each one differs, also in what is hard to write."""
    return {
        "type": "caep:session-revoked",
        "sub_id": {"format": "email", "email": f"user-{number}@us.interop.example"},
        "event": {"event_timestamp": 1_700_000_000 + number, "reason_admin": {"en": f"№ {number} \"\\\u2028<&>"}},
    }
