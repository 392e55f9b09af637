// The four ways in which partner and daemon can be connected, behind one face, so that every behaviour meets each of them.

import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import path from 'node:path';
import { request } from 'undici';
import { WebSocket } from 'ws';
import { Book } from './book.js';
import { Daemon } from './daemon.js';
import { TOKEN as FROM_PARTNER, Dialler, closed, converse } from './dialler.js';
import { TOKEN as FROM_DAEMON, Server } from './server.js';
import { PARTNER, signer } from './sets.js';
import { sleep, until } from './until.js';

/** What they have in common: the partner's book and server, the daemon, and a pump that moves what is due. */
class Link {
  /** `configure` may change book, server and `[[peer]]` block before the daemon starts. */
  static async open(place, { alg = 'ES256', configure = () => ({}) } = {}) {
    const link = new this();
    link.book = new Book(await Promise.all(['ES256', 'Ed25519', 'RS256'].map((name) => signer(name))));
    link.server = new Server(link.book);
    const changes = configure(link) ?? {};
    await link.server.start();
    try {
      link.daemon = await Daemon.make(place, alg);
      await link.introduce(changes);
      await link.daemon.start();
      link.dialler = await Dialler.of(link.daemon);
      link.book.keys = link.dialler.keys;
      await link.up();
    } catch (error) {
      await link.close(false);
      throw error;
    }
    return link;
  }

  /** Writes the partner into the daemon's configuration. */
  async introduce(changes) {
    const { server, daemon } = this;
    for (const [name, token] of [['partner.token', FROM_DAEMON], ['from-partner.token', FROM_PARTNER]]) {
      await fs.writeFile(path.join(daemon.directory, name), `${token}\n`, { mode: 0o600 });
    }
    const block = {
      name: 'partner',
      issuer: PARTNER,
      jwks_uri: `https://${server.address}/jwks.json`,
      tls_pin: server.certificate.pin,
      token_file: 'partner.token',
      accept_token_file: 'from-partner.token',
      transport: 'none',
      ...this.definition(),
      ...changes,
    };
    const lines = Object.entries(block).map(([name, value]) => `${name} = ${JSON.stringify(value)}\n`);
    await daemon.append(`\n[[peer]]\n${lines.join('')}`);
  }

  definition() {
    return {};
  }

  /** Moves what is due every few milliseconds, until `down`. A pump that fails is a fault, not an end. */
  pumping(pump) {
    const going = { on: true };
    const work = (async () => {
      while (going.on) {
        try {
          await pump();
        } catch (error) {
          if (going.on) this.book.faults.push(error);
        }
        await sleep(40);
      }
    })();
    return async () => {
      going.on = false;
      await work;
    };
  }

  /** Ends everything. With `check`, nothing must have gone against the specifications. */
  async close(check = true) {
    await this.down?.().catch(() => {});
    await this.dialler?.close();
    await this.daemon?.stop();
    await this.server.stop();
    if (check) assert.deepEqual([...this.book.faults, ...this.server.faults], [], 'the daemon went against the specifications');
  }
}

/** The partner opens a WebSocket to the daemon. */
export class PartnerDialsWebSocket extends Link {
  static title = 'the partner dials a WebSocket';
  transport = 'websocket';

  async up() {
    await this.dial();
    this.halt = this.pumping(async () => {
      // A daemon that heard nothing from a busy machine has given up on it: whoever dials dials again.
      if (this.socket.readyState === WebSocket.CLOSED) await this.dial();
      say(this.book, this.socket);
    });
  }

  async down() {
    await this.halt?.();
    this.socket?.terminate();
    this.book.lost();
  }

  async dial() {
    this.socket = await this.dialler.open();
    converse(this.book, this.socket, this.server.faults);
    this.book.lost();
  }

  /** Says something without listening to what comes of it, and is gone. */
  async vanishTalking(object) {
    const socket = await this.dialler.open();
    await new Promise((resolve) => socket.send(JSON.stringify(object), resolve));
    socket.terminate();
  }

  /** Says what is no object; fails unless the daemon ends the conversation as it should. */
  async garbage({ octets, binary, code }) {
    const socket = await this.dialler.open();
    const ending = closed(socket);
    socket.send(octets, { binary });
    assert.equal(await ending, code, `the close code for ${octets.toString().slice(0, 60)}`);
  }
}

/** The partner posts to the daemon. Its verdicts leave with the next request, never with the same exchange. */
export class PartnerPosts extends Link {
  static title = 'the partner posts';
  transport = 'http';

  async up() {
    this.halt = this.pumping(() => this.exchange());
  }

  async down() {
    await this.halt?.();
    this.book.lost();
  }

  post(body, options = {}) {
    const { headers, ...more } = options;
    return request(this.dialler.httpUrl, {
      method: 'POST',
      headers: { ...this.dialler.authorization, 'Content-Type': 'application/json', ...headers },
      body,
      dispatcher: this.dialler.agent,
      ...more,
    });
  }

  async exchange(maxResponseEvents) {
    const due = this.book.due();
    const owed = this.book.verdicts();
    const object = {
      ...owed,
      ...(Object.keys(due).length && { sets: due }),
      ...(maxResponseEvents !== undefined && { maxResponseEvents }),
    };
    try {
      const answer = await this.post(JSON.stringify(object));
      const text = await answer.body.text();
      assert.equal(answer.statusCode, 200, text);
      assert.equal(answer.headers['content-type'], 'application/json');
      assert.equal(await this.book.take(text), Infinity, 'maxResponseEvents is for requests');
      return JSON.parse(text);
    } catch (error) {
      this.book.owe(owed);
      throw error;
    }
  }

  /** Asks, and goes when the answer begins to come. */
  async vanishTalking(object) {
    const answer = await this.post(JSON.stringify(object));
    answer.body.on('error', () => {});
    answer.body.destroy();
  }

  async garbage({ octets, binary, status }) {
    const type = binary ? 'application/octet-stream' : 'application/json';
    const answer = await this.post(octets, { headers: { 'Content-Type': type } });
    const text = await answer.body.text();
    assert.equal(answer.statusCode, status, `${octets.toString().slice(0, 60)}: ${text}`);
    const error = JSON.parse(text);
    assert.ok(error.err && error.description, text);
    assert.equal(answer.headers['content-language'], 'en');
  }
}

/** The daemon opens a WebSocket to the partner. */
export class DaemonDialsWebSocket extends Link {
  static title = 'the daemon dials a WebSocket';
  transport = 'websocket';

  definition() {
    return { transport: 'websocket', endpoint: `wss://${this.server.address}/pushpull` };
  }

  async up() {
    if (!this.server.server.listening) await this.server.start();
    await until(() => this.server.socket?.readyState === WebSocket.OPEN, 'the daemon has dialled');
    this.halt = this.pumping(async () => say(this.book, this.server.socket));
  }

  async down() {
    await this.halt?.();
    if (this.server.server.listening) await this.server.stop();
    this.book.lost();
  }

  async vanishTalking(object) {
    const { socket } = this.server;
    await until(() => this.server.socket.readyState === WebSocket.OPEN, 'the daemon has dialled');
    await new Promise((resolve) => this.server.socket.send(JSON.stringify(object), resolve));
    this.server.socket.terminate();
    await until(() => this.server.socket !== socket, 'the daemon has dialled again');
  }

  async garbage({ octets, binary, code }) {
    await until(() => this.server.socket.readyState === WebSocket.OPEN, 'the daemon has dialled');
    const { socket } = this.server;
    const ending = closed(socket);
    socket.send(octets, { binary });
    assert.equal(await ending, code, `the close code for ${octets.toString().slice(0, 60)}`);
    this.book.lost();
  }

  async close(check) {
    if (!this.server.server.listening) await this.server.start();
    await super.close(check);
  }
}

/** The daemon posts to the partner. */
export class DaemonPosts extends Link {
  static title = 'the daemon posts';
  transport = 'http';

  definition() {
    return { transport: 'http', endpoint: `https://${this.server.address}/pushpull` };
  }

  async up() {
    if (!this.server.server.listening) await this.server.start();
  }

  async down() {
    if (this.server.server.listening) await this.server.stop();
    this.book.lost();
  }

  /** The next answer is torn off: half of it is written, then the connection ends. */
  async vanishTalking(object) {
    const text = JSON.stringify(object);
    await this.once((response) => {
      response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': text.length });
      response.write(text.slice(0, text.length / 2), () => response.socket.destroy());
    });
  }

  async garbage({ octets, binary }) {
    await this.once((response) => {
      response.writeHead(200, { 'Content-Type': binary ? 'application/octet-stream' : 'application/json' });
      response.end(octets);
    });
    this.book.lost();
  }

  /** Answers one request by itself, and waits for the daemon to come again. */
  async once(answer) {
    let done = false;
    const before = this.server.instead;
    this.server.instead = (request, response, body) => {
      if (done) return before(request, response, body);
      done = true;
      answer(response);
      return true;
    };
    await until(() => done, 'the daemon has asked');
    const { exchanges } = this.server;
    await until(() => this.server.exchanges > exchanges, 'the daemon has asked again');
    this.server.instead = before;
  }

  async close(check) {
    if (!this.server.server.listening) await this.server.start();
    await super.close(check);
  }
}

/** Sends what is due and what is owed on a WebSocket, a few SETs in each message. */
function say(book, socket) {
  if (socket.readyState !== WebSocket.OPEN) return;
  for (;;) {
    const due = book.due(7);
    const object = { ...book.verdicts(), ...(Object.keys(due).length && { sets: due }) };
    if (Object.keys(object).length === 0) return;
    socket.send(JSON.stringify(object));
  }
}

export const LINKS = [PartnerDialsWebSocket, PartnerPosts, DaemonDialsWebSocket, DaemonPosts];

/** A scenario: what happens on a link of this kind, which is opened before and closed after it. */
export function on(Link, name, happens, options = {}) {
  const scenario = async (place) => {
    const link = await Link.open(place, options);
    let well = false;
    try {
      const note = await happens(link);
      well = true;
      return note;
    } catch (error) {
      error.log = link.daemon.log.slice(-25);
      throw error;
    } finally {
      await link.close(well);
    }
  };
  return [`${Link.title}: ${name}`, scenario];
}
