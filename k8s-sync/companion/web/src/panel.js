// What is told of a link, a workload or a namespace that was chosen.

import { bytes, count, health, kind, namespace, percent, rate, time, workload } from './format.js';
import { bars, place } from './histogram.js';
import { h, svg } from './dom.js';

function title(name, under, close) {
  return h(
    'header',
    { class: 'panel-head' },
    h('div', { class: 'panel-title' }, h('h2', {}, name), h('p', {}, under)),
    h('button', { class: 'icon', 'aria-label': 'Close', title: 'Close (Esc)', onclick: close }, '✕'),
  );
}

function figure(label, value, state = '') {
  return h('div', { class: `figure ${state}` }, h('dt', {}, label), h('dd', {}, value));
}

function golden({ r, ok, p95, live, all }) {
  return h(
    'dl',
    { class: 'figures' },
    figure('Rate', rate(r)),
    figure('Success', percent(ok), r > 0 ? health(ok) : ''),
    figure('p95', time(p95)),
    figure('Nodes', `${live}/${all}`, live < all ? 'fair' : ''),
  );
}

function lacks({ live, all }) {
  if (live >= all) return null;
  const silent = all - live;
  const text = `${silent} of ${all} nodes that had a part in this ${silent === 1 ? 'is' : 'are'} silent: there is more than is shown.`;
  return h('p', { class: 'note warn' }, text);
}

/** A line of the last minutes. */
function spark(label, history, of, text) {
  const values = history.map(of);
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return null;
  const [w, height] = [300, 44];
  const most = Math.max(...known, 1e-9);
  const x = (n) => (n / (values.length - 1)) * w;
  const y = (value) => height - 3 - (value / most) * (height - 8);
  let path = '';
  values.forEach((value, n) => {
    if (value === null) return;
    path += `${path === '' || values[n - 1] === null ? 'M' : 'L'}${x(n).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  const view = { viewBox: `0 0 ${w} ${height}`, preserveAspectRatio: 'none', class: 'spark', 'aria-hidden': 'true' };
  const minutes = Math.max(1, Math.round((values.length * 2) / 60));
  return h(
    'figure',
    { class: 'sparkline' },
    h('figcaption', {}, h('span', {}, label), h('span', {}, `last ${minutes} min, up to ${text(most)}`)),
    svg('svg', view, svg('path', { d: `${path}`, class: 'spark-line', 'vector-effect': 'non-scaling-stroke' })),
  );
}

function sparks(history) {
  return [
    spark('Rate', history, ({ rate: value }) => value, rate),
    spark('p95', history, ({ p95 }) => p95, time),
  ];
}

function histogram(row) {
  const list = bars(row.buckets, 4, 40);
  if (list.length === 0) return h('p', { class: 'note' }, 'Nothing was answered in the last minute.');
  const [w, height, base] = [300, 92, 76];
  const most = Math.max(...list.map((bar) => bar.count));
  const step = w / list.length;
  const drawn = list.map((bar, n) => {
    // The least that happened is to be seen, too.
    const tall = bar.count === 0 ? 0 : Math.max(2, (bar.count / most) * (base - 8));
    const box = { x: (n * step + step * 0.08).toFixed(2), y: (base - tall).toFixed(2), width: (step * 0.84).toFixed(2), height: tall.toFixed(2), rx: 1.5 };
    const told = `${time(bar.from)} to ${time(bar.to)}: ${count(bar.count)}`;
    return svg('rect', { ...box, class: 'bar' }, svg('title', {}, told));
  });
  const marks = [['p50', row.p50], ['p95', row.p95], ['p99', row.p99]].map(([name, value]) => {
    const at = place(list, value);
    if (at === null) return null;
    return svg('line', { x1: at * w, x2: at * w, y1: 2, y2: base, class: `mark ${name}` }, svg('title', {}, `${name} ${time(value)}`));
  });
  const labels = [[0, 'start', list[0].from], [w / 2, 'middle', list[Math.floor(list.length / 2)].from], [w, 'end', list[list.length - 1].to]];
  const axis = labels.map(([x, anchor, value]) => svg('text', { x, y: height - 3, 'text-anchor': anchor, class: 'axis' }, time(value)));
  const told = `Latency: p50 ${time(row.p50)}, p95 ${time(row.p95)}, p99 ${time(row.p99)}`;
  return h(
    'div',
    {},
    svg('svg', { viewBox: `0 0 ${w} ${height}`, class: 'histogram', role: 'img', 'aria-label': told }, drawn, marks, axis),
    h(
      'p',
      { class: 'legend' },
      [['p50', row.p50], ['p95', row.p95], ['p99', row.p99]].map(([name, value]) => h('span', { class: name }, `${name} ${time(value)}`)),
    ),
  );
}

function codes(row) {
  const all = row.codes.reduce((sum, code) => sum + code.count, 0);
  const most = 12;
  const list = row.codes.slice(0, most).map((code) => {
    const share = all === 0 ? 0 : code.count / all;
    const bar = svg(
      'svg',
      { class: 'share', viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('rect', { x: 0, y: 0, width: Math.max(0.8, share * 100), height: 6, class: code.failed ? 'bad' : 'fine' }),
    );
    return h(
      'tr',
      { class: code.failed ? 'failed' : '' },
      h('th', { scope: 'row' }, code.status),
      h('td', { class: 'bar-cell' }, bar),
      h('td', { class: 'number' }, count(code.count)),
      h('td', { class: 'number' }, percent(share)),
    );
  });
  const more = row.codes.length > most ? h('p', { class: 'note' }, `${row.codes.length - most} more`) : null;
  return h('div', {}, h('table', { class: 'codes' }, h('tbody', {}, list)), more);
}

function tcp(row) {
  const per = (value) => value / row.seconds;
  const item = (label, value, bad) => h('div', { class: bad ? 'fair' : '' }, h('dt', {}, label), h('dd', {}, value));
  const closed = row.closed;
  return h(
    'dl',
    { class: 'tcp' },
    item('Open now', count(row.open)),
    item('Opened', rate(per(row.opened))),
    item('Handshake p95', row.handshakes > 0 ? time(row.handshake_p95) : '–'),
    item('Resets', count(closed[1]), closed[1] > 0),
    item('Retransmits sent', count(row.retransmits[0]), row.retransmits[0] > 0),
    item('Retransmits received', count(row.retransmits[1]), row.retransmits[1] > 0),
    item('Zero windows', count(row.zero_windows[0] + row.zero_windows[1]), row.zero_windows[0] + row.zero_windows[1] > 0),
    item('Closed by FIN', count(closed[0])),
    item('End not seen', count(closed[2]), closed[2] > 0),
    item('Sent', bytes(per(row.bytes[0]))),
    item('Received', bytes(per(row.bytes[1]))),
  );
}

function end(party, go) {
  const name = h('button', { class: 'link', onclick: go }, workload(party));
  return h('div', { class: 'end' }, name, h('span', {}, `${kind(party.kind)} · ${namespace(party.ns)}`));
}

/** One edge: `detail` is the companion's answer, null until it is there. */
export function edgePanel({ model, edge, detail, failed, history, go, close }) {
  const [client, server] = [model.workloads.get(edge.client), model.workloads.get(edge.server)];
  const parts = [
    title(`${workload(client)} → ${workload(server)}`, 'In the last minute, seen at the client where it can be', close),
    h('div', { class: 'ends' }, end(client, () => go(client)), h('span', { class: 'arrow', 'aria-hidden': 'true' }, '→'), end(server, () => go(server))),
    golden(edge),
    lacks(edge),
    edge.lost > 0 ? h('p', { class: 'note warn' }, `${count(edge.lost)} exchanges of this edge are in no figure: they were lost on the way.`) : null,
    ...sparks(history),
  ];
  if (failed) parts.push(h('p', { class: 'note warn' }, 'The companion does not answer; details are old.'));
  if (detail === null) {
    parts.push(h('p', { class: 'note' }, failed ? '' : 'Details come …'));
    return parts;
  }
  for (const row of detail.protocols) {
    const where = row.service ? ` by Service ${row.service}` : '';
    parts.push(
      h(
        'section',
        {},
        h('h3', {}, row.systems.length > 0 ? row.systems.join(', ') : row.protocol, h('span', {}, `seen at the ${row.reporter}${where}`)),
        h('p', { class: 'line' }, `${rate(row.r)} · ${percent(row.ok)} success · ${count(row.requests)} requests, ${count(row.failures)} failed`),
        histogram(row),
        codes(row),
      ),
    );
  }
  for (const row of detail.transports) {
    const name = row.transport === 'tcp' ? 'TCP' : 'UDP';
    const body = row.transport === 'tcp' ? tcp(row) : h('dl', { class: 'tcp' }, h('div', {}, h('dt', {}, 'Sent'), h('dd', {}, bytes(row.bytes[0] / row.seconds))), h('div', {}, h('dt', {}, 'Received'), h('dd', {}, bytes(row.bytes[1] / row.seconds))));
    parts.push(h('section', {}, h('h3', {}, name, h('span', {}, `seen at the ${row.reporter}`)), body));
  }
  if (detail.protocols.length + detail.transports.length === 0) {
    parts.push(h('p', { class: 'note' }, 'Nothing was counted here in the last minute.'));
  }
  return parts;
}

function edgeRow(model, edge, other, choose) {
  const party = model.workloads.get(other);
  return h(
    'tr',
    {},
    h('th', { scope: 'row' }, h('button', { class: 'link', onclick: () => choose(edge) }, workload(party)), h('small', {}, namespace(party.ns))),
    h('td', { class: 'number' }, rate(edge.r)),
    h('td', { class: `number ${edge.r > 0 ? health(edge.ok) : ''}` }, percent(edge.ok)),
    h('td', { class: 'number' }, time(edge.p95)),
  );
}

function edgeTable(model, name, edges, other, choose) {
  if (edges.length === 0) return null;
  const most = 50;
  const list = [...edges].sort((a, b) => b.r - a.r).slice(0, most);
  const head = h('tr', {}, ['', 'Rate', 'Success', 'p95'].map((text) => h('th', { scope: 'col' }, text)));
  const more = edges.length > most ? h('p', { class: 'note' }, `${edges.length - most} more with less traffic`) : null;
  const body = h('tbody', {}, list.map((edge) => edgeRow(model, edge, other(edge), choose)));
  return h('section', {}, h('h3', {}, name, h('span', {}, String(edges.length))), h('table', { class: 'edges' }, h('thead', {}, head), body), more);
}

/** One workload: what it serves, and its neighbours. */
export function workloadPanel({ model, one, history, choose, close }) {
  const asked = model.edges.filter(({ server }) => server === one.id);
  const asks = model.edges.filter(({ client }) => client === one.id);
  return [
    title(workload(one), `${one.kind || 'Workload'} in ${namespace(one.ns)}`, close),
    h('p', { class: 'line' }, 'As a server, in the last minute:'),
    golden(one),
    lacks(one),
    ...sparks(history),
    edgeTable(model, 'Asked by', asked, ({ client }) => client, choose),
    edgeTable(model, 'Asks', asks, ({ server }) => server, choose),
  ];
}

/** Edges behind one link, or of a namespace. */
export function bundlePanel({ model, name, under, total, edges, choose, close }) {
  const most = 100;
  const list = [...edges].sort((a, b) => b.r - a.r).slice(0, most);
  const head = h('tr', {}, ['', 'Rate', 'Success', 'p95'].map((text) => h('th', { scope: 'col' }, text)));
  const rows = list.map((edge) => {
    const [client, server] = [model.workloads.get(edge.client), model.workloads.get(edge.server)];
    return h(
      'tr',
      {},
      h('th', { scope: 'row' }, h('button', { class: 'link', onclick: () => choose(edge) }, `${workload(client)} → ${workload(server)}`), h('small', {}, client.ns === server.ns ? namespace(client.ns) : `${namespace(client.ns)} → ${namespace(server.ns)}`)),
      h('td', { class: 'number' }, rate(edge.r)),
      h('td', { class: `number ${edge.r > 0 ? health(edge.ok) : ''}` }, percent(edge.ok)),
      h('td', { class: 'number' }, time(edge.p95)),
    );
  });
  const more = edges.length > most ? h('p', { class: 'note' }, `${edges.length - most} more with less traffic`) : null;
  return [
    title(name, under, close),
    golden({ r: total.rate, ok: total.ok, p95: total.p95, live: total.live, all: total.all }),
    h('p', { class: 'note' }, 'The p95 is that of the slowest; quantiles do not add up.'),
    lacks(total),
    h('table', { class: 'edges' }, h('thead', {}, head), h('tbody', {}, rows)),
    more,
  ];
}
