import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, count, health, percent, rate, time, workload } from '../src/format.js';
import { bars, place } from '../src/histogram.js';

test('figures are as people read them', () => {
  assert.deepEqual([0, NaN, 0.01, 0.5, 9.96, 42.4, 999, 1234, 56789, 3.2e6].map(rate), ['0/s', '0/s', '<0.1/s', '0.5/s', '10.0/s', '42/s', '999/s', '1.2k/s', '57k/s', '3.2M/s']);
  assert.deepEqual([null, 1, 0.99999, 0.995, 0.951, 0, undefined].map(percent), ['–', '100%', '99.99%', '99.50%', '95.1%', '0.00%', '–']);
  assert.deepEqual([null, 5e-7, 0.0004, 0.0042, 0.25, 12.34, 250].map(time), ['–', '1 µs', '400 µs', '4.2 ms', '250 ms', '12.3 s', '250 s']);
  assert.deepEqual([0, 999, 1500, 2.5e9].map(bytes), ['0 B/s', '999 B/s', '1.5 kB/s', '2.5 GB/s']);
  assert.deepEqual([7, 1234567].map(count), ['7', '1\u202f234\u202f567']);
  assert.deepEqual([null, 1, 0.99, 0.5].map(health), ['none', 'good', 'fair', 'poor']);
  assert.deepEqual([{ name: '_unknown', kind: 'Pending' }, { name: '_unknown', kind: 'NotFound' }, { name: 'web', kind: 'Pod' }].map(workload), ['not known yet', 'unknown', 'web']);
});

test('buckets become bars without gaps, and none is lost', () => {
  assert.deepEqual(bars([], 4, 40), []);
  assert.deepEqual(bars([[null, 3]], 4, 40), [{ from: 0, to: 2 ** -20, count: 3 }]);
  const list = bars([[null, 1], [-320, 5], [-319, 2], [-250, 4]], 4, 40);
  assert.equal(list.reduce((all, bar) => all + bar.count, 0), 12);
  list.slice(1).forEach((bar, n) => assert.equal(bar.from, list[n].to));
  // A bucket ends where its bar does, at most.
  assert.ok(list[0].to >= 2 ** (-320 / 32) && list[0].from < 2 ** (-320 / 32));
  for (const most of [5, 40]) {
    const wide = bars([[-600, 1], [0, 1], [380, 1]], 4, most);
    assert.ok(wide.length <= most, `${wide.length}`);
    assert.equal(wide.reduce((all, bar) => all + bar.count, 0), 3);
  }
});

test('a quantile stands where its bar is', () => {
  const list = bars([[-320, 5], [-160, 5]], 4, 40);
  assert.equal(place(list, null), null);
  assert.equal(place([], 1), null);
  assert.equal(place(list, 1e6), null);
  assert.ok(place(list, list[0].to) <= 1 / list.length + 1e-9);
  assert.ok(place(list, list[list.length - 1].to) > 1 - 1e-9);
});
