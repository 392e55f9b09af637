// Every behaviour that partners show, over each of the four links: who dials, and by which transport.

import assert from 'node:assert/strict';
import { LINKS, on } from './links.js';
import * as sets from './sets.js';
import { sleep, until } from './until.js';

const MANY = 40;

async function sendsAndAcks(link) {
  const { book, daemon } = link;
  const jtis = await daemon.submit(MANY);
  const ours = await sets.make(book.signers, MANY);
  book.submit(ours);
  await book.allReceived(jtis);
  await book.allAcked();
  await daemon.settled({ acked: MANY, received: MANY });
  const peer = await daemon.peer();
  assert.deepEqual([peer.link, peer.transport], ['up', link.transport]);
  assert.equal(book.inbox.size, MANY, 'neither more nor less');
  for (const [number, jti] of jtis.entries()) {
    const content = await sets.verify(jti, book.inbox.get(jti), book.keys);
    assert.equal(content.events[sets.SESSION_REVOKED].reason_admin.en, `№ ${number} "\\\u2028<&> 🔑`);
    assert.equal((await daemon.record(jti)).state, 'acked');
  }
  await daemon.holds(ours);
  // The other end can be asked whether it is there.
  const { jti } = await daemon.call('POST', '/api/v1/peers/partner/verify');
  const { events, sub_id } = await sets.verify(jti, book.inbox.get(jti), book.keys);
  assert.deepEqual([Object.keys(events), { ...sub_id }], [[sets.VERIFICATION], { format: 'opaque', id: sets.US }]);
}

async function answersLater(link) {
  const { book, daemon } = link;
  book.policy = () => 'silence';
  const [first, second, third] = await daemon.submit(3);
  await book.allReceived([first, second, third]);
  // In whatever object is the next, and not together.
  book.owe({ ack: [first] });
  await until(async () => (await daemon.record(first)).state === 'acked', 'the first is acked');
  book.owe({ ack: [second], setErrs: { [third]: { err: 'access_denied', description: 'on reflection' } } });
  await daemon.settled({ acked: 2, refused: 1 });
  // Said again, and about SETs that never were: nothing happens.
  book.owe({ ack: [second, 'never-heard-of'], setErrs: { 'nor-of-this': { err: 'invalid_key', description: 'x' } } });
  book.policy = () => undefined;
  const [fourth] = await daemon.submit(1);
  await book.allReceived([fourth]);
  await daemon.settled({ acked: 3, refused: 1 });
}

async function refuses(link) {
  const { book, daemon } = link;
  const reasons = [
    { err: 'invalid_request', description: 'nicht lesbar: 🚫' },
    // As the draft's own example writes it.
    { err: 'invalid subject', description: 'subject format not supported' },
    { err: 'org.example.quota', description: '', more: { of: 'ours' } },
    { err: 'authentication_failed', description: 'about this SET alone' },
  ];
  const jtis = await daemon.submit(reasons.length + 3);
  book.policy = (jti) => reasons[jtis.indexOf(jti)];
  await book.allReceived(jtis);
  await daemon.settled({ acked: 3, refused: reasons.length });
  for (const [number, reason] of reasons.entries()) {
    const { state, err, description } = await daemon.record(jtis[number]);
    assert.deepEqual([state, err, description], ['refused', reason.err, reason.description]);
  }
  const times = jtis.map((jti) => book.times(jti));
  await sleep(1000);
  assert.deepEqual(jtis.map((jti) => book.times(jti)), times, 'a SET with a verdict is not sent again');
}

async function isRefused(link) {
  const { book, daemon } = link;
  const [es256, , rs256] = book.signers;
  const stranger = await sets.signer('ES256', 'never-published');
  const impostor = await sets.signer('ES256', es256.kid);
  const hour = 3600;
  const now = Math.floor(Date.now() / 1000);
  const expected = new Map();
  const compacts = new Map();
  const say = async (verdict, changes, make = (content) => sets.sign(es256, content), name = undefined) => {
    const content = sets.claims(changes);
    expected.set(name ?? content.jti, verdict);
    compacts.set(name ?? content.jti, await make(content));
  };
  await say('acked', {});
  await say('acked', { aud: ['https://other.example', sets.US], unheard_of: [1, { a: null }] });
  await say('acked', { iat: now + 0.5 });
  await say('invalid_audience', { aud: 'https://other.example' });
  await say('invalid_issuer', { iss: 'https://mallory.example' });
  await say('invalid_request', { iat: now - 31 * 24 * hour });
  await say('invalid_request', { exp: now + hour });
  await say('invalid_request', { events: {} });
  await say('invalid_request', { sub_id: { format: 'email' } });
  await say('invalid_request', {}, (content) => sets.sign(es256, content), 'another-name');
  await say('invalid_request', {}, (content) => sets.sign(es256, content, { typ: 'JWT' }));
  await say('invalid_request', {}, (content) => sets.sign(es256, `${JSON.stringify(content).slice(0, -1)},"aud":"https://x.example"}`));
  await say('invalid_request', {}, () => 'a.b');
  await say('invalid_key', {}, (content) => sets.sign(stranger, content));
  await say('invalid_key', {}, (content) => sets.sign(impostor, content));
  await say('invalid_key', {}, (content) => sets.sign({ ...es256, kid: rs256.kid }, content));
  await say('invalid_key', {}, (content) => {
    const pem = rs256.publicKey.export ? rs256.publicKey.export({ type: 'spki', format: 'pem' }) : JSON.stringify(rs256.jwk);
    return sets.byHmac(pem, { alg: 'HS256', kid: rs256.kid, typ: 'secevent+jwt' }, content);
  });
  await say('invalid_key', {}, (content) => {
    const parts = [{ alg: 'none', typ: 'secevent+jwt' }, content].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'));
    return `${parts.join('.')}.`;
  });
  book.submit(compacts);
  const found = () => Object.fromEntries([...compacts.keys()].map((jti) => [jti, book.outbox.get(jti).verdict]));
  await until(() => Object.values(found()).every((verdict) => verdict !== undefined), 'each has a verdict', found);
  const codes = Object.entries(found()).map(([jti, verdict]) => [jti, verdict.err ?? verdict]);
  assert.deepEqual(Object.fromEntries(codes), Object.fromEntries(expected));
  const taken = [...compacts].filter(([jti]) => expected.get(jti) === 'acked');
  await daemon.holds(taken);
  assert.equal((await daemon.peer()).rejected, compacts.size - taken.length);
}

async function rotatesItsKeys(link) {
  const { book, server, daemon } = link;
  const [old] = book.signers;
  book.submit(await sets.make([old], 5));
  await book.allAcked();
  // The next key is published and used at once, amid SETs that the old one signed.
  const next = await sets.signer('ES256');
  book.signers = [next, ...book.signers];
  const mixed = await sets.make([old, next], 30);
  book.submit(mixed);
  await book.allAcked();
  // Withdrawn: after a refresh or two nothing that it signs is taken.
  book.signers = book.signers.filter((signer) => signer !== old);
  const asked = server.keyRequests;
  await until(() => server.keyRequests >= asked + 2, 'the keys are fetched anew');
  const late = await sets.make([old], 2);
  book.submit(late);
  const verdicts = () => [...late.keys()].map((jti) => book.outbox.get(jti).verdict?.err);
  await until(() => verdicts().every((err) => err === 'invalid_key'), 'a withdrawn key verifies nothing', verdicts);
  book.submit(await sets.make([next], 2));
  await until(async () => (await daemon.peer()).received === 37, 'all but the late ones are there', () => daemon.peer());
}

async function hidesItsKeys(link) {
  const { book, server, daemon } = link;
  book.submit(await sets.make(book.signers, 3));
  await book.allAcked();
  server.keyFailure = 503;
  const next = await sets.signer('Ed25519');
  const [certain, doubtful] = [await sets.make(book.signers, 3), await sets.make([next], 3)];
  book.signers = [next, ...book.signers];
  book.submit(new Map([...doubtful, ...certain]));
  await book.allAcked(certain.keys());
  await until(() => server.keyRequests > 1, 'the daemon has asked for the keys');
  assert.ok([...doubtful.keys()].every((jti) => book.outbox.get(jti).verdict === undefined), 'neither ack nor setErr');
  server.keyFailure = null;
  await book.allAcked();
  await daemon.settled({ received: 9 });
}

async function seesTheDaemonChangeKeys(link) {
  const { book, daemon } = link;
  book.policy = () => 'silence';
  const before = await daemon.submit(5);
  await book.allReceived(before);
  await daemon.keepPorts();
  await link.down();
  await daemon.stop();
  await daemon.start();
  // Before the partner could fetch it: it has to when it meets it.
  await daemon.call('POST', '/api/v1/keys/rotate', JSON.stringify({ kid: 'us-next', alg: 'EdDSA', now: true }));
  book.policy = () => undefined;
  await link.up();
  const after = await daemon.submit(5);
  await book.allReceived(after);
  await daemon.settled({ acked: 10 });
  const kid = (jti) => JSON.parse(Buffer.from(book.inbox.get(jti).split('.')[0], 'base64url')).kid;
  const kids = [before, after].map((jtis) => [...new Set(jtis.map(kid))]);
  assert.ok(kids[0].length === 1 && kids[1].length === 1 && kids[0][0] !== kids[1][0], `the kids are ${JSON.stringify(kids)}`);
}

async function disappears(link) {
  const { book, daemon } = link;
  const ours = await sets.make(book.signers, 10);
  // Three times it goes while it is talking: the daemon may have heard it or not.
  book.note(ours);
  for (let time = 0; time < 3; time += 1) await link.vanishTalking({ sets: Object.fromEntries(ours) });
  // It has taken SETs and not yet answered when it goes; more are submitted while it is away.
  book.policy = () => 'silence';
  const jtis = await daemon.submit(10);
  await book.allReceived(jtis);
  book.submit(ours);
  await link.down();
  const times = jtis.map((jti) => book.times(jti));
  book.verdicts();
  jtis.push(...(await daemon.submit(5)));
  await until(async () => (await daemon.peer()).link !== 'up' || link.transport === 'http', 'the daemon sees that it has gone');
  book.policy = () => undefined;
  await link.up();
  await book.allReceived(jtis);
  await book.allAcked();
  await daemon.settled({ acked: 15, received: 10 });
  assert.ok(times.every((before, number) => book.times(jtis[number]) > before), 'what was not answered came again');
  await daemon.holds(ours);
}

async function outlivesTheDaemon(link) {
  const { book, daemon } = link;
  await daemon.keepPorts();
  const ours = await sets.make(book.signers, 60);
  const jtis = [];
  const halves = [[...ours].slice(0, 30), [...ours].slice(30)];
  for (const half of halves) {
    book.submit(new Map(half));
    jtis.push(...(await daemon.submit(30)));
    await until(() => book.inbox.size >= jtis.length - 25, 'some have come');
    await link.down();
    await daemon.stop('SIGKILL');
    await daemon.start();
    await link.up();
  }
  await book.allReceived(jtis);
  await book.allAcked();
  await daemon.settled({ acked: 60 });
  assert.equal(book.inbox.size, 60);
  await daemon.holds(ours);
}

async function sendsGarbage(link) {
  const { book, daemon } = link;
  book.policy = () => 'silence';
  const [ours] = await daemon.submit(1);
  await book.allReceived([ours]);
  const [[jti, compact]] = await sets.make(book.signers, 1);
  const good = `"sets":{"${jti}":"${compact}"}`;
  const object = (text) => ({ octets: Buffer.from(text, 'utf8'), binary: false, code: 1007, status: 400 });
  const garbage = [
    // A good SET and a good ack beside a fault have no effect.
    object(`{${good},"ack":5}`),
    object(`{"ack":["${ours}",5]}`),
    object(`{${good},"ack":["${ours}"],"setErrs":{"x":{"err":7,"description":"y"}}}`),
    object(`{${good},"ack":["${ours}"]`),
    object(`{"ack":["${ours}"],"ack":["${ours}"]}`),
    { ...object(`{"ack":["${ours}\xff"]}`), octets: Buffer.from(`{"ack":["${ours}\xff"]}`, 'latin1') },
    { octets: Buffer.from([0, 1, 2, 0xff]), binary: true, code: 1003, status: 415 },
  ];
  for (const wrong of garbage) await link.garbage(wrong);
  assert.equal(book.outbox.size, 0);
  assert.notEqual((await daemon.record(ours)).state, 'acked');
  assert.equal((await daemon.peer()).received, 0, 'nothing of it was taken');
  book.policy = () => undefined;
  book.submit(new Map([[jti, compact]]));
  await book.allAcked();
  await daemon.settled({ acked: 1, received: 1 });
}

const everySecond = () => ({ jwks_refresh: '1s' });

const BEHAVIOURS = [
  [sendsAndAcks, 'both send and ack', {}],
  [answersLater, 'verdicts come in later objects', {}],
  [refuses, 'it refuses with setErrs', {}],
  [isRefused, 'what it signs wrongly is refused', { configure: everySecond }],
  [rotatesItsKeys, 'it rotates its keys', { configure: everySecond }],
  [hidesItsKeys, 'its keys cannot be had for a while', { configure: everySecond }],
  [seesTheDaemonChangeKeys, 'the daemon changes its key', {}],
  [disappears, 'it disappears in the middle of exchanges', {}],
  [outlivesTheDaemon, 'the daemon is killed in the middle of exchanges', {}],
  [sendsGarbage, 'it sends garbage', {}],
];

const ALGORITHMS = ['ES256', 'EdDSA', 'RS256'];

export const SCENARIOS = BEHAVIOURS.flatMap(([behaviour, name, options]) =>
  LINKS.map((Link, number) => on(Link, name, behaviour, { alg: ALGORITHMS[number % 3], ...options })),
);
