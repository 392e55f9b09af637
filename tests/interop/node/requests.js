// Where HTTP implementations differ: connections that are kept, heads and bodies as others write them, TLS sessions.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import https from 'node:https';
import tls from 'node:tls';
import zlib from 'node:zlib';
import { Client } from 'undici';
import { DaemonPosts, PartnerPosts, on } from './links.js';
import { make } from './sets.js';
import { sleep, until, within } from './until.js';

async function manyRequestsOnOneConnection(link) {
  const { dialler, book, daemon } = link;
  // Only what stands here shall be said.
  await link.down();
  const client = new Client(dialler.httpUrl.origin, { connect: dialler.tls, pipelining: 8 });
  let connects = 0;
  client.on('connect', () => {
    connects += 1;
  });
  const ours = await make(book.signers, 40);
  book.note(ours);
  try {
    const exchanges = [...ours].map(([jti, compact]) =>
      client.request({
        method: 'POST',
        path: dialler.httpUrl.pathname,
        headers: { ...dialler.authorization, 'Content-Type': 'application/json' },
        body: JSON.stringify({ sets: { [jti]: compact } }),
        // By default undici holds a POST back until the one before is answered.
        idempotent: true,
      }),
    );
    for (const exchange of exchanges) {
      const { statusCode, body } = await within(exchange, 'an answer');
      assert.equal(statusCode, 200);
      await book.take(await body.text());
    }
  } finally {
    await client.close();
  }
  assert.equal(connects, 1, 'one connection for all of them');
  await link.up();
  await book.allAcked();
  await daemon.holds(ours);
}

/** One request by Node's own client; its answer as [status, headers, text]. */
async function byNode({ dialler }, { body = '{}', agent = false, write = (request) => request.end(body), ...options }) {
  const request = https.request(dialler.httpUrl, { ...dialler.tls, method: 'POST', agent, ...options });
  write(request);
  const [response] = await within(once(request, 'response'), 'an answer');
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return [response.statusCode, response.headers, text, request];
}

async function bodiesInChunksAndOnAsking(link) {
  const { dialler, book, daemon } = link;
  const ours = await make(book.signers, 20);
  book.note(ours);
  const body = Buffer.from(JSON.stringify({ sets: Object.fromEntries(ours) }, null, 3));
  const headers = { ...dialler.authorization, 'Content-Type': 'application/json' };
  // No length is known beforehand.
  async function* chunks() {
    for (let at = 0; at < body.length; at += 700) yield body.subarray(at, at + 700);
  }
  const answer = await link.post(chunks());
  assert.equal(answer.statusCode, 200);
  await book.take(await answer.body.text());
  // A client that waits until it is told to go on.
  let asked = 0;
  const write = (request) => {
    request.once('continue', () => {
      asked += 1;
      request.end(body);
    });
    request.flushHeaders();
  };
  const expecting = { ...headers, Expect: '100-continue', 'Content-Length': body.length };
  const [status, , text] = await byNode(link, { headers: expecting, write });
  assert.deepEqual([status, asked], [200, 1]);
  await book.take(text);
  // Whoever is not let in is not told to go on.
  const stranger = { ...expecting, Authorization: 'Bearer nobody-knows-this-token-0123456789' };
  const [unknown] = await byNode(link, { headers: stranger, write });
  assert.deepEqual([unknown, asked], [401, 1]);
  // Head and body arrive in bits.
  const dribble = async (request) => {
    request.setNoDelay(true);
    for (let at = 0; at < body.length; at += 4000) {
      request.write(body.subarray(at, at + 4000));
      await sleep(10);
    }
    request.end();
  };
  const [late] = await byNode(link, { headers, write: dribble });
  assert.equal(late, 200);
  book.submit(ours);
  await book.allAcked();
  await daemon.holds(ours);
}

async function headsAsOthersWriteThem(link) {
  const token = link.dialler.authorization.Authorization.split(' ')[1];
  const type = 'application/json';
  for (const [expected, headers] of [
    [200, { AUTHORIZATION: `Bearer ${token}`, 'content-TYPE': type }],
    [200, { authorization: `bearer ${token}`, 'content-type': 'APPLICATION/JSON' }],
    [200, { Authorization: `BEARER ${token}`, 'Content-Type': `${type};charset=utf-8` }],
    [200, { Authorization: `Bearer ${token}`, 'Content-Type': `${type} ; Charset="UTF-8" ; profile=x` }],
    [200, { Authorization: `Bearer ${token}`, 'Content-Type': type, Accept: 'text/html;q=0.1', 'Accept-Encoding': 'gzip, br' }],
    [200, { Authorization: `Bearer ${token}`, 'Content-Type': type, TE: 'trailers', Connection: 'close, TE' }],
    [401, { Authorization: `Basic ${token}`, 'Content-Type': type }],
    [401, { Authorization: `Bearer ${token}x`, 'Content-Type': type }],
    [401, { Authorization: `Bearer ${token.toUpperCase()}`, 'Content-Type': type }],
    [401, { 'Content-Type': type }],
    [415, { Authorization: `Bearer ${token}`, 'Content-Type': `${type}; charset=iso-8859-1` }],
    [415, { Authorization: `Bearer ${token}`, 'Content-Type': 'application/jsonp' }],
    [415, { Authorization: `Bearer ${token}`, 'Content-Type': type, 'Content-Encoding': 'br' }],
    [403, { Authorization: `Bearer ${token}`, 'Content-Type': type, Origin: 'https://partner.node.example' }],
  ]) {
    const [status, answered, text] = await byNode(link, { headers });
    assert.equal(status, expected, `${JSON.stringify(headers)}: ${text}`);
    assert.equal(answered['content-encoding'], undefined);
    assert.match(answered['content-type'], /^application\/json$/);
    if (status === 200) await link.book.take(text);
    else assert.ok(JSON.parse(text).err);
  }
  for (const method of ['PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD']) {
    const headers = { ...link.dialler.authorization, 'Content-Type': type };
    const [status, answered] = await byNode(link, { method, headers, body: undefined });
    assert.deepEqual([status, answered.allow?.includes('POST')], [405, true], method);
  }
}

async function noMoreEventsThanWanted(link) {
  const { book, daemon } = link;
  await link.down();
  await daemon.submit(30);
  await until(async () => (await daemon.peer()).queued === 30, 'all are queued');
  const sizes = {};
  for (const most of [0, 1, 7]) {
    const answer = await link.exchange(most);
    sizes[most] = Object.keys(answer.sets ?? {}).length;
  }
  assert.deepEqual(sizes, { 0: 0, 1: 1, 7: 7 });
  // A JSON number is a number however it is written.
  for (const [text, most] of [['1.0', 1], ['2e0', 2]]) {
    const answer = await link.post(`{"maxResponseEvents":${text}}`);
    const body = await answer.body.text();
    assert.equal(answer.statusCode, 200, `${text}: ${body}`);
    await book.take(body);
    assert.ok(Object.keys(JSON.parse(body).sets ?? {}).length <= most, text);
  }
  const rest = await link.exchange();
  assert.ok(Object.keys(rest.sets).length >= 19, 'any number without it');
  await link.up();
  await daemon.settled({ acked: 30 });
}

async function emptyObjects(link) {
  await link.down();
  for (const text of ['{}', ' {\r\n} ', '{"sets":{}}', '{"ack":[]}', '{"setErrs":{}}', '{"sets":{},"ack":[],"setErrs":{},"maxResponseEvents":0}']) {
    const answer = await link.post(text);
    assert.deepEqual([answer.statusCode, await answer.body.text()], [200, '{}'], text);
  }
}

async function sessionsAndVersionsOfTls(link) {
  const { dialler } = link;
  const [host, port] = link.daemon.address.split(':');
  const connect = async (options) => {
    const socket = tls.connect({ host, port: Number(port), ...dialler.tls, ...options });
    await within(once(socket, 'secureConnect'), 'the handshake');
    return socket;
  };
  const seen = {};
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    // In 1.3 the tickets come after the handshake.
    let session;
    const versions = { minVersion: version, maxVersion: version };
    const first = await connect({ ...versions, ALPNProtocols: ['h2', 'http/1.1'] });
    first.on('session', (found) => {
      session = found;
    });
    assert.deepEqual([first.getProtocol(), first.alpnProtocol], [version, 'http/1.1']);
    first.write(`POST /pushpull HTTP/1.1\r\nHost: ${link.daemon.address}\r\nAuthorization: ${dialler.authorization.Authorization}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`);
    const [answer] = await within(once(first, 'data'), 'an answer');
    assert.match(answer.toString(), /^HTTP\/1.1 200 /);
    first.destroy();
    // It may be taken up again; what is said on it counts the same.
    const [status] = await byNode(link, {
      headers: { ...dialler.authorization, 'Content-Type': 'application/json' },
      ...versions,
      createConnection: (options) => {
        const socket = tls.connect({ ...options, host, port: Number(port), session });
        socket.once('secureConnect', () => {
          seen[version] = socket.isSessionReused() ? 'resumed' : 'anew';
        });
        return socket;
      },
    });
    assert.equal(status, 200);
  }
  // What browsers gave up is not spoken.
  const old = tls.connect({ host, port: Number(port), rejectUnauthorized: false, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' });
  const [refusal] = await within(once(old, 'error'), 'a refusal of TLS 1.1');
  assert.match(refusal.code, /SSL|ECONNRESET|EPROTO/);
  return Object.entries(seen).map((pair) => pair.join(' ')).join(', ');
}

async function answersAsOthersWriteThem(link) {
  const { book, daemon, server } = link;
  const json = { 'Content-Type': 'application/json' };
  const manners = [
    // In chunks of no known length, with a charset.
    (response, text) => response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' }).end(text),
    (response, text) => response.writeHead(200, 'Fine', { 'CONTENT-TYPE': 'Application/JSON', Connection: 'close' }).end(text),
    // After hints that a client may pass over.
    (response, text) => {
      response.writeProcessing();
      response.writeEarlyHints({ link: '</style.css>; rel=preload' });
      response.writeHead(200, json).end(text);
    },
    (response, text) => {
      response.writeHead(200, { ...json, Trailer: 'X-Checksum', 'Set-Cookie': ['a=b', 'c=d'], 'X-Long': 'x'.repeat(8000) });
      response.addTrailers({ 'X-Checksum': '1' });
      response.end(text);
    },
    // In bits, slower than a packet each.
    async (response, text) => {
      response.writeHead(200, json);
      for (let at = 0; at < text.length; at += 2000) {
        response.write(text.slice(at, at + 2000));
        await sleep(5);
      }
      response.end();
    },
    // Until the connection ends, as HTTP/1.0 had it.
    (response, text) => {
      response.useChunkedEncodingByDefault = false;
      response.writeHead(200, { ...json, Connection: 'close' }).end(text);
    },
  ];
  const ours = await make(book.signers, 10 * manners.length);
  let number = 0;
  for (const manner of manners) {
    server.write = manner;
    book.submit([...ours].slice(number, number + 10));
    number += 10;
    const jtis = await daemon.submit(10);
    await book.allReceived(jtis);
    await book.allAcked();
    await daemon.settled({ acked: number, received: number });
  }
  await daemon.holds(ours);
  // What was compressed without anybody asking for it is no answer; the SETs come again.
  let compressed = 0;
  server.write = (response, text) => {
    compressed += 1;
    server.write = manners[0];
    response.writeHead(200, { ...json, 'Content-Encoding': 'gzip' }).end(zlib.gzipSync(text));
  };
  const [jti] = await daemon.submit(1);
  await book.allReceived([jti]);
  await until(() => compressed === 1, 'an answer was compressed');
  await daemon.settled({ acked: number + 1, received: number });
}

async function connectionsThatAreNotKept(link) {
  const { book, daemon, server } = link;
  const ours = await make(book.signers, 20);
  for (let number = 0; number < 20; number += 1) {
    const jtis = await daemon.submit(1);
    book.submit([...ours].slice(number, number + 1));
    await book.allReceived(jtis);
    await sleep(number % 5 === 0 ? 90 : 10);
  }
  await book.allAcked();
  await daemon.settled({ acked: 20, received: 20 });
  await daemon.holds(ours);
  assert.ok(server.connections > 5, 'the connections were not kept');
  return `${server.connections} connections, ${server.resumed} of them resumed a session`;
}

const impatient = (link) => {
  // Node closes what was idle for so long, just when the daemon may be about to use it.
  link.server.patience = { keepAliveTimeout: 60, keepAliveTimeoutBuffer: 0, maxRequestsPerSocket: 3 };
};

export const SCENARIOS = [
  on(PartnerPosts, 'many requests on one connection, one behind the other', manyRequestsOnOneConnection),
  on(PartnerPosts, 'bodies in chunks and on asking', bodiesInChunksAndOnAsking),
  on(PartnerPosts, 'heads as others write them', headsAsOthersWriteThem),
  on(PartnerPosts, 'no more events than wanted', noMoreEventsThanWanted),
  on(PartnerPosts, 'empty objects', emptyObjects),
  on(PartnerPosts, 'sessions and versions of TLS', sessionsAndVersionsOfTls),
  on(DaemonPosts, 'answers as others write them', answersAsOthersWriteThem),
  on(DaemonPosts, 'connections that are not kept', connectionsThatAreNotKept, { configure: impatient }),
];
