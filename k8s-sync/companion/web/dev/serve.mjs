// Serves dist/ with a document that is made up, for whoever works on the page:
//   node dev/serve.mjs [--large WORKLOADS EDGES] [--port PORT]
// Not the companion's server: no rights, no bounds.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { detail, large, shop } from './fixture.mjs';

const dist = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist');
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

export function serve(made, port = 0) {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, 'http://localhost').pathname;
    response.setHeader('content-security-policy', POLICY);
    const json = (value) => response.setHeader('content-type', 'application/json').end(JSON.stringify(value));
    const now = made(Math.floor(Date.now() / 2000));
    if (path === '/api/map') return json(now);
    if (path.startsWith('/api/edge/')) {
      const one = now.edges.find(({ id }) => id === path.slice(10));
      return one ? json(detail(one)) : response.writeHead(404).end();
    }
    const name = path === '/' ? 'index.html' : path.slice(1);
    if (!/^[a-z]+\.[a-z]+$/.test(name)) return response.writeHead(404).end();
    const file = await readFile(join(dist, name)).catch(() => null);
    if (file === null) return response.writeHead(404).end();
    return response.setHeader('content-type', TYPES[extname(name)]).end(file);
  });
  return new Promise((done) => server.listen(port, '127.0.0.1', () => done(server)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const after = (name) => process.argv.indexOf(name) + 1;
  const [w, e] = after('--large') > 0 ? process.argv.slice(after('--large')).map(Number) : [0, 0];
  const fixed = w > 0 ? large(w, e) : null;
  const server = await serve(fixed ? () => fixed : (seed) => shop(seed), after('--port') > 0 ? Number(process.argv[after('--port')]) : 8080);
  console.log(`http://127.0.0.1:${server.address().port}/`);
}
