// Redisson's objects, which are made of scripts and messages. Usage: WithRedisson PORT STORAGE
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.redisson.Redisson;
import org.redisson.api.RBatch;
import org.redisson.api.RLock;
import org.redisson.api.RScript;
import org.redisson.api.RateType;
import org.redisson.api.RedissonClient;
import org.redisson.client.codec.StringCodec;
import org.redisson.config.Config;
import org.redisson.config.Protocol;

public final class WithRedisson {
    private static String address;

    public static void main(String[] args) throws Exception {
        address = "redis://127.0.0.1:" + args[0];
        for (Protocol protocol : Protocol.values()) {
            RedissonClient client = client(protocol);
            RedissonClient other = client(protocol);
            try {
                client.getKeys().flushall();
                objects(client);
                locks(client, other);
                scripts(client);
                channels(client, other);
            } finally {
                client.shutdown(0, 1, TimeUnit.SECONDS);
                other.shutdown(0, 1, TimeUnit.SECONDS);
            }
        }
        System.out.println("ok");
    }

    private static RedissonClient client(Protocol protocol) {
        Config config = new Config();
        config.setProtocol(protocol);
        config.setCodec(new StringCodec());
        config.useSingleServer().setAddress(address)
            .setConnectionPoolSize(8).setConnectionMinimumIdleSize(1)
            .setSubscriptionConnectionPoolSize(4).setSubscriptionConnectionMinimumIdleSize(1);
        return Redisson.create(config);
    }

    private static void equal(Object expected, Object actual) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError("expected " + expected + ", got " + actual);
        }
    }

    private static void objects(RedissonClient client) {
        var bucket = client.<String>getBucket("k");
        bucket.set("v", Duration.ofSeconds(100));
        equal("v", bucket.get());
        equal(true, bucket.remainTimeToLive() > 90_000);
        equal(false, bucket.setIfAbsent("w"));
        equal(true, bucket.compareAndSet("v", "w"));
        var map = client.<String, String>getMap("h");
        equal(null, map.put("f", "v"));
        equal("v", map.putIfAbsent("f", "w"));
        equal(Map.of("f", "v"), map.readAllMap());
        var expiring = client.<String, String>getMapCache("expiring");
        equal(null, expiring.put("f", "v", 100, TimeUnit.SECONDS));
        equal("v", expiring.get("f"));
        var list = client.<String>getList("l");
        list.addAll(List.of("a", "b", "c"));
        equal(List.of("a", "b", "c"), list.readAll());
        var scores = client.<String>getScoredSortedSet("z");
        scores.add(1.5, "a");
        scores.add(2, "b");
        equal(List.of("a", "b"), List.copyOf(scores.readAll()));
        equal(7L, client.getAtomicLong("n").addAndGet(7));
        RBatch batch = client.createBatch();
        batch.getBucket("k").setAsync("x");
        batch.getAtomicLong("n").incrementAndGetAsync();
        equal(8L, batch.execute().getResponses().get(1));
    }

    /** A lock is a hash and a script, and who waits for it is told by a message. */
    private static void locks(RedissonClient client, RedissonClient other) throws Exception {
        RLock lock = client.getLock("lock");
        lock.lock(30, TimeUnit.SECONDS);
        equal(true, lock.isHeldByCurrentThread());
        lock.lock(30, TimeUnit.SECONDS);
        equal(2, lock.getHoldCount());
        RLock theirs = other.getLock("lock");
        equal(false, theirs.tryLock());
        CompletableFuture<Boolean> waiting = CompletableFuture.supplyAsync(() -> {
            try {
                boolean locked = theirs.tryLock(20, 30, TimeUnit.SECONDS);
                theirs.unlock();
                return locked;
            } catch (InterruptedException gone) {
                return false;
            }
        });
        lock.unlock();
        lock.unlock();
        equal(true, waiting.get(20, TimeUnit.SECONDS));
        equal(false, lock.isLocked());

        // The watchdog's way: a lock without an end is given one again and again.
        lock.lock();
        equal(true, lock.remainTimeToLive() > 20_000);
        lock.unlock();
        var several = client.getMultiLock(client.getLock("one"), client.getLock("two"));
        several.lock();
        equal(false, other.getLock("two").tryLock());
        several.unlock();
        var fair = client.getFairLock("fair");
        equal(true, fair.tryLock());
        equal(false, other.getFairLock("fair").tryLock());
        fair.unlock();
        var readers = client.getReadWriteLock("rw");
        readers.readLock().lock();
        equal(true, other.getReadWriteLock("rw").readLock().tryLock());
        other.getReadWriteLock("rw").readLock().unlock();
        equal(false, other.getReadWriteLock("rw").writeLock().tryLock());
        readers.readLock().unlock();

        var semaphore = client.getSemaphore("semaphore");
        equal(true, semaphore.trySetPermits(1));
        semaphore.acquire();
        equal(false, other.getSemaphore("semaphore").tryAcquire());
        semaphore.release();
        var latch = client.getCountDownLatch("latch");
        latch.trySetCount(1);
        CompletableFuture<Void> counted =
            CompletableFuture.runAsync(() -> other.getCountDownLatch("latch").countDown());
        equal(true, latch.await(20, TimeUnit.SECONDS));
        counted.join();
        var limiter = client.getRateLimiter("rate");
        limiter.trySetRate(RateType.OVERALL, 2, Duration.ofSeconds(100));
        equal(List.of(true, true, false),
            List.of(limiter.tryAcquire(), limiter.tryAcquire(), limiter.tryAcquire()));
    }

    private static void scripts(RedissonClient client) {
        RScript script = client.getScript(StringCodec.INSTANCE);
        equal("v", script.eval(RScript.Mode.READ_WRITE,
            "redis.call('set', KEYS[1], ARGV[1]) return redis.call('get', KEYS[1])",
            RScript.ReturnType.VALUE, List.of("script"), "v"));
        String sha = script.scriptLoad("return redis.call('get', KEYS[1])");
        equal("v", script.evalSha(RScript.Mode.READ_ONLY, sha, RScript.ReturnType.VALUE, List.of("script")));
    }

    private static void channels(RedissonClient client, RedissonClient other) throws Exception {
        BlockingQueue<String> received = new ArrayBlockingQueue<>(4);
        var topic = client.getTopic("news");
        int listener = topic.addListener(String.class, (channel, message) -> received.add(message));
        equal(1L, other.getTopic("news").publish("hello"));
        equal("hello", received.poll(20, TimeUnit.SECONDS));
        topic.removeListener(listener);
        // Copies in the client that messages keep right.
        var options = org.redisson.api.options.LocalCachedMapOptions.<String, String>name("copied");
        var mine = client.getLocalCachedMap(options);
        var theirs = other.getLocalCachedMap(options);
        mine.put("f", "v");
        equal("v", theirs.get("f"));
        mine.put("f", "w");
        for (int left = 2000; !"w".equals(theirs.get("f")); left--) {
            equal(true, left > 0);
            Thread.sleep(5);
        }
    }
}
