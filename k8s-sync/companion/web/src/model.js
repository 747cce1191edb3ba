// The document of the companion as maps, and what of it is on the page. Pure: no DOM, no clock.

import { NO_NAMESPACE, workload as shown } from './format.js';

/** The document, with its indexes resolved. */
export function read(document) {
  const workloads = new Map();
  const namespaces = new Map();
  const order = document.workloads.map((workload) => {
    workloads.set(workload.id, workload);
    if (!namespaces.has(workload.ns)) namespaces.set(workload.ns, []);
    namespaces.get(workload.ns).push(workload);
    return workload.id;
  });
  const edges = document.edges;
  for (const edge of edges) {
    edge.client = order[edge.c];
    edge.server = order[edge.s];
  }
  return { document, workloads, namespaces, edges, byId: new Map(edges.map((edge) => [edge.id, edge])) };
}

/** What a person has chosen. */
export function begin() {
  return { open: new Set(), hidden: new Set(), query: '', selected: null };
}

/** Words of a search, all of which a workload has in `namespace/name` or its kind. */
export function matches(query, workload) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const text = `${workload.ns || NO_NAMESPACE}/${workload.name} ${shown(workload)} ${workload.kind}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

export const keyOf = { namespace: (ns) => `n:${ns}`, workload: (id) => `w:${id}` };

/** Adds up: rates and failures; of latencies the worst is told, since quantiles do not add. */
function sum(key, from, to) {
  return { key, from, to, ok: null, rate: 0, failed: 0, p95: null, live: 0, all: 0, open: 0, lost: 0, edges: [] };
}

function add(into, edge) {
  into.rate += edge.r;
  into.failed += edge.ok === null ? 0 : edge.r * (1 - edge.ok);
  if (edge.p95 !== null && (into.p95 === null || edge.p95 > into.p95)) into.p95 = edge.p95;
  // Of several the one that lacks most.
  if (edge.all - edge.live > into.all - into.live || into.all === 0) {
    into.live = edge.live;
    into.all = edge.all;
  }
  into.open += edge.open;
  into.lost += edge.lost;
  into.edges.push(edge.id);
}

/** What is on the page: cards, the frames of namespaces that are open, and links between cards. */
export function visible(model, state) {
  const cards = new Map();
  const frames = [];
  for (const [ns, members] of model.namespaces) {
    if (state.hidden.has(ns)) continue;
    const found = state.query === '' ? null : members.filter((member) => matches(state.query, member)).length;
    if (state.open.has(ns)) {
      frames.push({ key: keyOf.namespace(ns), ns, members: members.length, found });
      for (const member of members) {
        const key = keyOf.workload(member.id);
        const dim = state.query !== '' && !matches(state.query, member);
        cards.set(key, { key, type: 'workload', ns, workload: member, dim, self: 0, ...figures(member) });
      }
    } else {
      const key = keyOf.namespace(ns);
      const totals = members.map(figures);
      const rate = totals.reduce((all, one) => all + one.rate, 0);
      const failed = totals.reduce((all, one) => all + one.failed, 0);
      const worst = totals.reduce((most, one) => (one.p95 !== null && one.p95 > (most ?? -1) ? one.p95 : most), null);
      const lacking = totals.reduce((most, one) => (one.all - one.live > most.all - most.live ? one : most), totals[0]);
      const card = { key, type: 'namespace', ns, members: members.length, found, dim: found === 0, self: 0 };
      Object.assign(card, { rate, failed, ok: rate > 0 ? Math.max(0, 1 - failed / rate) : null, p95: worst });
      cards.set(key, { ...card, live: lacking.live, all: lacking.all });
    }
  }
  const links = new Map();
  const places = new Map();
  for (const [ns, members] of model.namespaces) {
    if (state.hidden.has(ns)) continue;
    const isOpen = state.open.has(ns);
    const key = keyOf.namespace(ns);
    for (const { id } of members) places.set(id, isOpen ? keyOf.workload(id) : key);
  }
  for (const edge of model.edges) {
    const from = places.get(edge.client);
    const to = places.get(edge.server);
    if (from === undefined || to === undefined) continue;
    if (from === to && cards.get(from).type === 'namespace') {
      cards.get(from).self += edge.r;
      continue;
    }
    const key = `${from}>${to}`;
    let link = links.get(key);
    if (link === undefined) {
      link = sum(key, from, to);
      links.set(key, link);
    }
    add(link, edge);
  }
  const list = [...links.values()];
  for (const link of list) link.ok = link.rate > 0 ? Math.max(0, 1 - link.failed / link.rate) : null;
  return { cards, frames, links: list };
}

function figures({ r, ok, p95, live, all }) {
  return { rate: r, ok, p95, live, all, failed: ok === null ? 0 : r * (1 - ok) };
}

/** The same for as long as the same things are to be laid out, whatever their figures are. */
export function shape({ cards, frames, links }) {
  const ends = links.map(({ key }) => key).sort();
  return `${[...cards.keys()].sort().join(' ')}|${frames.map(({ key }) => key).sort().join(' ')}|${ends.join(' ')}`;
}

/** Keys of cards and links that stay bright while `selected` is chosen; null: all. */
export function bright(view, selected) {
  if (selected === null) return null;
  const keys = new Set();
  for (const link of view.links) {
    const touches = link.key === selected || link.from === selected || link.to === selected;
    if (touches) [link.key, link.from, link.to].forEach((key) => keys.add(key));
  }
  if (view.cards.has(selected)) keys.add(selected);
  return keys.size === 0 ? null : keys;
}

/** Workloads that a search finds, the busiest first, with how many there are. */
export function found(model, query, most) {
  if (query.trim() === '') return { list: [], all: 0 };
  const all = [...model.workloads.values()].filter((workload) => matches(query, workload));
  all.sort((a, b) => b.r - a.r || (a.ns + a.name < b.ns + b.name ? -1 : 1));
  return { list: all.slice(0, most), all: all.length };
}

const COLUMNS = {
  client: (edge, model) => name(model, edge.client),
  server: (edge, model) => name(model, edge.server),
  rate: (edge) => edge.r,
  ok: (edge) => edge.ok ?? 2,
  p95: (edge) => edge.p95 ?? -1,
  nodes: (edge) => edge.live - edge.all,
};

function name(model, id) {
  const workload = model.workloads.get(id);
  return workload ? `${workload.ns}/${workload.name}` : '';
}

/** Rows of the list of edges: not hidden, found by the search at one end, in order. */
export function rows(model, state, { by, down }, most) {
  const ends = (edge) => [model.workloads.get(edge.client), model.workloads.get(edge.server)];
  const shownRows = model.edges.filter((edge) => {
    const both = ends(edge);
    return both.every((end) => end && !state.hidden.has(end.ns)) && both.some((end) => matches(state.query, end));
  });
  const value = COLUMNS[by];
  const sign = down ? -1 : 1;
  const keyed = shownRows.map((edge) => [value(edge, model), edge]);
  keyed.sort(([a, x], [b, y]) => (a < b ? -sign : a > b ? sign : x.id < y.id ? -1 : 1));
  return { list: keyed.slice(0, most).map(([, edge]) => edge), all: keyed.length };
}

/** What is missing in the figures, for the bar at the top. */
export function gaps({ document }) {
  const { silent, ended, absent } = document.agents;
  const lost = document.losses.reduce((all, loss) => all + loss.lately, 0);
  return { nodes: silent + ended + absent, lost, leftOut: document.left_out.workloads + document.left_out.edges };
}

/** Figures of the last minutes, for each edge and workload; bounded by time and by what is there. */
export class History {
  constructor(points) {
    this.points = points;
    this.series = new Map();
  }

  take(model) {
    const there = new Set();
    const put = (key, { r, ok, p95 }) => {
      there.add(key);
      const list = this.series.get(key) ?? [];
      list.push({ rate: r, failed: ok === null ? 0 : r * (1 - ok), p95 });
      if (list.length > this.points) list.shift();
      this.series.set(key, list);
    };
    model.edges.forEach((edge) => put(`e:${edge.id}`, edge));
    model.workloads.forEach((workload) => put(`w:${workload.id}`, workload));
    for (const key of this.series.keys()) if (!there.has(key)) this.series.delete(key);
  }

  of(key) {
    return this.series.get(key) ?? [];
  }
}
