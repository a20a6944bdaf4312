// BullMQ. It speaks the lines of child.py.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

// Modules are searched from the folder that npm installed into, not from this file.
const { Queue, Worker } = createRequire(process.cwd() + '/')('bullmq');

const STANDARD = 'Welcome aboard';
const url = new URL(process.argv[2]);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const options = { removeOnComplete: true };
const counter = { ran: 0, first: 0, last: 0 };
const times = [];
const queue = new Queue('bench', { connection });
let worker;

// Seconds of the clock that Python calls perf_counter.
const now = () => Number(process.hrtime.bigint()) / 1e9;
// Seconds of CPU that this process has used.
const cpu = () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6;
const payload = (subject) => ({ to: 'someone@example.com', subject, template: 'welcome-2026', locale: 'en-GB' });
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function run(job) {
  counter.last = now();
  if (!counter.ran) counter.first = counter.last;
  counter.ran += 1;
  if (job.data.subject !== STANDARD) times.push(counter.last - Number(job.data.subject));
}

async function enqueue(how, count) {
  const start = now();
  const used = cpu();
  if (how === 'many') {
    for (let first = 0; first < count; first += 1000) {
      const jobs = Array.from({ length: Math.min(1000, count - first) });
      await queue.addBulk(jobs.map(() => ({ name: 'send_email', data: payload(STANDARD), opts: options })));
    }
  } else {
    const width = how === 'one' ? 1 : 100;
    const lane = async (first) => {
      for (let number = first; number < count; number += width) {
        await queue.add('send_email', payload(STANDARD), options);
      }
    };
    await Promise.all(Array.from({ length: width }, (_, first) => lane(first)));
  }
  return { seconds: now() - start, cpu: cpu() - used };
}

async function answer(words) {
  switch (words.do) {
    case 'work':
      worker = new Worker('bench', run, { connection, concurrency: 100 });
      return {};
    case 'count':
      return { ...counter, cpu: cpu() };
    case 'times':
      return { times };
    case 'pickups':
      for (let number = 0; number < words.count; number += 1) {
        await pause(words.pause);
        await queue.add('send_email', payload(String(now())), options);
      }
      return {};
    default:
      return enqueue(words.how, words.count);
  }
}

const say = (words) => process.stdout.write(JSON.stringify(words) + '\n');
await queue.waitUntilReady();
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  try {
    say(await answer(JSON.parse(line)));
  } catch (error) {
    say({ error: String(error) });
  }
}
process.exit(0);
