"""What the specifications say of a token, written from them and not from the program: all faults, in no order.

Sources: RFC 7515 and 7519 for the form, RFC 8725 for what to distrust, RFC 8417 and SSF 1.0 §4.1 for the claims, RFC 9493 for
subjects, RFC 8935 §2.4 for the codes, and interface.md for the window of `iat`. The signature is joserfc's business.
"""

import math
import re
import unicodedata
from dataclasses import dataclass, field

from joserfc.jwk import ECKey, OKPKey, RSAKey

import strict_json
import tokens
from tokens import Registry

MINUTE, DAY = 60, 24 * 3600

# What each algorithm needs of a key: RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864.
KEYS = {
    "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "EdDSA": ("OKP", "Ed25519"), "Ed25519": ("OKP", "Ed25519"),
    "RS256": ("RSA", None), "PS256": ("RSA", None),
}
KINDS = {"EC": ECKey, "OKP": OKPKey, "RSA": RSAKey}

# RFC 8725 §3.1 and §3.10: what would let a token choose its key or its reading.
REFUSED_HEADERS = {"crit", "b64", "zip", "jku", "x5u", "x5c", "jwk"}

# RFC 9493 §3.2 and SSF 1.0 §3.5: the members each format must have, all of them strings that are not empty.
FORMATS = {
    "account": ["uri"], "email": ["email"], "iss_sub": ["iss", "sub"], "opaque": ["id"], "did": ["url"], "uri": ["uri"],
    "phone_number": ["phone_number"], "jwt_id": ["iss", "jti"], "saml_assertion_id": ["issuer", "assertion_id"],
}
# SSF 1.0 §3.3.
COMPLEX = {"user", "device", "session", "application", "tenant", "org_unit", "group"}


@dataclass
class Verdict:
    """All that is wrong. A token is valid if nothing is; `undecided` says that time may make it so."""

    faults: list[tuple[str, str]] = field(default_factory=list)
    undecided: bool = False

    def add(self, code: str, why: str):
        self.faults.append((code, why))

    @property
    def codes(self) -> set[str]:
        return {code for code, _ in self.faults}

    @property
    def valid(self) -> bool:
        return not self.faults and not self.undecided

    def allows(self, valid: bool, err: str | None) -> bool:
        """Whether a judge may say so. Which of several faults it names is its own choice."""
        if valid or err is None:
            # Neither valid nor an error: no verdict for now.
            return self.valid if valid else self.undecided
        return err in self.codes


def judge(compact: str, jwks: dict, issuer: str, audience: str, now: float, name: str | None = None) -> Verdict:
    """Everything that is wrong with a token. `name` is its name in `sets`, if it came so."""
    verdict = Verdict()
    parts = compact.split(".")
    if len(parts) != 3 or not parts[0] or not parts[1]:
        verdict.add("invalid_request", "no compact JWS")
        return verdict
    octets = [strict_base64url(part) for part in parts]
    if None in octets:
        verdict.add("invalid_request", "not canonical base64url")
    header, claims = (read_object(part) for part in octets[:2])
    if header is None:
        verdict.add("invalid_request", "the header is no strict JSON object")
    else:
        judge_header(header, verdict)
    if claims is None:
        verdict.add("invalid_request", "the claims are no strict JSON object")
    else:
        judge_claims(claims, issuer, audience, now, name, verdict)
    if header is not None and octets[2] is not None:
        judge_signature(compact, header, octets[2], jwks, verdict)
    return verdict


def strict_base64url(text: str) -> bytes | None:
    """Exactly one spelling for each octet string (RFC 4648 §3.5, RFC 7515 §2)."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text, re.ASCII) or len(text) % 4 == 1:
        return None
    octets = tokens.decode(text)
    return octets if tokens.encode(octets) == text else None


def read_object(octets: bytes | None) -> dict | None:
    if octets is None:
        return None
    try:
        value = strict_json.loads(octets)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def judge_header(header: dict, verdict: Verdict):
    if REFUSED_HEADERS & header.keys():
        verdict.add("invalid_request", "a header member that is never accepted")
    if not isinstance(header.get("kid", ""), str):
        verdict.add("invalid_request", "kid is no string")
    alg, typ = header.get("alg"), header.get("typ")
    if not isinstance(alg, str):
        verdict.add("invalid_request", "alg is no string")
    elif alg not in KEYS:
        verdict.add("invalid_key", "alg is none that is accepted")
    # A media type: case does not matter, and `application/` may be left out (RFC 7515 §4.1.9).
    if not isinstance(typ, str) or re.sub("^application/", "", lower(typ)) != "secevent+jwt":
        verdict.add("invalid_request", "typ is not secevent+jwt")


def judge_claims(claims: dict, issuer, audience, now, name, verdict):
    def fault(why, code="invalid_request"):
        verdict.add(code, why)

    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti.encode()) <= 512:
        fault("jti")
    if name is not None and jti != name:
        fault("the name in sets is not the jti")
    iss = claims.get("iss")
    if not isinstance(iss, str) or not iss:
        fault("iss is no text")
    elif iss != issuer:
        fault("another issuer", "invalid_issuer")
    aud = claims.get("aud", [])
    if not isinstance(aud, (str, list)) or not all(isinstance(one, str) for one in aud):
        fault("aud is neither a string nor strings")
    elif audience not in ([aud] if isinstance(aud, str) else aud):
        fault("another audience", "invalid_audience")
    for forbidden in ["sub", "exp"]:
        if forbidden in claims:
            fault(f"{forbidden} is forbidden by SSF")
    if not isinstance(claims.get("txn", ""), str):
        fault("txn")
    if not is_date(claims.get("toe", 0)):
        fault("toe")
    judge_time(claims, now, verdict)
    events = claims.get("events")
    if not isinstance(events, dict) or not events:
        fault("events")
    elif not all(is_uri(name) and isinstance(payload, dict) for name, payload in events.items()):
        fault("an event")
    if not is_subject(claims.get("sub_id")):
        fault("sub_id")


def judge_time(claims: dict, now: float, verdict: Verdict):
    """The window of interface.md §2, for `iat`; `nbf` (RFC 7519 §4.1.5) looks ahead only."""
    iat, nbf = claims.get("iat"), claims.get("nbf", 0)
    if not is_date(iat) or not is_date(nbf):
        verdict.add("invalid_request", "iat or nbf is no date")
        return
    for date in [iat, nbf]:
        if date > now + DAY:
            verdict.add("invalid_request", "a date lies too far ahead")
        elif date > now + 5 * MINUTE:
            verdict.undecided = True
    if iat < now - 30 * DAY:
        verdict.add("invalid_request", "too old")


def is_uri(text: str) -> bool:
    """As far as it matters: types are compared with known ones, so that the grammar of URIs adds nothing."""
    return ":" in text and not any(c.isspace() or unicodedata.category(c) == "Cc" for c in text)


def is_date(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_subject(value, inside: str = "") -> bool:
    """As a Receiver has to read it: what it does not know it ignores (SSF 1.0 §4.2.3)."""
    if not isinstance(value, dict) or not isinstance(value.get("format"), str) or not value["format"]:
        return False

    def texts(*names):
        return all(isinstance(value.get(name), str) and value[name] for name in names)

    match value["format"]:
        case "aliases":
            several = value.get("identifiers")
            return inside != "aliases" and isinstance(several, list) and bool(several) and all(
                is_subject(one, "aliases") for one in several)
        case "complex":
            subjects = [one for name, one in value.items() if name in COMPLEX or isinstance(one, dict) and "format" in one]
            return not inside and bool(subjects) and all(is_subject(one, "complex") for one in subjects)
        case "ip-addresses":
            several = value.get("ip-addresses")
            return isinstance(several, list) and bool(several) and all(isinstance(one, str) for one in several)
        case format if format in FORMATS:
            return texts(*FORMATS[format])
    return True


def judge_signature(compact: str, header: dict, signature: bytes, jwks: dict, verdict: Verdict):
    """Some published key of the right kind, with the token's kid if it has one, has to verify it."""
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or alg not in KEYS or "kid" in header and not isinstance(kid, str):
        return
    if not any(verifies(compact, signature, jwk, alg) for jwk in usable(jwks) if fits(jwk, alg, kid)):
        verdict.add("invalid_key", "no published key verifies it")


def usable(jwks: dict):
    """The keys that may be used for signatures; of two with one name for one purpose the first counts."""
    taken = set()
    for jwk in jwks["keys"]:
        purposes = {alg for alg in KEYS if fits(jwk, alg, None)}
        if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]) or "d" in jwk:
            continue
        # RFC 7518 §3.3 and §3.5.
        if jwk["kty"] == "RSA" and len(tokens.decode(jwk["n"])) < 256:
            continue
        names = {(jwk["kid"], alg) for alg in purposes} if "kid" in jwk else set()
        if not names & taken:
            taken |= names
            yield jwk


def fits(jwk: dict, alg: str, kid: str | None) -> bool:
    kty, crv = KEYS[alg]
    same = {"Ed25519": "EdDSA"}
    named = jwk.get("alg", alg)
    return (jwk["kty"] == kty and jwk.get("crv") == crv and same.get(named, named) == same.get(alg, alg)
            and (kid is None or jwk.get("kid") == kid))


def verifies(compact: str, signature: bytes, jwk: dict, alg: str) -> bool:
    """joserfc's opinion of the signature alone, for the header has been judged already."""
    # What the key says of itself has been looked at; joserfc would hold `EdDSA` and `Ed25519` apart.
    bare = {name: value for name, value in jwk.items() if name not in ("alg", "use", "key_ops", "kid")}
    key = KINDS[jwk["kty"]].import_key(bare)
    return Registry.algorithms[alg].verify(compact.rpartition(".")[0].encode(), signature, key)


def lower(text: str) -> str:
    """In ASCII alone: no other letter becomes one of these."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)
