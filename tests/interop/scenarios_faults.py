"""SETs of the partner that must not be taken, each with the code that the specifications have for it."""

import json
import time

from joserfc import jws

import tokens
from daemon import Daemon
from initiator import Initiator
from partner import Partner

HOUR = 3600
DAY = 24 * HOUR


async def faulty_sets_get_the_defined_errors(place):
    partner = Partner(place)
    daemon = await Daemon.make(place)
    partner.introduce(daemon, accept=["caep:session-revoked", "risc:*"])
    es256, eddsa, rs256 = partner.signers
    now = int(time.time())
    credential_change = "https://schemas.openid.net/secevent/caep/event-type/credential-change"
    account_disabled = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"
    # Per SET: the code, or None for no verdict, or "ack"; the name in `sets`; the token.
    cases = {}

    def case(label, expected, content, compact, name=None):
        cases[name or content["jti"]] = (label, expected, compact)

    def claims(label, expected, **changes):
        content = tokens.claims(**changes)
        case(label, expected, content, es256.sign(content), content.get("jti", f"name-of-{len(cases)}"))

    claims("sound", "ack")
    claims("another sound type", "ack", events={account_disabled: {}})
    claims("several audiences", "ack", aud=["https://other.example", tokens.US])
    claims("a clock that is 4 minutes ahead", "ack", iat=now + 240)
    claims("29 days old", "ack", iat=now - 29 * DAY)
    claims("a clock that is an hour ahead", None, iat=now + HOUR)
    claims("a clock that is 2 days ahead", "invalid_request", iat=now + 2 * DAY)
    claims("31 days old", "invalid_request", iat=now - 31 * DAY)
    claims("another issuer", "invalid_issuer", iss="https://mallory.example")
    claims("an issuer with a slash more", "invalid_issuer", iss=tokens.PARTNER + "/")
    claims("no issuer", "invalid_request", iss=...)
    claims("another audience", "invalid_audience", aud="https://other.example")
    claims("other audiences", "invalid_audience", aud=["https://other.example", tokens.US + "/"])
    claims("no audience", "invalid_audience", aud=...)
    claims("an empty list of audiences", "invalid_audience", aud=[])
    claims("an audience that is a number", "invalid_request", aud=5)
    claims("a type that is not accepted", "access_denied", events={credential_change: {}})
    claims("one accepted type, one not", "access_denied", events={account_disabled: {}, credential_change: {}})
    claims("no events", "invalid_request", events=...)
    claims("empty events", "invalid_request", events={})
    claims("events in a list", "invalid_request", events=[tokens.SESSION_REVOKED])
    claims("an event that is null", "invalid_request", events={tokens.SESSION_REVOKED: None})
    claims("no jti", "invalid_request", jti=...)
    claims("no iat", "invalid_request", iat=...)
    claims("an iat that is a string", "invalid_request", iat=str(now))
    claims("a sub", "invalid_request", sub="alice")
    claims("an exp", "invalid_request", exp=now + HOUR)
    claims("no sub_id", "invalid_request", sub_id=...)
    claims("a sub_id without format", "invalid_request", sub_id={"id": "x"})
    claims("a sub_id that lacks its member", "invalid_request", sub_id={"format": "email"})
    claims("a nested alias", "invalid_request", sub_id={"format": "aliases", "identifiers": [
        {"format": "aliases", "identifiers": [{"format": "opaque", "id": "x"}]}]})
    for alg, signer in {"ES256": es256, "EdDSA": eddsa, "RS256": rs256}.items():
        content = tokens.claims()
        case(f"one bit of the {alg} signature", "invalid_key", content, flip(signer.sign(content)))
        content = tokens.claims()
        header, _, signature = signer.sign(content).split(".")
        other = tokens.encode(json.dumps(content | {"txn": "forged"}).encode())
        case(f"other claims under a {alg} signature", "invalid_key", content, f"{header}.{other}.{signature}")
    content = tokens.claims()
    case("a key that nobody published", "invalid_key", content, tokens.Signer("ES256", es256.kid).sign(content))
    content = tokens.claims()
    case("a kid that nobody published", "invalid_key", content, tokens.Signer("ES256", "unheard-of").sign(content))
    content = tokens.claims()
    case("the kid of a key of another kind", "invalid_key", content, es256.sign(content, kid=rs256.kid))
    content = tokens.claims()
    case("no typ", "invalid_request", content, jwt_typ(es256, content, ...))
    content = tokens.claims()
    case("typ JWT", "invalid_request", content, jwt_typ(es256, content, "JWT"))
    content = tokens.claims()
    case("typ as a full media type, in capitals", "ack", content, jwt_typ(es256, content, "Application/SECEVENT+JWT"))
    content = tokens.claims()
    unsigned = es256.sign(content).split(".")
    none = tokens.encode(b'{"alg":"none","typ":"secevent+jwt"}')
    case("alg none", "invalid_key", content, f"{none}.{unsigned[1]}.")
    content = tokens.claims()
    public = rs256.key.as_pem(private=False)
    header = rs256.header() | {"alg": "HS256"}
    case("the public RSA key as a secret", "invalid_key", content, tokens.by_hmac(public, header, content))
    content = tokens.claims()
    case("the jti of another SET as its name", "invalid_request", content, es256.sign(content), "another-name")
    content = tokens.claims()
    case("no JWS", "invalid_request", content, "hello")
    content = tokens.claims()
    case("padding", "invalid_request", content, es256.sign(content) + "==")
    content = tokens.claims()
    case("a claim twice", "invalid_request", content, es256.sign_bytes(
        json.dumps(content)[:-1].encode() + b',"iss":"https://mallory.example"}'))
    content = tokens.claims()
    case("an embedded key", "invalid_request", content, es256.sign(content, jwk=es256.key.as_dict(private=False)))

    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        async with initiator.http() as http:
            await http.exchange({name: compact for name, (_, _, compact) in cases.items()})
            decided = [name for name, (_, expected, _) in cases.items() if expected]
            await http.until(lambda: all(partner.answered(name) for name in decided), "all have a verdict")
            wrong = {}
            for name, (label, expected, _) in cases.items():
                found = "ack" if name in partner.acked else partner.errors.get(name, {"err": None})["err"]
                if found != expected:
                    wrong[label] = f"{found}, expected {expected}: {partner.errors.get(name)}"
            assert not wrong, json.dumps(wrong, indent=2)
            # No description tells whom it was about, and each is in plain words.
            for error in partner.errors.values():
                assert "uid-" not in error["description"] and error["description"].isprintable(), error
            # A refusal is repeated as often as the SET is, and stays what it was.
            verdicts = dict(partner.errors)
            await http.exchange({name: cases[name][2] for name in verdicts})
            for _ in range(3):
                await http.exchange()
            assert partner.errors == verdicts
        refused = sum(expected not in ("ack", None) for _, expected, _ in cases.values())
        peer = await daemon.peer()
        assert peer["rejected"] == refused, f"{peer['rejected']} rejected, expected {refused}"
        taken = {name for name, (_, expected, _) in cases.items() if expected == "ack"}
        assert {received["jti"] for received in await daemon.inbox()} == taken
    return f"{len(cases)} cases"


async def a_jti_that_comes_again_with_other_content_gets_the_first_verdict(place):
    """The first content stands, on every transport and for ever; nothing else reaches the inbox."""
    partner = Partner(place)
    daemon = await Daemon.make(place)
    partner.introduce(daemon)
    async with daemon:
        initiator = await Initiator.of(partner, daemon)
        content = tokens.claims()
        jti, signer = content["jti"], partner.signers[1]
        first, second = signer.sign(content), signer.sign(content | {"txn": "something else"})
        async with initiator.http() as http:
            for compact in [first, first, second]:
                already = partner.acked[jti]
                await http.exchange({jti: compact})
                await http.until(lambda: partner.acked[jti] > already, "the ack is repeated")
            assert not partner.errors
        [received] = await daemon.inbox()
        assert received["set"] == first


def flip(compact: str) -> str:
    """Changes one bit in the middle of the signature."""
    signed, _, signature = compact.rpartition(".")
    octets = bytearray(tokens.decode(signature))
    octets[len(octets) // 2] ^= 1
    return signed + "." + tokens.encode(octets)


def jwt_typ(signer, content, typ) -> str:
    """A SET with this `typ`, or with none."""
    header = {name: value for name, value in (signer.header() | {"typ": typ}).items() if value is not ...}
    return jws.serialize_compact(header, json.dumps(content), signer.key, registry=tokens.Registry(signer.alg))


SCENARIOS = [
    faulty_sets_get_the_defined_errors,
    a_jti_that_comes_again_with_other_content_gets_the_first_verdict,
]
