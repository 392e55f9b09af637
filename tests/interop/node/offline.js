// The commands that work without a daemon, against jose: what the one signs the other verifies. And the partner's own reader.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import * as jose from 'jose';
import { Daemon, run } from './daemon.js';
import { communicationObject, parse } from './json.js';
import { PARTNER, US, claims, sign, signer } from './sets.js';

async function whatJoseSignsSetVerifyTakes(place) {
  const file = path.join(place, 'jwks.json');
  const set = path.join(place, 'set.jwt');
  const algorithms = ['ES256', 'ES384', 'Ed25519', 'EdDSA', 'RS256', 'PS256'];
  const signers = await Promise.all(algorithms.map((alg) => signer(alg)));
  // One that says nothing but what it is, as some publish their only key.
  const bare = await signer('ES256');
  const keys = signers.map(({ jwk }) => ({ ...jwk, key_ops: ['verify'], use: undefined, x5t: 'unheard-of' }));
  for (const by of [...signers, bare]) {
    const published = by === bare ? [{ ...by.jwk, kid: undefined, alg: undefined, use: undefined }] : keys;
    await fs.writeFile(file, JSON.stringify({ keys: published, more: {} }));
    // Whoever names no key in the set names none in the token; a name that is nowhere is no key to jose either.
    const header = by === bare ? { kid: undefined } : {};
    await fs.writeFile(set, `${await sign(by, claims(), header)}\n`);
    const command = ['set', 'verify', set, '--jwks', file, '--iss', PARTNER, '--aud', US, '--json'];
    const report = JSON.parse(await run(...command));
    assert.ok(report.valid, `${by.alg}: ${JSON.stringify(report)}`);
    // And not by another key.
    await fs.writeFile(set, await sign({ ...(await signer(by.alg)), kid: by.kid }, claims(), header));
    await assert.rejects(run(...command), { code: 1 });
  }
}

async function whatSetSignMakesJoseVerifies(place) {
  for (const alg of ['ES256', 'EdDSA', 'RS256']) {
    const at = path.join(place, alg);
    await fs.mkdir(at);
    const daemon = await Daemon.make(at, alg);
    const content = { aud: PARTNER, sub_id: { format: 'opaque', id: 'é\u0000🔑"\\' }, events: { 'https://x.example/e': { n: [1, -2.5, 1e21] } } };
    const claimsFile = path.join(at, 'claims.json');
    await fs.writeFile(claimsFile, JSON.stringify(content));
    const made = JSON.parse(await run('set', 'sign', '-c', daemon.config, '-f', claimsFile, '--json'));
    const directory = path.join(daemon.directory, 'keys');
    const [name] = (await fs.readdir(directory)).filter((file) => file.endsWith('.pem'));
    const file = await fs.stat(path.join(directory, name));
    assert.equal(file.mode & 0o077, 0, 'nobody else can read the key');
    // The public key by way of the private one, and not of the program.
    const key = crypto.createPublicKey(await fs.readFile(path.join(directory, name)));
    const { payload, protectedHeader } = await jose.compactVerify(made.set, key);
    assert.deepEqual({ ...protectedHeader }, { alg, typ: 'secevent+jwt', kid: made.kid });
    const found = JSON.parse(new TextDecoder().decode(payload));
    assert.deepEqual(Object.fromEntries(Object.keys(content).map((member) => [member, found[member]])), content);
    assert.equal(found.jti, made.jti);
  }
}

/** A judge that is lenient finds nothing, so it is judged first. */
async function thePartnerReadsStrictly() {
  const nested = (depth) => '['.repeat(depth) + ']'.repeat(depth);
  for (const good of ['{}', ' [1,\n-0.5e-3,"\\u00e9\\ud83d\\udd11",true,null,{"a":{"a":[]}}] ', '"\u2028"', '0', nested(32)]) {
    assert.equal(JSON.stringify(parse(Buffer.from(good))), JSON.stringify(JSON.parse(good)), good);
  }
  const bad = ['', '{', '{"a":1,"a":1}', '{"a":1,"\\u0061":1}', '[1,]', '[01]', '[+1]', '[1.]', '[NaN]', '[1e999]', "['a']", '"\\x"', '"\t"', '"\\ud800"', '{} {}', '\ufeff{}', '[1}', '{"a" 1}', 'nul', nested(34)];
  for (const wrong of bad) assert.throws(() => parse(Buffer.from(wrong)), SyntaxError, wrong);
  assert.throws(() => parse(Buffer.from([0x22, 0xff, 0x22])), TypeError);
  for (const wrong of ['[]', 'null', '{"sets":[]}', '{"sets":{"a":1}}', '{"ack":"a"}', '{"ack":[1]}', '{"setErrs":{"a":{"err":"e"}}}', '{"maxResponseEvents":"1"}', '{"Sets":{}}']) {
    assert.throws(() => communicationObject(wrong), /no Communication Object/, wrong);
  }
}

export const SCENARIOS = [
  ['what jose signs set verify takes', whatJoseSignsSetVerifyTakes],
  ['what set sign makes jose verifies', whatSetSignMakesJoseVerifies],
  ['the partner reads strictly', thePartnerReadsStrictly],
];
