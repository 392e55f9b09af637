// Runs the scenarios, a few at a time, and ends with a line `N passed, N failed`.

import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import * as matrix from './matrix.js';
import * as offline from './offline.js';
import * as requests from './requests.js';
import * as sockets from './sockets.js';
import { within } from './until.js';

/** Milliseconds for one scenario on a slow, shared machine. */
const PATIENCE = 240_000;

const words = process.argv.slice(2);
const chosen = [matrix, requests, sockets, offline].flatMap((module) => module.SCENARIOS).filter(
  ([name]) => words.length === 0 || words.some((word) => name.replaceAll(' ', '_').includes(word.replaceAll(' ', '_'))),
);

const { dependencies } = JSON.parse(await fs.readFile(new URL('./package.json', import.meta.url), 'utf8'));
const libraries = Object.entries(dependencies).map(([name, version]) => `${name} ${version}`);
console.log(`${process.env.PUSHPULL_BIN} against ${libraries.join(', ')}, Node ${process.versions.node}`);

let failed = 0;
const waiting = [...chosen];

async function lane() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const well = await passes(...next);
    if (!well) failed += 1;
  }
}

async function passes(name, scenario) {
  const started = performance.now();
  const took = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  const place = await fs.mkdtemp(path.join(os.tmpdir(), 'pushpull-interop-'));
  try {
    const note = await within(scenario(place), 'the scenario ends', PATIENCE);
    console.log(`passed  ${name} (${took()})${note ? `: ${note}` : ''}`);
    return true;
  } catch (error) {
    console.log(`FAILED  ${name} (${took()})`);
    console.error(error.stack, error.log ? `\n--- the end of the daemon's log\n${error.log.join('\n')}` : '');
    return false;
  } finally {
    await fs.rm(place, { recursive: true, force: true });
  }
}

await Promise.all(Array.from({ length: Number(process.env.INTEROP_JOBS ?? 4) }, lane));
console.log(`${chosen.length - failed} passed, ${failed} failed`);
// What a failed scenario left open must not keep the process.
process.exit(failed || chosen.length === 0 ? 1 : 0);
