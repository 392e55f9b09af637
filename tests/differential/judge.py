"""What the specifications say of a case: every fault, in no order. Written from RFC 7515, 7517, 7518, 7519, 8417, 8725, 9493
and SSF 1.0 §4.1; no line of the program's was looked at for it. Signatures are joserfc's business."""

import functools
import json
import re

import strict_json
import tokens
import verdict
from tokens import Registry
from verdict import KEYS, KINDS, Verdict

MINUTE, DAY = 60, 24 * 3600
SHORT = {
    "caep": "https://schemas.openid.net/secevent/caep/event-type/", "risc": "https://schemas.openid.net/secevent/risc/event-type/",
    "ssf": "https://schemas.openid.net/secevent/ssf/event-type/", "scim": "urn:ietf:params:scim:event:",
}


def judge(case, without: str | None = None) -> Verdict:
    """All faults of the case's token; `without` leaves one rule out, to see whether anybody notices."""
    found = Verdict()
    if len(case.token.encode()) > case.set_bytes_max:
        found.add("invalid_request", "too long")
    parts = case.token.split(".")
    if len(parts) != 3:
        found.add("invalid_request", "no compact JWS")
        return found
    octets = [read_base64(part, without) for part in parts]
    if None in octets:
        found.add("invalid_request", "not canonical base64url")
    header, claims = (read_object(part, without) for part in octets[:2])
    if header is None:
        found.add("invalid_request", "the header is no strict JSON object")
    else:
        of_header(header, case, found, without)
    if claims is None:
        found.add("invalid_request", "the claims are no strict JSON object")
    else:
        of_claims(claims, case, found, without)
    if header is not None and octets[2] is not None and without != "signature":
        of_signature(header, octets[2], case, found)
    return found


def read_base64(text: str, without) -> bytes | None:
    if without == "base64url":
        try:
            return tokens.decode(text.rstrip("="))
        except ValueError:
            return None
    return verdict.strict_base64url(text)


def read_object(octets: bytes | None, without) -> dict | None:
    if octets is None:
        return None
    try:
        value = json.loads(octets) if without == "strict JSON" else strict_json.loads(octets)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def of_header(header: dict, case, found: Verdict, without):
    plain = case.profile == "plain8417"
    if verdict.REFUSED_HEADERS & header.keys() and without != "crit":
        found.add("invalid_request", "a header member that is never accepted")
    if not isinstance(header.get("kid", ""), str):
        found.add("invalid_request", "kid is no string")
    alg = header.get("alg")
    if not isinstance(alg, str):
        found.add("invalid_request", "alg is no string")
    elif alg not in KEYS:
        found.add("invalid_key", "alg is none that is accepted")
    if without == "typ":
        return
    if "typ" not in header:
        if not plain:
            found.add("invalid_request", "no typ")
        return
    typ = header["typ"]
    kind = re.sub("^application/", "", verdict.lower(typ)) if isinstance(typ, str) else None
    if kind != "secevent+jwt" and not (plain and isinstance(typ, str) and verdict.lower(typ) == "jwt"):
        found.add("invalid_request", "typ is not secevent+jwt")


def of_claims(claims: dict, case, found: Verdict, without):
    plain = case.profile == "plain8417"

    def fault(why, code="invalid_request"):
        found.add(code, why)

    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti.encode("utf-8", "surrogatepass")) <= case.jti_bytes_max:
        fault("jti")
    if case.name is not None and jti != case.name and without != "name":
        fault("the name in sets is not the jti")
    iss = claims.get("iss")
    if not isinstance(iss, str) or not iss:
        fault("iss is no text")
    elif iss != case.issuer and without != "issuer":
        fault("another issuer", "invalid_issuer")
    of_audience(claims, case, found, without)
    if not plain:
        for forbidden in {"sub", "exp"} & claims.keys():
            fault(f"{forbidden} is forbidden by SSF")
    if not isinstance(claims.get("txn", ""), str):
        fault("txn")
    if not verdict.is_date(claims.get("toe", 0)):
        fault("toe")
    if without != "time":
        of_time(claims, case, found)
    events = claims.get("events")
    if not isinstance(events, dict) or not events:
        fault("events")
    elif not all(verdict.is_uri(name) and isinstance(payload, dict) for name, payload in events.items()):
        fault("an event")
    if isinstance(events, dict) and without != "accept":
        if any(name != tokens.VERIFICATION and not is_wanted(name, case.accept) for name in events):
            fault("a type that is not wanted", "access_denied")
    if "sub_id" in claims or not plain:
        if not verdict.is_subject(claims.get("sub_id")) and without != "sub_id":
            fault("sub_id")


def of_audience(claims: dict, case, found: Verdict, without):
    if "aud" not in claims:
        if case.profile != "plain8417":
            found.add("invalid_audience", "no audience")
        return
    aud = claims["aud"]
    several = [aud] if isinstance(aud, str) else aud
    if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
        found.add("invalid_request", "aud is neither a string nor strings")
    elif case.audience not in several and without != "audience":
        found.add("invalid_audience", "another audience")


def of_time(claims: dict, case, found: Verdict):
    """A clock that has just jumped refuses nothing for its time. `exp` is heard under RFC 8417 alone."""
    plain = case.profile == "plain8417"

    def late(why):
        if case.suspect:
            found.undecided = True
        else:
            found.add("invalid_request", why)

    dates = [name for name in ("iat", "nbf", *(["exp"] if plain else [])) if name in claims or name == "iat"]
    for name in dates:
        if not verdict.is_date(claims.get(name)):
            found.add("invalid_request", f"{name} is no date")
    for name in ("iat", "nbf"):
        date = claims.get(name)
        if not verdict.is_date(date):
            continue
        if date > case.now + DAY:
            late(f"{name} lies too far ahead")
        elif date > case.now + 5 * MINUTE:
            found.undecided = True
    if verdict.is_date(claims.get("iat")) and claims["iat"] < case.now - 30 * DAY:
        late("too old")
    if plain and verdict.is_date(claims.get("exp")) and claims["exp"] < case.now - 5 * MINUTE:
        late("expired")


def is_wanted(name: str, patterns: list[str] | None) -> bool:
    """Globs in which a star stands for anything; short names stand for their URIs."""
    return patterns is None or any(glob(pattern).fullmatch(name) for pattern in patterns)


@functools.cache
def glob(pattern: str) -> re.Pattern:
    prefix, colon, rest = pattern.partition(":")
    if colon and prefix in SHORT and not rest.startswith("//"):
        pattern = SHORT[prefix] + rest
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def of_signature(header: dict, signature: bytes, case, found: Verdict):
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or alg not in KEYS or "kid" in header and not isinstance(kid, str):
        return
    signed = case.token.rpartition(".")[0].encode()
    for jwk in usable(json.dumps(case.jwks)):
        if verdict.fits(jwk, alg, kid) and Registry.algorithms[alg].verify(signed, signature, imported(json.dumps(jwk))):
            return
    found.add("invalid_key", "no published key verifies it")


@functools.lru_cache(4096)
def usable(jwks: str) -> tuple[dict, ...]:
    """The keys that may be used for signatures; of two with one name for one purpose the first counts."""
    taken, keys = set(), []
    for jwk in json.loads(jwks)["keys"]:
        if jwk.get("kty") == "RSA":
            # Not a member of such a key, so it says nothing (RFC 7517 §4).
            jwk.pop("crv", None)
        purposes = {alg for alg in KEYS if jwk.get("kty") in KINDS and verdict.fits(jwk, alg, None)}
        if not purposes or not may_verify(jwk) or not is_whole(jwk):
            continue
        names = {(jwk["kid"], alg) for alg in purposes} if "kid" in jwk else set()
        if not names & taken:
            taken |= names
            keys.append(jwk)
    return tuple(keys)


def may_verify(jwk: dict) -> bool:
    """RFC 7517 §4.2 and §4.3; a private key that is published is nobody's any more."""
    return jwk.get("use", "sig") == "sig" and "verify" in jwk.get("key_ops", ["verify"]) and "d" not in jwk


def is_whole(jwk: dict) -> bool:
    """Canonical base64url, of the length that RFC 7518 §6 asks for, and a key to cryptography."""
    lengths = {"P-256": {"x": 32, "y": 32}, "P-384": {"x": 48, "y": 48}, "Ed25519": {"x": 32}, None: {"n": None, "e": None}}
    for name, length in lengths.get(jwk.get("crv"), {}).items():
        octets = verdict.strict_base64url(jwk.get(name, "")) if isinstance(jwk.get(name), str) else None
        if not octets or length is not None and len(octets) != length:
            return False
        if name == "n" and int.from_bytes(octets).bit_length() < 2048:
            return False
    try:
        imported(json.dumps(jwk))
    except ValueError:
        return False
    return True


@functools.lru_cache(4096)
def imported(jwk: str):
    """What the key says of itself has been looked at; joserfc would hold `EdDSA` and `Ed25519` apart."""
    bare = {name: value for name, value in json.loads(jwk).items() if name not in ("alg", "use", "key_ops", "kid")}
    key = KINDS[bare["kty"]].import_key(bare)
    key.get_op_key("verify")
    return key
