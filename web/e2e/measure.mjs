// How soon a list of many queues can be used, and what a viewer costs the broker: `npm run measure [QUEUES]`.
import { readFileSync } from 'node:fs';
import { Broker } from './lib/broker.mjs';
import { launch, login, visit } from './lib/browser.mjs';

const QUEUES = Number(process.argv[2] ?? 10_000);
const LOADS = 5;
const WATCH_MS = 15_000;
/** Of the kernel's clock, in which `/proc` counts: 100 on Linux as Debian builds it. */
const TICKS_PER_SECOND = 100;

const cpuSeconds = (pid) => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const share = async (pid) => {
  const before = cpuSeconds(pid);
  await pause(WATCH_MS);
  return ((cpuSeconds(pid) - before) * 1000) / WATCH_MS;
};

const broker = await Broker.start();
const browser = await launch();
try {
  const queues = Array.from({ length: QUEUES }, (_, index) => ({
    vhost: '/', name: `queue.${String(index).padStart(6, '0')}`, durable: true, auto_delete: false, arguments: {},
  }));
  await broker.api('POST', '/definitions', { queues });
  await pause(2000);
  const idle = await share(broker.pid);
  const visitor = await visit(browser, broker);
  await login(visitor, broker);
  const times = [];
  for (let load = 0; load < LOADS; load += 1) {
    await visitor.page.goto('about:blank');
    const began = performance.now();
    await visitor.page.goto(`${broker.url}/#/queues`);
    await visitor.page.locator('main tbody a').first().waitFor();
    times.push(Math.round(performance.now() - began));
  }
  const watched = await share(broker.pid);
  times.sort((one, other) => one - other);
  console.log(`${QUEUES} queues: the list can be used after ${times[0]} to ${times.at(-1)} ms, median ${times[Math.floor(LOADS / 2)]} ms`);
  console.log(`CPU of the broker: ${(idle * 100).toFixed(2)} % of a core without a viewer, ${(watched * 100).toFixed(2)} % with one on the list`);
} finally {
  await browser.close();
  await broker.stop();
}
