// Follows a project with nothing but EventSource, as a browser does, and prints a line for each message.
//
//     node --experimental-eventsource examples/eventsource.mjs [--once] http://127.0.0.1:8080/api/sse/projects/demo
//
// Needs Node 20.18 or later and no package. With --once it ends after the first run that ends: 0 where it completed,
// 1 where it failed. A server with auth.mode = "jwt" wants ?ticket=T in the URL, from POST /api/sse/ticket.

const args = process.argv.slice(2);
const once = args.includes("--once");
const url = args.find((arg) => !arg.startsWith("--")) ?? "http://127.0.0.1:8080/api/sse/projects/demo";

if (typeof EventSource === "undefined") {
  console.error("this Node has no EventSource: run it with --experimental-eventsource, Node 20.18 or later");
  process.exit(2);
}

// EventSource reconnects by itself and asks for what came after the last message; Node's gives up in silence where
// nobody listens at the other end. So after this long without a stream a new one is opened, from where the old one was.
const GIVEN_UP_MS = 10_000;

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
  lastEventId = event.lastEventId;
  for (const line of describe(type, payload)) {
    console.log(`${String(seq).padStart(5)}  ${line}`);
  }
  if (once && (type === "workflow_completed" || type === "workflow_failed")) {
    end(type === "workflow_completed" ? 0 : 1);
  }
}

// CLOSED: the server refuses the stream, for good. A wrong ticket, no such run, a run that has ended.
function lose() {
  if (source.readyState === EventSource.CLOSED) {
    console.error(`the server has no more for ${url}`);
    end(2);
  } else {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => {
      source.close();
      follow();
    }, GIVEN_UP_MS);
  }
}

function end(exitCode) {
  source.close();
  clearTimeout(watchdog);
  process.exitCode = exitCode;
}

function describe(type, payload) {
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
    case "workflow_completed":
      return [`${payload.planName}: completed in ${payload.performanceMetrics.totalExecutionTime} ms`];
    case "workflow_failed":
      return [`${payload.planName}: failed (${payload.reason}): ${payload.error}`];
    case "workflow_snapshot":
      return [`${payload.planName} (${payload.runId}) is ${payload.status}, at ${payload.progress.percent} %`];
    default:
      return [`${type} ${JSON.stringify(payload)}`];
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
