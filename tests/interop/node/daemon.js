// The program under test, as an operator and an application use it: its commands, its daemon, its admin API.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import readline from 'node:readline';
import { promisify } from 'node:util';
import { Agent, request } from 'undici';
import { US } from './sets.js';
import { until } from './until.js';

const PROGRAM = process.env.PUSHPULL_BIN ?? 'pushpull';

// Pauses short enough for a test; everything else is as by default.
const CONFIGURATION = `
[network]
allow = ["127.0.0.0/8"]

[delivery]
retry_first = "300ms"
speak_interval = "250ms"
ping_interval = "2s"
`;

function environment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PUSHPULL_')));
}

/** Runs a command of the program; its stdout. Fails unless it ends with 0. */
export async function run(...words) {
  const { stdout } = await promisify(execFile)(PROGRAM, words, { env: environment() });
  return stdout;
}

export class Daemon {
  /** Everything that a daemon needs, made with `init`. It does not run yet. */
  static async make(place, alg = 'ES256') {
    const daemon = new Daemon();
    daemon.directory = path.join(place, 'us');
    daemon.config = path.join(daemon.directory, 'pushpull.toml');
    daemon.log = [];
    const anywhere = '127.0.0.1:0';
    await run('init', daemon.directory, '--issuer', US, '--listen', anywhere, '--admin-listen', anywhere, '--alg', alg);
    await daemon.append(CONFIGURATION);
    return daemon;
  }

  async append(text) {
    await fs.appendFile(this.config, text);
  }

  async start() {
    this.log.length = 0;
    this.process = spawn(PROGRAM, ['serve', '-c', this.config], { env: environment(), stdio: ['ignore', 'ignore', 'pipe'] });
    this.ended = once(this.process, 'exit');
    readline.createInterface({ input: this.process.stderr }).on('line', (line) => {
      this.log.push(line);
    });
    const ready = await until(() => {
      if (this.process.exitCode !== null) throw new Error(`the daemon ended with ${this.process.exitCode}: ${this.log.slice(-5)}`);
      return this.log.filter((line) => line.includes('"ready"')).map((line) => JSON.parse(line))[0];
    }, 'the daemon is ready');
    [this.address, this.admin] = [ready.listen, ready.admin];
    this.token = (await fs.readFile(path.join(this.directory, 'admin.token'), 'utf8')).trim();
    this.agent = new Agent();
  }

  /** Ends it by SIGTERM, or as a power cut would. */
  async stop(signal = 'SIGTERM') {
    if (!this.process) return;
    this.process.kill(signal);
    const impatience = setTimeout(() => this.process.kill('SIGKILL'), 30_000);
    await this.ended;
    clearTimeout(impatience);
    await this.agent?.destroy();
    this.process = this.agent = null;
  }

  /** Keeps the ports when it is started again, as a daemon behind a public name does. */
  async keepPorts() {
    const text = await fs.readFile(this.config, 'utf8');
    let found = 0;
    const ports = [this.address, this.admin];
    await fs.writeFile(this.config, text.replace(/"127\.0\.0\.1:0"/g, () => `"${ports[found++]}"`));
    assert.equal(found, 2, 'the configuration names both ports');
  }

  async call(method, target, body, type = 'application/json') {
    const headers = { authorization: `Bearer ${this.token}`, ...(body !== undefined && { 'content-type': type }) };
    const answer = await request(`http://${this.admin}${target}`, { method, headers, body, dispatcher: this.agent });
    const text = await answer.body.text();
    assert.ok(answer.statusCode < 300, `${method} ${target}: ${answer.statusCode} ${text}`);
    return JSON.parse(text);
  }

  /** Submits so many events in one request; their jtis. */
  async submit(count) {
    const lines = Array.from({ length: count }, (_, number) =>
      JSON.stringify({
        peer: 'partner',
        type: 'caep:session-revoked',
        sub_id: { format: 'email', email: `user-${number}@us.interop.example` },
        event: { event_timestamp: 1_700_000_000 + number, reason_admin: { en: `№ ${number} "\\\u2028<&> 🔑` } },
      }),
    );
    const { jtis } = await this.call('POST', '/api/v1/events', lines.join('\n'), 'application/x-ndjson');
    assert.equal(new Set(jtis).size, count);
    return jtis;
  }

  peer() {
    return this.call('GET', '/api/v1/peers/partner');
  }

  async record(jti) {
    const { records } = await this.call('GET', `/api/v1/events/${jti}`);
    return records.find((record) => record.direction === 'out');
  }

  /** Everything in the inbox, without changing it. */
  async inbox() {
    const all = [];
    for (let after = 0; ; after = all.at(-1).seq) {
      const { sets } = await this.call('GET', `/api/v1/inbox?max=1000&after=${after}`);
      if (!sets.length) return all;
      all.push(...sets);
    }
  }

  /** Waits until the partner's counters are these and nothing is under way. */
  async settled(counts) {
    const wanted = { queued: 0, in_flight: 0, owed: 0, refused: 0, dead: 0, ...counts };
    const found = async () => {
      const peer = await this.peer();
      return Object.fromEntries(Object.keys(wanted).map((name) => [name, peer[name]]));
    };
    const agree = async () => Object.entries(await found()).every(([name, count]) => count === wanted[name]);
    await until(agree, `the counters are ${JSON.stringify(wanted)}`, found);
  }

  /** The inbox holds these SETs, byte for byte, each once. */
  async holds(outbox) {
    const inbox = await this.inbox();
    assert.equal(new Set(inbox.map(({ jti }) => jti)).size, inbox.length, 'a SET is there twice');
    const sorted = (pairs) => Object.fromEntries([...pairs].sort());
    assert.deepEqual(sorted(inbox.map(({ jti, set }) => [jti, set])), sorted(outbox), 'the inbox');
  }
}
