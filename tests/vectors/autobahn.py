"""The Autobahn cases against the echo of examples/ws_echo.rs, in both roles: autobahn.py ECHO REPORTS CASES…

Every case has to be OK, but for those named below with their reason. A case that is named and is OK is a fault, too: then
its row has to go. The exit code is 1 for any fault, and for fewer cases than there have to be.
"""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver
from kosoku._report import write_reports

# Compression (12, 13) is never offered and never taken, so there is nothing to try.
COMPRESSION = ["12.*", "13.*"]

# What is asked: which cases, and how many they are at least.
SELECTIONS = {
    "protocol": {"include": None, "exclude": ["9.*", *COMPRESSION], "least": 247},
    "limits": {"include": ["9.*"], "exclude": None, "least": 54},
}

# Cases that may be other than OK, with their behaviour and the reason, by role.
INFORMATIONAL = {
    "7.1.6": "how much of 256 KiB still goes back when the close frame stands behind it is left open by RFC 6455",
    "7.13.1": "close code 5000 has no defined answer",
    "7.13.2": "close code 65535 has no defined answer",
}
LATE = "text that is no UTF-8 is refused when its frame is complete, and not at the first bad byte, as would be stricter"
NON_STRICT = {"6.4.3": LATE, "6.4.4": LATE}
EXPECTED = {case: ("INFORMATIONAL", why) for case, why in INFORMATIONAL.items()}
EXPECTED |= {case: ("NON-STRICT", why) for case, why in NON_STRICT.items()}


def judge(role, selection, results):
    """Prints what came of the cases; the faults."""
    counts = Counter(result.behavior.value for result in results)
    closes = Counter(result.behavior_close.value for result in results)
    print(f"{role}: {len(results)} cases, {dict(counts)}, closing {dict(closes)}")
    faults = []
    for result in results:
        case, found = result.case_id, result.behavior.value
        closed = result.behavior_close.value
        expected, why = EXPECTED.get(case, ("OK", None))
        if found != expected or closed not in ("OK", "INFORMATIONAL"):
            came = f"{result.result} {result.result_close}"
            faults.append(f"{role} {case}: {found}, closing {closed}; {expected} was expected: {came}")
        elif why is not None:
            print(f"    {case} {found}: {why}")
    if len(results) < selection["least"]:
        faults.append(f"{role}: {len(results)} cases, at least {selection['least']} were expected")
    return faults


async def outcome(running):
    """The results, whether or not some failed: what fails is judged here."""
    try:
        return await running
    except FailureError as failure:
        return failure.results


async def as_server(echo, selection):
    process = subprocess.Popen([echo, "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().removeprefix("listening on ").strip()
        return await outcome(run_fuzzingclient(address, selection["include"], selection["exclude"], concurrency=4))
    finally:
        process.kill()
        process.wait()


async def as_client(echo, selection):
    async with run_fuzzingserver(selection["include"], selection["exclude"], host="127.0.0.1", port=0) as server:
        client = await asyncio.create_subprocess_exec(echo, "--connect", f"127.0.0.1:{server.port}")
        code = await client.wait()
        if code != 0:
            raise SystemExit(f"autobahn: the client ended with {code}")
        return await outcome(server.get_result())


async def main(echo, reports, *names):
    faults = []
    for name in names or ["protocol"]:
        selection = SELECTIONS[name]
        for role, run in [("server", as_server), ("client", as_client)]:
            began = time.monotonic()
            results = await run(echo, selection)
            faults += judge(f"{name}, we are the {role}", selection, results)
            print(f"    in {time.monotonic() - began:.1f} s")
            if results:
                write_reports(results, str(Path(reports) / f"{name}-{role}"))
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"Autobahn: {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
