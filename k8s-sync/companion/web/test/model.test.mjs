import assert from 'node:assert/strict';
import { test } from 'node:test';
import { begin, bright, found, gaps, History, keyOf, matches, read, rows, shape, visible } from '../src/model.js';
import { document, edge, large, random, shop, workload } from '../dev/fixture.mjs';

const small = () =>
  read(
    document(
      [workload(1, 'a', 'web'), workload(2, 'a', 'api', { r: 40, ok: 0.9, live: 1, all: 3 }), workload(3, 'b', 'db', { r: 5, ok: 1 })],
      [edge(10, 0, 1, { r: 30, ok: 0.9 }), edge(11, 0, 2, { r: 5, p95: 0.2, live: 1, all: 2 }), edge(12, 1, 2, { r: 15, p95: 0.1, ok: 1 })],
    ),
  );

test('namespaces begin collapsed, and links between them are sums', () => {
  const view = visible(small(), begin());
  assert.deepEqual([...view.cards.keys()], ['n:a', 'n:b']);
  assert.equal(view.links.length, 1);
  const [link] = view.links;
  assert.deepEqual([link.from, link.to, link.rate, link.p95, link.edges.length], ['n:a', 'n:b', 20, 0.2, 2]);
  // The one that lacks most says what is lacking.
  assert.deepEqual([link.live, link.all], [1, 2]);
  const a = view.cards.get('n:a');
  assert.deepEqual([a.rate, a.ok, a.self, a.live, a.all], [40, 0.9, 30, 1, 3]);
});

test('an open namespace shows its workloads, and links lead to them', () => {
  const state = begin();
  state.open.add('a');
  const view = visible(small(), state);
  const [web, api] = [1, 2].map((n) => keyOf.workload(n.toString(16).padStart(16, '0')));
  assert.deepEqual([...view.cards.keys()].sort(), ['n:b', web, api].sort());
  assert.deepEqual(view.links.map(({ from, to }) => [from, to]), [[web, api], [web, 'n:b'], [api, 'n:b']]);
  assert.deepEqual(view.frames.map(({ ns, members }) => [ns, members]), [['a', 2]]);
  assert.deepEqual([...bright(view, api)].sort(), [web, api, 'n:b', `${web}>${api}`, `${api}>n:b`].sort());
  assert.equal(bright(view, null), null);
});

test('what is hidden has no card and no link, and rates of what is shown stay', () => {
  const state = begin();
  state.hidden.add('b');
  const view = visible(small(), state);
  assert.deepEqual([[...view.cards.keys()], view.links.length], [['n:a'], 0]);
  assert.equal(rows(small(), state, { by: 'rate', down: true }, 9).all, 1);
});

test('every edge is in exactly one link or within one card, whatever is open', () => {
  const draw = random(3);
  for (let n = 0; n < 30; n += 1) {
    const model = read(large(80, 200, n));
    const state = begin();
    for (const ns of model.namespaces.keys()) if (draw() < 0.5) state.open.add(ns);
    const view = visible(model, state);
    const all = view.links.reduce((sum, link) => sum + link.rate, 0) + [...view.cards.values()].reduce((sum, card) => sum + card.self, 0);
    const total = model.edges.reduce((sum, one) => sum + one.r, 0);
    assert.ok(Math.abs(all - total) < total * 1e-9, `${all} ${total}`);
    for (const { from, to } of view.links) assert.ok(view.cards.has(from) && view.cards.has(to));
  }
});

test('a shape is the same while only figures change', () => {
  const state = begin();
  assert.equal(shape(visible(read(shop(1)), state)), shape(visible(read(shop(2)), state)));
  const other = begin();
  other.open.add('shop');
  assert.notEqual(shape(visible(read(shop(1)), state)), shape(visible(read(shop(1)), other)));
});

test('a search takes words in any order, of namespace, name and kind', () => {
  const one = workload(1, 'shop', 'cart-redis', { kind: 'StatefulSet' });
  for (const query of ['', ' ', 'cart', 'CART', 'redis shop', 'shop/cart', 'stateful']) assert.ok(matches(query, one), query);
  for (const query of ['carts', 'cart pay', '<']) assert.ok(!matches(query, one), query);
  const model = read(shop());
  assert.deepEqual([found(model, '', 5), found(model, 'db', 2).all], [{ list: [], all: 0 }, 3]);
  const state = { ...begin(), query: 'ledger' };
  assert.equal(visible(model, state).cards.get('n:pay').found, 2);
  assert.ok(visible(model, state).cards.get('n:shop').dim);
});

test('rows are sorted by what is asked for, and bounded', () => {
  const model = read(shop());
  for (const by of ['client', 'server', 'rate', 'ok', 'p95', 'nodes']) {
    const [up, down] = [false, true].map((turn) => rows(model, begin(), { by, down: turn }, 1000).list);
    assert.equal(up.length, model.edges.length, by);
    assert.equal(down.length, up.length);
  }
  assert.deepEqual(rows(model, begin(), { by: 'rate', down: true }, 1).list[0].r, Math.max(...model.edges.map(({ r }) => r)));
});

test('what is missing is told: silent nodes, losses, what is left out', () => {
  assert.deepEqual(gaps(read(shop())), { nodes: 1, lost: 312, leftOut: 0 });
  assert.deepEqual(gaps(read(document([], [], { left_out: { workloads: 2, edges: 3 } }))), { nodes: 0, lost: 0, leftOut: 5 });
});

test('history is bounded by time and by what is there', () => {
  const history = new History(3);
  for (let n = 0; n < 10; n += 1) history.take(small());
  assert.equal(history.of('e:000000000000000a').length, 3);
  history.take(read(document([], [])));
  assert.deepEqual([history.series.size, history.of('e:000000000000000a')], [0, []]);
});
