// Follows a project using only EventSource, like a browser, and prints a line for each message.
//
//     node --experimental-eventsource examples/eventsource.mjs [--once] http://127.0.0.1:8080/api/sse/projects/demo
//
// Requires Node 24 with this flag; or Node 20 or newer, without the flag, with the npm package `eventsource` (npm install
// eventsource), which reconnects more reliably than Node 20 and 22 do. With --once it exits after the first run that ends,
// with status 0 if it completed and 1 if it failed. A server with auth.mode = "jwt" requires ?ticket=T in the URL, from
// POST /api/sse/ticket.

const args = process.argv.slice(2);
const once = args.includes("--once");
const url = args.find((arg) => !arg.startsWith("--")) ?? "http://127.0.0.1:8080/api/sse/projects/demo";

const installed = await import("eventsource").catch(() => ({}));
const EventSource = installed.EventSource ?? globalThis.EventSource;
if (typeof EventSource === "undefined") {
  console.error("this version of Node has no EventSource: use --experimental-eventsource, or npm install eventsource");
  process.exit(2);
}

// EventSource reconnects automatically and resumes after the last message. Node 20 and 22 give up if the connection is
// refused, some versions without an error. Therefore a new EventSource is opened at the position of the old one: soon after
// the old one has given up, or when it has had no stream for this long.
const GIVEN_UP_MS = 10_000;
const PAUSE_MS = 1_000;

let source;
let lastEventId = "";
let watchdog;

follow();

function follow() {
  const address = new URL(url);
  if (lastEventId) {
    address.searchParams.set("lastEventId", lastEventId);
  }
  source = new EventSource(address);
  source.onopen = () => clearTimeout(watchdog);
  source.onmessage = receive;
  source.onerror = lose;
}

// One handler is enough: no message has an `event:` field, the type is part of the data.
function receive(event) {
  const { type, seq, payload } = JSON.parse(event.data);
  lastEventId = event.lastEventId || lastEventId;
  for (const line of describe(type, payload, event.data)) {
    console.log(`${String(seq).padStart(5)}  ${line}`);
  }
  if (once && (type === "workflow_completed" || type === "workflow_failed")) {
    end(type === "workflow_completed" ? 0 : 1);
  }
}

async function lose() {
  const lost = source;
  console.error("the stream is lost; trying again");
  if (lost.readyState !== EventSource.CLOSED) {
    return again(GIVEN_UP_MS);
  }
  // The stream was refused, or there was no response. EventSource does not tell which; HEAD does.
  const status = await fetch(lost.url, { method: "HEAD" }).then((answer) => answer.status, () => 0);
  if (source !== lost) {
    return;
  }
  if (status === 0 || status === 200 || status === 429 || status >= 500) {
    return again(PAUSE_MS);
  }
  // Permanent: an invalid ticket, an unknown run, or a run that has ended.
  console.error(`the server refuses ${url} (status ${status})`);
  end(2);
}

function again(ms) {
  clearTimeout(watchdog);
  watchdog = setTimeout(() => {
    source.close();
    follow();
  }, ms * (0.5 + Math.random() / 2));
}

function end(exitCode) {
  source.close();
  clearTimeout(watchdog);
  process.exitCode = exitCode;
}

function describe(type, payload, text) {
  switch (type) {
    case "connected":
      return [`connected (${payload.resume})`];
    case "workflow_started":
      return [`${payload.planName}: ${payload.stepCount} steps in ${payload.totalLevels} levels (${payload.runId})`];
    case "workflow_level_started":
      return [`level ${payload.level + 1} of ${payload.totalLevels}: ${payload.steps.join(", ")}`];
    case "workflow_progress":
      return [`${progressBar(payload.progress)}  ${payload.stepTitle}: ${progress(payload)}`];
    case "workflow_step_output":
      return payload.chunk.replace(/\n$/, "").split("\n").map((line) => `  ${payload.stepId} | ${line}`);
    case "workflow_level_completed":
      return [`level ${payload.level + 1} done in ${payload.executionTime} ms`];
    case "workflow_plan_changed":
      return [`plan changed by ${payload.by}: revision ${payload.revision}, ${payload.stepCount} steps in ${payload.totalLevels} levels`];
    case "workflow_completed":
      return [`${payload.planName}: completed in ${payload.performanceMetrics.totalExecutionTime} ms`];
    case "workflow_failed":
      return [`${payload.planName}: failed (${payload.reason}): ${payload.error}`];
    case "workflow_snapshot":
      return [`${payload.planName} (${payload.runId}) is ${payload.status}, at ${payload.progress.percent} %`];
    default:
      // Printed as it was received: parsing and serializing would round large numbers.
      return [`${type} ${text.slice(text.indexOf('"payload":') + '"payload":'.length, -1)}`];
  }
}

function progressBar({ percent }) {
  const full = Math.floor(percent / 10);
  return `[${"#".repeat(full)}${".".repeat(10 - full)}]`;
}

function progress(payload) {
  switch (payload.status) {
    case "running":
      return payload.attempt > 1 ? `running, attempt ${payload.attempt}` : "running";
    case "retrying":
      return `attempt ${payload.attempt} failed (${payload.error}), again in ${payload.delay} ms`;
    case "completed":
      return `completed in ${payload.duration} ms`;
    case "failed":
      return `failed: ${payload.error}${payload.continued ? " (the run continues)" : ""}`;
    default:
      return `${payload.status}: ${payload.reason}`;
  }
}
