"""Differences between the two judges that are none of a mistake: each a predicate over (case, verdict, answer), and why."""

import json

import judge
import verdict


def nameless_among_many(case, expected, answer) -> bool:
    """A token without `kid` is tried with four keys at most."""
    header = judge.read_object(verdict.strict_base64url(case.token.partition(".")[0]), None)
    if header is None or "kid" in header or answer["err"] != "invalid_key":
        return False
    if header.get("alg") not in list(verdict.KEYS):
        return False
    fitting = [jwk for jwk in judge.usable(json.dumps(case.jwks)) if verdict.fits(jwk, header.get("alg"), None)]
    return len(fitting) > 4


EXPLAINED = [
    (nameless_among_many, "RFC 7515 §6 leaves open how a key is found: one of more than four without a name is not looked for, "
                          "since each trial costs a signature"),
]
