// What stands beside the map and in its place: namespaces, what a search finds, edges as a table, and what
// the figures lack. `act` says what a click does.

import { count, health, namespace, percent, rate, time, workload } from './format.js';
import { h } from './dom.js';
import { found, rows } from './model.js';

/** Rows of the table of edges, and results of a search. */
const LIST = 300;
const HITS = 40;

/** Namespaces, those without a name last, with what a search finds above them. */
export function sideParts(model, state, act) {
  const list = [...model.namespaces].sort(([a], [b]) => (a === '' ? 1 : b === '' ? -1 : a < b ? -1 : 1));
  const hidden = state.hidden.size;
  const showAll = h('button', { class: 'link', 'data-key': 'all', onclick: act.showAll }, `show ${hidden} hidden`);
  return [
    state.query === '' ? null : hits(model, state, act),
    h('h2', {}, 'Namespaces', hidden > 0 ? showAll : null),
    h('ul', { class: 'namespaces' }, list.map(([ns, members]) => item(ns, members, state, act))),
  ];
}

function hits(model, state, act) {
  const results = found(model, state.query, HITS);
  const hit = (one) => {
    const parts = [h('span', { class: 'name' }, workload(one)), h('small', {}, namespace(one.ns))];
    return h('li', {}, h('button', { class: 'hit', 'data-key': `h:${one.id}`, onclick: () => act.go(one) }, parts));
  };
  const isMore = results.all > results.list.length;
  const more = isMore ? h('p', { class: 'note' }, `${results.list.length} of ${results.all} are listed`) : null;
  return h('section', {}, h('h2', {}, `${results.all} found`), h('ul', { class: 'hits' }, results.list.map(hit)), more);
}

function item(ns, members, state, act) {
  const isHidden = state.hidden.has(ns);
  const total = members.reduce((all, one) => all + one.r, 0);
  const failed = members.reduce((all, one) => all + (one.ok === null ? 0 : one.r * (1 - one.ok)), 0);
  const parts = [
    h('span', { class: `dot ${total > 0 ? health(1 - failed / total) : 'none'}` }),
    h('span', { class: 'name' }, namespace(ns)),
    h('span', { class: 'number' }, total > 0 ? rate(total) : ''),
    h('span', { class: 'members' }, String(members.length)),
  ];
  const isOpen = state.open.has(ns) ? 'true' : 'false';
  return h(
    'li',
    { class: isHidden ? 'is-hidden' : '' },
    h('input', { type: 'checkbox', checked: !isHidden, 'data-key': `s:${ns}`, 'aria-label': `Show ${namespace(ns)}`, onchange: () => act.hide(ns) }),
    h('button', { class: 'ns', 'aria-expanded': isOpen, 'data-key': `o:${ns}`, onclick: () => act.open(ns) }, parts),
    h('button', { class: 'only', 'data-key': `a:${ns}`, title: `Only ${namespace(ns)}`, onclick: () => act.only(ns) }, 'only'),
  );
}

/** Edges as a table, which those who do not see the map read. */
export function listTable(model, state, sort, act) {
  const { list, all } = rows(model, state, sort, LIST);
  const column = (by, text) => {
    const order = sort.by === by ? (sort.down ? 'descending' : 'ascending') : 'none';
    const mark = sort.by === by ? (sort.down ? ' ↓' : ' ↑') : '';
    const side = ['client', 'server'].includes(by) ? '' : 'number';
    const turn = h('button', { 'data-key': `c:${by}`, onclick: () => act.turn(by) }, text + mark);
    return h('th', { scope: 'col', class: side, 'aria-sort': order }, turn);
  };
  const end = (one) => h('td', {}, h('span', { class: 'name' }, workload(one)), h('small', {}, namespace(one.ns)));
  const row = (edge) =>
    h(
      'tr',
      { class: state.selected === `e:${edge.id}` ? 'is-selected' : '' },
      end(model.workloads.get(edge.client)),
      end(model.workloads.get(edge.server)),
      h('td', {}, edge.by.map((part) => part.p).join(', ')),
      h('td', { class: 'number' }, rate(edge.r)),
      h('td', { class: `number ${edge.r > 0 ? health(edge.ok) : ''}` }, percent(edge.ok)),
      h('td', { class: 'number' }, time(edge.p95)),
      h('td', { class: `number ${edge.live < edge.all ? 'fair' : ''}` }, `${edge.live}/${edge.all}`),
      h('td', {}, h('button', { class: 'link', 'data-key': `e:${edge.id}`, onclick: () => act.choose(edge) }, 'details')),
    );
  const protocols = h('th', { scope: 'col' }, 'Protocols');
  const columns = [column('client', 'Client'), column('server', 'Server'), protocols, column('rate', 'Rate'), column('ok', 'Success'), column('p95', 'p95'), column('nodes', 'Nodes'), h('th', {})];
  const some = `${count(list.length)} of ${count(all)} edges are listed; search or hide namespaces to see others.`;
  const caption = h('caption', {}, all > list.length ? some : `${count(all)} edges`);
  return h('table', {}, caption, h('thead', {}, h('tr', {}, columns)), h('tbody', {}, list.map(row)));
}

/** Which agents do not push and why, what was lost, and what is not on the page. */
export function gapParts({ agents, losses, left_out: leftOut }) {
  const table = (list) => h('table', {}, h('tbody', {}, list));
  const note = (text) => h('p', { class: 'note' }, text);
  const trouble = agents.trouble.map((one) =>
    h('tr', {}, h('th', { scope: 'row' }, one.node), h('td', {}, one.state), h('td', {}, one.why), h('td', {}, one.version)),
  );
  const lost = losses
    .filter(({ lately }) => lately > 0)
    .map((loss) =>
      h('tr', {}, h('th', { scope: 'row' }, `${loss.stage} / ${loss.reason}`), h('td', { class: 'number' }, count(loss.lately)), h('td', {}, loss.unit)),
    );
  const some = `${count(leftOut.workloads)} workloads and ${count(leftOut.edges)} edges with the least traffic`;
  return [
    h('h3', {}, `Nodes: ${agents.live} push, ${agents.silent} are silent, ${agents.ended} ended, ${agents.absent} without an agent`),
    trouble.length > 0 ? table(trouble) : note('Every agent pushes.'),
    agents.more > 0 ? note(`${agents.more} more`) : null,
    h('h3', {}, 'Lost in the last minute'),
    lost.length > 0 ? table(lost) : note('Nothing.'),
    leftOut.workloads + leftOut.edges > 0 ? note(`This page takes no more: ${some} are not on it. kubectl get edges shows them.`) : null,
  ];
}

/** What keys do. */
export function keyTable() {
  const keys = [
    ['/', 'search'],
    ['arrows', 'next card'],
    ['Enter', 'open or close a namespace, details of a workload'],
    ['Esc', 'nothing chosen'],
    ['+ −', 'closer, further'],
    ['0', 'everything'],
    ['e, c', 'open, close all namespaces'],
    ['l', 'list or map'],
    ['t', 'light or dark'],
    ['drag, wheel', 'move, zoom; double click opens a namespace'],
  ];
  return h('dl', { class: 'keys' }, keys.map(([key, what]) => h('div', {}, h('dt', {}, h('kbd', {}, key)), h('dd', {}, what))));
}
