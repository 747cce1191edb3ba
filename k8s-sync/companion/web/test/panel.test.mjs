// Names come from containers and say what they like. Elements are stood in for by the least that
// shows which text became what; a browser's own are in browser/drive.mjs.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { begin, read, visible } from '../src/model.js';
import { detail, document, edge, workload } from '../dev/fixture.mjs';

const HOSTILE = ['<img src=x onerror=alert(1)>', '"><script>alert(1)</script>', "');alert(1);//", '&lt;b&gt;', '\u202egnp.exe', 'javascript:alert(1)', '__proto__', 'constructor', '${alert(1)}', ''];

class Element {
  constructor(tag) {
    Object.assign(this, { tag, attributes: new Map(), children: [], heard: [] });
  }
  setAttribute(name, value) {
    this.attributes.set(name, value);
  }
  addEventListener(name, act) {
    assert.equal(typeof act, 'function');
    this.heard.push(name);
  }
  append(...children) {
    for (const child of children) assert.ok(typeof child === 'string' || child instanceof Element, String(child));
    this.children.push(...children);
  }
  all() {
    return [this, ...this.children.flatMap((child) => (typeof child === 'string' ? [] : child.all()))];
  }
  text() {
    return this.children.map((child) => (typeof child === 'string' ? child : child.text())).join(' ');
  }
}
globalThis.document = { createElement: (tag) => new Element(tag), createElementNS: (_, tag) => new Element(tag) };
const { bundlePanel, edgePanel, workloadPanel } = await import('../src/panel.js');

const TAGS = new Set(['header', 'div', 'h2', 'h3', 'p', 'button', 'dl', 'dt', 'dd', 'span', 'section', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'small', 'figure', 'figcaption', 'svg', 'rect', 'line', 'path', 'text', 'title']);

test('whatever names say stays text', () => {
  const workloads = HOSTILE.map((name, n) => workload(n + 1, HOSTILE[(n + 1) % HOSTILE.length], name, { kind: HOSTILE[n], r: 1, ok: 0.9 }));
  const edges = HOSTILE.map((p, n) => edge(100 + n, n, (n + 3) % HOSTILE.length, { p }));
  const model = read(document(workloads, edges));
  assert.equal(Object.getPrototypeOf({}), Object.prototype);
  const close = () => {};
  for (const [n, name] of HOSTILE.entries()) {
    const answer = detail(model.edges[n]);
    answer.protocols[0].codes[0].status = name;
    answer.protocols[0].systems = [name];
    answer.protocols[0].service = name;
    answer.transports[0].reporter = name;
    const parts = [
      ...edgePanel({ model, edge: model.edges[n], detail: answer, failed: false, history: [], go: close, close }),
      ...workloadPanel({ model, one: model.workloads.get(workloads[n].id), history: [], choose: close, close }),
      ...bundlePanel({ model, name, under: name, total: { rate: 1, ok: 1, p95: 1, live: 1, all: 2 }, edges: model.edges, choose: close, close }),
    ].filter(Boolean);
    assert.ok(parts.some((part) => part.text().includes(name)));
    for (const element of parts.flatMap((part) => part.all())) {
      assert.ok(TAGS.has(element.tag), element.tag);
      for (const [attribute, value] of element.attributes) {
        assert.ok(!/^(on|href|src|style|srcdoc)/.test(attribute), attribute);
        if (name !== '' && attribute !== 'aria-label') assert.ok(!value.includes(name) || name === 'constructor', `${attribute}=${value}`);
      }
    }
  }
});

test('names that JavaScript knows are namespaces like others', () => {
  const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
  const model = read(document(names.map((name, n) => workload(n + 1, name, name)), [edge(9, 0, 1), edge(10, 2, 3)]));
  const view = visible(model, { ...begin(), open: new Set(['__proto__']) });
  assert.equal(view.cards.size, 4);
  assert.deepEqual(view.links.length, 2);
});
