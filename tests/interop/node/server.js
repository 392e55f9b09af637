// The partner as Responder, on one port as the draft has it: it publishes keys, takes POSTs, and accepts WebSockets.

import { once } from 'node:events';
import https from 'node:https';
import { WebSocketServer } from 'ws';
import { selfSigned } from './certificate.js';
import { converse } from './dialler.js';

export const TOKEN = 'daemon-presents-this-token-to-node-0123456789';

export class Server {
  constructor(book) {
    this.book = book;
    this.certificate = selfSigned();
    this.port = 0;
    // How often the keys were asked for, and what is answered instead of them.
    this.keyRequests = 0;
    this.keyFailure = null;
    // Requests that were answered, TLS connections, and those of them that resumed a session.
    this.exchanges = this.connections = this.resumed = 0;
    // A scenario's hand on a POST: it may answer by itself and say so with true.
    this.instead = () => false;
    // Answers as a scenario wants them; by default whole, with their length.
    this.write = (response, text) => {
      response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
      response.end(text);
    };
    // Settings of Node's server about connections that are kept.
    this.patience = {};
    // What a scenario may change about WebSockets before the daemon dials.
    this.acceptsWebSockets = true;
    this.subprotocol = 'pushpull';
    this.offers = [];
    this.sockets = [];
    this.pings = 0;
    this.faults = [];
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get address() {
    return `127.0.0.1:${this.port}`;
  }

  async start() {
    const { key, cert } = this.certificate;
    // It would take compression, but the draft has no Extension data, so nobody should offer it.
    this.upgrades = new WebSocketServer({
      noServer: true,
      perMessageDeflate: true,
      maxPayload: 1 << 24,
      handleProtocols: (offered) => {
        this.offers.push([...offered]);
        return this.subprotocol;
      },
    });
    this.upgrades.on('connection', (socket, request) => this.connected(socket, request));
    this.server = Object.assign(https.createServer({ key, cert }), this.patience);
    // Node's server does not know of connections whose TLS handshake is under way.
    this.open = new Set();
    const keep = (socket) => {
      this.open.add(socket);
      socket.once('close', () => this.open.delete(socket));
    };
    this.server.on('connection', keep);
    this.server.on('secureConnection', (socket) => {
      keep(socket);
      this.connections += 1;
      this.resumed += socket.isSessionReused() ? 1 : 0;
    });
    this.server.on('request', (request, response) => this.request(request, response).catch((error) => this.faults.push(error)));
    this.server.on('upgrade', (request, socket, head) => this.upgrade(request, socket, head));
    this.server.listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
    this.port = this.server.address().port;
  }

  /** Vanishes: every connection ends without a word, and nobody listens. */
  async stop() {
    const gone = once(this.server, 'close');
    this.server.close();
    for (const socket of this.sockets) socket.terminate();
    // All of them: one that stayed would be served, and the daemon would keep it for ever.
    for (const socket of this.open) socket.destroy();
    await gone;
  }

  admits(request) {
    return request.headers.authorization === `Bearer ${TOKEN}`;
  }

  async request(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    if (request.method === 'GET' && request.url === '/jwks.json') {
      this.keyRequests += 1;
      if (this.keyFailure) {
        response.writeHead(this.keyFailure).end('out of order');
        return;
      }
      response.setHeader('Content-Type', 'application/jwk-set+json; charset=utf-8');
      response.end(JSON.stringify(this.book.jwks()));
    } else if (request.url !== '/pushpull') {
      response.writeHead(404).end();
    } else if (request.method !== 'POST') {
      response.writeHead(405, { Allow: 'POST' }).end();
    } else if (!this.admits(request)) {
      response.writeHead(401, { 'WWW-Authenticate': 'Bearer' }).end();
    } else if (request.headers['content-type'] !== 'application/json') {
      this.faults.push(`content-type ${request.headers['content-type']}`);
      response.writeHead(415).end();
    } else if (!(await this.instead(request, response, body))) {
      const most = await this.book.take(body);
      const due = this.book.due(most);
      const answer = { ...this.book.verdicts(), ...(Object.keys(due).length && { sets: due }) };
      this.exchanges += 1;
      await this.write(response, JSON.stringify(answer));
    }
  }

  upgrade(request, socket, head) {
    if (!this.acceptsWebSockets) {
      socket.end('HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    } else if (!this.admits(request) || request.url !== '/pushpull') {
      socket.end('HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    } else {
      this.upgrades.handleUpgrade(request, socket, head, (open) => this.upgrades.emit('connection', open, request));
    }
  }

  connected(socket, request) {
    if (request.headers['sec-websocket-extensions']) this.faults.push('the daemon offers extensions');
    this.sockets.push(socket);
    socket.on('ping', () => {
      this.pings += 1;
    });
    converse(this.book, socket, this.faults);
  }
}
