// Where everything is: cards, frames of open namespaces, and the curves between them. Pure.

import { layered } from './layout.js';
import { keyOf } from './model.js';

const WORKLOAD = { w: 190, h: 52 };
const NAMESPACE = { w: 212, h: 70 };
const PAD = 18;
const HEAD = 38;
/** Points of a curve for finding what is under the pointer. */
const SAMPLES = 12;

/**
 * Places for what is visible, for a window `aspect` times as wide as high. Costs some milliseconds; to
 * be kept while `shape` stays the same.
 */
export function arrange(view, aspect = 1.6) {
  const nsOf = (key) => view.cards.get(key)?.ns;
  const inner = new Map();
  for (const frame of view.frames) {
    const members = [...view.cards.values()].filter((card) => card.ns === frame.ns);
    const keys = new Set(members.map(({ key }) => key));
    const within = view.links.filter(({ from, to }) => keys.has(from) && keys.has(to));
    const nodes = members.map(({ key }) => ({ key, ...WORKLOAD })).sort(byKey);
    inner.set(frame.key, layered(nodes, within.map(weighed).sort(byEnds), { gapX: 74, gapY: 16, rows: 10, aspect: 2 }));
  }
  const size = (card) => ({ key: card.key, ...NAMESPACE });
  const top = [...view.cards.values()].filter(({ type }) => type === 'namespace').map(size);
  for (const [key, { width, height }] of inner) {
    top.push({ key, w: Math.max(width, NAMESPACE.w - 2 * PAD) + 2 * PAD, h: height + HEAD + PAD });
  }
  const between = view.links
    .map((link) => [keyOf.namespace(nsOf(link.from)), keyOf.namespace(nsOf(link.to)), weight(link)])
    .filter(([a, b]) => a !== b)
    .sort(byEnds);
  const gaps = { gapX: 92, gapY: 30, rows: 10, aspect };
  let outer = layered(top.sort(byKey), between, gaps);
  // Lower than the window: room between rows rather than above and below all of them.
  const wider = outer.width / Math.max(1, outer.height) / aspect;
  if (wider > 1.2) outer = layered(top, between, { ...gaps, gapY: gaps.gapY * Math.min(3.5, wider) });
  const boxes = new Map();
  const frames = new Map();
  for (const { key, w, h } of top) {
    const { x, y } = outer.at.get(key);
    if (!inner.has(key)) {
      boxes.set(key, { x, y, w, h });
      continue;
    }
    frames.set(key, { x, y, w, h });
    for (const [member, at] of inner.get(key).at) {
      boxes.set(member, { x: x + PAD + at.x, y: y + HEAD + at.y, ...WORKLOAD });
    }
  }
  const curves = new Map();
  const ports = portsOf(view, boxes);
  for (const link of view.links) {
    const [a, b] = [keyOf.namespace(nsOf(link.from)), keyOf.namespace(nsOf(link.to))];
    const offset = a === b ? frames.get(a) : null;
    const found = a === b ? inner.get(a)?.bends.get(`${link.from}>${link.to}`) : outer.bends.get(`${a}>${b}`);
    const shift = offset ? { x: offset.x + PAD, y: offset.y + HEAD } : { x: 0, y: 0 };
    const bends = (found ?? []).map((point) => ({ x: point.x + shift.x, y: point.y + shift.y }));
    curves.set(link.key, curve(link, boxes, ports, bends));
  }
  return { boxes, frames, curves, width: outer.width, height: outer.height };
}

function byKey(a, b) {
  return a.key < b.key ? -1 : 1;
}

/** Adds up, so that namespaces stand the same way whether they are open or not. */
function weight({ rate, edges }) {
  return edges.length + rate;
}

function weighed(link) {
  return [link.from, link.to, weight(link)];
}

function byEnds([a, b], [c, d]) {
  return `${a} ${b}` < `${c} ${d}` ? -1 : 1;
}

/** Where on the sides of a card its links begin and end: in the order of their other ends. */
function portsOf(view, boxes) {
  const sides = new Map();
  const put = (card, side, link, other) => {
    const key = `${side}${card}`;
    if (!sides.has(key)) sides.set(key, []);
    sides.get(key).push({ link, y: boxes.get(other).y });
  };
  for (const { key, from, to } of view.links) {
    put(from, '>', key, to);
    put(to, '<', key, from);
  }
  const ports = new Map();
  for (const [side, list] of sides) {
    list.sort((a, b) => a.y - b.y || (a.link < b.link ? -1 : 1));
    list.forEach(({ link }, n) => ports.set(`${side[0]}${link}`, (n + 1) / (list.length + 1)));
  }
  return ports;
}

/** Cubic curves: [x0, y0, then for each piece two control points and its end]. */
function curve(link, boxes, ports, bends) {
  const [from, to] = [boxes.get(link.from), boxes.get(link.to)];
  const leave = from.y + from.h * (0.2 + 0.6 * ports.get(`>${link.key}`));
  const arrive = to.y + to.h * (0.2 + 0.6 * ports.get(`<${link.key}`));
  const forward = to.x >= from.x + from.w + 8;
  let points;
  if (link.from === link.to) {
    const [x, y] = [from.x + from.w - 34, from.y];
    points = [x, y, x - 6, y - 30, x + 30, y - 30, x + 22, y - 2];
  } else if (forward) {
    const stops = [{ x: from.x + from.w, y: leave }, ...bends, { x: to.x - 2, y: arrive }];
    points = [stops[0].x, stops[0].y];
    for (let n = 1; n < stops.length; n += 1) {
      const [a, b] = [stops[n - 1], stops[n]];
      const bow = Math.max(24, (b.x - a.x) * 0.45);
      points.push(a.x + bow, a.y, b.x - bow, b.y, b.x, b.y);
    }
  } else if (Math.abs(to.x - from.x) < from.w) {
    // The same column: around the right side.
    const [x0, x1] = [from.x + from.w, to.x + to.w + 2];
    const bow = 30 + Math.min(60, Math.abs(arrive - leave) * 0.15);
    const x = Math.max(x0, x1) + bow;
    points = [x0, leave, x, leave, x, arrive, x1, arrive];
  } else {
    // Backwards: out of the left side, into the right one.
    const [x0, x1] = [from.x, to.x + to.w + 2];
    const bow = Math.max(30, (x0 - x1) * 0.45);
    points = [x0, leave, x0 - bow, leave, x1 + bow, arrive, x1, arrive];
  }
  return { points, ...sampled(points) };
}

function sampled(points) {
  const pieces = (points.length - 2) / 6;
  const line = new Float32Array((pieces * SAMPLES + 1) * 2);
  let [x0, y0] = points;
  let at = 0;
  line[at++] = x0;
  line[at++] = y0;
  const box = { left: x0, right: x0, top: y0, bottom: y0 };
  for (let piece = 0; piece < pieces; piece += 1) {
    const [x1, y1, x2, y2, x3, y3] = points.slice(2 + piece * 6, 8 + piece * 6);
    for (let n = 1; n <= SAMPLES; n += 1) {
      const t = n / SAMPLES;
      const s = 1 - t;
      const x = s * s * s * x0 + 3 * s * s * t * x1 + 3 * s * t * t * x2 + t * t * t * x3;
      const y = s * s * s * y0 + 3 * s * s * t * y1 + 3 * s * t * t * y2 + t * t * t * y3;
      line[at++] = x;
      line[at++] = y;
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x);
      box.top = Math.min(box.top, y);
      box.bottom = Math.max(box.bottom, y);
    }
    [x0, y0] = [x3, y3];
  }
  const last = points.length;
  const middle = Math.floor((line.length / 2 - 1) / 2) * 2;
  return {
    line,
    box,
    end: { x: x0, y: y0, angle: Math.atan2(y0 - points[last - 3], x0 - points[last - 4]) },
    middle: { x: line[middle], y: line[middle + 1] },
  };
}

/** What is at a place of the scene: a card, the head of a frame, else a link within `near`. */
export function under(scene, { x, y }, near) {
  const inside = (box, h) => x >= box.x && x <= box.x + box.w && y >= box.y && y <= box.y + h;
  for (const [key, box] of scene.boxes) if (inside(box, box.h)) return { type: 'card', key };
  for (const [key, box] of scene.frames) if (inside(box, HEAD)) return { type: 'frame', key };
  let [found, least] = [null, near];
  for (const [key, { line, box }] of scene.curves) {
    if (x < box.left - near || x > box.right + near || y < box.top - near || y > box.bottom + near) continue;
    for (let n = 2; n < line.length; n += 2) {
      const d = distance(x, y, line[n - 2], line[n - 1], line[n], line[n + 1]);
      if (d < least) [found, least] = [key, d];
    }
  }
  return found === null ? null : { type: 'link', key: found };
}

function distance(x, y, x0, y0, x1, y1) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = dx * dx + dy * dy;
  const t = length === 0 ? 0 : Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / length));
  return Math.hypot(x - x0 - t * dx, y - y0 - t * dy);
}

/** The next card in a direction, for the arrow keys: near, and not much aside. */
export function next(scene, key, [dx, dy]) {
  const all = [...scene.boxes].map(([other, box]) => [other, box.x + box.w / 2, box.y + box.h / 2]);
  if (all.length === 0) return null;
  const here = scene.boxes.get(key);
  if (!here) return all.reduce((a, b) => (b[1] + b[2] < a[1] + a[2] ? b : a))[0];
  const [x, y] = [here.x + here.w / 2, here.y + here.h / 2];
  let [found, least] = [null, Infinity];
  for (const [other, ox, oy] of all) {
    const along = (ox - x) * dx + (oy - y) * dy;
    const aside = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
    if (other === key || along <= 1) continue;
    const cost = along + aside * 2.5;
    if (cost < least) [found, least] = [other, cost];
  }
  return found ?? key;
}

/** The part of the scene that is looked at: `x`, `y` of its upper left corner, and how large it is drawn. */
export const camera = {
  /** Everything, at most at its own size. */
  fit({ width, height }, view, margin = 28) {
    const scale = Math.min(1, (view.w - 2 * margin) / Math.max(1, width), (view.h - 2 * margin) / Math.max(1, height));
    const kept = Math.max(0.04, scale);
    return { scale: kept, x: width / 2 - view.w / 2 / kept, y: height / 2 - view.h / 2 / kept };
  },
  /** The same place stays under `at`. */
  zoom(look, at, by) {
    const scale = Math.max(0.04, Math.min(2.5, look.scale * by));
    const point = camera.toScene(look, at);
    return { scale, x: point.x - at.x / scale, y: point.y - at.y / scale };
  },
  move: (look, dx, dy) => ({ ...look, x: look.x - dx / look.scale, y: look.y - dy / look.scale }),
  toScene: (look, { x, y }) => ({ x: look.x + x / look.scale, y: look.y + y / look.scale }),
  /** Moves no further than a box needs to be seen. */
  reveal(look, box, view, margin = 60) {
    const [w, h] = [view.w / look.scale, view.h / look.scale];
    const m = margin / look.scale;
    const within = (at, size, from, span) => {
      if (at - m < from) return at - m;
      return at + size + m > from + span ? at + size + m - span : from;
    };
    return { ...look, x: within(box.x, box.w, look.x, w), y: within(box.y, box.h, look.y, h) };
  },
};
