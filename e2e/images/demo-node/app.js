// A small web application with a stock Redis client, as any team might have one.
// It listens on :8000, talks to the Redis at $REDIS_URL and answers in JSON.
// The routes are those of ../demo-python/app.py.
'use strict';

const http = require('node:http');
const Redis = require('ioredis');

const PORT = 8000;

const client = new Redis(process.env.REDIS_URL ?? 'redis://localhost:6379', {
  connectionName: 'demo-node',
});
client.on('error', (error) => console.error(`redis: ${error.message}`));

class BadRequest extends Error {}

function parameter(query, name) {
  const value = query.get(name);
  if (value === null) throw new BadRequest(`the parameter '${name}' is missing`);
  return value;
}

function wholeNumber(text, name) {
  if (!/^\d+$/.test(text)) throw new BadRequest(`'${name}' must be a whole number`);
  return Number(text);
}

async function get(query) {
  const key = parameter(query, 'key');
  return [200, { key, value: await client.get(key) }];
}

async function set(query) {
  const expiry = query.has('ex') ? ['EX', wholeNumber(query.get('ex'), 'ex')] : [];
  const reply = await client.set(parameter(query, 'key'), parameter(query, 'value'), ...expiry);
  return [200, { ok: reply === 'OK' }];
}

async function incr(query) {
  const key = parameter(query, 'key');
  return [200, { key, value: await client.incr(key) }];
}

async function del(query) {
  const key = parameter(query, 'key');
  return [200, { key, deleted: await client.del(key) }];
}

// Between two reads of a poll.
const PAUSE_MS = 2;

async function poll(query) {
  const key = parameter(query, 'key');
  const value = parameter(query, 'value');
  const timeout = wholeNumber(query.get('timeout_ms') ?? '5000', 'timeout_ms');
  const started = performance.now();
  for (let reads = 1; ; reads++) {
    const seen = (await client.get(key)) === value;
    const elapsed = performance.now() - started;
    if (seen || elapsed >= timeout) {
      return [seen ? 200 : 504, { seen, elapsed_ms: Number(elapsed.toFixed(3)), reads }];
    }
    // Readers that never rest would take the processors from what they wait for.
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

async function healthz() {
  return [200, { ok: true }];
}

const ROUTES = {
  'GET /get': get,
  'POST /set': set,
  'GET /incr': incr,
  'GET /del': del,
  'GET /poll': poll,
  'GET /healthz': healthz,
};

async function answer(method, target) {
  const url = new URL(target, 'http://localhost');
  const route = ROUTES[`${method} ${url.pathname}`];
  if (!route) return [404, { error: `no such route: ${method} ${url.pathname}` }];
  try {
    return await route(url.searchParams);
  } catch (error) {
    return [error instanceof BadRequest ? 400 : 502, { error: error.message }];
  }
}

const server = http.createServer(async (request, response) => {
  request.resume();
  const [status, body] = await answer(request.method, request.url);
  const payload = JSON.stringify(body);
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(payload),
  });
  response.end(payload);
});

process.on('SIGTERM', () => process.exit(0));
server.listen(PORT, () => console.log(`demo-node listens on :${PORT}`));
