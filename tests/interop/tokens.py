"""Keys and SETs of the foreign partner, made and read with joserfc."""

import base64
import hashlib
import hmac
import json
import time
import uuid

from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from daemon import ISSUER as US

PARTNER = "https://partner.interop.example"
SESSION_REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
VERIFICATION = "https://schemas.openid.net/secevent/ssf/event-type/verification"

# The program signs with these.
SIGNING = ["ES256", "EdDSA", "RS256"]


class Registry(jws.JWSRegistry):
    """Takes header members that joserfc does not know, and tokens of any size."""

    max_header_length = max_payload_length = max_signature_length = 1 << 20

    def __init__(self, *algorithms: str):
        super().__init__(algorithms=algorithms, strict_check_header=False)


class Signer:
    """A private key with its name and its algorithm."""

    def __init__(self, alg: str, kid: str | None, published_alg: bool = True):
        self.alg, self.kid = alg, kid
        parameters = {"use": "sig"}
        if kid is not None:
            parameters["kid"] = kid
        if published_alg:
            parameters["alg"] = alg
        match alg:
            case "ES256" | "ES384":
                self.key = ECKey.generate_key("P-" + alg[2:], parameters)
            case "EdDSA" | "Ed25519":
                self.key = OKPKey.generate_key("Ed25519", parameters)
            case _:
                self.key = RSAKey.generate_key(2048, parameters)

    def header(self) -> dict:
        header = {"typ": "secevent+jwt", "alg": self.alg}
        if self.kid is not None:
            header["kid"] = self.kid
        return header

    def sign(self, claims: dict, **header) -> str:
        """A SET with these claims; `header` adds and replaces members."""
        header = {**self.header(), **header}
        return jwt.encode(header, claims, self.key, registry=Registry(header["alg"]), default_type=None)

    def sign_bytes(self, payload: bytes, **header) -> str:
        """Signs what need not be JSON."""
        header = {**self.header(), **header}
        return jws.serialize_compact(header, payload, self.key, registry=Registry(header["alg"]))


def encode(octets: bytes) -> str:
    """base64url as JOSE has it."""
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def decode(text: str) -> bytes:
    """The octets, by the standard library, which is lenient."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def payload(compact: str) -> dict:
    """The claims, unverified."""
    return json.loads(decode(compact.split(".")[1]))


def by_hmac(secret: bytes, header: dict, claims: dict) -> str:
    """A token of HS256 with any secret; joserfc refuses to take a public key for one, as it should."""
    signed = encode(json.dumps(header).encode()) + "." + encode(json.dumps(claims).encode())
    return signed + "." + encode(hmac.digest(secret, signed.encode(), hashlib.sha256))


def jwk_set(*signers: Signer) -> dict:
    """The document that the partner publishes."""
    return {"keys": [signer.key.as_dict(private=False) for signer in signers]}


def claims(number: int = 0, **changes) -> dict:
    """The claims of a sound SET for the program under test. A change to `...` leaves a claim out."""
    sound = {
        "iss": PARTNER,
        "aud": US,
        "iat": int(time.time()),
        "jti": str(uuid.uuid4()),
        "txn": str(uuid.uuid4()),
        "sub_id": {"format": "iss_sub", "iss": PARTNER, "sub": f"uid-{number}"},
        "events": {SESSION_REVOKED: {"initiating_entity": "policy", "reason_user": {"de": "Grüße – 🔑"}}},
    }
    return {name: value for name, value in {**sound, **changes}.items() if value is not ...}


def make(signers, count: int) -> dict[str, str]:
    """Sound SETs by jti, signed by each of the signers in turn."""
    sets = {}
    for number in range(count):
        content = claims(number)
        sets[content["jti"]] = signers[number % len(signers)].sign(content)
    return sets


def read(compact: str, jwks: dict) -> tuple[dict, dict]:
    """Header and claims of a SET of the program, once joserfc has verified it with the published keys."""
    algorithms = [jwk["alg"] for jwk in jwks["keys"]]
    token = jwt.decode(compact, KeySet.import_key_set(jwks), algorithms=algorithms)
    return token.header, token.claims


def check(jti: str, compact: str, jwks: dict, audience: str = PARTNER) -> dict:
    """Holds a SET of the program against the specifications; its claims."""
    header, content = read(compact, jwks)
    assert header["typ"] == "secevent+jwt", header
    assert header["kid"] in [jwk["kid"] for jwk in jwks["keys"]], header
    assert content["jti"] == jti, "the name in `sets` is the SET's jti"
    assert content["iss"] == US and content["aud"] in (audience, [audience]), content
    assert abs(content["iat"] - time.time()) < 300 and isinstance(content["iat"], int), content
    assert "exp" not in content and "sub" not in content, content
    assert len(content["events"]) == 1 and all(isinstance(event, dict) for event in content["events"].values())
    assert isinstance(content["sub_id"]["format"], str)
    assert json.dumps(content)
    return content
