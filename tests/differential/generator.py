"""Tokens by chance, each with all that a judge needs beside it: keys, policy, time, and the name in `sets`.

The changes of `tests/interop/mutation.py` are taken along; here are those at the edges of time, policies, keys and names.
"""

import copy
import dataclasses
import json
import random

import mutation
import tokens

# Whole seconds, so that edges of time are exact.
NOW = 1_700_000_000
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"


@dataclasses.dataclass
class Case:
    """One question to both judges."""

    number: int
    token: str
    labels: list[str]
    jwks: dict
    name: str | None = None
    issuer: str = tokens.PARTNER
    audience: str = tokens.US
    accept: list[str] | None = None
    jti_bytes_max: int = 512
    set_bytes_max: int = 256 << 10
    profile: str = "ssf"
    now: int = NOW
    suspect: bool = False

    def question(self) -> dict:
        """As the program's side reads it."""
        return {name: value for name, value in vars(self).items() if name != "labels"}


class Generator:
    """Makes the same questions again from the same seed, but for signatures, which have chance of their own."""

    def __init__(self, seed: int):
        self.seed = seed
        self.keys = mutation.Keys()
        self.many = [tokens.Signer("EdDSA", None) for _ in range(6)]
        self.weak = weak_rsa()
        self.sets = KeySets(self)

    def case(self, number: int) -> Case:
        chance = random.Random(f"{self.seed}/{number}")
        draft = mutation.Draft(chance, self.keys)
        at_our_time(draft)
        case = Case(number, "", [], self.keys.jwks())
        if chance.random() < 0.3:
            case.name = draft.jti
        for _ in range(chance.choice([0, 1, 1, 1, 1, 1, 2, 3])):
            change = chance.choice(CHANGES)
            label = change(draft, case, self)
            case.labels.append(f"{change.__name__}({label})" if label is not None else change.__name__)
        case.token = draft.compact()
        return case


def at_our_time(draft):
    """The sound claims of `mutation` are of the moment; ours are of one that is always the same."""
    chance, claims = draft.random, draft.claims
    claims["iat"] = chance.choice([NOW, NOW - 10 * DAY, NOW + 200, float(NOW), NOW - 0.25])
    if "toe" in claims:
        claims["toe"] = chance.choice([0, 1.5, -1e10, NOW + 1000 * DAY])
    if "nbf" in claims:
        claims["nbf"] = chance.choice([0, NOW, NOW - HOUR])


class KeySets:
    """What the partner may publish instead."""

    def __init__(self, generator: Generator):
        keys = generator.keys
        full = keys.jwks()["keys"]
        self.none = {"keys": []}
        self.few = {"keys": full[:2]}
        self.reversed = {"keys": full[::-1]}
        self.many = {"keys": [key.key.as_dict(private=False) for key in generator.many]}
        self.private = {"keys": [keys.sound[0].key.as_dict(private=True), *full[1:]]}
        self.weak = {"keys": [generator.weak.key.as_dict(private=False), *full]}
        self.nameless = {"keys": [{name: value for name, value in jwk.items() if name != "kid"} for jwk in full[:6]]}


def weak_rsa() -> tokens.Signer:
    """1024 bits: RFC 7518 §3.3 forbids it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from joserfc.jwk import RSAKey

    key = rsa.generate_private_key(65537, 1024)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    signer = tokens.Signer("ES256", "weak")
    signer.alg, signer.key = "RS256", RSAKey.import_key(pem, {"kid": "weak", "alg": "RS256", "use": "sig"})
    return signer


# Changes that only a policy, a time or another set of keys makes one.

def an_edge_of_time(draft, case, _):
    name = draft.random.choice(["iat", "iat", "nbf"])
    edge = draft.random.choice([0, 5 * MINUTE, DAY, -30 * DAY, -5 * MINUTE])
    by = draft.random.choice([-1, -0.25, -0.001, 0, 0.001, 0.25, 1])
    draft.claims[name] = NOW + edge + by
    return f"{name} {edge:+}{by:+}"


def a_clock_that_jumped(draft, case, generator):
    case.suspect = True
    return an_edge_of_time(draft, case, generator)


def the_plain_profile(draft, case, _):
    """RFC 8417 alone."""
    case.profile = "plain8417"
    what = draft.random.choice(["nothing", "typ", "JWT", "aud", "sub_id", "sub", "exp", "all"])
    if what in ("typ", "all"):
        draft.header.pop("typ", None)
    if what == "JWT":
        draft.header["typ"] = draft.random.choice(["JWT", "jwt", "at+jwt"])
    if what in ("aud", "all"):
        draft.claims.pop("aud", None)
    if what in ("sub_id", "all"):
        draft.claims.pop("sub_id", None)
    if what in ("sub", "all"):
        draft.claims["sub"] = draft.random.choice(["x", 5, None])
    if what in ("exp", "all"):
        edge = draft.random.choice([0, -5 * MINUTE, DAY, -DAY])
        draft.claims["exp"] = draft.random.choice([NOW + edge + draft.random.choice([-1, -0.25, 0, 0.25, 1]), "x", None])
    return what


def types_that_are_not_wanted(draft, case, _):
    case.accept = draft.random.choice([
        [], ["caep:*"], ["risc:*"], ["caep:session-revoked"], [CAEP + "session-revoked"], ["urn:*"], ["*:b"],
        ["https://schemas.example/*"], ["*session*"], ["caep:session-revoked", "urn:ietf:params:event:x", "*:b"], ["*"],
    ])
    if draft.random.random() < 0.5:
        chosen = [CAEP + "session-revoked", CAEP + "credential-change", RISC + "account-disabled", tokens.VERIFICATION, "a:b"]
        draft.claims["events"] = {name: {} for name in draft.random.sample(chosen, draft.random.randint(1, 2))}
    return case.accept


def another_name(draft, case, _):
    case.name = draft.random.choice([draft.jti, draft.jti + "x", draft.jti[1:], draft.jti.upper(), "é", "\u0000", " " + draft.jti])
    return repr(case.name)


def a_shorter_limit(draft, case, _):
    if draft.random.random() < 0.5:
        length = len(str(draft.claims.get("jti", "")).encode("utf-8", "surrogatepass"))
        case.jti_bytes_max = max(1, length + draft.random.choice([-1, 0, 1]))
        return f"jti {case.jti_bytes_max}"
    case.set_bytes_max = draft.random.choice([100, 500, 700, 900, 1100, 2000])
    return f"set {case.set_bytes_max}"


def other_keys(draft, case, generator):
    name = draft.random.choice(["none", "few", "reversed", "many", "private", "weak", "nameless"])
    case.jwks = getattr(generator.sets, name)
    if name == "many":
        draft.signer = draft.random.choice(generator.many)
        draft.header = draft.signer.header()
    if name == "weak" and draft.random.random() < 0.7:
        draft.signer = generator.weak
        draft.header = draft.signer.header()
    if name == "nameless" and draft.random.random() < 0.7:
        draft.header.pop("kid", None)
    return name


def a_mangled_key(draft, case, _):
    """The key that the token needs, as a careless partner publishes it."""
    case.jwks = copy.deepcopy(case.jwks)
    own = draft.signer.key.as_dict(private=False)
    jwk = next((jwk for jwk in case.jwks["keys"] if jwk.get("kid") == own.get("kid") and jwk.get("kty") == own["kty"]), None)
    if jwk is None:
        return "none"
    number = "n" if jwk["kty"] == "RSA" else "x"
    changes = {
        "use": lambda: jwk.update(use=draft.random.choice(["enc", "SIG", "", "sig"])),
        "key_ops": lambda: jwk.update(key_ops=draft.random.choice([["verify"], ["sign"], [], ["sign", "verify"]])),
        "alg": lambda: jwk.update(alg=draft.random.choice(["ES256", "ES384", "EdDSA", "RS256", "PS256", "RS512", "none"])),
        "no alg": lambda: jwk.pop("alg", None), "no kid": lambda: jwk.pop("kid", None),
        "another kid": lambda: jwk.update(kid=jwk.get("kid", "") + "x"),
        "crv": lambda: jwk.update(crv=draft.random.choice(["P-256", "P-384", "Ed25519", "P-521"])),
        "padding": lambda: jwk.update({number: jwk[number] + "="}),
        "shorter": lambda: jwk.update({number: jwk[number][:-4]}),
        "nothing": lambda: jwk.update({number: ""}),
        "twice": lambda: case.jwks["keys"].append(dict(jwk)),
    }
    name = draft.random.choice(list(changes))
    changes[name]()
    return name


def white_space_and_order(draft, case, _):
    """All of it means the same."""
    def spread(text):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        indent = draft.random.choice([None, 1, "\t"])
        return json.dumps(value, indent=indent, sort_keys=draft.random.random() < 0.5, separators=(" , ", " :\r\n")).encode()

    draft.on_claims_bytes = spread
    if draft.random.random() < 0.5:
        draft.on_header_bytes = spread


def letters_of_the_world(draft, case, _):
    """Names and values that look alike and are not, or are written with escapes."""
    name = draft.random.choice(["iss", "aud", "jti", "events", "typ", "alg"])
    def escaped(text):
        return text.replace(f'"{name}"'.encode(), f'"\\u{ord(name[0]):04x}{name[1:]}"'.encode(), 1)
    def alike(text):
        return text.replace(f'"{name}"'.encode(), f'"{name[:-1]}{draft.random.choice("аеіⅰ​é")}"'.encode(), 1)
    which = draft.random.choice([escaped, alike])
    draft.on_claims_bytes = which
    draft.on_header_bytes = which
    return f"{which.__name__} {name}"


def interop(change):
    def changed(draft, case, _):
        return change(draft)
    changed.__name__ = change.__name__
    return changed


# Those that ask for the time of day have their like here.
TAKEN = [change for change in mutation.CHANGES if change is not mutation.another_time]
OWN = [
    an_edge_of_time, an_edge_of_time, a_clock_that_jumped, the_plain_profile, the_plain_profile, types_that_are_not_wanted,
    another_name, a_shorter_limit, other_keys, a_mangled_key, a_mangled_key, white_space_and_order, letters_of_the_world,
]
CHANGES = [interop(change) for change in TAKEN] + OWN
