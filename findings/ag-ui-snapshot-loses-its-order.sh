#!/usr/bin/env bash
# A MESSAGES_SNAPSHOT replaces the messages that an agent of @ag-ui/client 1.0.0 (and 0.0.59) has where they stand and puts new
# ones behind all of them. So where a client that has two open tool calls attaches again and is told call, result, call, result,
# it has call, call, result, result: the results of parallel calls are torn from their calls, an order that no snapshot told,
# and that it posts back with its next run. An agent without messages has the snapshot's order.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund \
  agui1@npm:@ag-ui/client@1.0.0 agui0@npm:@ag-ui/client@0.0.59 zod@4 >/dev/null 2>&1 || exit 2
cat > probe.mjs <<'END'
const call = (id) => ({ id, role: 'assistant', toolCalls: [{ id, type: 'function', function: { name: 'look', arguments: '{}' } }] });
const result = (id) => ({ id: `${id}-result`, role: 'tool', toolCallId: id, content: '1' });
const told = [call('a'), result('a'), call('b'), result('b')];
const run = { threadId: 't', runId: 'r' };
const events = [{ type: 'RUN_STARTED', ...run }, { type: 'MESSAGES_SNAPSHOT', messages: told }, { type: 'RUN_FINISHED', ...run }];
const stream = events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('');

let torn = 0;
for (const name of ['agui1', 'agui0']) {
  const { HttpAgent } = await import(name);
  for (const initialMessages of [[], [call('a'), call('b')]]) {
    const fetch = async () => new Response(stream, { headers: { 'Content-Type': 'text/event-stream' } });
    const agent = new HttpAgent({ url: 'http://localhost/', initialMessages });
    agent.fetch = fetch;
    await agent.runAgent({ runId: 'r' });
    const has = agent.messages.map(({ id }) => id).join(' ');
    torn += has === 'a b a-result b-result';
    console.log(`${name} that had ${initialMessages.length} messages and is told a a-result b b-result has ${has}`);
  }
}
process.exit(torn === 2 ? 0 : 1);
END
node probe.mjs
