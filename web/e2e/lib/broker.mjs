// A broker of its own for a test file: the real binary, free ports, a data directory that goes with it.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
const START_MS = 20_000;
const STOP_MS = 10_000;

/** The binary under test: `$MILLPOND`, or what `make build` made. */
export function binary() {
  const found = process.env.MILLPOND ?? path.join(repository, 'target/release/millpond');
  if (!existsSync(found)) throw new Error(`no broker at ${found}: run \`make build\`, or set MILLPOND`);
  return found;
}

export class Broker {
  #process;
  #flags = [];
  #log = '';

  /** Starts one; `flags` go behind those of the ports and the data directory. */
  static async start(flags = []) {
    const broker = new Broker();
    broker.data = mkdtempSync(path.join(tmpdir(), 'millpond-console-'));
    broker.#flags = flags;
    await broker.#run('127.0.0.1:0', '127.0.0.1:0');
    return broker;
  }

  /** The same one again after `halt`: its data, its addresses. */
  again() {
    return this.#run(this.amqp, this.url.replace('http://', ''));
  }

  #run(amqp, http) {
    const listen = ['--amqp-listen', amqp, '--http-listen', http];
    this.#log = '';
    this.#process = spawn(binary(), ['serve', '--data-dir', this.data, ...listen, ...this.#flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return this.#banner();
  }

  /** Reads what the broker prints at its start: its addresses. */
  #banner() {
    return new Promise((resolve, reject) => {
      let isReady = false;
      const gone = () => reject(new Error(`the broker did not start:\n${this.#log}`));
      const timer = setTimeout(gone, START_MS);
      const read = (chunk) => {
        this.#log = (this.#log + chunk).slice(-20_000);
        const amqp = /AMQP 0-9-1\s+(127\.0\.0\.1:\d+)/.exec(this.#log);
        const http = /http:\/\/(127\.0\.0\.1:\d+)\//.exec(this.#log);
        if (!amqp || !http || isReady) return;
        isReady = true;
        clearTimeout(timer);
        this.amqp = amqp[1];
        this.url = `http://${http[1]}`;
        this.#process.off('exit', gone);
        resolve();
      };
      this.#process.stdout.on('data', read);
      this.#process.stderr.on('data', read);
      this.#process.once('exit', gone);
    });
  }

  /** The process id, for what looks at its CPU time. */
  get pid() {
    return this.#process.pid;
  }

  /** The end of what the broker wrote, for a failed test. */
  get log() {
    return this.#log;
  }

  /** Asks the management API as `guest`; a body makes it JSON. Throws on a refusal. */
  async api(method, resource, body) {
    const response = await fetch(`${this.url}/api${resource}`, {
      method,
      headers: { authorization: `Basic ${btoa('guest:guest')}`, 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${resource}: ${response.status} ${text}`);
    return text && response.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text;
  }

  /** Runs `millpond ARGS` against this broker; resolves to what it wrote, rejects if it failed. */
  command(...args) {
    return new Promise((resolve, reject) => {
      const child = spawn(binary(), [...args, '--data-dir', this.data], { stdio: ['pipe', 'pipe', 'pipe'] });
      let written = '';
      child.stdout.on('data', (chunk) => (written += chunk));
      child.stderr.on('data', (chunk) => (written += chunk));
      child.stdin.end();
      child.once('error', reject);
      child.once('exit', (code) => (code === 0 ? resolve(written) : reject(new Error(`${args.join(' ')}: ${written}`))));
    });
  }

  /** Stops it as a service manager would and removes its data. */
  async stop() {
    await this.halt();
    rmSync(this.data, { recursive: true, force: true });
  }

  /** Stops it as a service manager would. */
  async halt() {
    const child = this.#process;
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await ended;
      clearTimeout(timer);
    }
  }
}
