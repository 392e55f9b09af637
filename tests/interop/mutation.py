"""Tokens by chance: sound ones with all the freedom that the specifications give, and what small changes make of them."""

import json
import random
import time
import uuid

from cryptography.hazmat.primitives.asymmetric import utils

import tokens
from tokens import Registry, Signer

HOUR, DAY = 3600, 24 * 3600
P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519 = (1 << 252) + 27742317777372353535851937790883648493


class Keys:
    """The partner's keys for this run, with some that must not be used."""

    def __init__(self):
        algs = ["ES256", "ES384", "EdDSA", "Ed25519", "RS256", "PS256"]
        self.sound = [Signer(alg, f"kid-{alg}") for alg in algs]
        self.sound.append(Signer("RS256", "any-rsa", published_alg=False))
        self.sound.append(Signer("ES256", None))
        self.unknown = Signer("ES256", "nobody-has-heard-of-it")
        self.encryption = Signer("ES256", "for-encryption")
        # It has the name of a sound one, which comes first.
        self.second = Signer("ES256", "kid-ES256")
        self.bad = [self.unknown, self.encryption, self.second]

    def jwks(self) -> dict:
        published = tokens.jwk_set(*self.sound, self.second, self.encryption)
        published["keys"][-1]["use"] = "enc"
        # What nobody can use must not disturb the others.
        published["keys"] += [{"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}, {"kty": "new-kind", "kid": "new"}]
        published["keys"] += [{"kid": "none"}]
        return published

    def usable(self) -> dict:
        """The same as far as a judge needs to know it."""
        return {"keys": [jwk for jwk in self.jwks()["keys"] if jwk.get("kty") in ("EC", "OKP", "RSA")]}


class Draft:
    """A token in the making. Each change happens where it belongs: before or after encoding and signing."""

    def __init__(self, random: random.Random, keys: Keys):
        self.random, self.keys = random, keys
        self.signer = random.choice(keys.sound)
        self.labels = []
        self.header = self.signer.header()
        self.claims = sound_claims(random)
        self.jti = self.claims["jti"]
        # Applied in this order.
        self.on_header_bytes = self.on_claims_bytes = self.on_signature = self.on_compact = lambda value: value

    def compact(self) -> str:
        header = self.on_header_bytes(json.dumps(self.header).encode())
        claims = self.on_claims_bytes(json.dumps(self.claims, ensure_ascii=self.random.random() < 0.5).encode())
        signed = f"{tokens.encode(header)}.{tokens.encode(claims)}"
        algorithm = Registry.algorithms[self.signer.alg]
        signature = self.on_signature(algorithm.sign(signed.encode(), self.signer.key))
        return self.on_compact(f"{signed}.{tokens.encode(signature)}")


def make(seed: int, number: int, keys: Keys) -> Draft:
    """The token of this number in the run of this seed."""
    draft = Draft(random.Random(f"{seed}/{number}"), keys)
    for _ in range(draft.random.choice([0, 1, 1, 1, 1, 2])):
        change = draft.random.choice(CHANGES)
        label = change(draft)
        draft.labels.append(f"{change.__name__}({label})" if label is not None else change.__name__)
    return draft


def sound_claims(random: random.Random) -> dict:
    now = time.time()
    claims = tokens.claims(random.randrange(1000))
    claims["jti"] = random.choice(["", "é-", "🔑", " ", "\u0000", "\\\"", "x" * 400])
    claims["jti"] += str(uuid.UUID(int=random.getrandbits(128)))
    claims["aud"] = random.choice([tokens.US, [tokens.US], ["https://other.example", tokens.US], [tokens.US, tokens.US]])
    claims["iat"] = random.choice([int(now), now, int(now) - 10 * DAY, int(now) + 200, float(int(now))])
    claims["sub_id"] = random.choice(SUBJECTS)
    if random.random() < 0.2:
        del claims["txn"]
    optional = {
        "toe": [0, 1.5, -1e10, int(now) + DAY * 1000], "nbf": [0, int(now), now - HOUR], "more": [None, [], {"iss": 1}, 1e300],
    }
    for name, values in optional.items():
        if random.random() < 0.2:
            claims[name] = random.choice(values)
    events = [tokens.SESSION_REVOKED, "urn:ietf:params:event:x", "a:", "https://schemas.example/ü"]
    chosen = random.sample(events, random.randint(1, 3))
    claims["events"] = {name: random.choice([{}, {"a": [1, {"b": None}]}]) for name in chosen}
    return dict(random.sample(list(claims.items()), len(claims)))


SUBJECTS = [
    {"format": "email", "email": "x@example.com"},
    {"format": "email", "email": "not an address", "more": 1},
    {"format": "opaque", "id": "é"},
    {"format": "iss_sub", "iss": "https://i.example", "sub": "s"},
    {"format": "phone_number", "phone_number": "+1 206 555 0100"},
    {"format": "did", "url": "did:example:1"},
    {"format": "jwt_id", "iss": "i", "jti": "j"},
    {"format": "saml_assertion_id", "issuer": "i", "assertion_id": "a"},
    {"format": "ip-addresses", "ip-addresses": ["192.0.2.1", "::1"]},
    {"format": "aliases", "identifiers": [{"format": "opaque", "id": "1"}, {"format": "uri", "uri": "a:b"}]},
    {"format": "complex", "user": {"format": "opaque", "id": "1"}, "note": "an additional field"},
    {"format": "complex", "group": {"format": "aliases", "identifiers": [{"format": "opaque", "id": "1"}]}},
    {"format": "https://formats.example/new", "anything": [1]},
]
BROKEN_SUBJECTS = [
    None, "x", [], {}, {"format": ""}, {"format": 5}, {"format": None}, {"subject_type": "email", "email": "x@example.com"},
    {"format": "email"}, {"format": "email", "email": ""}, {"format": "email", "email": None}, {"format": "opaque", "id": 5},
    {"format": "iss_sub", "iss": "i"}, {"format": "aliases", "identifiers": []}, {"format": "aliases", "identifiers": {}},
    {"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": [{"format": "opaque", "id": "1"}]}]},
    {"format": "aliases", "identifiers": ["x"]}, {"format": "ip-addresses", "ip-addresses": []},
    {"format": "ip-addresses", "ip-addresses": [1]}, {"format": "complex"}, {"format": "complex", "user": "x"},
    {"format": "complex", "user": {"format": "complex", "user": {"format": "opaque", "id": "1"}}},
    {"format": "complex", "other": {"format": "email"}},
    {"format": "aliases", "identifiers": [{"format": "complex", "user": {"format": "opaque", "id": "1"}}]},
]

# A value of each JSON type, and some at the edges.
ANYTHING = [None, True, False, 0, -1, 1.5, 1e300, "", " ", "x", [], [None], ["x"], [["x"]], {}, {"x": 1}]


# Changes to the header.

def another_alg(draft):
    draft.header["alg"] = draft.random.choice(
        ["none", "None", "NONE", "HS256", "RS384", "RS512", "ES512", "ES256K", "es256", "eddsa", "ES256 ", "Ed448", "PS384"]
        + ANYTHING
    )
    return repr(draft.header["alg"])


def an_alg_of_another_key(draft):
    draft.header["alg"] = draft.random.choice(["ES256", "ES384", "EdDSA", "Ed25519", "RS256", "PS256"])
    return draft.header["alg"]


def another_kid(draft):
    names = [signer.kid for signer in draft.keys.sound if signer.kid]
    draft.header["kid"] = draft.random.choice(["shared", "new", "none", "for-encryption", "KID-ES256", *names, *ANYTHING])
    return repr(draft.header["kid"])


def no_kid(draft):
    draft.header.pop("kid", None)


def another_typ(draft):
    draft.header["typ"] = draft.random.choice([
        "SecEvent+JWT", "application/secevent+jwt", "APPLICATION/secevent+jwt", "JWT", "jwt", "at+jwt", "secevent", "secevent+jwt ",
        "text/secevent+jwt", "application/application/secevent+jwt", "ſecevent+jwt", "secevent+jwt;v=1", *ANYTHING,
    ])
    return repr(draft.header["typ"])


def no_typ_or_alg(draft):
    name = draft.random.choice(["typ", "alg"])
    draft.header.pop(name, None)
    return name


def a_header_member(draft):
    name = draft.random.choice(["crit", "b64", "zip", "jku", "x5u", "x5c", "jwk", "x5t", "cty", "iss", "CRIT", "enc", ""])
    draft.header[name] = draft.random.choice([["exp"], [], True, False, "DEF", "https://evil.example/keys", None, {}])
    return f"{name}={draft.header[name]!r}"


def a_key_in_the_header(draft):
    """The classic: the attacker brings along the key that verifies the attacker's signature."""
    draft.signer = draft.keys.unknown
    draft.header = draft.signer.header() | {"jwk": draft.signer.key.as_dict(private=False)}


def a_key_that_must_not_be_used(draft):
    draft.signer = draft.random.choice(draft.keys.bad)
    draft.header = draft.signer.header()
    return draft.signer.kid


# Changes to the claims.

def a_claim_of_another_type(draft):
    name = draft.random.choice(["iss", "aud", "iat", "jti", "events", "sub_id", "txn", "toe", "nbf"])
    draft.claims[name] = draft.random.choice(ANYTHING)
    return f"{name}={draft.claims[name]!r}"


def a_claim_less(draft):
    name = draft.random.choice(list(draft.claims))
    del draft.claims[name]
    return name


def a_forbidden_claim(draft):
    name = draft.random.choice(["sub", "exp"])
    draft.claims[name] = draft.random.choice([*ANYTHING, int(time.time()) + HOUR])
    return f"{name}={draft.claims[name]!r}"


def another_time(draft):
    name = draft.random.choice(["iat", "iat", "nbf"])
    offset = draft.random.choice([-40 * DAY, -31 * DAY, -29 * DAY, 100, HOUR, 20 * HOUR, 26 * HOUR, 100 * DAY, 1e12])
    draft.claims[name] = time.time() + offset
    return f"{name} {offset:+}"


def another_party(draft):
    name, value = draft.random.choice([("iss", tokens.PARTNER), ("aud", tokens.US)])
    draft.claims[name] = draft.random.choice([value + "/", value.upper(), value + " ", value[:-1], value.replace("https", "http")])
    if name == "aud" and draft.random.random() < 0.5:
        draft.claims[name] = [draft.claims[name]]
    return f"{name}={draft.claims[name]!r}"


def another_jti(draft):
    draft.claims["jti"] = draft.random.choice(["x" * 476, "x" * 477, "é" * 300]) + draft.jti[-36:]
    return len(draft.claims["jti"].encode())


def other_events(draft):
    draft.claims["events"] = draft.random.choice([
        {"no-colon": {}}, {"with space: x": {}}, {"": {}}, {":": {}}, {"a:b": None}, {"a:b": []}, {"a:b": "x"}, {"a:b": True},
        {"a:b": {}, "c": {}}, {"a:\u0001": {}}, {"a:\u2003": {}}, {"a:\u00a0b": {}}, {"a:b": {"jti": {}}}, {},
    ])
    return repr(draft.claims["events"])


def a_broken_subject(draft):
    draft.claims["sub_id"] = draft.random.choice(BROKEN_SUBJECTS)
    return repr(draft.claims["sub_id"])


def json_that_is_not_strict(draft):
    """In the claims or in the header, signed as it stands."""
    def replace(old, new):
        return lambda text: text.replace(old, new, 1)

    ends = {
        "the first member twice": lambda text: b'{"jti":"j","alg":"ES256",' + text[1:] if text[:1] == b"{" else text,
        "a name twice, spelt differently": lambda text: text[:-1] + b',"\\u0069ss":"x","iss":"x","a":1,"\\u0061":1}',
        "a name twice, deep inside": lambda text: text[:-1] + b',"deep":[{"a":{"b":1,"b":1}}]}',
        "nothing twice, but alike": lambda text: text[:-1] + b',"deep":[{"a":1},{"a":1}],"A":1}',
        "something behind": lambda text: text + b"{}",
        "white space around": lambda text: b" \r\n\t" + text + b"\n ",
        "a form feed around": lambda text: b"\x0c" + text,
        "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
        "UTF-16": lambda text: text.decode().encode("utf-16-le"),
        "not UTF-8": lambda text: text[:-1] + b',"x":"\xff"}',
        "an overlong encoding": lambda text: text[:-1] + b',"x":"\xc0\x80"}',
        "a surrogate in UTF-8": lambda text: text[:-1] + b',"x":"\xed\xa0\x80"}',
        "half a surrogate pair": lambda text: text[:-1] + b',"x":"\\ud800"}',
        "a surrogate pair the wrong way": lambda text: text[:-1] + b',"x":"\\udc00\\ud800"}',
        "a surrogate pair": lambda text: text[:-1] + b',"x":"\\ud83d\\udd11"}',
        "NaN": lambda text: text[:-1] + b',"x":NaN}',
        "infinity": lambda text: text[:-1] + b',"x":-Infinity}',
        "too large a number": lambda text: text[:-1] + b',"x":1e999}',
        "many digits": lambda text: text[:-1] + b',"x":' + b"1" * 400 + b"}",
        "fewer digits": lambda text: text[:-1] + b',"x":' + b"1" * 300 + b"}",
        "a leading zero": lambda text: text[:-1] + b',"x":01}',
        "a plus sign": lambda text: text[:-1] + b',"x":+1}',
        "no digit after the point": lambda text: text[:-1] + b',"x":1.}',
        "minus zero": lambda text: text[:-1] + b',"x":-0}',
        "a comma too many": lambda text: text[:-1] + b",}",
        "a comment": lambda text: b"/* */" + text,
        "single quotes": replace(b'"', b"'"),
        "a tab in a string": lambda text: text[:-1] + b',"x":"\t"}',
        "a DEL in a string": lambda text: text[:-1] + b',"x":"\x7f"}',
        "an unknown escape": lambda text: text[:-1] + b',"x":"\\x41"}',
        "an escaped slash": lambda text: text[:-1] + b',"x":"\\/"}',
        "31 levels": lambda text: text[:-1] + b',"x":' + b"[" * 31 + b"]" * 31 + b"}",
        "32 levels": lambda text: text[:-1] + b',"x":' + b"[" * 32 + b"]" * 32 + b"}",
        "200 levels": lambda text: text[:-1] + b',"x":' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}",
        "a list": lambda text: b"[" + text + b"]",
        "a string": lambda text: json.dumps(text.decode()).encode(),
        "nothing": lambda text: b"",
        "null": lambda text: b"null",
        "half of it": lambda text: text[: len(text) // 2],
    }
    name = draft.random.choice(list(ends))
    where = draft.random.choice(["header", "claims", "claims"])
    setattr(draft, f"on_{where}_bytes", ends[name])
    return f"{where}: {name}"


# Changes to the signature and to the whole.

def another_signature(draft):
    def der(signature):
        half = len(signature) // 2
        return utils.encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))

    def negated(signature):
        # The same signature in the eyes of ECDSA, which JOSE does not forbid.
        s = P256 - int.from_bytes(signature[32:64])
        return signature[:32] + s.to_bytes(32) if draft.signer.alg == "ES256" else signature

    def unreduced(signature):
        # RFC 8032 §5.1.7 demands S < L, or everybody could make a second signature of the first.
        s = int.from_bytes(signature[32:], "little") + ED25519
        return signature[:32] + s.to_bytes(32, "little") if draft.signer.alg in ("EdDSA", "Ed25519") else signature

    changes = {
        "one bit": lambda s: flipped(draft.random, s), "none": lambda s: b"", "a byte less": lambda s: s[:-1],
        "a byte more": lambda s: s + b"\0", "a byte before": lambda s: b"\0" + s, "zeros": lambda s: bytes(len(s)),
        "ones": lambda s: b"\xff" * len(s), "DER": der, "s negated": negated, "S not reduced": unreduced,
        "halves swapped": lambda s: s[len(s) // 2 :] + s[: len(s) // 2], "twice": lambda s: s + s,
    }
    name = draft.random.choice(list(changes))
    draft.on_signature = changes[name]
    return name


def the_signature_of_a_secret(draft):
    """HS256 with the public key, in the hope that somebody takes it for the secret."""
    signer = draft.signer
    header = draft.header | {"alg": "HS256"}
    draft.on_compact = lambda _: tokens.by_hmac(signer.key.as_pem(private=False), header, draft.claims)


def another_spelling(draft):
    """The same octets, or almost, in another text."""
    def part(change):
        def changed(compact):
            parts = compact.split(".")
            at = draft.random.randrange(3)
            parts[at] = change(parts[at])
            return ".".join(parts)
        return changed

    def trailing_bits(text):
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        free = {2: 16, 3: 4}.get(len(text) % 4, 1)
        return text[:-1] + alphabet[alphabet.index(text[-1]) ^ draft.random.randrange(free)] if text else text

    changes = {
        "padding": part(lambda text: text + "=" * (-len(text) % 4)), "one sign of padding": part(lambda text: text + "="),
        "trailing bits": part(trailing_bits), "a letter more": part(lambda text: text + "A"),
        "plain base64": part(lambda text: text.replace("-", "+").replace("_", "/")),
        "a space inside": part(lambda text: text[:5] + " " + text[5:]),
        "a line break inside": part(lambda text: text[:5] + "\n" + text[5:]),
        "a letter that is none": part(lambda text: text[:5] + "é" + text[5:]), "an empty part": part(lambda text: ""),
        "a zero byte inside": part(lambda text: text[:5] + "\0" + text[5:]), "a part less": lambda text: text.rpartition(".")[0],
        "a part more": lambda text: text + ".e30", "a dot more": lambda text: text + ".", "a dot before": lambda text: "." + text,
        "five parts": lambda text: text + ".e30.e30", "JSON serialisation": to_json,
        "two dots": lambda text: text.replace(".", "..", 1), "a tilde": lambda text: text + "~", "nothing": lambda text: "x",
    }
    name = draft.random.choice(list(changes))
    draft.on_compact = changes[name]
    return name


def one_letter(draft):
    """Anywhere."""
    def changed(compact):
        at = draft.random.randrange(len(compact))
        letter = draft.random.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
        return compact[:at] + letter + compact[at + 1 :]
    draft.on_compact = changed


def to_json(compact: str) -> str:
    header, payload, signature = compact.split(".")
    return json.dumps({"protected": header, "payload": payload, "signature": signature})


def flipped(random, octets: bytes) -> bytes:
    at = random.randrange(len(octets) * 8)
    changed = bytearray(octets)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


CHANGES = [
    another_alg, an_alg_of_another_key, another_kid, no_kid, another_typ, no_typ_or_alg, a_header_member, a_key_in_the_header,
    a_key_that_must_not_be_used, a_claim_of_another_type, a_claim_of_another_type, a_claim_less, a_forbidden_claim, another_time,
    another_party, another_jti, other_events, a_broken_subject, json_that_is_not_strict, json_that_is_not_strict,
    json_that_is_not_strict, another_signature, another_signature, the_signature_of_a_secret, another_spelling, another_spelling,
    one_letter,
]
