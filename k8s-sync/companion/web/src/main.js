// The page: asks the companion every two seconds, and tells the parts what a person does.

import { count, namespace, percent, rate, time, workload } from './format.js';
import { h, replace } from './dom.js';
import { gapParts, keyTable, listTable, sideParts } from './lists.js';
import { begin, bright, found, gaps, History, keyOf, read, shape, visible } from './model.js';
import { arrange, camera, next, under } from './scene.js';
import { colours, CROWD, paint, paths } from './paint.js';
import { Picture } from './picture.js';
import { bundlePanel, edgePanel, workloadPanel } from './panel.js';

/** The companion makes its document once a second at most. */
const ASK = 2000;
/** Points of history that are kept: five minutes. */
const POINTS = 150;
/** Figures older than this are told to be old. */
const OLD = 8000;

const $ = (id) => document.getElementById(id);
const canvas = $('map');
const context = canvas.getContext('2d', { alpha: false });

const state = begin();
const history = new History(POINTS);
let model = null;
let view = null;
let scene = null;
let known = '';
let links = [];
let lit = null;
let hovered = null;
let look = null;
let theme = null;
let size = { w: 1, h: 1, ratio: 1 };
let detail = null;
let asksDetail = 0;
let detailFailed = false;
let answered = 0;
let failure = null;
let sort = { by: 'rate', down: true };
let asList = false;
let touched = false;
let due = false;
/** Milliseconds of the last frames, for who measures. */
const frames = [];

const picture = new Picture(canvas);
let isStale = true;
let settling = null;

/** `full`: something else than the pointer or the look has changed. */
function draw(full = true) {
  isStale ||= full;
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    if (scene === null || asList) return;
    const began = performance.now();
    const seen = { view, scene, links, lit, selected: state.selected, hovered };
    if (view.links.length <= CROWD) {
      picture.forget();
      paint(context, size, look, seen, theme);
    } else {
      if (isStale) picture.begin(size, look, seen, theme);
      if (picture.step()) draw(false);
      picture.show(context, size, look, seen, theme);
    }
    isStale = false;
    frames.push(performance.now() - began);
    if (frames.length > 600) frames.shift();
  });
}

/** A person drags or zooms: with many links the picture is made anew when they stop. */
function moved() {
  touched = true;
  if (view.links.length <= CROWD) return draw();
  clearTimeout(settling);
  settling = setTimeout(() => draw(), 120);
  draw(false);
}

/** What is visible has other figures, or is something else. */
function changed({ keep = null } = {}) {
  if (model === null) return;
  view = visible(model, state);
  const now = shape(view);
  if (now !== known) {
    const before = keep === null ? null : place(keep);
    known = now;
    scene = arrange(view, size.w / size.h);
    const after = keep === null ? null : place(keep);
    if (look === null || !touched) look = camera.fit(scene, room());
    // What was clicked on stays where it is.
    else if (before && after) look = { ...look, x: look.x + after.x - before.x, y: look.y + after.y - before.y };
  }
  selection();
  showSide();
  showList();
  showBar();
}

function place(key) {
  const box = scene?.boxes.get(key) ?? scene?.frames.get(key);
  return box ? { x: box.x, y: box.y } : null;
}

function selection() {
  const there = (key) => view.cards.has(key) || scene.frames.has(key) || scene.curves.has(key) || edgeOf(key);
  if (state.selected !== null && !there(state.selected)) state.selected = null;
  lit = bright(view, linkOf(state.selected));
  links = paths(view, scene, lit);
  showPanel();
  draw();
}

/** The edge of a key `e:ID`. */
function edgeOf(key) {
  return key?.startsWith('e:') ? (model.byId.get(key.slice(2)) ?? null) : null;
}

/** The link on the map in which a chosen edge is. */
function linkOf(key) {
  const edge = edgeOf(key);
  return edge ? (view.links.find((link) => link.edges.includes(edge.id))?.key ?? null) : key;
}

function choose(key, { pan = false } = {}) {
  const link = view.links.find((one) => one.key === key);
  // A link of one edge is that edge.
  state.selected = link && link.edges.length === 1 ? `e:${link.edges[0]}` : key;
  detail = null;
  detailFailed = false;
  selection();
  if (edgeOf(state.selected)) askDetail();
  if (pan) {
    const box = scene.boxes.get(state.selected) ?? scene.frames.get(state.selected);
    if (box) look = camera.reveal(look, box, room());
    touched = true;
  }
  say(key);
  draw();
}

function say(key) {
  const card = view.cards.get(key);
  if (!card) return;
  const name = card.type === 'namespace' ? `Namespace ${namespace(card.ns)}, ${count(card.members)} workload${card.members === 1 ? '' : 's'}` : `${workload(card.workload)}, ${card.workload.kind} in ${namespace(card.ns)}`;
  const figures = card.rate > 0 ? `${rate(card.rate)}, ${percent(card.ok)} success, p95 ${time(card.p95)}` : 'no requests';
  const lacking = card.live < card.all ? `, ${card.live} of ${card.all} nodes` : '';
  $('said').textContent = `${name}: ${figures}${lacking}`;
}

function toggle(ns) {
  const key = keyOf.namespace(ns);
  if (state.open.has(ns)) state.open.delete(ns);
  else state.open.add(ns);
  touched = true;
  changed({ keep: key });
}

/** Opens the namespace of a workload, and shows it. */
function go(one) {
  state.hidden.delete(one.ns);
  state.open.add(one.ns);
  touched = true;
  changed();
  const box = scene.boxes.get(keyOf.workload(one.id));
  look = { ...look, scale: Math.max(look.scale, 0.7) };
  look = { ...look, x: box.x + box.w / 2 - room().w / 2 / look.scale, y: box.y + box.h / 2 - size.h / 2 / look.scale };
  choose(keyOf.workload(one.id));
}

function close() {
  state.selected = null;
  detail = null;
  selection();
}

function showPanel() {
  const panel = $('panel');
  const edge = edgeOf(state.selected);
  const card = view.cards.get(state.selected);
  const link = view.links.find(({ key }) => key === state.selected);
  const frame = view.frames.find(({ key }) => key === state.selected);
  const pick = (one) => choose(`e:${one.id}`);
  let parts = null;
  if (edge) {
    parts = edgePanel({ model, edge, detail, failed: detailFailed, history: history.of(`e:${edge.id}`), go, close });
  } else if (card?.type === 'workload') {
    const one = card.workload;
    parts = workloadPanel({ model, one, history: history.of(`w:${one.id}`), choose: pick, close });
  } else if (link) {
    const edges = link.edges.map((id) => model.byId.get(id)).filter(Boolean);
    const [from, to] = [view.cards.get(link.from), view.cards.get(link.to)];
    const name = (one) => (one.type === 'namespace' ? namespace(one.ns) : workload(one.workload));
    const under = `${edges.length} edges`;
    parts = bundlePanel({ model, name: `${name(from)} → ${name(to)}`, under, total: link, edges, choose: pick, close });
  } else if (card || frame) {
    const { ns } = card ?? frame;
    const ends = (one) => [model.workloads.get(one.client), model.workloads.get(one.server)];
    const edges = model.edges.filter((one) => ends(one).some((end) => end.ns === ns));
    const closed = visible(model, { ...state, open: new Set([...state.open].filter((open) => open !== ns)) });
    const total = closed.cards.get(keyOf.namespace(ns));
    const under = `Namespace, ${(card ?? frame).members} workloads. What they serve:`;
    parts = bundlePanel({ model, name: namespace(ns), under, total, edges, choose: pick, close });
  }
  panel.hidden = parts === null;
  const kept = panel.scrollTop;
  const focused = panel.contains(document.activeElement) ? document.activeElement.textContent : null;
  replace(panel, ...(parts ?? []));
  panel.scrollTop = kept;
  if (focused !== null) [...panel.querySelectorAll('button')].find((one) => one.textContent === focused)?.focus();
}

/** The map beside the panel, which lies over it: a click moves nothing. */
function room() {
  return $('panel').hidden || size.w < 900 ? size : { ...size, w: size.w - $('panel').offsetWidth };
}

/** Other parts of an element; what had the focus has it again. */
function renew(element, parts) {
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  replace(element, ...parts);
  if (focused !== undefined) [...element.querySelectorAll('[data-key]')].find((one) => one.dataset.key === focused)?.focus();
}

function showSide() {
  const open = (ns) => {
    state.hidden.delete(ns);
    toggle(ns);
    reveal(ns);
  };
  renew($('side'), sideParts(model, state, { open, hide, only, showAll, go }));
}

function showList() {
  if (!asList) return;
  const turn = (by) => {
    sort = { by, down: sort.by === by ? !sort.down : !['client', 'server', 'ok', 'nodes'].includes(by) };
    showList();
  };
  renew($('list'), [listTable(model, state, sort, { turn, choose: (edge) => choose(`e:${edge.id}`) })]);
}

function dialog(name, ...parts) {
  const keys = $('keys');
  keys.setAttribute('aria-label', name);
  const shut = h('button', { class: 'icon', 'aria-label': 'Close', onclick: () => keys.close() }, '✕');
  replace(keys, h('header', { class: 'panel-head' }, h('h2', {}, name), shut), ...parts);
  if (!keys.open) keys.showModal();
}

const showGaps = () => dialog('What the figures lack', ...gapParts(model.document));
const showKeys = () => dialog('Keys', keyTable());

function reveal(ns) {
  const box = scene.frames.get(keyOf.namespace(ns)) ?? scene.boxes.get(keyOf.namespace(ns));
  if (box) look = camera.reveal(look, box, room());
  draw();
}

function hide(ns) {
  if (state.hidden.has(ns)) state.hidden.delete(ns);
  else state.hidden.add(ns);
  changed();
}

function only(ns) {
  state.hidden = new Set([...model.namespaces.keys()].filter((other) => other !== ns));
  state.open.add(ns);
  touched = false;
  changed();
}

function showAll() {
  state.hidden.clear();
  touched = false;
  changed();
}

function showBar() {
  const { document: told } = model;
  const total = told.edges.reduce((all, edge) => all + edge.r, 0);
  const failed = told.edges.reduce((all, edge) => all + (edge.ok === null ? 0 : edge.r * (1 - edge.ok)), 0);
  const figure = (value, text) => h('span', {}, h('b', {}, value), ` ${text}`);
  replace(
    $('figures'),
    figure(count(told.workloads.length), 'workloads'),
    figure(count(told.edges.length), 'edges'),
    figure(rate(total), ''),
    figure(total > 0 ? percent(1 - failed / total) : '–', 'success'),
  );
  const missing = gaps(model);
  const { live, silent, ended, absent } = told.agents;
  const all = live + silent + ended + absent;
  const chips = [];
  const nodes = missing.nodes > 0 ? `${live}/${all} nodes` : `${all} node${all === 1 ? '' : 's'}`;
  chips.push(h('button', { class: `chip ${missing.nodes > 0 ? 'poor' : 'good'}`, title: 'Which agents push', onclick: showGaps }, nodes));
  chips.push(h('button', { class: `chip ${missing.lost > 0 ? 'fair' : 'good'}`, title: 'What was lost in the last minute', onclick: showGaps }, missing.lost > 0 ? `${count(missing.lost)} lost` : 'no losses'));
  if (missing.leftOut > 0) chips.push(h('button', { class: 'chip fair', onclick: showGaps }, `${count(missing.leftOut)} not shown`));
  replace($('state'), ...chips);
  $('empty').hidden = told.workloads.length > 0;
  $('empty').textContent = all === 0 ? 'No agent has joined yet.' : 'Nothing was seen yet: figures come with the second push of an agent, within 20 s.';
}

/* What the companion says. */

async function ask(path) {
  const patience = AbortSignal.timeout(10000);
  const answer = await fetch(path, { cache: 'no-store', credentials: 'omit', signal: patience });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

const turn = () => new Promise((done) => setTimeout(done, 0));

async function poll() {
  if (!document.hidden) {
    try {
      const told = await ask('api/map');
      // In steps between which a frame is drawn.
      await turn();
      const next = read(told);
      history.take(next);
      await turn();
      model = next;
      answered = performance.now();
      failure = null;
      changed();
      if (edgeOf(state.selected)) askDetail();
    } catch (error) {
      failure = error;
    }
    warn();
  }
  setTimeout(poll, ASK);
}

async function askDetail() {
  const edge = edgeOf(state.selected);
  const turn = ++asksDetail;
  try {
    const answer = await ask(`api/edge/${encodeURIComponent(edge.id)}`);
    if (turn !== asksDetail) return;
    detail = answer;
    detailFailed = false;
  } catch {
    if (turn !== asksDetail) return;
    detailFailed = true;
  }
  showPanel();
}

function warn() {
  const isOld = failure !== null && (answered === 0 || performance.now() - answered > OLD);
  const age = Math.round((performance.now() - answered) / 1000);
  $('warn').textContent = !isOld ? '' : answered === 0 ? 'The companion does not answer.' : `The companion does not answer. What you see is ${age} s old.`;
  document.body.classList.toggle('is-old', isOld);
}

/* What a person does. */

function measure() {
  const box = canvas.parentElement.getBoundingClientRect();
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  size = { w: Math.max(1, box.width), h: Math.max(1, box.height), ratio };
  canvas.width = Math.round(size.w * ratio);
  canvas.height = Math.round(size.h * ratio);
  if (look !== null && scene !== null && !touched) look = camera.fit(scene, room());
  draw();
}

function at(event) {
  const box = canvas.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

function below(event) {
  return scene === null ? null : under(scene, camera.toScene(look, at(event)), 7 / look.scale);
}

let drag = null;
canvas.addEventListener('pointerdown', (event) => {
  drag = { x: event.clientX, y: event.clientY, moved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener('pointermove', (event) => {
  if (scene === null) return;
  if (drag !== null) {
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag = { x: event.clientX, y: event.clientY, moved: true };
    look = camera.move(look, dx, dy);
    return moved();
  }
  const now = below(event)?.key ?? null;
  if (now !== hovered) {
    hovered = now;
    canvas.style.cursor = now === null ? 'grab' : 'pointer';
    draw(false);
  }
});
canvas.addEventListener('pointerup', (event) => {
  const wasMoved = drag?.moved;
  drag = null;
  if (wasMoved || scene === null) return;
  const what = below(event);
  if (what === null) close();
  else choose(what.key);
});
canvas.addEventListener('pointercancel', () => (drag = null));
canvas.addEventListener('pointerleave', () => {
  hovered = null;
  draw(false);
});
canvas.addEventListener('dblclick', (event) => {
  const key = below(event)?.key;
  if (key?.startsWith('n:')) toggle(key.slice(2));
});
canvas.addEventListener(
  'wheel',
  (event) => {
    event.preventDefault();
    if (scene === null) return;
    const lines = event.deltaMode === 1 ? 16 : 1;
    look = camera.zoom(look, at(event), Math.exp(-event.deltaY * lines * 0.0015));
    moved();
  },
  { passive: false },
);

function zoom(by) {
  if (look === null) return;
  touched = true;
  look = camera.zoom(look, { x: size.w / 2, y: size.h / 2 }, by);
  draw();
}

function fit() {
  if (scene === null) return;
  touched = false;
  look = camera.fit(scene, room());
  draw();
}

function expand(open) {
  if (model === null) return;
  state.open = new Set(open ? model.namespaces.keys() : []);
  touched = false;
  changed();
}

function show(list) {
  asList = list;
  $('list').hidden = !list;
  canvas.hidden = list;
  $('zoom').hidden = $('legend').hidden = list;
  $('as-map').setAttribute('aria-pressed', String(!list));
  $('as-list').setAttribute('aria-pressed', String(list));
  if (model !== null) showList();
  draw();
}

const DARK = matchMedia('(prefers-color-scheme: dark)');
function dark(turn) {
  const root = document.documentElement;
  const now = root.dataset.theme ?? (DARK.matches ? 'dark' : 'light');
  if (turn) root.dataset.theme = now === 'dark' ? 'light' : 'dark';
  theme = colours(root);
  draw();
}
DARK.addEventListener('change', () => dark(false));

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener('keydown', (event) => {
  if (scene === null || event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (arrow) {
    event.preventDefault();
    const key = next(scene, state.selected, arrow);
    if (key !== null) choose(key, { pan: true });
  } else if (event.key === 'Enter' || event.key === ' ') {
    event.preventDefault();
    const { selected } = state;
    if (selected?.startsWith('n:')) {
      toggle(selected.slice(2));
      const first = [...scene.boxes.keys()].find((key) => view.cards.get(key).ns === selected.slice(2));
      if (state.open.has(selected.slice(2)) && first) choose(first, { pan: true });
    } else if (selected?.startsWith('w:')) {
      $('panel').querySelector('button.link')?.focus();
    }
  } else if (event.key === 'Backspace' && state.selected?.startsWith('w:')) {
    const { ns } = view.cards.get(state.selected);
    toggle(ns);
    choose(keyOf.namespace(ns), { pan: true });
  }
});

const KEYS = {
  '/': () => $('search').focus(),
  '+': () => zoom(1.25),
  '=': () => zoom(1.25),
  '-': () => zoom(0.8),
  0: fit,
  e: () => expand(true),
  c: () => expand(false),
  l: () => show(!asList),
  t: () => dark(true),
  '?': showKeys,
};
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $('keys').open) return;
  if (event.key === 'Escape') {
    if (document.activeElement === $('search')) $('search').value = '';
    if (state.query !== '') {
      state.query = '';
      changed();
    } else if (model !== null) close();
    canvas.focus();
    return;
  }
  if (event.target instanceof HTMLInputElement && event.target.type !== 'checkbox') return;
  const act = KEYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

$('search').addEventListener('input', (event) => {
  state.query = event.target.value.trim();
  changed();
});
$('search').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || model === null) return;
  const [first] = found(model, state.query, 1).list;
  if (first) go(first);
});
$('in').addEventListener('click', () => zoom(1.25));
$('out').addEventListener('click', () => zoom(0.8));
$('fit').addEventListener('click', fit);
$('expand').addEventListener('click', () => expand(true));
$('collapse').addEventListener('click', () => expand(false));
$('as-map').addEventListener('click', () => show(false));
$('as-list').addEventListener('click', () => show(true));
$('theme').addEventListener('click', () => dark(true));
$('help').addEventListener('click', showKeys);
document.addEventListener('visibilitychange', () => draw());
new ResizeObserver(measure).observe(canvas.parentElement);

// For who measures and tests; nothing on the page uses it.
globalThis.pilotfish = {
  frames,
  state: () => ({ cards: view ? [...view.cards.keys()] : [], links: view ? view.links.map(({ key }) => key) : [], selected: state.selected }),
  named: (name) => [...model.workloads.values()].filter((one) => one.name === name).map(({ id }) => keyOf.workload(id))[0],
  at: (key) => {
    const box = scene?.boxes.get(key);
    const spot = box ? { x: box.x + box.w / 2, y: box.y + box.h / 2 } : scene?.curves.get(key)?.middle;
    if (!spot) return null;
    const frame = canvas.getBoundingClientRect();
    return { x: frame.left + (spot.x - look.x) * look.scale, y: frame.top + (spot.y - look.y) * look.scale };
  },
};

dark(false);
measure();
poll();
