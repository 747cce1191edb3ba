// Bundles the page into dist/, which is committed: a build of the companion needs no Node.
//   node build.mjs          writes dist/
//   node build.mjs --check  says with an exit code of 1 that dist/ is not what the sources say

import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { dirname, join } from 'node:path';

const here = dirname(fileURLToPath(import.meta.url));
const bundled = await build({
  absWorkingDir: here,
  entryPoints: [{ in: 'src/main.js', out: 'map' }, { in: 'src/style.css', out: 'map' }],
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['chrome109', 'firefox115', 'safari16'],
  charset: 'utf8',
  legalComments: 'none',
  outdir: 'dist',
  write: false,
  logLevel: 'warning',
});
const files = new Map(bundled.outputFiles.map(({ path, contents }) => [path.slice(join(here, 'dist').length + 1), Buffer.from(contents)]));
for (const name of ['index.html', 'map.svg']) files.set(name, await readFile(join(here, 'src', name)));
// What it was made of, so that a build without Node can tell whether that is what is there.
const sources = ['build.mjs', 'package-lock.json', ...(await readdir(join(here, 'src'))).sort().map((name) => `src/${name}`)];
const lines = await Promise.all(
  sources.map(async (name) => `${createHash('sha256').update(await readFile(join(here, name))).digest('hex')}  ${name}\n`),
);
files.set('sources.sha256', Buffer.from(lines.join('')));

let differs = false;
for (const [name, content] of files) {
  const path = join(here, 'dist', name);
  const was = await readFile(path).catch(() => null);
  if (was !== null && was.equals(content)) continue;
  differs = true;
  if (process.argv.includes('--check')) console.error(`dist/${name} is not what the sources say: npm run build`);
  else await writeFile(path, content);
}
if (process.argv.includes('--check')) process.exitCode = differs ? 1 : 0;
else console.log([...files].map(([name, content]) => `dist/${name} ${content.length}`).join('\n'));
