"""Runs scenarios, a few at a time, and ends with a line `N passed, N failed`."""

import asyncio
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from daemon import Daemon

# The libraries warn that EdDSA and RS256 are not what they would choose; partners choose them all the same.
warnings.filterwarnings("ignore", module="joserfc")

# Seconds for one scenario on a slow, shared machine.
PATIENCE = 240


def run(modules, libraries: str) -> int:
    """Runs those of the modules' scenarios whose names contain one of the words of the command line; the exit code."""
    words = sys.argv[1:]
    chosen = [
        scenario
        for module in modules
        for scenario in module.SCENARIOS
        if not words or any(word in scenario.__name__ for word in words)
    ]
    print(f"{os.environ['PUSHPULL_BIN']} against {libraries}, Python {sys.version.split()[0]}", flush=True)
    failed = asyncio.run(run_all(chosen))
    print(f"{len(chosen) - failed} passed, {failed} failed", flush=True)
    return 1 if failed or not chosen else 0


async def run_all(chosen) -> int:
    """How many failed."""
    # Whoever ends us wants the daemons to end too.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    places = asyncio.Semaphore(int(os.environ.get("INTEROP_JOBS", "4")))

    async def one(scenario) -> bool:
        async with places:
            return await run_one(scenario)

    return (await asyncio.gather(*map(one, chosen))).count(False)


async def run_one(scenario) -> bool:
    started = time.monotonic()
    name = scenario.__name__.replace("_", " ")
    with tempfile.TemporaryDirectory(prefix="pushpull-interop-") as place:
        try:
            note = await asyncio.wait_for(scenario(Path(place)), PATIENCE)
        except BaseException as error:
            print(f"FAILED  {name} ({time.monotonic() - started:.1f} s)", flush=True)
            traceback.print_exception(error)
            Daemon.show_logs(Path(place))
            if isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
                raise
            return False
    print(f"passed  {name} ({time.monotonic() - started:.1f} s){': ' + note if note else ''}", flush=True)
    return True
