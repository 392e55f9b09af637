// Keys and SETs of the partner, made and read with jose.

import crypto from 'node:crypto';
import * as jose from 'jose';
import { parse } from './json.js';

export const US = 'https://us.interop.example';
export const PARTNER = 'https://partner.node.example';
export const SESSION_REVOKED = 'https://schemas.openid.net/secevent/caep/event-type/session-revoked';
export const VERIFICATION = 'https://schemas.openid.net/secevent/ssf/event-type/verification';

const encoder = new TextEncoder();

/** A key pair with its name: `{ alg, kid, privateKey, jwk }`. */
export async function signer(alg, kid = `node-${alg.toLowerCase()}-${crypto.randomUUID().slice(0, 8)}`) {
  const { privateKey, publicKey } = await jose.generateKeyPair(alg, { extractable: true });
  return { alg, kid, privateKey, publicKey, jwk: { ...(await jose.exportJWK(publicKey)), kid, alg, use: 'sig' } };
}

/** The claims of a sound SET for the program under test. */
export function claims(changes = {}) {
  return {
    iss: PARTNER,
    aud: US,
    iat: Math.floor(Date.now() / 1000),
    jti: crypto.randomUUID(),
    txn: crypto.randomUUID(),
    sub_id: { format: 'iss_sub', iss: PARTNER, sub: 'Jürgen / "0\\' },
    events: { [SESSION_REVOKED]: { reason_user: { de: 'Grüße – 🔑 \u2028' }, initiating_entity: 'policy' } },
    ...changes,
  };
}

/** A compact SET; `header` adds and replaces members. */
export function sign(by, content, header = {}) {
  return new jose.CompactSign(encoder.encode(typeof content === 'string' ? content : JSON.stringify(content)))
    .setProtectedHeader({ alg: by.alg, kid: by.kid, typ: 'secevent+jwt', ...header })
    .sign(by.privateKey);
}

/** Sound SETs as a Map by jti, signed by each of the signers in turn. */
export async function make(signers, count) {
  const sets = new Map();
  for (let number = 0; number < count; number += 1) {
    const content = claims();
    sets.set(content.jti, await sign(signers[number % signers.length], content));
  }
  return sets;
}

/** A refusal, as `setErrs` carries it. */
export class Refusal extends Error {
  constructor(err, description) {
    super(description);
    this.err = err;
  }
}

/** The claims of a SET of the program, held against RFC 8417, RFC 9493 and SSF 1.0; throws a Refusal. */
export async function verify(name, compact, keys) {
  const must = (holds, err, description) => {
    if (!holds) throw new Refusal(err, description);
  };
  let header, content;
  try {
    const verified = await jose.compactVerify(compact, keys);
    [header, content] = [verified.protectedHeader, parse(Buffer.from(verified.payload))];
  } catch (error) {
    throw new Refusal(error instanceof SyntaxError ? 'invalid_request' : 'invalid_key', `${error.code}: ${error.message}`);
  }
  must(header.typ === 'secevent+jwt', 'invalid_request', `typ is ${header.typ}`);
  must(header.kid, 'invalid_key', 'no kid');
  must(content.iss === US, 'invalid_issuer', `iss is ${content.iss}`);
  must([content.aud].flat().includes(PARTNER), 'invalid_audience', `aud is ${content.aud}`);
  must(content.jti === name, 'invalid_request', 'the name in sets is not the jti');
  must(Number.isInteger(content.iat) && Math.abs(content.iat - Date.now() / 1000) < 600, 'invalid_request', 'iat');
  must(!('sub' in content) && !('exp' in content), 'invalid_request', 'sub or exp, which SSF forbids');
  must(typeof content.sub_id?.format === 'string', 'invalid_request', 'sub_id has no format');
  const events = Object.entries(content.events ?? {});
  must(events.length === 1, 'invalid_request', 'SSF has one event in a SET');
  must(URL.canParse(events[0][0]) && typeof events[0][1] === 'object', 'invalid_request', 'the event');
  return content;
}

/** A token of HS256 with any secret, by Node itself: jose refuses such secrets, as it should. */
export function byHmac(secret, header, content) {
  const signed = [header, content].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${signed}.${crypto.createHmac('sha256', secret).update(signed).digest('base64url')}`;
}
