import assert from 'node:assert/strict';
import { test } from 'node:test';
import { layered } from '../src/layout.js';
import { begin, read, visible } from '../src/model.js';
import { arrange, camera, next, under } from '../src/scene.js';
import { large, random, shop } from '../dev/fixture.mjs';

const box = (key) => ({ key, w: 100, h: 40 });

function overlaps(places, nodes) {
  const all = nodes.map(({ key, w, h }) => ({ key, w, h, ...places.get(key) }));
  for (let i = 0; i < all.length; i += 1) {
    for (let j = i + 1; j < all.length; j += 1) {
      const [a, b] = [all[i], all[j]];
      if (a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h) return `${a.key} ${b.key}`;
    }
  }
  return null;
}

test('who asks stands left of who is asked', () => {
  const { at } = layered(['c', 'b', 'a', 'd'].map(box), [['a', 'b'], ['b', 'c'], ['a', 'c'], ['c', 'd']]);
  const x = ['a', 'b', 'c', 'd'].map((key) => at.get(key).x);
  assert.deepEqual(x, [...x].sort((p, q) => p - q));
  assert.equal(new Set(x).size, 4);
});

test('of a circle the lightest edge points back', () => {
  const { at } = layered(['a', 'b', 'c'].map(box), [['a', 'b', 9], ['b', 'c', 9], ['c', 'a', 1]]);
  assert.ok(at.get('a').x < at.get('b').x && at.get('b').x < at.get('c').x);
});

test('no two boxes overlap, every box has a place, and the same input has the same places', () => {
  const draw = random(11);
  for (let n = 0; n < 60; n += 1) {
    const count = 1 + Math.floor(draw() * 60);
    const nodes = Array.from({ length: count }, (_, i) => ({ key: `k${i}`, w: 60 + draw() * 200, h: 30 + draw() * 300 }));
    const edges = Array.from({ length: Math.floor(draw() * count * 2) }, () => [`k${Math.floor(draw() * count)}`, `k${Math.floor(draw() * count)}`, draw()]);
    const one = layered(nodes, edges);
    assert.equal(one.at.size, count);
    assert.equal(overlaps(one.at, nodes), null, `round ${n}`);
    for (const { key, w, h } of nodes) {
      const { x, y } = one.at.get(key);
      assert.ok(x >= -1e-6 && y >= -1e-6 && x + w <= one.width + 1e-6 && y + h <= one.height + 1e-6, `round ${n} ${key}`);
    }
    assert.deepEqual([...layered(nodes, edges).at], [...one.at]);
  }
});

test('nothing at all, one box, and an edge to itself are laid out', () => {
  assert.deepEqual([layered([], []).width, layered([box('a')], []).at.get('a')], [0, { x: 0, y: 0 }]);
  assert.deepEqual(layered([box('a')], [['a', 'a'], ['a', 'gone']]).at.get('a'), { x: 0, y: 0 });
});

test('a scene has a place for all that is visible, and finds what is under a point', () => {
  const model = read(shop());
  for (const open of [[], ['shop'], [...model.namespaces.keys()]]) {
    const view = visible(model, { ...begin(), open: new Set(open) });
    const scene = arrange(view);
    assert.deepEqual([...scene.boxes.keys()].sort(), [...view.cards.keys()].sort());
    assert.deepEqual([...scene.curves.keys()].sort(), view.links.map(({ key }) => key).sort());
    const nodes = [...scene.boxes].map(([key, { w, h }]) => ({ key, w, h }));
    assert.equal(overlaps(scene.boxes, nodes), null);
    for (const [key, { x, y, w, h }] of scene.boxes) {
      assert.deepEqual(under(scene, { x: x + w / 2, y: y + h / 2 }, 5), { type: 'card', key });
    }
    assert.equal(under(scene, { x: -1e5, y: -1e5 }, 5), null);
    for (const { points } of scene.curves.values()) assert.ok(points.every(Number.isFinite));
  }
});

test('arrow keys reach every card that has one in their direction', () => {
  const scene = arrange(visible(read(shop()), begin()));
  const first = next(scene, null, [1, 0]);
  assert.ok(scene.boxes.has(first));
  const seen = new Set([first]);
  const todo = [first];
  while (todo.length > 0) {
    const key = todo.pop();
    for (const way of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      const other = next(scene, key, way);
      if (!seen.has(other)) {
        seen.add(other);
        todo.push(other);
      }
    }
  }
  assert.equal(seen.size, scene.boxes.size);
});

test('the place under the pointer stays while it is zoomed', () => {
  let look = camera.fit({ width: 3000, height: 500 }, { w: 1000, h: 800 });
  const at = { x: 333, y: 222 };
  const before = camera.toScene(look, at);
  for (const by of [2, 0.3, 5, 0.01, 100]) look = camera.zoom(look, at, by);
  const after = camera.toScene(look, at);
  assert.ok(Math.hypot(after.x - before.x, after.y - before.y) < 1e-6);
  const shown = camera.reveal(look, { x: 9000, y: 9000, w: 100, h: 50 }, { w: 1000, h: 800 });
  const corner = { x: (9000 - shown.x) * shown.scale, y: (9000 - shown.y) * shown.scale };
  assert.ok(corner.x >= 0 && corner.x <= 1000 && corner.y >= 0 && corner.y <= 800);
});

test('a large cluster is laid out in time', () => {
  const model = read(large(1000, 5000));
  const began = performance.now();
  const view = visible(model, { ...begin(), open: new Set(model.namespaces.keys()) });
  const scene = arrange(view);
  const took = performance.now() - began;
  assert.equal(scene.boxes.size, 1000);
  // 0.2 s where nothing else runs.
  assert.ok(took < 3000, `${took} ms`);
});
