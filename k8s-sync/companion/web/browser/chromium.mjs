// Drives a Chromium over its debugging pipe: JSON with a zero byte after each message. No port is open.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class Chromium {
  static async start(program) {
    const home = await mkdtemp(join(tmpdir(), 'pilotfish-map-'));
    const flags = [
      '--headless=new', '--remote-debugging-pipe', '--no-first-run', '--no-default-browser-check', '--disable-gpu',
      '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-extensions',
      '--disable-dev-shm-usage', '--hide-scrollbars', '--mute-audio', `--user-data-dir=${home}`,
      // Chromium's sandbox refuses root, which these tests run as.
      ...(process.getuid() === 0 ? ['--no-sandbox'] : []),
    ];
    const child = spawn(program, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    const browser = new Chromium(child, home);
    await browser.send('Browser.getVersion');
    return browser;
  }

  constructor(child, home) {
    Object.assign(this, { child, home, last: 0, waiting: new Map(), heard: [] });
    let rest = Buffer.alloc(0);
    child.stdio[4].on('data', (piece) => {
      rest = Buffer.concat([rest, piece]);
      for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
        this.receive(JSON.parse(rest.subarray(0, end).toString()));
        rest = rest.subarray(end + 1);
      }
    });
    const gone = (why) => {
      for (const { fail } of this.waiting.values()) fail(new Error(`Chromium ended: ${why}`));
      this.waiting.clear();
    };
    child.on('error', (error) => gone(error.message));
    child.on('exit', (code) => gone(code));
    child.stdio[3].on('error', () => {});
  }

  receive(message) {
    if (message.id === undefined) {
      for (const take of this.heard) take(message);
      return;
    }
    const { done, fail } = this.waiting.get(message.id) ?? {};
    this.waiting.delete(message.id);
    if (message.error) fail?.(new Error(message.error.message));
    else done?.(message.result);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = ++this.last;
    return new Promise((done, fail) => {
      this.waiting.set(id, { done, fail });
      this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  async page({ width = 1440, height = 900, scheme = 'light' } = {}) {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, sessionId);
    for (const domain of ['Page', 'Runtime', 'Network', 'Log']) await page.send(`${domain}.enable`);
    await page.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false });
    await page.scheme(scheme);
    return page;
  }

  async end() {
    const gone = new Promise((done) => this.child.once('exit', done));
    await this.send('Browser.close').catch(() => this.child.kill('SIGKILL'));
    await gone;
    await rm(this.home, { recursive: true, force: true, maxRetries: 5 });
  }
}

export class Page {
  constructor(browser, sessionId) {
    Object.assign(this, { browser, sessionId, requests: [], complaints: [] });
    browser.heard.push(({ sessionId: of, method, params }) => {
      if (of !== sessionId) return;
      if (method === 'Network.requestWillBeSent') this.requests.push(params.request.url);
      if (method === 'Runtime.exceptionThrown') this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      if (method === 'Log.entryAdded' && params.entry.level === 'error') this.complaints.push(`${params.entry.text} ${params.entry.url ?? ''}`);
    });
  }

  send(method, params) {
    return this.browser.send(method, params, this.sessionId);
  }

  scheme(value) {
    return this.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value }] });
  }

  open(url) {
    return this.send('Page.navigate', { url });
  }

  /** The value of an expression, which may be a promise. */
  async value(expression) {
    const told = await this.send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true, allowUnsafeEvalBlockedByCSP: false });
    if (told.exceptionDetails) throw new Error(`${expression}: ${told.exceptionDetails.exception?.description}`);
    return told.result.value;
  }

  async until(expression, patience = 20000) {
    const end = Date.now() + patience;
    for (;;) {
      const value = await this.value(expression).catch(() => undefined);
      if (value) return value;
      if (Date.now() > end) throw new Error(`not in ${patience} ms: ${expression}`);
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  async mouse(type, x, y, more = {}) {
    await this.send('Input.dispatchMouseEvent', { type, x, y, ...more });
  }

  async click(x, y, clickCount = 1) {
    for (let n = 1; n <= clickCount; n += 1) {
      await this.mouse('mousePressed', x, y, { button: 'left', buttons: 1, clickCount: n });
      await this.mouse('mouseReleased', x, y, { button: 'left', clickCount: n });
    }
  }

  async key(key, text = key.length === 1 ? key : undefined) {
    await this.send('Input.dispatchKeyEvent', { type: text ? 'keyDown' : 'rawKeyDown', key, text });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', key });
  }

  async picture() {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png' });
    return Buffer.from(data, 'base64');
  }
}
