// Receives webhooks of stepcast: verifies the signature, processes each event once, and prints it.
//   npm install standardwebhooks@1
//   WEBHOOK_SECRET=whsec_… node receiver.mjs
import { createServer } from 'node:http';
import { Webhook } from 'standardwebhooks';

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
// Events without a confirmed delivery are sent again, also after a crash: a real receiver stores these ids in its database.
const taken = new Set();

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  let event;
  try {
    // The unchanged body: the signature covers every byte, and parsing and serializing may change it.
    event = webhook.verify(Buffer.concat(chunks).toString(), request.headers);
  } catch {
    response.writeHead(401).end();
    return;
  }
  if (!taken.has(event.id)) {
    taken.add(event.id);
    const { runId, error } = event.data;
    console.log([event.type, runId, error].filter(Boolean).join(' '));
  }
  response.writeHead(204).end();
});
server.listen(Number(process.env.PORT ?? 9000), '127.0.0.1', () => console.log(`listening on ${server.address().port}`));
