// ioredis and node-redis against Warp. Usage: smoke.js PORT STORAGE
import assert from 'node:assert/strict';
import Redis from 'ioredis';
import { createRequire } from 'node:module';
import { createClient, WatchError } from 'redis';

const { default: Redlock } = createRequire(import.meta.url)('redlock');

const [port, storage] = [Number(process.argv[2]), process.argv[3]];

// What applications make of scripts. ioredis sends EVALSHA, and EVAL when it is told NOSCRIPT.
async function scripts(client) {
  client.defineCommand('unlock', {
    numberOfKeys: 1,
    lua: "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
  });
  client.defineCommand('allow', {
    numberOfKeys: 1,
    lua: `redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1] - ARGV[2])
      local count = redis.call('ZCARD', KEYS[1])
      if count >= tonumber(ARGV[3]) then return 0 end
      redis.call('ZADD', KEYS[1], ARGV[1], ARGV[4])
      redis.call('PEXPIRE', KEYS[1], ARGV[2])
      return 1`,
  });
  await client.script('FLUSH');
  await client.del('lock', 'rate');
  assert.equal(await client.set('lock', 'mine', 'PX', 30000, 'NX'), 'OK');
  assert.equal(await client.unlock('lock', 'other'), 0);
  assert.equal(await client.unlock('lock', 'mine'), 1);
  const allow = (now) => client.allow('rate', now, 1000, 2, `request ${now}`);
  assert.deepEqual([await allow(1), await allow(2), await allow(3)], [1, 1, 0]);
  assert.equal(await allow(1500), 1);
  const several = await Promise.all([...Array(50).keys()].map((n) => allow(10000 + n)));
  assert.equal(several.filter((allowed) => allowed).length, 2);
  await assert.rejects(client.eval("return redis.call('INCR', KEYS[1])", 1, 'rate'), /WRONGTYPE/);
}

// Redlock's scripts, of one that waits and of one that prolongs.
async function locks(client) {
  const redlock = new Redlock([client], { retryCount: 200, retryDelay: 10 });
  const impatient = new Redlock([client], { retryCount: 0 });
  const lock = await redlock.acquire(['resource'], 5000);
  await assert.rejects(impatient.acquire(['resource'], 5000));
  const extended = await lock.extend(20000);
  assert.ok((await client.pttl('resource')) > 5000);
  const waiting = redlock.acquire(['resource'], 5000);
  await extended.release();
  await (await waiting).release();
  await redlock.using(['resource', 'other'], 5000, async () => {
    await assert.rejects(impatient.acquire(['other'], 1000));
  });
  assert.equal(await client.exists('resource', 'other'), 0);
}

async function withIoredis() {
  const client = new Redis({ port, enableAutoPipelining: true });
  await client.flushall();
  assert.equal(await client.set('k', 'v', 'EX', 100), 'OK');
  assert.equal(await client.get('k'), 'v');
  assert.ok((await client.ttl('k')) > 90);
  assert.deepEqual(await client.mget('k', 'nothing'), ['v', null]);
  assert.equal(await client.incr('n'), 1);
  const several = await Promise.all([...Array(500).keys()].map(async (n) => {
    await client.set(`i:${n}`, n);
    return client.get(`i:${n}`);
  }));
  assert.deepEqual(several, [...Array(500).keys()].map(String));
  const found = new Set();
  for await (const keys of client.scanStream({ match: 'i:*', count: 50 })) {
    keys.forEach((key) => found.add(key));
  }
  assert.equal(found.size, 500);
  const bytes = Buffer.from([0, 255, 13, 10]);
  await client.set('bytes', bytes);
  assert.deepEqual(await client.getBuffer('bytes'), bytes);
  await assert.rejects(client.call('NOSUCHCOMMAND'), /ERR unknown command 'NOSUCHCOMMAND'/);
  if (storage !== 'postgres') {
    await scripts(client);
    await locks(client);
  }
  assert.deepEqual(await client.multi().set('k', 'w').get('k').exec(), [[null, 'OK'], [null, 'w']]);
  {
    const own = client.duplicate({ enableAutoPipelining: false });
    await own.watch('k');
    await client.set('k', "somebody else's");
    assert.equal(await own.multi().set('k', 'mine').exec(), null);
    assert.equal(await own.get('k'), "somebody else's");
    await own.quit();
  }
  {
    await client.set('k', 'w');
    const subscriber = client.duplicate();
    const message = new Promise((resolve) => {
      subscriber.on('message', (channel, text) => resolve([channel, text]));
    });
    assert.equal(await subscriber.subscribe('channel'), 1);
    assert.equal(await client.publish('channel', 'hello'), 1);
    assert.deepEqual(await message, ['channel', 'hello']);
    assert.equal(await subscriber.unsubscribe('channel'), 0);
    // The same connection takes commands again.
    assert.equal(await subscriber.get('k'), 'w');
    await subscriber.quit();
  }
  await client.quit();
}

async function withNodeRedis(RESP) {
  const client = createClient({ RESP, socket: { port, host: '127.0.0.1' } });
  await client.connect();
  await client.flushAll();
  assert.equal(await client.set('k', 'v', { expiration: { type: 'PX', value: 100000 } }), 'OK');
  assert.equal(await client.get('k'), 'v');
  assert.ok((await client.pTTL('k')) > 90000);
  const several = await Promise.all([...Array(500).keys()].map(async (n) => {
    await client.set(`n:${n}`, n.toString());
    return client.get(`n:${n}`);
  }));
  assert.deepEqual(several, [...Array(500).keys()].map(String));
  const found = new Set();
  for await (const keys of client.scanIterator({ MATCH: 'n:*' })) {
    keys.forEach((key) => found.add(key));
  }
  assert.equal(found.size, 500);
  await assert.rejects(client.sendCommand(['NOSUCHCOMMAND']), /unknown command/);
  assert.equal((await client.clientInfo()).libName.startsWith('node-redis'), true);
  if (storage === 'redis') {
    assert.equal(await client.hSet('h', 'f', 'v'), 1);
    assert.equal((await client.hGetAll('h')).f, 'v');
  }
  assert.deepEqual(await client.multi().set('k', 'w').get('k').exec(), ['OK', 'w']);
  {
    const own = await client.duplicate().connect();
    await own.watch('k');
    await client.set('k', "somebody else's");
    await assert.rejects(own.multi().set('k', 'mine').exec(), WatchError);
    assert.equal(await own.get('k'), "somebody else's");
    await own.close();
  }
  {
    const subscriber = client.duplicate();
    await subscriber.connect();
    const message = new Promise((resolve) => subscriber.subscribe('channel', resolve));
    await subscriber.ping();
    while ((await client.publish('channel', 'hello')) === 0);
    assert.equal(await message, 'hello');
    await subscriber.unsubscribe('channel');
    await subscriber.close();
  }
  await client.close();
}

async function withCopies() {
  const options = { RESP: 3, socket: { port, host: '127.0.0.1' } };
  const client = createClient({ ...options, clientSideCache: { ttl: 0, maxEntries: 0 } });
  const other = createClient(options);
  await Promise.all([client.connect(), other.connect()]);
  for (const value of ['v', 'w', 'x']) {
    await other.set('copied', value);
    while ((await client.get('copied')) !== value) await new Promise((done) => setTimeout(done, 10));
    assert.equal(await client.get('copied'), value);
  }
  await Promise.all([client.close(), other.close()]);
}

await withIoredis();
await withNodeRedis(2);
await withNodeRedis(3);
await withCopies();
console.log('ok');
