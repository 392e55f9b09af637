"""Asks the program and the judge about many tokens, and ends badly at the first difference that nobody has explained."""

import argparse
import collections
import json
import os
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path

# The libraries warn of what partners do all the same: EdDSA, RS256, and keys that are too small.
warnings.filterwarnings("ignore")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "interop")]

import explained
import generator
import judge

# Tokens of one round, which both judges see before the next is made.
ROUND = 2000

# Rules that the judge leaves out, one at a time, to see that the difference is found; in so many tokens at most.
RULES = [
    "base64url", "strict JSON", "crit", "typ", "name", "issuer", "audience", "time", "accept", "sub_id", "signature",
]
SELF_TEST = 4000

# Every class that a run of this size has to have met. `undecided` is no verdict for now.
CLASSES = ["valid", "undecided", "invalid_request", "invalid_key", "invalid_issuer", "invalid_audience", "access_denied"]


class Program:
    """`examples/judge.rs`: one line in, one line out."""

    def __init__(self, program: str):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answers(self, cases: list[generator.Case], **instead) -> list[dict]:
        lines = [json.dumps(case.question() | instead) + "\n" for case in cases]
        # In portions that fit into both pipes, or both ends would wait for each other.
        answers = []
        for line in lines:
            self.process.stdin.write(line)
            self.process.stdin.flush()
            answers.append(json.loads(self.process.stdout.readline()))
        return answers


def said(answer: dict) -> str:
    return "valid" if answer["valid"] else answer["err"] or "undecided"


def differs(case, expected, answer) -> str | None:
    """The reason that explains the difference, if there is one; else an empty text. None where there is no difference."""
    if expected.allows(answer["valid"], answer["err"]):
        return None
    return next((why for same, why in explained.EXPLAINED if same(case, expected, answer)), "")


def main() -> int:
    options = arguments()
    program = Program(options.program)
    if options.replay:
        return replay(program, Path(options.replay))
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {options.tokens} tokens", flush=True)
    started = time.monotonic()
    maker = generator.Generator(seed)
    tally, reasons, changes = collections.Counter(), collections.Counter(), collections.Counter()
    failed = []
    self_test = []
    for first in range(0, options.tokens, ROUND):
        cases = [maker.case(number) for number in range(first, min(first + ROUND, options.tokens))]
        for case, answer in zip(cases, program.answers(cases)):
            tally[said(answer)] += 1
            changes.update(label.partition("(")[0] for label in case.labels)
            expected = judge.judge(case)
            why = differs(case, expected, answer)
            if why:
                reasons[why] += 1
            elif why is not None:
                failed.append((case, expected, answer))
            if len(self_test) < SELF_TEST:
                self_test.append((case, answer))
        if first % (ROUND * 10) == 0:
            print(f"{first + len(cases)} tokens, {len(failed)} unexplained, {time.monotonic() - started:.0f} s", flush=True)
    faults = report(options, seed, failed)
    faults += too_much_alike(tally, changes, options.tokens)
    if not failed:
        faults += blind(program, self_test)
    for why, count in reasons.items():
        print(f"explained {count} times: {why}")
    shares = ", ".join(f"{name} {count} ({count / options.tokens:.1%})" for name, count in tally.most_common())
    print(f"{options.tokens} tokens of seed {seed} in {time.monotonic() - started:.0f} s: {shares}")
    for fault in faults:
        print(f"FAILED {fault}")
    return 1 if faults else 0


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--replay", help="a file of questions that a run has written")
    parser.add_argument("--failures", required=True, help="where such a file is written")
    return parser.parse_args()


def report(options, seed: int, failed: list) -> list[str]:
    if not failed:
        return []
    with open(options.failures, "w", encoding="utf-8") as file:
        for case, _, _ in failed:
            file.write(json.dumps(case.question() | {"labels": case.labels}) + "\n")
    for case, expected, answer in failed[:20]:
        show(case, expected, answer)
    print(f"replay: tests/differential/run --replay {os.path.relpath(options.failures)}")
    return [f"{len(failed)} unexplained differences, seed {seed}"]


def show(case, expected, answer):
    wanted = expected.faults or ("no verdict" if expected.undecided else "valid")
    print(f"number {case.number}: the program says {said(answer)} ({answer.get('rule')}), the judge {wanted}\n  {case.labels}\n  {case.token[:1500]}")


def too_much_alike(tally, changes, count: int) -> list[str]:
    """Whether the tokens reach both verdicts and every reason well, and every change was made."""
    faults = [f"no token is {name}" for name in CLASSES if not tally[name]]
    if not 0.1 < tally["valid"] / count < 0.7:
        faults.append(f"{tally['valid']} of {count} tokens are valid: one verdict is hardly tested")
    missing = {change.__name__ for change in generator.CHANGES} - changes.keys()
    return faults + ([f"changes that were never made: {sorted(missing)}"] if missing else [])


def blind(program: Program, self_test: list) -> list[str]:
    """Which rule could be missing on either side without that this test notices."""
    faults = []
    found = {}
    for rule in RULES:
        found[rule] = sum(differs(case, judge.judge(case, without=rule), answer) == "" for case, answer in self_test)
        if not found[rule]:
            faults.append(f"nobody notices that the judge leaves out {rule}")
    weaker = program.answers([case for case, _ in self_test], profile="plain8417")
    found["a weaker policy of the program"] = sum(
        differs(case, judge.judge(case), answer) == "" for (case, _), answer in zip(self_test, weaker))
    if not found["a weaker policy of the program"]:
        faults.append("nobody notices that the program has a weaker policy")
    told = ", ".join(f"{what} {count}" for what, count in found.items())
    print(f"differences found when a rule is left out, of {len(self_test)} tokens: {told}")
    return faults


def replay(program: Program, file: Path) -> int:
    differences = 0
    for line in file.read_text(encoding="utf-8").splitlines():
        case = generator.Case(**json.loads(line))
        expected, [answer] = judge.judge(case), program.answers([case])
        if differs(case, expected, answer) == "":
            differences += 1
            show(case, expected, answer)
    print(f"{differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
