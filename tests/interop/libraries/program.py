"""A program around somebody's package, as a child: what it prints, and lines for it to read."""

import asyncio
import os
from pathlib import Path

from waiting import until

# Where the programs were built to.
FOLDER = Path(os.environ["PROGRAMS_FOLDER"])


class Program:
    """It runs until its standard input ends, which is when the block is left, and has to end well."""

    def __init__(self, name: str, *arguments: str, **environment: str):
        self.command = [FOLDER / name, *arguments]
        self.environment = {**os.environ, **environment}
        self.lines = []
        self.process = None

    async def __aenter__(self) -> "Program":
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdin=pipe, stdout=pipe, env=self.environment, limit=1 << 24
        )
        self.reader = asyncio.create_task(self.read())
        return self

    async def __aexit__(self, kind, *_):
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 30)
        except asyncio.TimeoutError:
            self.process.kill()
            await self.process.wait()
        await self.reader
        assert kind or self.process.returncode == 0, f"{self.command} ended with {self.process.returncode}"

    async def read(self):
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))

    def tell(self, line: str):
        self.process.stdin.write(line.encode() + b"\n")

    def told(self, word: str) -> list[str]:
        """What stands behind this word in the lines that it opens."""
        return [rest for first, _, rest in (line.partition(" ") for line in self.lines) if first == word]

    async def address(self) -> str:
        """Where it listens."""
        return (await until(lambda: self.told("listening"), f"{self.command[0].name} listens"))[0]
