// After the build: what the first visit loads is measured, and every file is compressed once, here, rather than at
// each request.
import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const OUT = 'dist/www';
// What a browser loads until the overview is there, gzipped, in bytes.
const FIRST_LOAD_MAX = 300 * 1024;
const FIRST_PAGE = 'src/pages/overview/Overview.svelte';
// The longer of the languages counts; one is loaded.
const LANGUAGES = ['src/lib/i18n/en/index.ts', 'src/lib/i18n/zh/index.ts'];
const COMPRESSED = /\.(js|css|html|svg|json)$/;

function files(folder) {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? files(path) : [path];
  });
}

function firstLoad() {
  const manifest = JSON.parse(readFileSync(join(OUT, '.vite/manifest.json'), 'utf8'));
  const wanted = new Set(['index.html']);
  const visit = (key) => {
    const chunk = manifest[key];
    if (!chunk) throw new Error(`the build has no ${key}`);
    if (wanted.has(chunk.file)) return;
    wanted.add(chunk.file);
    for (const style of chunk.css ?? []) wanted.add(style);
    for (const imported of chunk.imports ?? []) visit(imported);
  };
  visit('index.html');
  visit(FIRST_PAGE);
  for (const language of LANGUAGES) if (manifest[language]) visit(language);
  let sum = 0;
  for (const file of wanted) sum += gzipSync(readFileSync(join(OUT, file)), { level: 9 }).length;
  return { sum, count: wanted.size };
}

const { sum, count } = firstLoad();
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
if (sum > FIRST_LOAD_MAX) {
  console.error(`The first load is ${kib(sum)} in ${count} files; the bar is ${kib(FIRST_LOAD_MAX)}.`);
  process.exit(1);
}
rmSync(join(OUT, '.vite'), { recursive: true });
for (const file of files(OUT)) {
  if (!COMPRESSED.test(file)) continue;
  const content = readFileSync(file);
  const brotli = brotliCompressSync(content, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: content.length },
  });
  writeFileSync(`${file}.br`, brotli);
  writeFileSync(`${file}.gz`, gzipSync(content, { level: 9 }));
}
console.log(`First load: ${kib(sum)} gzipped in ${count} files (at most ${kib(FIRST_LOAD_MAX)}).`);
