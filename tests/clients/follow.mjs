// node follow.mjs CLIENT URL: follows URL with that client, as it is, and prints a line of JSON for all that it tells.
import { spawn } from 'node:child_process';

const [client, url] = process.argv.slice(2);
const say = (what, more) => console.log(JSON.stringify({ what, ...more }));

// Ends with whoever started it, and not before: a client may let go of the process while it waits to come back.
process.stdin.on('end', () => process.exit()).resume();

// How long a client waits before it comes back, in its own words.
const { setTimeout: later } = globalThis;
globalThis.setTimeout = (call, ms, ...more) => {
  say('wait', { ms });
  return later(call, ms, ...more);
};

const eventSource = (name) => async () => {
  const { EventSource } = await import(name);
  const source = new EventSource(url);
  source.onmessage = ({ lastEventId, type, data }) => say('event', { id: lastEventId, type, data });
  source.onerror = ({ code, message }) => {
    const isClosed = source.readyState === EventSource.CLOSED;
    say(isClosed ? 'end' : 'over', { status: code, error: message });
  };
};

// As its page says: `onclose` and `onopen` throw for what shall be tried again, `onerror` throws for what shall not.
async function fetchEventSource() {
  // What it needs of a browser.
  globalThis.window = globalThis;
  globalThis.document = { addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource: follow } = (await import('@microsoft/fetch-event-source')).default;
  let status;
  await follow(url, {
    openWhenHidden: true,
    async onopen(response) {
      status = response.status;
      if (status !== 200) throw new Error(`${status} is no stream`);
    },
    onmessage: ({ id, event, data }) => say('event', { id, type: event, data }),
    onclose() {
      say('over', { clean: true });
      throw new Error('it comes back');
    },
    onerror(error) {
      if (status !== 200) throw error;
      say('over', { error: String(error) });
    },
  }).catch((error) => say('end', { status, error: String(error) }));
}

// With what it does by itself, but that it comes back sooner than after its second. An end, and 204, are nothing special to it.
async function fetchEventSourceAlone() {
  globalThis.window = globalThis;
  globalThis.document = { addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource: follow } = (await import('@microsoft/fetch-event-source')).default;
  await follow(url, {
    openWhenHidden: true,
    onmessage: ({ id, event, data }) => say('event', { id, type: event, data }),
    onerror: (error) => {
      say('over', { error: String(error) });
      return 50;
    },
  });
  say('end');
}

// curl reads one connection; coming back is left to who uses it.
async function curl() {
  let last;
  for (let retry = 3000; ;) {
    const given = last ? ['-H', `Last-Event-ID: ${last}`] : [];
    const args = ['-sSN', '-H', 'Accept: text/event-stream', ...given, '-w', '%{stderr}%{http_code}', url];
    const child = spawn('curl', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let error = '';
    child.stderr.setEncoding('utf8').on('data', (text) => { error += text; });
    let held = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      const blocks = (held + text).split('\n\n');
      held = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split('\n').map((line) => /^(\w*): ?(.*)$/.exec(line).slice(1)));
        last = fields.id ?? last;
        retry = fields.retry ?? retry;
        if (fields.data) say('event', { id: last, type: 'message', data: fields.data });
      }
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    if (error === '204') return say('end', { status: 204 });
    say('over', { clean: code === 0, error });
    await new Promise((resolve) => setTimeout(resolve, Number(retry)));
  }
}

await {
  'eventsource 3': eventSource('eventsource3'),
  'eventsource 5': eventSource('eventsource5'),
  'fetch-event-source': fetchEventSource,
  'fetch-event-source alone': fetchEventSourceAlone,
  curl,
}[client]();
