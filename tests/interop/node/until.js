// Waits for what has to become true, with a generous deadline instead of a guess.

import { setTimeout as sleep } from 'node:timers/promises';

export { sleep };

/** The first true value of `condition`, which is asked again and again; `found` says what there is instead. */
export async function until(condition, what, found = () => undefined, seconds = 60) {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > deadline) {
      const instead = await found();
      throw new Error(`not within ${seconds} s: ${what}${instead === undefined ? '' : `, found ${JSON.stringify(instead)}`}`);
    }
    await sleep(20);
  }
}

/** Ends after so many milliseconds at the latest, by an error that names what was waited for. */
export async function within(promise, what, milliseconds = 30_000) {
  const stop = new AbortController();
  const late = sleep(milliseconds, undefined, { signal: stop.signal }).then(() => {
    throw new Error(`not within ${milliseconds} ms: ${what}`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    stop.abort();
  }
}
