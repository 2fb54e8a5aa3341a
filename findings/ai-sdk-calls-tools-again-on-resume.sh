#!/usr/bin/env bash
# Where a chat of the AI SDK (ai 6 and 7) resumes, DefaultChatTransport takes the stream for a replay of the message from its
# beginning, as its documentation has it, and the message comes out as it should. But onToolCall is called anew for each call
# in the replay, also for those whose result stands right behind them: a page that calls its tools there calls them once more
# each time it resumes. Calls with `providerExecuted: true` it is never asked for.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund \
  ai6@npm:ai@6.0.326 ai7@npm:ai@7.0.173 zod@4 >/dev/null 2>&1 || exit 2
cat > probe.mjs <<'END'
const call = { toolCallId: 'c', dynamic: true };
const message = (more) => [
  { type: 'start', messageId: 'm' },
  { type: 'tool-input-available', toolName: 'pay', input: {}, ...call, ...more },
  { type: 'tool-output-available', output: 'paid', ...call, ...more },
  { type: 'finish' },
];

let again = 0;
for (const name of ['ai6', 'ai7']) {
  const { AbstractChat, DefaultChatTransport } = await import(name);
  for (const more of [{}, { providerExecuted: true }]) {
    const stream = message(more).map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join('') + 'data: [DONE]\n\n';
    const state = {
      messages: [],
      status: 'ready',
      pushMessage(one) { this.messages = [...this.messages, one]; },
      popMessage() { this.messages = this.messages.slice(0, -1); },
      replaceMessage(at, one) { this.messages = this.messages.with(at, structuredClone(one)); },
      snapshot: structuredClone,
    };
    let calls = 0;
    const transport = new DefaultChatTransport({ api: 'http://localhost/chat', fetch: async () => new Response(stream) });
    const chat = new (class extends AbstractChat {})({ id: 'x', state, transport, onToolCall: () => { calls += 1; } });
    for (let times = 0; times < 3; times += 1) await chat.resumeStream();
    console.log(`${name}${more.providerExecuted ? ', providerExecuted' : ''}: 3 resumes, ${chat.messages[0].parts.length} part, onToolCall called ${calls} times`);
    again += calls === 3;
  }
}
process.exit(again === 2 ? 0 : 1);
END
node probe.mjs
