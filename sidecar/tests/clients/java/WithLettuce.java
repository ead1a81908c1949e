// Lettuce against Warp, with both protocols. Usage: WithLettuce PORT STORAGE
import io.lettuce.core.ClientOptions;
import io.lettuce.core.KeyValue;
import io.lettuce.core.LettuceFutures;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.RedisNoScriptException;
import io.lettuce.core.RedisURI;
import io.lettuce.core.ScanArgs;
import io.lettuce.core.ScanIterator;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.SetArgs;
import io.lettuce.core.TrackingArgs;
import io.lettuce.core.TransactionResult;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.sync.RedisCommands;
import io.lettuce.core.protocol.ProtocolVersion;
import io.lettuce.core.pubsub.RedisPubSubAdapter;
import io.lettuce.core.pubsub.StatefulRedisPubSubConnection;
import io.lettuce.core.support.ConnectionPoolSupport;
import io.lettuce.core.support.caching.CacheAccessor;
import io.lettuce.core.support.caching.CacheFrontend;
import io.lettuce.core.support.caching.ClientSideCaching;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.apache.commons.pool2.impl.GenericObjectPoolConfig;

public final class WithLettuce {
    private static final String RELEASE =
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

    private static RedisURI address;
    private static String storage;

    public static void main(String[] args) throws Exception {
        address = RedisURI.builder().withHost("127.0.0.1").withPort(Integer.parseInt(args[0]))
            .withClientName("me").withTimeout(Duration.ofSeconds(20)).build();
        storage = args[1];
        for (ProtocolVersion protocol : List.of(ProtocolVersion.RESP2, ProtocolVersion.RESP3)) {
            RedisClient client = client(protocol);
            try (var connection = client.connect()) {
                everyday(connection);
                transactions(connection, client);
                if (!storage.equals("postgres")) {
                    types(connection.sync());
                    scripts(connection.sync());
                }
            }
            pool(client);
            channels(client);
            client.shutdown(Duration.ZERO, Duration.ofSeconds(2));
        }
        copies();
        System.out.println("ok");
    }

    private static RedisClient client(ProtocolVersion protocol) {
        RedisClient client = RedisClient.create(address);
        client.setOptions(ClientOptions.builder().protocolVersion(protocol).build());
        return client;
    }

    private static void everyday(StatefulRedisConnection<String, String> connection) {
        RedisCommands<String, String> client = connection.sync();
        client.flushall();
        Check.equal("PONG", client.ping());
        Check.equal("me", client.clientGetname());
        Check.that(client.clientList().contains("lib-name=Lettuce"), "CLIENT SETINFO");
        Check.equal("OK", client.set("k", "v", SetArgs.Builder.ex(100).nx()));
        Check.equal(null, client.set("k", "w", SetArgs.Builder.nx()));
        Check.equal("v", client.setGet("k", "w", SetArgs.Builder.keepttl()));
        Check.that(client.ttl("k") > 90, "TTL");
        Check.equal("OK", client.mset(Map.of("a", "1", "b", "2")));
        Check.equal(List.of(KeyValue.just("a", "1"), KeyValue.empty("nothing")), client.mget("a", "nothing"));
        Check.equal(42L, client.incrby("a", 41));
        Check.equal(2L, client.del("a", "b"));
        Check.refused("ERR value is not an integer", () -> client.incr("k"));

        // What is asked without waiting goes out together.
        connection.setAutoFlushCommands(false);
        List<RedisFuture<String>> values = new ArrayList<>();
        for (int n = 0; n < 1000; n++) {
            connection.async().set("p:" + n, Integer.toString(n));
            values.add(connection.async().get("p:" + n));
        }
        connection.flushCommands();
        connection.setAutoFlushCommands(true);
        Check.that(LettuceFutures.awaitAll(Duration.ofSeconds(20), values.toArray(RedisFuture[]::new)), "all come");
        for (int n = 0; n < 1000; n++) {
            Check.equal(Integer.toString(n), values.get(n).toCompletableFuture().join());
        }
        Set<String> found = new java.util.HashSet<>();
        ScanIterator.scan(client, ScanArgs.Builder.matches("p:*").limit(50)).forEachRemaining(found::add);
        Check.equal(1000, found.size());
        Check.equal(List.of("0", "999"), connection.reactive().mget("p:0", "p:999")
            .map(KeyValue::getValue).collectList().block(Duration.ofSeconds(20)));
    }

    private static void transactions(StatefulRedisConnection<String, String> connection, RedisClient other) {
        RedisCommands<String, String> client = connection.sync();
        client.multi();
        client.set("k", "w");
        client.get("k");
        TransactionResult result = client.exec();
        Check.equal(List.of("OK", "w"), result.stream().toList());
        client.watch("k");
        try (var another = other.connect()) {
            another.sync().set("k", "somebody else's");
        }
        client.multi();
        client.set("k", "mine");
        Check.that(client.exec().wasDiscarded(), "a watched key was written");
        Check.equal("somebody else's", client.get("k"));
    }

    private static void types(RedisCommands<String, String> client) {
        client.del("h", "l", "s", "z");
        Check.equal(2L, client.hset("h", Map.of("f", "v", "g", "w")));
        Check.equal(Map.of("f", "v", "g", "w"), client.hgetall("h"));
        Check.equal(3L, client.rpush("l", "a", "b", "c"));
        Check.equal(List.of("a", "b", "c"), client.lrange("l", 0, -1));
        Check.equal(2L, client.sadd("s", "a", "b"));
        Check.equal(Set.of("a", "b"), client.smembers("s"));
        Check.equal(1L, client.zadd("z", 1.5, "a"));
        Check.equal(1.5, client.zscore("z", "a"));
        Check.equal(1.5, client.zrangeWithScores("z", 0, -1).get(0).getScore());
        Check.refused("WRONGTYPE", () -> client.get("h"));
    }

    private static void scripts(RedisCommands<String, String> client) {
        client.scriptFlush();
        client.set("lock", "mine", SetArgs.Builder.px(30_000));
        String[] keys = {"lock"};
        String sha = client.digest(RELEASE);
        try {
            client.evalsha(sha, ScriptOutputType.INTEGER, keys, "other");
            throw new AssertionError("a script was kept");
        } catch (RedisNoScriptException forgotten) {
            Check.equal(0L, client.<Long>eval(RELEASE, ScriptOutputType.INTEGER, keys, "other"));
        }
        Check.equal(1L, client.<Long>evalsha(sha, ScriptOutputType.INTEGER, keys, "mine"));
    }

    private static void pool(RedisClient client) throws Exception {
        var config = new GenericObjectPoolConfig<StatefulRedisConnection<String, String>>();
        config.setMaxTotal(3);
        try (var pool = ConnectionPoolSupport.createGenericObjectPool(client::connect, config)) {
            for (int n = 0; n < 30; n++) {
                try (var connection = pool.borrowObject()) {
                    connection.sync().set("pool", Integer.toString(n));
                    Check.equal(Integer.toString(n), connection.sync().get("pool"));
                }
            }
        }
    }

    private static void channels(RedisClient client) throws Exception {
        BlockingQueue<String> received = new ArrayBlockingQueue<>(8);
        try (StatefulRedisPubSubConnection<String, String> subscriber = client.connectPubSub();
            var publisher = client.connect()) {
            subscriber.addListener(new RedisPubSubAdapter<>() {
                @Override public void message(String channel, String message) {
                    received.add(channel + "=" + message);
                }
            });
            subscriber.sync().subscribe("news", "other");
            Check.equal(1L, publisher.sync().publish("news", "hello"));
            Check.equal("news=hello", received.poll(20, TimeUnit.SECONDS));
            subscriber.sync().unsubscribe();
        }
    }

    /** The copies that Lettuce keeps are told to be old. */
    private static void copies() throws Exception {
        RedisClient client = client(ProtocolVersion.RESP3);
        Map<String, String> copies = new ConcurrentHashMap<>();
        try (var connection = client.connect(); var other = client.connect()) {
            CacheFrontend<String, String> cached = ClientSideCaching.enable(
                CacheAccessor.forMap(copies), connection, TrackingArgs.Builder.enabled());
            for (String value : List.of("v", "w", "x")) {
                other.sync().set("copied", value);
                Check.until("the new value", () -> value.equals(cached.get("copied")));
                Check.equal(value, copies.get("copied"));
            }
            other.sync().del("copied");
            Check.until("its end", () -> !copies.containsKey("copied"));
        }
        client.shutdown(Duration.ZERO, Duration.ofSeconds(2));
    }
}
