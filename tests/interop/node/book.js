// What the partner knows, whichever way the objects travel: what it has stored, owes, has sent, and was told.

import * as sets from './sets.js';
import { communicationObject } from './json.js';
import { until } from './until.js';

/** Milliseconds after which a SET without a verdict is sent again. */
const AGAIN = 1500;

export class Book {
  constructor(signers) {
    this.signers = signers;
    // Verifies what the daemon signs; set once its keys can be had.
    this.keys = null;
    // SETs of the daemon: the bytes stored once, and how often they came.
    this.inbox = new Map();
    this.arrivals = new Map();
    // Our verdicts that have not left yet.
    this.owed = { ack: new Set(), setErrs: new Map() };
    // Our SETs: { compact, sentAt, verdict: undefined | 'acked' | the error }.
    this.outbox = new Map();
    // A scenario's say about a SET that is sound: undefined to ack it, 'silence', or an error.
    this.policy = () => undefined;
    // What went against the specifications; a scenario ends by finding none.
    this.faults = [];
  }

  jwks() {
    return { keys: this.signers.map((signer) => signer.jwk) };
  }

  /** Gives SETs into the outbox, from where the link takes them. */
  submit(map) {
    for (const [jti, compact] of map) this.outbox.set(jti, { compact, sentAt: -Infinity, verdict: undefined });
  }

  /** Knows of SETs that a scenario sends by itself, so that verdicts about them are no surprise. */
  note(map) {
    for (const [jti, compact] of map) this.outbox.set(jti, { compact, sentAt: Infinity, verdict: undefined });
  }

  /** The SETs to send now, at most so many, which counts as having sent them. */
  due(most = Infinity) {
    const now = performance.now();
    const found = {};
    for (const [jti, entry] of this.outbox) {
      if (Object.keys(found).length >= most) break;
      if (entry.verdict !== undefined || now - entry.sentAt < AGAIN) continue;
      entry.sentAt = now;
      found[jti] = entry.compact;
    }
    return found;
  }

  /** Everything that was sent may be lost, so it is due again. */
  lost() {
    for (const entry of this.outbox.values()) entry.sentAt = -Infinity;
  }

  /** The verdicts that have not left, and forgets them; `owe` takes them back. */
  verdicts() {
    const { ack, setErrs } = this.owed;
    this.owed = { ack: new Set(), setErrs: new Map() };
    return { ...(ack.size && { ack: [...ack] }), ...(setErrs.size && { setErrs: Object.fromEntries(setErrs) }) };
  }

  owe({ ack = [], setErrs = {} }) {
    ack.forEach((jti) => this.owed.ack.add(jti));
    Object.entries(setErrs).forEach(([jti, error]) => this.owed.setErrs.set(jti, error));
  }

  /** Takes an object of the daemon in; returns its maxResponseEvents. */
  async take(octets) {
    const [received, ack, setErrs, most] = communicationObject(octets);
    for (const jti of ack) this.told(jti, 'acked');
    for (const [jti, error] of Object.entries(setErrs)) this.told(jti, error);
    await Promise.all(Object.entries(received).map(([jti, compact]) => this.judge(jti, compact)));
    return most;
  }

  told(jti, verdict) {
    const entry = this.outbox.get(jti);
    if (!entry) {
      this.faults.push(`a verdict about ${jti}, which we never sent`);
    } else if (entry.verdict === undefined) {
      entry.verdict = verdict;
    } else if ((entry.verdict === 'acked') !== (verdict === 'acked')) {
      this.faults.push(`${jti} was ${JSON.stringify(entry.verdict)} and then ${JSON.stringify(verdict)}`);
    }
  }

  /** RFC 8935 has a SET that comes again answered as if it had not come before. */
  async judge(jti, compact) {
    this.arrivals.set(jti, (this.arrivals.get(jti) ?? 0) + 1);
    const stored = this.inbox.get(jti);
    if (stored !== undefined && stored !== compact) this.faults.push(`${jti} came with other bytes`);
    try {
      await sets.verify(jti, compact, this.keys);
    } catch (error) {
      if (!(error instanceof sets.Refusal)) throw error;
      this.faults.push(`${jti}: ${error.err}: ${error.message}`);
      this.owed.setErrs.set(jti, { err: error.err, description: error.message });
      return;
    }
    this.inbox.set(jti, compact);
    const say = this.policy(jti);
    if (say === undefined) this.owed.ack.add(jti);
    else if (say !== 'silence') this.owed.setErrs.set(jti, say);
  }

  /** Waits until each of our SETs has its verdict, and each was acked. */
  async allAcked(jtis = this.outbox.keys()) {
    const names = [...jtis];
    const open = () => names.filter((jti) => this.outbox.get(jti).verdict === undefined);
    await until(() => open().length === 0, 'all have a verdict', () => `${open().length} of ${names.length} have none`);
    const refused = names.map((jti) => this.outbox.get(jti).verdict).filter((verdict) => verdict !== 'acked');
    if (refused.length) throw new Error(`refused: ${JSON.stringify(refused)}`);
  }

  /** Waits until each of the daemon's SETs is in the inbox. */
  async allReceived(jtis) {
    const missing = () => jtis.filter((jti) => !this.inbox.has(jti));
    await until(() => missing().length === 0, 'all received', () => `${missing().length} of ${jtis.length} not, ${this.faults}`);
  }

  times(jti) {
    return this.arrivals.get(jti) ?? 0;
  }
}
