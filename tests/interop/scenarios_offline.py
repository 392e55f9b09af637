"""The commands that work without a daemon, against joserfc: what the one signs the other verifies."""

import json

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

import certificate
import tokens
from daemon import Daemon, run
from initiator import read_card
from tokens import PARTNER, Signer

# An audience that nobody has configured.
THEM = "https://them.interop.example"


async def what_set_sign_makes_joserfc_verifies(place):
    for alg in tokens.SIGNING:
        daemon = await Daemon.make(place, alg, name=alg)
        content = {
            "aud": THEM, "sub_id": {"format": "phone_number", "phone_number": "+12065550100"},
            "events": {tokens.SESSION_REVOKED: {"reason_user": {"en": "é \u0000 \U0001f511 \\ \""}, "n": [1, -2.5, 1e21]}},
            "more": None,
        }
        signed = await run("set", "sign", "-c", daemon.config, "-f", "-", "--json", input=json.dumps(content))
        made = signed.json()
        # The public key by way of the private one, and not of the program.
        [pem] = (daemon.directory / "keys").glob("*.pem")
        jwks = {"keys": [import_key(pem.read_bytes()).as_dict(private=False) | {"kid": pem.stem, "alg": alg}]}
        claims = tokens.check(made["jti"], made["set"], jwks, audience=THEM)
        assert {name: claims[name] for name in content} == content
        assert made["kid"] == pem.stem
        # And back again, by a file of a foreign maker.
        file = place / f"{alg}.jwks.json"
        file.write_text(json.dumps(jwks))
        assert (await verify(made["set"], file, tokens.US, THEM))["valid"]
        # A key that a foreign tool made signs as well.
        foreign = Signer(alg, "foreign").key
        pem = place / f"foreign-{alg}.pem"
        pem.write_bytes(foreign.as_pem(private=True))
        pem.chmod(0o600)
        named = json.dumps(content | {"iss": PARTNER})
        signed = await run("set", "sign", "--key", pem, "-f", "-", "-c", place / "none.toml", input=named)
        header, claims = tokens.read(signed.out.strip(), {"keys": [foreign.as_dict(private=False) | {"kid": pem.stem}]})
        assert header["alg"] == alg and claims["iss"] == PARTNER


async def what_joserfc_signs_set_verify_takes(place):
    names = ["ES256", "ES384", "EdDSA", "Ed25519", "RS256", "PS256"]
    signers = [Signer(alg, f"kid-{alg}") for alg in names]
    signers += [Signer(alg, f"no-alg-{alg}", published_alg=False) for alg in names]
    file = place / "jwks.json"
    file.write_text(json.dumps(tokens.jwk_set(*signers)))
    for number, signer in enumerate(signers):
        compact = signer.sign(tokens.claims(number))
        report = await verify(compact, file, PARTNER, tokens.US)
        assert report["valid"] and all(check["ok"] for check in report["checks"]), (signer.kid, report)
        # The same with one bit changed, for another issuer, and for another audience.
        header, payload, signature = compact.split(".")
        broken = f"{header}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
        for err, arguments in [
            ("invalid_key", (broken, file, PARTNER, tokens.US)),
            ("invalid_issuer", (compact, file, PARTNER + "/", tokens.US)),
            ("invalid_audience", (compact, file, PARTNER, THEM)),
        ]:
            report = await verify(*arguments)
            assert not report["valid"] and report["err"] == err, (signer.kid, report)
    shown = (await run("set", "decode", "-", input=compact)).json()
    assert shown["claims"] == tokens.payload(compact) and shown["header"]["kid"] == signers[-1].kid
    return f"{len(signers)} keys"


async def published_keys_are_what_the_files_hold(place):
    """`/jwks.json` of a daemon with three keys, compared with what joserfc reads from the PEM files."""
    daemon = await Daemon.make(place)
    for alg in ["EdDSA", "RS256"]:
        await run("key", "new", "--alg", alg, "-c", daemon.config)
    files = sorted((daemon.directory / "keys").glob("*.pem"))
    assert len(files) == 3
    async with daemon:
        card = await read_card(daemon)
        context = await certificate.pinned(daemon.address, card["tls_pin"])
        async with aiohttp.ClientSession() as session, session.get(card["jwks_uri"], ssl=context) as answer:
            published = KeySet.import_key_set(await answer.json())
    thumbprints = {key.kid: key.thumbprint() for key in published.keys}
    for file in files:
        own = import_key(file.read_bytes())
        assert thumbprints[file.stem] == own.thumbprint(), file.stem


def import_key(pem: bytes):
    """A private key of a kind that only its content tells."""
    match serialization.load_pem_private_key(pem, None):
        case ec.EllipticCurvePrivateKey():
            return ECKey.import_key(pem)
        case rsa.RSAPrivateKey():
            return RSAKey.import_key(pem)
        case _:
            return OKPKey.import_key(pem)


async def verify(compact: str, jwks, issuer: str, audience: str) -> dict:
    """The report of `set verify`, whose exit code has to agree with it."""
    arguments = ["set", "verify", "--jwks", jwks, "--iss", issuer, "--aud", audience, "--json", "-"]
    ended = await run(*arguments, input=compact, ok=False)
    report = ended.json()
    assert ended.code == (0 if report["valid"] else 1), (ended.code, report)
    return report


SCENARIOS = [
    what_set_sign_makes_joserfc_verifies,
    what_joserfc_signs_set_verify_takes,
    published_keys_are_what_the_files_hold,
]
