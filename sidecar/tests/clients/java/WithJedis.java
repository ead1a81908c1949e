// Jedis against Warp, with both protocols. Usage: WithJedis PORT STORAGE
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import redis.clients.jedis.AbstractTransaction;
import redis.clients.jedis.ConnectionPoolConfig;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.Response;
import redis.clients.jedis.csc.CacheConfig;
import redis.clients.jedis.exceptions.JedisNoScriptException;
import redis.clients.jedis.params.ScanParams;
import redis.clients.jedis.params.SetParams;
import redis.clients.jedis.resps.ScanResult;

public final class WithJedis {
    private static final String RELEASE =
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

    private static HostAndPort address;
    private static String storage;

    public static void main(String[] args) throws Exception {
        address = new HostAndPort("127.0.0.1", Integer.parseInt(args[0]));
        storage = args[1];
        for (RedisProtocol protocol : List.of(RedisProtocol.RESP2, RedisProtocol.RESP3)) {
            connection(protocol);
            try (RedisClient client = client(protocol)) {
                everyday(client);
                pool(client);
                transactions(client);
                channels(client);
                if (!storage.equals("postgres")) {
                    types(client);
                    scripts(client);
                }
            }
        }
        copies();
        System.out.println("ok");
    }

    private static RedisClient client(RedisProtocol protocol) {
        var pool = new ConnectionPoolConfig();
        pool.setMaxTotal(4);
        return RedisClient.builder()
            .hostAndPort(address)
            .clientConfig(DefaultJedisClientConfig.builder().protocol(protocol).build())
            .poolConfig(pool)
            .build();
    }

    /** What is said when a line is opened. */
    private static void connection(RedisProtocol protocol) {
        var named = DefaultJedisClientConfig.builder()
            .protocol(protocol).user("default").password("any").clientName("me").build();
        try (Jedis jedis = new Jedis(address, named)) {
            Check.equal("PONG", jedis.ping());
            Check.equal("me", jedis.clientGetname());
            Check.that(jedis.clientList().contains("lib-name=jedis"), "CLIENT SETINFO");
        }
        var other = DefaultJedisClientConfig.builder()
            .protocol(protocol).user("nobody").password("wrong").build();
        Check.refused("WRONGPASS", () -> new Jedis(address, other).ping());
    }

    private static void everyday(RedisClient client) {
        client.flushAll();
        Check.equal("OK", client.set("k", "v", SetParams.setParams().ex(100).nx()));
        Check.equal(null, client.set("k", "w", SetParams.setParams().nx()));
        Check.equal("v", client.setGet("k", "w", SetParams.setParams().keepTtl()));
        Check.that(client.ttl("k") > 90, "TTL");
        Check.equal(1L, client.persist("k"));
        Check.equal("OK", client.mset("a", "1", "b", "2"));
        Check.equal(java.util.Arrays.asList("1", "2", null), client.mget("a", "b", "nothing"));
        Check.equal(42L, client.incrBy("a", 41));
        Check.equal("string", client.type("a"));
        Check.equal(2L, client.del("a", "b"));
        byte[] bytes = {0, -1, 13, 10};
        client.set("bytes".getBytes(), bytes);
        Check.that(java.util.Arrays.equals(bytes, client.get("bytes".getBytes())), "any bytes");
        Check.refused("ERR value is not an integer", () -> client.incr("k"));

        try (var pipeline = client.pipelined()) {
            List<Response<String>> values = new ArrayList<>();
            for (int n = 0; n < 1000; n++) {
                pipeline.set("p:" + n, Integer.toString(n));
                values.add(pipeline.get("p:" + n));
            }
            pipeline.sync();
            for (int n = 0; n < 1000; n++) {
                Check.equal(Integer.toString(n), values.get(n).get());
            }
        }
        Set<String> found = new java.util.HashSet<>();
        String cursor = ScanParams.SCAN_POINTER_START;
        do {
            ScanResult<String> page = client.scan(cursor, new ScanParams().match("p:*").count(50));
            found.addAll(page.getResult());
            cursor = page.getCursor();
        } while (!cursor.equals(ScanParams.SCAN_POINTER_START));
        Check.equal(1000, found.size());
    }

    /** More threads than lines. */
    private static void pool(RedisClient client) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(16);
        List<Future<String>> all = new ArrayList<>();
        for (int n = 0; n < 200; n++) {
            String key = "c:" + n;
            all.add(threads.submit(() -> {
                client.set(key, key);
                return client.get(key);
            }));
        }
        for (int n = 0; n < 200; n++) {
            Check.equal("c:" + n, all.get(n).get(20, TimeUnit.SECONDS));
        }
        threads.shutdown();
        Check.that(client.getPool().getNumActive() == 0, "lines come back");
    }

    private static void transactions(RedisClient client) {
        client.set("k", "v");
        try (AbstractTransaction transaction = client.multi()) {
            transaction.set("k", "w");
            Response<String> value = transaction.get("k");
            transaction.incr("n");
            Check.equal(List.of("OK", "w", 1L), transaction.exec());
            Check.equal("w", value.get());
        }
        client.del("n");
        try (AbstractTransaction transaction = client.transaction(false)) {
            transaction.watch("k");
            client.set("k", "somebody else's");
            transaction.multi();
            transaction.set("k", "mine");
            Check.equal(null, transaction.exec());
        }
        Check.equal("somebody else's", client.get("k"));
    }

    private static void channels(RedisClient client) throws Exception {
        BlockingQueue<String> received = new ArrayBlockingQueue<>(8);
        CountDownLatch subscribed = new CountDownLatch(2);
        JedisPubSub subscriber = new JedisPubSub() {
            @Override public void onSubscribe(String channel, int count) {
                subscribed.countDown();
            }

            @Override public void onPSubscribe(String pattern, int count) {
                subscribed.countDown();
            }

            @Override public void onMessage(String channel, String message) {
                received.add(channel + "=" + message);
            }

            @Override public void onPMessage(String pattern, String channel, String message) {
                received.add(pattern + ":" + channel + "=" + message);
            }
        };
        Thread listener = new Thread(() -> client.subscribe(subscriber, "news"));
        listener.start();
        Check.until("the subscription", subscriber::isSubscribed);
        subscriber.psubscribe("n*");
        Check.that(subscribed.await(20, TimeUnit.SECONDS), "both are confirmed");
        Check.equal(2L, client.publish("news", "hello"));
        Set<String> both = Set.of(received.poll(20, TimeUnit.SECONDS), received.poll(20, TimeUnit.SECONDS));
        Check.equal(Set.of("news=hello", "n*:news=hello"), both);
        subscriber.punsubscribe();
        subscriber.unsubscribe();
        listener.join(20_000);
        Check.that(!listener.isAlive(), "the subscription ends");
    }

    private static void types(RedisClient client) {
        client.del("h", "l", "s", "z");
        Check.equal(2L, client.hset("h", Map.of("f", "v", "g", "w")));
        Check.equal(Map.of("f", "v", "g", "w"), client.hgetAll("h"));
        Check.equal(3L, client.rpush("l", "a", "b", "c"));
        Check.equal(List.of("a", "b", "c"), client.lrange("l", 0, -1));
        Check.equal("c", client.rpop("l"));
        Check.equal(2L, client.sadd("s", "a", "b"));
        Check.equal(Set.of("a", "b"), client.smembers("s"));
        Check.equal(2L, client.zadd("z", Map.of("a", 1.5, "b", 2.0)));
        Check.equal(1.5, client.zscore("z", "a"));
        Check.equal("b", client.zrangeWithScores("z", 0, -1).get(1).getElement());
        Check.refused("WRONGTYPE", () -> client.get("h"));
    }

    /** A lock as applications make it, and what to do when the server has forgotten a script. */
    private static void scripts(RedisClient client) {
        client.scriptFlush();
        client.del("lock");
        Check.equal("OK", client.set("lock", "mine", SetParams.setParams().nx().px(30_000)));
        String sha = client.scriptLoad(RELEASE);
        Check.equal(0L, client.evalsha(sha, List.of("lock"), List.of("other")));
        Check.equal(1L, client.evalsha(sha, List.of("lock"), List.of("mine")));
        client.scriptFlush();
        try {
            client.evalsha(sha, List.of("lock"), List.of("mine"));
            throw new AssertionError("a script was kept");
        } catch (JedisNoScriptException forgotten) {
            Check.equal(0L, client.eval(RELEASE, List.of("lock"), List.of("mine")));
        }
        Check.equal(0L, client.evalsha(sha, List.of("lock"), List.of("mine")));
    }

    /** The copies that Jedis keeps are told to be old. */
    private static void copies() throws Exception {
        try (RedisClient client = RedisClient.builder().hostAndPort(address)
                .clientConfig(DefaultJedisClientConfig.builder().protocol(RedisProtocol.RESP3).build())
                .cacheConfig(CacheConfig.builder().maxSize(100).build()).build();
            RedisClient other = client(RedisProtocol.RESP2)) {
            for (String value : List.of("v", "w", "x")) {
                other.set("copied", value);
                Check.until("the new value", () -> value.equals(client.get("copied")));
                Check.equal(value, client.get("copied"));
            }
            Check.that(client.getCache().getStats().getHitCount() > 0, "a copy was used");
            Check.that(client.getCache().getStats().getInvalidationCount() > 0, "it was told");
            other.flushAll();
            Check.until("its end", () -> client.get("copied") == null);
        }
    }
}
