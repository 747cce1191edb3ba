// Looks at the service map as a person does, in a Chromium without a screen.
//   node browser/drive.mjs --url URL [--chromium PROGRAM] [--shots DIRECTORY] [--picture FILE] story|large|picture
//
// `story` wants the cluster of tests/map/world.rs; `large` expands everything and measures frames;
// `picture` shows all workloads of whatever cluster it is.
// What does not hold ends it with an exit code of 1, and is told.

import assert from 'node:assert/strict';
import { createServer, request as ask } from 'node:http';
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Chromium } from './chromium.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: 'string' },
    chromium: { type: 'string', default: 'chromium' },
    shots: { type: 'string' },
    picture: { type: 'string', default: 'map.png' },
  },
});
/** The least that a person sees as fluid. */
const FRAME = 50;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function shot(page, name) {
  if (!values.shots) return;
  await mkdir(values.shots, { recursive: true });
  await writeFile(join(values.shots, `${name}.png`), await page.picture());
}

/** The page with its first figures. */
async function opened(browser, url, options) {
  const page = await browser.page(options);
  await page.open(url);
  await page.until('globalThis.pilotfish?.state().cards.length > 0');
  return page;
}

function quiet(page, url) {
  assert.deepEqual(page.complaints, [], 'the browser complains');
  const outside = page.requests.filter((one) => !one.startsWith(url) && one !== 'about:blank');
  assert.deepEqual(outside, [], 'requests to others');
}

const text = (id) => `document.getElementById('${id}').textContent`;

async function story(browser) {
  for (const scheme of ['light', 'dark']) {
    const page = await opened(browser, values.url, { scheme });
    await page.until(`${text('state')}.includes('lost')`);
    await shot(page, `${scheme}-1-namespaces`);
    assert.match(await page.value(text('state')), /2\/3 nodes/);
    const closed = await page.value('pilotfish.state()');
    assert.ok(closed.cards.every((key) => key.startsWith('n:')), 'namespaces begin collapsed');
    // A double click opens a namespace, and what was clicked on stays where it is.
    const at = await page.value('pilotfish.at("n:shop")');
    await page.click(at.x, at.y, 2);
    await page.until('pilotfish.state().cards.some((key) => key.startsWith("w:"))');
    await page.key('0');
    await sleep(150);
    await shot(page, `${scheme}-2-workloads`);
    // A click on an edge: protocols, status codes, latency, TCP.
    const spot = await page.until('pilotfish.at(`${pilotfish.named("web")}>${pilotfish.named("reviews")}`)');
    await page.click(spot.x, spot.y);
    await page.until(`${text('panel')}.includes('Retransmits')`);
    const panel = await page.value(text('panel'));
    for (const part of ['200', '503', 'p95', 'Handshake', 'Resets']) assert.ok(panel.includes(part), `${part} in ${panel}`);
    assert.ok((await page.value('document.querySelectorAll(".histogram .bar").length')) > 0);
    await sleep(4500);
    await shot(page, `${scheme}-3-edge`);
    // The panel goes on living with the figures.
    await page.key('Escape');
    assert.equal(await page.value('document.getElementById("panel").hidden'), true);
    // Search, with the keyboard alone.
    await page.key('/');
    for (const letter of 'onerror') await page.key(letter);
    await page.until('document.querySelectorAll(".hit").length === 1');
    assert.match(await page.value('document.querySelector(".hit .name").textContent'), /^<img src=x onerror=/);
    await page.key('Enter', '\r');
    await page.until('pilotfish.state().selected?.startsWith("w:")');
    await page.until(`${text('panel')}.includes('<img src=x onerror=')`);
    await shot(page, `${scheme}-4-hostile`);
    assert.equal(await page.value('document.querySelectorAll("#panel img, #side img, script:not([src])").length'), 0);
    assert.equal(await page.value('globalThis.pwned'), undefined);
    await page.key('Escape');
    await page.key('Escape');
    // Arrows and Enter, as without a mouse.
    await page.key('c');
    await page.value('document.getElementById("map").focus()');
    await page.key('ArrowRight');
    assert.match(await page.value(text('said')), /^Namespace /);
    await page.key('Enter', '\r');
    await page.until('pilotfish.state().selected?.startsWith("w:")');
    await page.key('Escape');
    await page.key('l');
    await page.until('document.querySelectorAll("#list tbody tr").length > 3');
    await shot(page, `${scheme}-5-list`);
    assert.equal(await page.value('Boolean(document.querySelector("#list td.fair, #list td.poor"))'), true);
    // Which nodes are silent, by name.
    await page.value('document.querySelector("#state .chip").click()');
    await page.until('document.getElementById("keys").open');
    assert.match(await page.value(text('keys')), /node-3.*Absent/s);
    await shot(page, `${scheme}-6-gaps`);
    quiet(page, values.url);
  }
  await prefixed(browser);
  await forbidden(browser);
}

/** Behind a proxy that takes a prefix away. */
async function prefixed(browser) {
  const target = new URL(values.url);
  const proxy = createServer((incoming, outgoing) => {
    if (!incoming.url.startsWith('/some/where/')) return outgoing.writeHead(404).end();
    const options = { host: target.hostname, port: target.port, path: incoming.url.slice(11), headers: { ...incoming.headers, host: target.host } };
    ask(options, (answer) => answer.pipe(outgoing.writeHead(answer.statusCode, answer.headers))).end();
  });
  await new Promise((done) => proxy.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${proxy.address().port}/some/where/`;
  const page = await opened(browser, url, {});
  const key = await page.value('pilotfish.state().links[0]');
  const spot = await page.value(`pilotfish.at(${JSON.stringify(key)})`);
  await page.click(spot.x, spot.y);
  await page.until('!document.getElementById("panel").hidden');
  quiet(page, url);
  proxy.close();
  proxy.closeAllConnections();
}

/** The policy holds: no script that is written into the page runs, and no text becomes markup. */
async function forbidden(browser) {
  const page = await opened(browser, values.url, {});
  const tried = await page.value(`(async () => {
    const all = [];
    try { document.body.innerHTML = '<b>x</b>'; all.push('innerHTML'); } catch { /* as it should */ }
    try { (0, eval)('1'); all.push('eval'); } catch { /* as it should */ }
    const script = document.createElement('script');
    try { script.text = 'globalThis.pwned = 1'; document.body.append(script); } catch { /* as it should */ }
    if (globalThis.pwned) all.push('script');
    const left = await fetch('https://example.invalid/').then(() => 'fetch', () => null);
    if (left) all.push(left);
    return all;
  })()`);
  assert.deepEqual(tried, []);
}

async function large(browser) {
  const [load] = loadavg();
  const isQuiet = load < availableParallelism();
  const page = await opened(browser, values.url, {});
  await page.until('pilotfish.state().cards.length >= 30');
  await shot(page, 'large-1-namespaces');
  const report = {};
  // Of all processes of the browser: what a frame costs, whatever else the machine does.
  const cpu = async () => {
    const { processInfo } = await browser.send('SystemInfo.getProcessInfo');
    return processInfo.reduce((all, { cpuTime }) => all + cpuTime, 0) * 1000;
  };
  const measure = async (name, act) => {
    await page.value(`(() => {
      pilotfish.frames.length = 0;
      globalThis.gaps = [];
      let last = performance.now();
      globalThis.measuring = true;
      const turn = (now) => { globalThis.gaps.push(now - last); last = now; if (globalThis.measuring) requestAnimationFrame(turn); };
      requestAnimationFrame(turn);
    })()`);
    const before = await cpu();
    await act();
    const used = (await cpu()) - before;
    const told = await page.value('(() => { globalThis.measuring = false; return { gaps: globalThis.gaps.slice(1), paints: [...pilotfish.frames] }; })()');
    const at = (list, share) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * share))] ?? 0;
    const figures = (list) => ({ n: list.length, p50: at(list, 0.5), p95: at(list, 0.95), max: at(list, 1) });
    const drawn = { n: told.paints.length, script_p95: figures(told.paints).p95, cpu: used / Math.max(1, told.paints.length) };
    report[name] = { between: figures(told.gaps), drawn };
  };
  const drag = async () => {
    await page.mouse('mousePressed', 800, 120, { button: 'left', buttons: 1, clickCount: 1 });
    for (let n = 0; n < 60; n += 1) {
      await page.mouse('mouseMoved', 800 - n * 5, 120 + n * 4, { button: 'left', buttons: 1 });
    }
    await page.mouse('mouseReleased', 500, 360, { button: 'left' });
  };
  const wheel = async () => {
    for (let n = 0; n < 60; n += 1) await page.mouse('mouseWheel', 800, 450, { deltaX: 0, deltaY: n < 30 ? -60 : 60 });
  };
  const hover = async () => {
    for (let n = 0; n < 60; n += 1) await page.mouse('mouseMoved', 300 + n * 14, 150 + n * 9);
  };
  await measure('collapsed: drag', drag);
  await measure('collapsed: zoom', wheel);
  await measure('collapsed: figures come', () => sleep(4500));
  await page.key('c');
  const began = Date.now();
  await page.key('e');
  await page.until('pilotfish.state().cards.length === 1000');
  report.expand_ms = Date.now() - began;
  await sleep(300);
  await shot(page, 'large-2-workloads');
  await measure('expanded: drag', drag);
  await measure('expanded: zoom', wheel);
  await measure('expanded: hover', hover);
  await measure('expanded: figures come', () => sleep(4500));
  const short = (value) => (typeof value === 'object' ? JSON.stringify(value, (_, one) => (typeof one === 'number' ? Math.round(one * 10) / 10 : one)) : value);
  for (const [name, told] of Object.entries(report)) console.log(`${name}: ${short(told)}`);
  quiet(page, values.url);
  for (const [name, told] of Object.entries(report)) {
    if (name === 'expand_ms') continue;
    const { between, drawn } = told;
    assert.ok(drawn.n < 10 || drawn.cpu <= FRAME, `${name}: a frame takes ${drawn.cpu} ms of CPU`);
    // Of the time between frames a share of 5 % is the machine's, and all of it where others use it, too.
    if (isQuiet) assert.ok(between.p95 <= FRAME, `${name}: ${between.p95} ms between frames`);
  }
  if (!isQuiet) console.log(`others use this machine (load ${load}): the time between frames was not judged`);
}

async function picture(browser) {
  const page = await opened(browser, values.url, { scheme: 'light' });
  await page.key('e');
  await page.until('pilotfish.state().cards.some((key) => key.startsWith("w:"))');
  // All of it, with figures of this page's own pushes.
  await sleep(4500);
  await page.key('0');
  await sleep(300);
  await writeFile(values.picture, await page.picture());
  quiet(page, values.url);
}

const browser = await Chromium.start(values.chromium);
try {
  const stories = { story, large, picture };
  await stories[positionals[0]](browser);
  console.log(`${positionals[0]}: as it should be`);
} finally {
  await browser.end();
}
