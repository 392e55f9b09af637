"""One thousand opinions: the program's, by its command and over the wire, against a judge that shares no line with it.

A difference is a failure, unless EXPLAINED says why it is none. `INTEROP_SEED` repeats a run.
"""

import asyncio
import collections
import contextlib
import json
import os
import random
import time

import mutation
import verdict
from daemon import Daemon, run
from initiator import Initiator
from partner import Partner
from tokens import PARTNER, US

# How many tokens, and how many of them are also judged by `set verify`, which costs a process each.
TOKENS, COMMANDS = 500, 200

# Differences that are none: a predicate over (draft, verdict, valid, err), and why.
EXPLAINED = []


async def five_hundred_tokens_are_judged_as_the_specifications_have_it(place):
    seed = int(os.environ.get("INTEROP_SEED", random.SystemRandom().randrange(1 << 32)))
    keys = mutation.Keys()
    drafts = [mutation.make(seed, number, keys) for number in range(TOKENS)]
    compacts = [draft.compact() for draft in drafts]
    names = [name_of(compact, number) for number, compact in enumerate(compacts)]
    differences = []

    def compare(number, way, valid, err):
        draft, name = drafts[number], names[number] if way == "wire" else None
        expected = verdict.judge(compacts[number], keys.usable(), PARTNER, US, time.time(), name)
        if not expected.allows(valid, err) and not any(same(draft, expected, valid, err) for same, _ in EXPLAINED):
            said = "valid" if valid else err or "no verdict"
            wanted = "valid" if expected.valid else expected.faults or "no verdict"
            what = f"number {number} by {way}: {said}, expected {wanted}: {draft.labels}"
            differences.append(f"{what}\n  {compacts[number][:1500]}")
        return "valid" if valid else err or "no verdict"

    tally = collections.Counter()
    opinions = [verdict.judge(compact, keys.usable(), PARTNER, US, time.time(), name) for compact, name in zip(compacts, names)]
    decided = {name for name, opinion in zip(names, opinions) if not opinion.undecided}
    by_wire = await judge_by_wire(place, keys, dict(zip(names, compacts)), decided)
    for number, name in enumerate(names):
        tally[compare(number, "wire", *by_wire[name])] += 1
    for number, (valid, err) in (await judge_by_command(place, keys, compacts[:COMMANDS])).items():
        compare(number, "command", valid, err)
        named = json_jti(compacts[number]) == names[number]
        if named and (valid, err) != by_wire[names[number]]:
            both = f"{(valid, err)} by command, {by_wire[names[number]]} by wire"
            differences.append(f"number {number}: {both}: {drafts[number].labels}")
    assert not differences, f"INTEROP_SEED={seed}, {len(differences)} differences:\n" + "\n".join(differences)
    assert tally["valid"] > TOKENS / 10 and len(tally) >= 5, f"the tokens are too much alike: {tally}"
    return f"seed {seed}, " + ", ".join(f"{count} {said}" for said, count in tally.most_common())


async def judge_by_command(place, keys, compacts) -> dict[int, tuple[bool, str | None]]:
    file = place / "jwks.json"
    file.write_text(json.dumps(keys.jwks()))
    arguments = ["set", "verify", "-", "--jwks", file, "--iss", PARTNER, "--aud", US, "--json"]
    places, opinions = asyncio.Semaphore(2), {}

    async def one(number, compact):
        async with places:
            ended = await run(*arguments, input=compact, ok=False)
        report = ended.json()
        assert ended.code == (0 if report["valid"] else 1), ended.code
        failing = [check for check in report["checks"] if not check["ok"]]
        assert bool(failing) != report["valid"], report
        opinions[number] = report["valid"], report.get("err")

    await asyncio.gather(*(one(number, compact) for number, compact in enumerate(compacts)))
    return opinions


async def judge_by_wire(place, keys, sets, decided) -> dict[str, tuple[bool, str | None]]:
    """All of them in one Communication Object. Verdicts that are late for its answer come with later ones, and for those
    that have to be `decided` we ask long enough."""
    partner = Partner(place)
    partner.jwks = keys.jwks
    daemon = await Daemon.make(place)
    partner.introduce(daemon)
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        async with initiator.http() as http:
            await http.exchange(sets)
            with contextlib.suppress(AssertionError):
                await http.until(lambda: all(map(partner.answered, decided)), "what can be decided is")
            await http.exchange()
            inbox = {received["jti"]: received["set"] for received in await daemon.inbox()}
    assert not partner.acked.keys() & partner.errors.keys()
    assert inbox == {name: sets[name] for name in partner.acked}, "what is acked is stored as it was sent, and nothing else"
    return {name: (name in partner.acked, partner.errors.get(name, {}).get("err")) for name in sets}


def name_of(compact: str, number: int) -> str:
    """The name under which the token goes into `sets`: its jti where there is a usable one."""
    jti = json_jti(compact)
    return jti if isinstance(jti, str) and 0 < len(jti.encode()) <= 512 and len(jti) >= 36 else f"nameless-{number}"


def json_jti(compact: str):
    parts = compact.split(".")
    octets = verdict.strict_base64url(parts[1]) if len(parts) > 1 else None
    claims = verdict.read_object(octets)
    return claims.get("jti") if claims else None


SCENARIOS = [five_hundred_tokens_are_judged_as_the_specifications_have_it]
