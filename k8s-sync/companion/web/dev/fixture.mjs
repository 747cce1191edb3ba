// Documents as the companion writes them, made up: a shop for eyes, and large ones for clocks.

/** The same numbers for the same seed. */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const hex = (number) => number.toString(16).padStart(16, '0');

export function workload(n, ns, name, more = {}) {
  return { id: hex(n), ns, name, kind: 'Deployment', live: 2, all: 2, r: 0, ok: null, p95: null, open: 0, ...more };
}

export function edge(n, c, s, more = {}) {
  const by = [{ p: more.p ?? 'http', r: more.r ?? 10, ok: more.ok ?? 1, p95: more.p95 ?? 0.01 }];
  return { id: hex(n), c, s, live: 2, all: 2, r: 10, ok: 1, p95: 0.01, open: 3, lost: 0, by, ...more };
}

export function document(workloads, edges, more = {}) {
  return {
    version: '0.2.0',
    window_s: 60,
    period_ms: 2000,
    agents: { live: 2, silent: 0, ended: 0, absent: 0, trouble: [], more: 0 },
    losses: [],
    workloads,
    edges,
    left_out: { workloads: 0, edges: 0 },
    ...more,
  };
}

/** A cluster with some of everything: failures, silent nodes, losses, what has no name. */
export function shop(seed = 1) {
  const draw = random(seed);
  const spec = {
    ingress: ['gateway:DaemonSet'],
    shop: ['web', 'cart', 'checkout', 'catalog', 'search', 'recommend', 'reviews', 'cart-redis:StatefulSet', 'nightly-report:CronJob'],
    pay: ['ledger', 'fraud', 'psp-adapter', 'ledger-db:StatefulSet'],
    stock: ['inventory', 'warehouse', 'events-kafka:StatefulSet', 'inventory-db:StatefulSet'],
    accounts: ['login', 'profile', 'sessions:StatefulSet', 'users-db:StatefulSet'],
    observability: ['prometheus:StatefulSet', 'grafana', 'loki:StatefulSet', 'alertmanager:StatefulSet'],
    'kube-system': ['coredns', 'metrics-server'],
    '"><script>globalThis.pwned=1</script>': ['<img src=x onerror=globalThis.pwned=1>'],
    '': ['api.stripe.com:External', 'smtp.example.com:External', '_unknown:NotFound'],
  };
  const workloads = [];
  const index = new Map();
  for (const [ns, names] of Object.entries(spec)) {
    for (const text of names) {
      const [name, kind = 'Deployment'] = text.split(/:(?=[A-Z])/);
      index.set(name, workloads.length);
      workloads.push(workload(workloads.length + 1, ns, name, { kind, live: 3, all: 3 }));
    }
  }
  const edges = [];
  const link = (from, to, r, more = {}) => {
    const spread = { r: r * (0.9 + 0.2 * draw()), p95: (more.p95 ?? 0.004 + 0.05 * draw()) * (0.9 + 0.2 * draw()) };
    edges.push(edge(1000 + edges.length, index.get(from), index.get(to), { live: 3, all: 3, ok: 1, ...more, ...spread }));
  };
  link('gateway', 'web', 420, { ok: 0.9991 });
  link('gateway', 'login', 38);
  link('web', 'cart', 160);
  link('web', 'catalog', 380, { p95: 0.018 });
  link('web', 'search', 90, { ok: 0.981, p95: 0.22 });
  link('web', 'recommend', 210);
  link('web', 'reviews', 44, { ok: 0.91, p95: 0.9 });
  link('web', 'profile', 70);
  link('web', 'checkout', 12);
  link('cart', 'cart-redis', 610, { p: 'db', p95: 0.0006 });
  link('cart', 'inventory', 41);
  link('checkout', 'ledger', 11.5, { p: 'rpc', live: 2, all: 3 });
  link('checkout', 'inventory', 12);
  link('checkout', 'fraud', 11, { p95: 0.31 });
  link('fraud', 'users-db', 9, { p: 'db' });
  link('ledger', 'ledger-db', 46, { p: 'db', p95: 0.003, live: 2, all: 3 });
  link('ledger', 'psp-adapter', 11);
  link('psp-adapter', 'api.stripe.com', 11, { p: 'tls', p95: 0.19 });
  link('ledger', 'events-kafka', 23, { p: 'messaging' });
  link('events-kafka', 'warehouse', 0, { r: 0, ok: null, p95: null, p: 'tcp' });
  link('warehouse', 'events-kafka', 30, { p: 'messaging' });
  link('inventory', 'inventory-db', 93, { p: 'db', ok: 0.997 });
  link('catalog', 'search', 14);
  link('login', 'sessions', 76, { p: 'db' });
  link('login', 'users-db', 40, { p: 'db' });
  link('profile', 'users-db', 70, { p: 'db' });
  link('profile', 'smtp.example.com', 0.2, { p: 'tcp', ok: 1 });
  link('grafana', 'prometheus', 3);
  link('grafana', 'loki', 2);
  link('prometheus', 'alertmanager', 0.4);
  link('nightly-report', 'ledger-db', 0, { r: 0, ok: null, p95: null, p: 'db' });
  link('<img src=x onerror=globalThis.pwned=1>', 'cart', 1);
  link('_unknown', 'gateway', 455, { ok: 0.9991 });
  for (const name of ['web', 'cart', 'login', 'ledger', 'prometheus']) link(name, 'coredns', 8 + 20 * draw(), { p: 'dns', p95: 0.0012 });
  for (const one of edges) {
    const server = workloads[one.s];
    const failed = (server.ok === null ? 0 : server.r * (1 - server.ok)) + (one.ok === null ? 0 : one.r * (1 - one.ok));
    server.r += one.r;
    server.ok = server.r > 0 ? 1 - failed / server.r : null;
    server.p95 = one.p95 === null ? server.p95 : Math.max(server.p95 ?? 0, one.p95);
    server.live = Math.min(server.live, one.live);
  }
  return document(workloads, edges, {
    agents: { live: 2, silent: 0, ended: 0, absent: 1, trouble: [{ node: 'node-3', state: 'Absent', why: 'no agent has joined from this node', version: '' }], more: 0 },
    losses: [{ stage: 'ring', reason: 'full', unit: 'events', lately: 312 }],
  });
}

/** So many workloads in namespaces of 25, and so many edges, most of them near. */
export function large(workloadCount, edgeCount, seed = 7) {
  const draw = random(seed);
  const workloads = Array.from({ length: workloadCount }, (_, n) => {
    const ns = `team-${String(Math.floor(n / 25)).padStart(2, '0')}`;
    return workload(n + 1, ns, `service-${n % 25}`, { r: draw() * 100, ok: 1 - draw() * 0.004, p95: draw() * 0.1 });
  });
  const taken = new Set();
  const edges = [];
  while (edges.length < edgeCount) {
    const c = Math.floor(draw() * workloadCount);
    const near = Math.floor(c / 25) * 25 + Math.floor(draw() * 25);
    const s = Math.min(workloadCount - 1, draw() < 0.6 ? near : Math.floor(draw() * workloadCount));
    if (c === s || taken.has(c * workloadCount + s)) continue;
    taken.add(c * workloadCount + s);
    const ok = draw() < 0.93 ? 1 : 0.9 + draw() * 0.1;
    edges.push(edge(100000 + edges.length, c, s, { r: draw() < 0.1 ? 0 : 10 ** (draw() * 4 - 1), ok, p95: 10 ** (draw() * 3 - 4) }));
  }
  return document(workloads, edges);
}

/** An answer for one edge. */
export function detail(one) {
  const buckets = [];
  for (let i = -220; i < -90; i += 1) buckets.push([i, Math.round(2000 * Math.exp(-(((i + 175) / 22) ** 2))) + (i > -120 ? 9 : 0)]);
  const requests = Math.round(one.r * 60);
  return {
    seconds: 60,
    protocols: [{
      protocol: one.by[0].p, systems: one.by[0].p === 'db' ? ['postgresql'] : [], service: 'checkout', reporter: 'client', live: 3, all: 3,
      r: one.r, requests, failures: Math.round(requests * 0.02), ok: one.ok, p50: 0.021, p95: 0.055, p99: 0.11,
      buckets: buckets.filter(([, n]) => n > 0),
      codes: [{ status: '200', count: Math.round(requests * 0.9), failed: false }, { status: '404', count: Math.round(requests * 0.08), failed: false }, { status: '503', count: Math.round(requests * 0.015), failed: true }, { status: 'unanswered', count: Math.round(requests * 0.005), failed: true }],
    }],
    transports: [{ transport: 'tcp', reporter: 'client', seconds: 60, open: 14, opened: 31, closed: [22, 3, 0], retransmits: [4, 0], zero_windows: [0, 0], bytes: [5.1e6, 8.8e7], handshakes: 31, handshake_p95: 0.0004, lost: 0 }],
  };
}
