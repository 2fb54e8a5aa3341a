// Follows a project with nothing but EventSource, as a browser does, and prints a line for each message.
//
//     node --experimental-eventsource examples/eventsource.mjs [--once] http://127.0.0.1:8080/api/sse/projects/demo
//
// Needs Node 24; or any Node from 20 on with the npm package `eventsource` (npm install eventsource), whose reconnects are
// surer than those of Node 20 and 22, and then no flag. With --once it ends after the first run that ends: 0 where it
// completed, 1 where it failed. A server with auth.mode = "jwt" wants ?ticket=T in the URL, from POST /api/sse/ticket.

const args = process.argv.slice(2);
const once = args.includes("--once");
const url = args.find((arg) => !arg.startsWith("--")) ?? "http://127.0.0.1:8080/api/sse/projects/demo";

const installed = await import("eventsource").catch(() => ({}));
const EventSource = installed.EventSource ?? globalThis.EventSource;
if (typeof EventSource === "undefined") {
  console.error("this Node has no EventSource: run it with --experimental-eventsource, or npm install eventsource");
  process.exit(2);
}

// EventSource reconnects by itself and asks for what came after the last message. Node 20 and 22 give up where nobody
// listens at the other end, some versions in silence. So a new one is opened, from where the old one was: where the old one
// has given up, soon, and where it has had no stream for so long, too.
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

// One handler is enough: no message has an `event:` field, the type is inside.
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
  // It was refused, or nobody answered. EventSource does not say which, HEAD does.
  const status = await fetch(lost.url, { method: "HEAD" }).then((answer) => answer.status, () => 0);
  if (source !== lost) {
    return;
  }
  if (status === 0 || status === 200 || status === 429 || status >= 500) {
    return again(PAUSE_MS);
  }
  // For good: a wrong ticket, no such run, a run that has ended.
  console.error(`the server has no more for ${url} (${status})`);
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
      // As it was written: read into a value and written again, large numbers would be rounded.
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
      return `failed: ${payload.error}${payload.continued ? " (the run goes on)" : ""}`;
    default:
      return `${payload.status}: ${payload.reason}`;
  }
}
