// The partner as Initiator: it knows of the daemon what its card says, and dials it with ws and undici.

import assert from 'node:assert/strict';
import * as jose from 'jose';
import { parse as toml } from 'smol-toml';
import { Agent, fetch } from 'undici';
import { WebSocket } from 'ws';
import { pinned } from './certificate.js';
import { run } from './daemon.js';
import { within } from './until.js';

export const TOKEN = 'node-presents-this-token-to-the-daemon-0123456789';

export class Dialler {
  /** Reads the card, checks the pin, and fetches the published keys whenever they are needed. */
  static async of(daemon) {
    const dialler = new Dialler();
    [dialler.card] = toml(await run('peer', 'card', '-c', daemon.config, '--public', daemon.address)).peer;
    dialler.tls = await pinned(daemon.address, dialler.card.tls_pin);
    dialler.url = dialler.card.endpoint;
    dialler.httpUrl = new URL(dialler.url.replace(/^wss:/, 'https:'));
    dialler.agent = new Agent({ connect: dialler.tls });
    // jose fetches anew when it meets a kid it does not know; the pause between two fetches is short here.
    dialler.keys = jose.createRemoteJWKSet(new URL(dialler.card.jwks_uri), {
      cooldownDuration: 50,
      [jose.customFetch]: (url, options) => fetch(url, { ...options, dispatcher: dialler.agent }),
    });
    return dialler;
  }

  get authorization() {
    return { Authorization: `Bearer ${TOKEN}` };
  }

  /** A WebSocket of the library ws, once it is open. */
  async open(protocols = ['pushpull'], options = {}) {
    const socket = this.dial(protocols, options);
    await within(
      new Promise((resolve, reject) => {
        socket.once('open', resolve);
        socket.once('error', reject);
      }),
      'the WebSocket opens',
    );
    assert.equal(socket.protocol, 'pushpull');
    assert.equal(socket.extensions, '', 'compression was offered and has to be declined');
    return socket;
  }

  dial(protocols, options = {}) {
    const socket = new WebSocket(this.url, protocols, { ...this.tls, headers: this.authorization, maxPayload: 1 << 24, ...options });
    socket.on('error', () => {});
    return socket;
  }

  /** The status with which the daemon answers a handshake that it does not take. */
  async refused(protocols, options) {
    const socket = this.dial(protocols, options);
    return within(
      new Promise((resolve, reject) => {
        socket.once('open', () => reject(new Error('the WebSocket was opened')));
        socket.once('error', reject);
        socket.once('unexpected-response', (request, response) => {
          resolve(response.statusCode);
          request.destroy();
        });
      }),
      'the handshake is refused',
    );
  }

  async close() {
    await this.agent.destroy();
  }
}

/** Answers whatever arrives on a WebSocket, either end, until it is closed. */
export function converse(book, socket, faults) {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => {
    if (isBinary) faults.push('a binary message');
    book
      .take(data)
      .then(() => {
        const answer = book.verdicts();
        if (Object.keys(answer).length === 0) return;
        if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(answer));
        // It goes with the next object of any connection.
        else book.owe(answer);
      })
      .catch((error) => faults.push(error));
  });
}

/** The code with which the other end closes; with 1006 it went without a word. */
export function closed(socket) {
  return within(new Promise((resolve) => socket.once('close', (code) => resolve(code))), 'the WebSocket closes');
}
