// JSON as strictly as a receiver of security events should read it: one value, UTF-8, no name twice, no lone surrogate,
// no number that has no value, bounded depth. Written by hand, because JSON.parse forgives the first of two names.

const DEPTH_MAX = 32;

/** The value in `octets` (a Buffer) or a text. Objects come without a prototype. Throws SyntaxError otherwise. */
export function parse(octets) {
  const text = typeof octets === 'string' ? octets : new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(octets);
  const reader = new Reader(text);
  const value = reader.value(1);
  reader.space();
  if (reader.at < text.length) reader.fail('something after the value');
  return value;
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  fail(what) {
    throw new SyntaxError(`at ${this.at}: ${what}`);
  }

  space() {
    while (' \t\n\r'.includes(this.text[this.at] ?? 'x')) this.at += 1;
  }

  /** Takes what the sticky expression matches, or fails. */
  take(expression, what) {
    expression.lastIndex = this.at;
    const [found] = expression.exec(this.text) ?? this.fail(`no ${what}`);
    this.at += found.length;
    return found;
  }

  value(depth) {
    this.space();
    if (depth > DEPTH_MAX + 1) this.fail('nested too deeply');
    switch (this.text[this.at]) {
      case '{':
        return this.object(depth);
      case '[':
        return this.array(depth);
      case '"':
        return this.string();
      case 't':
      case 'f':
      case 'n':
        return JSON.parse(this.take(/true|false|null/y, 'literal'));
      default: {
        const number = Number(this.take(/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y, 'value'));
        return Number.isFinite(number) ? number : this.fail('a number out of range');
      }
    }
  }

  object(depth) {
    const members = Object.create(null);
    this.list('}', () => {
      this.space();
      const name = this.string();
      if (name in members) this.fail(`the name ${name} twice`);
      this.space();
      this.take(/:/y, 'colon');
      members[name] = this.value(depth + 1);
    });
    return members;
  }

  array(depth) {
    const items = [];
    this.list(']', () => items.push(this.value(depth + 1)));
    return items;
  }

  list(end, item) {
    this.at += 1;
    this.space();
    if (this.text[this.at] === end) {
      this.at += 1;
      return;
    }
    for (;;) {
      item();
      this.space();
      if (this.take(/[,}\]]/y, 'comma or end') === ',') continue;
      if (this.text[this.at - 1] !== end) this.fail('the wrong bracket');
      return;
    }
  }

  string() {
    const found = this.take(/"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y, 'string');
    const text = JSON.parse(found);
    return text.isWellFormed() ? text : this.fail('half a surrogate pair');
  }
}

/** A Communication Object (draft §Communication Object) as [sets, ack, setErrs, maxResponseEvents]; throws if it is none. */
export function communicationObject(octets) {
  const object = parse(octets);
  const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
  const must = (holds, what) => {
    if (!holds) throw new TypeError(`no Communication Object: ${what}`);
  };
  must(isObject(object), 'no object');
  const { sets = {}, ack = [], setErrs = {}, maxResponseEvents = Infinity } = object;
  must(isObject(sets) && Object.values(sets).every((set) => typeof set === 'string'), 'sets');
  must(Array.isArray(ack) && ack.every((jti) => typeof jti === 'string'), 'ack');
  must(isObject(setErrs), 'setErrs');
  for (const error of Object.values(setErrs)) {
    must(isObject(error) && typeof error.err === 'string' && typeof error.description === 'string', 'an error in setErrs');
  }
  must(typeof maxResponseEvents === 'number' && maxResponseEvents >= 0, 'maxResponseEvents');
  for (const name of Object.keys(object)) {
    must(['sets', 'ack', 'setErrs', 'maxResponseEvents'].includes(name), `a member ${name} that nobody defined`);
  }
  return [sets, ack, setErrs, maxResponseEvents];
}
