// A server of the same calls on plain node:http, tuned as one would who knows it: a frame is made once per event and
// written as one Buffer to every socket of the project; no framework, no body parser, no chunked coding on streams,
// no timer per connection. It checks no tokens and keeps the newest 1,000 frames of a project in memory.
'use strict';
const http = require('node:http');

const HISTORY = 1000;
const heartbeatMs = Number(process.env.HEARTBEAT_S || 0) * 1000;
const HEARTBEAT = Buffer.from(':\n\n');
const projects = new Map();

function projectOf(name) {
  let project = projects.get(name);
  if (!project) projects.set(name, (project = { name, seq: 0, readers: new Set(), history: [] }));
  return project;
}

function subscribe(req, res, name) {
  const project = projectOf(name);
  const last = req.headers['last-event-id'];
  const first = project.seq - project.history.length;
  const isResumed = last !== undefined && Number(last) >= first && Number(last) <= project.seq;
  const from = isResumed ? Number(last) : project.seq;
  res.useChunkedEncodingByDefault = false;
  res.shouldKeepAlive = false;
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache', 'X-Accel-Buffering': 'no' });
  const connected = JSON.stringify({ type: 'connected', projectId: name, seq: from,
    payload: { resume: isResumed ? 'resumed' : 'fresh', heartbeat: heartbeatMs } });
  const greeting = Buffer.from(`retry: 2000\nid: ${from}\ndata: ${connected}\n\n`);
  res.write(Buffer.concat([greeting, ...project.history.slice(from - first)]));
  // The bare socket: frames need nothing that the response would add.
  const socket = req.socket;
  socket.setNoDelay(true);
  project.readers.add(socket);
  socket.on('close', () => project.readers.delete(socket));
}

function publish(req, res, name) {
  const parts = [];
  req.on('data', (part) => parts.push(part));
  req.on('end', () => {
    let event;
    try {
      event = JSON.parse(parts.length === 1 ? parts[0] : Buffer.concat(parts));
    } catch {
      res.writeHead(400, { 'Content-Length': 0 });
      return res.end();
    }
    const project = projectOf(name);
    project.seq += 1;
    const message = { type: event.type, projectId: name, seq: project.seq, payload: event.payload };
    const frame = Buffer.from(`id: ${project.seq}\ndata: ${JSON.stringify(message)}\n\n`);
    project.history.push(frame);
    if (project.history.length > HISTORY) project.history.shift();
    for (const socket of project.readers) socket.write(frame);
    const answer = `{"ids":["${project.seq}"],"subscribers":${project.readers.size}}`;
    res.writeHead(202, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(answer) });
    res.end(answer);
  });
}

const STREAM = '/api/sse/projects/';
const PUBLISH = /^\/api\/projects\/([^/?]+)\/events$/;
const HEALTHY = '{"status":"ok"}';

const server = http.createServer((req, res) => {
  if (req.url === '/healthz') {
    res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': HEALTHY.length });
    return res.end(HEALTHY);
  }
  if (req.method === 'GET' && req.url.startsWith(STREAM)) {
    return subscribe(req, res, req.url.slice(STREAM.length).split('?', 1)[0]);
  }
  const match = req.method === 'POST' && PUBLISH.exec(req.url);
  if (match) return publish(req, res, match[1]);
  res.writeHead(404, { 'Content-Length': 0 });
  res.end();
});
server.keepAliveTimeout = 0;
server.requestTimeout = 0;
server.headersTimeout = 0;
server.timeout = 0;
server.listen({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 });

if (heartbeatMs > 0) {
  setInterval(() => {
    for (const project of projects.values()) for (const socket of project.readers) socket.write(HEARTBEAT);
  }, heartbeatMs);
}
