// Where WebSocket implementations differ: fragments, offers at the handshake, close codes, pings.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { closed, converse } from './dialler.js';
import { DaemonDialsWebSocket, PartnerDialsWebSocket, on } from './links.js';
import { make } from './sets.js';
import { until, within } from './until.js';

/** Sends one message in so many octets a fragment, also amid a character, with pings between some of them. */
function inFragments(socket, text, size) {
  const octets = Buffer.from(text);
  for (let at = 0; at < octets.length; at += size) {
    const fin = at + size >= octets.length;
    socket.send(octets.subarray(at, at + size), { fin, binary: false, compress: false });
    if (at % (5 * size) === 0) socket.ping(Buffer.from(`${at}`));
  }
}

async function fragments(link) {
  const { book, daemon } = link;
  const socket = link.socket ?? link.server.socket;
  const ours = await make(book.signers, 12);
  book.note(ours);
  const names = [...ours.keys()];
  const message = (from, to) => JSON.stringify({ 'nicht für euch 🔑': ['é'], sets: Object.fromEntries([...ours].slice(from, to)) });
  inFragments(socket, message(0, 10), 100);
  inFragments(socket, message(10, 12), 1);
  await book.allAcked(names);
  // One with nothing in the first and the last fragment.
  const more = await make(book.signers, 1);
  book.note(more);
  socket.send('', { fin: false });
  socket.send(JSON.stringify({ sets: Object.fromEntries(more) }), { fin: false });
  socket.send('', { fin: true });
  await book.allAcked();
  const [jti] = await daemon.submit(1);
  await book.allReceived([jti]);
  await daemon.settled({ acked: 1, received: 13 });
  await daemon.holds(new Map([...ours, ...more]));
}

async function largeMessages(link) {
  const { book, daemon } = link;
  const socket = link.socket ?? link.server.socket;
  const ours = await make(book.signers.slice(0, 1), 1000);
  book.note(ours);
  socket.send(JSON.stringify({ sets: Object.fromEntries(ours) }));
  const jtis = await daemon.submit(1000);
  // What had no verdict within its second is sent again, as always.
  const again = setInterval(() => {
    const open = [...ours].filter(([jti]) => book.outbox.get(jti).verdict === undefined);
    if (open.length) socket.send(JSON.stringify({ sets: Object.fromEntries(open) }));
  }, 3000);
  try {
    await book.allReceived(jtis);
    await book.allAcked();
    await daemon.settled({ acked: 1000, received: 1000 });
  } finally {
    clearInterval(again);
  }
}

async function offers({ dialler }) {
  // `open` asserts that nothing is compressed and that the subprotocol is ours.
  for (const perMessageDeflate of [true, false, { clientMaxWindowBits: 10, serverNoContextTakeover: true, threshold: 0 }]) {
    (await dialler.open(['pushpull'], { perMessageDeflate })).terminate();
  }
  for (const protocols of [['soap', 'pushpull'], ['pushpull', 'pushpull.v2']]) (await dialler.open(protocols)).terminate();
  for (const [status, protocols, options] of [
    [400, [], {}],
    [400, ['soap', 'wamp'], {}],
    [400, ['Pushpull'], {}],
    [401, ['pushpull'], { headers: {} }],
    [401, ['pushpull'], { headers: { Authorization: 'Bearer nobody-knows-this-token-0123456789' } }],
    [403, ['pushpull'], { origin: 'https://partner.node.example' }],
    [426, ['pushpull'], { protocolVersion: 8 }],
  ]) {
    assert.equal(await dialler.refused(protocols, options), status, `${protocols} ${JSON.stringify(options)}`);
  }
}

const CODES = [1000, 1001, 1003, 1008, 1009, 1011, 1012, 1013, 3000, 4999];

async function weClose({ dialler, book, daemon, server }) {
  for (const code of CODES) {
    const socket = await dialler.open();
    socket.close(code, 'auf Wiedersehen');
    assert.equal(await closed(socket), code, 'our close is answered with its own code');
  }
  const silent = await dialler.open();
  silent.close();
  // ws has 1005 for a close without a code; the daemon has to answer with none or with 1000.
  assert.ok([1000, 1005].includes(await closed(silent)));
  const ours = await make(book.signers, 1);
  book.submit(ours);
  await book.allAcked();
  await daemon.settled({ received: 1 });
  assert.deepEqual(server.faults, []);
}

async function weCloseAsServer({ server, daemon, book }) {
  for (const code of [1000, 1001, 1012, 4000]) {
    const { socket } = server;
    socket.close(code, 'auf Wiedersehen');
    assert.equal(await closed(socket), code, 'our close is answered with its own code');
    await until(() => server.socket !== socket && server.socket.readyState === WebSocket.OPEN, 'the daemon has dialled again');
  }
  const [jti] = await daemon.submit(1);
  await book.allReceived([jti]);
  await daemon.settled({ acked: 1 });
}

async function theDaemonEnds(link) {
  const socket = link.socket ?? link.server.socket;
  await link.halt();
  const ending = closed(socket);
  await link.daemon.stop();
  assert.equal(await ending, 1001, 'a daemon that ends says so');
}

async function pings(link) {
  const socket = link.socket ?? link.server.socket;
  let heard = 0;
  socket.on('ping', () => {
    heard += 1;
  });
  for (const size of [0, 1, 125]) {
    const payload = crypto.randomBytes(size);
    socket.ping(payload);
    const [pong] = await within(once(socket, 'pong'), 'a pong');
    assert.deepEqual(pong, payload);
  }
  // A pong that nobody asked for is a sign of life, no more.
  socket.pong('for nothing');
  await until(() => heard >= 2, 'pings of the daemon');
  assert.equal(socket.readyState, WebSocket.OPEN);
}

async function deaf(link) {
  const { dialler, daemon, server, book } = link;
  await link.down();
  // It is there, but answers no ping.
  const socket = await dialler.open(['pushpull'], { autoPong: false });
  await closed(socket);
  await until(async () => (await daemon.peer()).link !== 'up', 'the link is no longer up', () => daemon.peer());
  const jtis = await daemon.submit(3);
  const next = await dialler.open();
  converse(book, next, server.faults);
  await book.allReceived(jtis);
  await daemon.settled({ acked: 3 });
  next.terminate();
}

async function twoAtOnce({ dialler, daemon, server, book }) {
  const second = await dialler.open();
  converse(book, second, server.faults);
  const ours = await make(book.signers, 20);
  // By one and by the other: acked by either, stored once.
  book.note(ours);
  second.send(JSON.stringify({ sets: Object.fromEntries(ours) }));
  book.submit(ours);
  const jtis = await daemon.submit(40);
  await book.allReceived(jtis);
  await book.allAcked();
  second.close(1000);
  await daemon.settled({ acked: 40, received: 20 });
  await daemon.holds(ours);
}

async function anotherSubprotocol({ server, daemon, book }) {
  // The handshake fails, so that the draft's fallback is HTTP.
  const jtis = await daemon.submit(3);
  await book.allReceived(jtis);
  await daemon.settled({ acked: 3 });
  assert.equal((await daemon.peer()).transport, 'http');
  assert.deepEqual(server.offers[0], ['pushpull']);
}

/** A server that takes the upgrade, yet not our subprotocol; there is no WebSocket to wait for. */
class Stubborn extends DaemonDialsWebSocket {
  async up() {
    await until(() => this.server.exchanges > 0, 'the daemon has fallen back to HTTP');
  }
}

const BOTH = [PartnerDialsWebSocket, DaemonDialsWebSocket];
const each = (name, happens) => BOTH.map((Link) => on(Link, name, happens));

export const SCENARIOS = [
  ...each('messages in fragments, with pings between them', fragments),
  ...each('a thousand SETs in one message', largeMessages),
  on(PartnerDialsWebSocket, 'offers at the handshake', offers),
  on(PartnerDialsWebSocket, 'the partner closes', weClose),
  on(DaemonDialsWebSocket, 'the partner closes', weCloseAsServer),
  ...each('the daemon ends', theDaemonEnds),
  ...each('pings and pongs', pings),
  on(PartnerDialsWebSocket, 'it answers no ping', deaf),
  on(PartnerDialsWebSocket, 'two connections at once', twoAtOnce),
  ...[false, 'chat', 'PushPull'].map((subprotocol) =>
    on(Stubborn, `the subprotocol ${subprotocol || 'none'} is no agreement`, anotherSubprotocol, {
      configure: (link) => {
        link.server.subprotocol = subprotocol;
      },
    }),
  ),
];
