#!/usr/bin/env bash
# @ag-ui/client 1.0.0: a run that answers an interrupt and then fails leaves the interrupt pending.
#
# An agent is interrupted (RUN_FINISHED with the outcome "interrupt"), is answered by `resume`, and the run that follows ends
# with RUN_ERROR. One would expect the question to be gone, for it was answered. The client forgets it only at a RUN_FINISHED:
# each further runAgent() without `resume` is rejected before anything is sent, until `pendingInterrupts` is emptied by hand.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y > /dev/null
npm install --silent --no-audit --no-fund @ag-ui/client@1.0.0 > /dev/null 2>&1 || exit 2
cat > run.mjs <<'JS'
import { createServer } from 'node:http';
import { HttpAgent } from '@ag-ui/client';

const interrupt = { id: 'question', reason: 'confirmation', message: 'Go on?' };
const endings = [
  (names) => ({ type: 'RUN_FINISHED', ...names, outcome: { type: 'interrupt', interrupts: [interrupt] } }),
  () => ({ type: 'RUN_ERROR', message: 'it went wrong', code: 'step_failed' }),
  (names) => ({ type: 'RUN_FINISHED', ...names, outcome: { type: 'success' } }),
];
let requests = 0;
const server = createServer(async (request, response) => {
  let body = '';
  for await (const part of request) body += part;
  const { threadId, runId } = JSON.parse(body);
  const events = [{ type: 'RUN_STARTED', threadId, runId }, endings[requests]({ threadId, runId })];
  requests += 1;
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.end(events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join(''));
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));

const agent = new HttpAgent({ url: `http://127.0.0.1:${server.address().port}/` });
const outcome = (input) => agent.runAgent(input).then(() => 'resolves', (error) => `rejects: ${error.message}`);
const tell = (what, how) => console.log(`${what}: ${how}; pending ${agent.pendingInterrupts.length}; requests ${requests}`);
console.error = console.warn = () => {};
tell('a run that is interrupted', (await outcome({ runId: 'a' })).split(':')[0]);
tell('its answer, behind which the run fails', (await outcome({ runId: 'b', resume: [{ interruptId: 'question', status: 'resolved', payload: true }] })).split(':')[0]);
const next = await outcome({ runId: 'c' });
tell('another run', `${next.split(':')[0]}${/pending interrupt/.test(next) ? ' for a pending interrupt' : ''}`);
agent.pendingInterrupts = [];
tell('the same once the list is emptied', (await outcome({ runId: 'd' })).split(':')[0]);
server.close();
JS
seen=$(node run.mjs 2> /dev/null)
echo "$seen"
grep -q '^its answer, behind which the run fails: .*; pending 1; requests 2$' <<< "$seen"
grep -q '^another run: rejects for a pending interrupt; pending 1; requests 2$' <<< "$seen"
grep -q '^the same once the list is emptied: resolves; pending 0; requests 3$' <<< "$seen"
echo "as described: @ag-ui/client 1.0.0 keeps an answered interrupt pending where the run that answers it ends with RUN_ERROR"
