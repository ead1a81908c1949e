"""redis-py against Warp, with both protocols. Usage: smoke.py PORT STORAGE"""

import asyncio
import sys
import threading
import time

import redis
import redis.asyncio
import redlock
from redis.cache import CacheConfig

port, storage = int(sys.argv[1]), sys.argv[2]


def everyday(client):
    client.flushall()
    assert client.ping()
    assert client.set("k", "v", ex=100, nx=True) is True
    assert client.set("k", "w", nx=True) is None
    assert client.get("k") == "v"
    assert client.set("k", "w", keepttl=True, get=True) == "v"
    assert 98 <= client.ttl("k") <= 100
    assert client.getex("k", persist=True) == "w"
    assert client.ttl("k") == -1
    assert client.expire("k", 50, gt=True) is False
    assert client.expire("k", 50) is True
    assert client.pttl("k") > 40_000
    assert client.persist("k") is True
    assert client.mset({"a": 1, "b": 2}) is True
    assert client.mget("a", "b", "nothing") == ["1", "2", None]
    assert client.incrby("a", 41) == 42
    assert client.decr("a") == 41
    assert client.append("k", "x") == 2
    assert client.strlen("k") == 2
    assert client.getrange("k", 0, 0) == "w"
    assert client.exists("a", "b", "nothing") == 2
    assert client.type("a") == "string"
    assert client.getdel("b") == "2"
    assert client.delete("a", "b") == 1
    assert client.dbsize() == 1
    assert client.setnx("k", "z") is False
    for n in range(100):
        client.set(f"many:{n}", n)
    assert len(list(client.scan_iter("many:*", count=7))) == 100
    assert len(client.keys("many:1?")) == 10


def pipelines(client):
    pipeline = client.pipeline(transaction=False)
    for n in range(2_000):
        pipeline.set(f"p:{n}", n)
        pipeline.get(f"p:{n}")
    replies = pipeline.execute()
    assert replies[1::2] == [str(n) for n in range(2_000)]
    assert all(replies[0::2])


def errors(client):
    try:
        client.execute_command("NOSUCHCOMMAND", "a")
        raise AssertionError("an unknown command was taken")
    except redis.ResponseError as error:
        assert str(error).startswith("unknown command 'NOSUCHCOMMAND', with args"), error
    client.set("text", "abc")
    try:
        client.incr("text")
        raise AssertionError("a text was incremented")
    except redis.ResponseError as error:
        assert str(error) == "value is not an integer or out of range", error


def server(client):
    info = client.info()
    assert info["redis_version"] == "7.4.0" and info["loading"] == 0 and info["role"] == "master"
    assert info["storage"] == storage
    assert client.client_setname("me") and client.client_getname() == "me"
    assert client.client_id() > 0
    assert client.client_info()["lib-name"].startswith("redis-py")
    assert any(other["name"] == "me" for other in client.client_list())
    assert client.config_get("appendonly")["appendonly"] in ("yes", "no")
    assert client.command_count() > 40
    assert "get" in client.command()
    assert len(client.time()) == 2


def scripts(client):
    """Locks and limits of rates, which redis-py and applications make of scripts."""
    client.delete("lock", "rate", "own")
    lock = client.lock("lock", timeout=10)
    assert lock.acquire(blocking=False)
    other = client.lock("lock", timeout=10)
    assert not other.acquire(blocking=False)
    assert lock.extend(10) and 10_000 < client.pttl("lock") <= 20_000
    assert lock.reacquire() and client.pttl("lock") <= 10_000
    client.set("lock", "somebody else's")
    try:
        lock.release()
        raise AssertionError("a lock was released that is somebody else's")
    except redis.exceptions.LockNotOwnedError:
        pass
    client.delete("lock")
    with client.lock("lock", timeout=10):
        assert client.get("lock")
    assert client.get("lock") is None

    locks = redlock.Redlock([client], retry_count=1)
    held = locks.lock("resource", 10_000)
    assert held and held.validity > 5_000
    assert not locks.lock("resource", 10_000)
    locks.unlock(held)
    assert client.get("resource") is None

    release = client.register_script(
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
    )
    client.set("own", "mine")
    assert release(keys=["own"], args=["other"]) == 0
    assert release(keys=["own"], args=["mine"]) == 1

    # Sends EVALSHA, is told NOSCRIPT, loads it and sends it again.
    client.script_flush()
    limit = client.register_script("""
        local count = redis.call('INCR', KEYS[1])
        if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
        return {count <= tonumber(ARGV[1]) and 1 or 0, redis.call('PTTL', KEYS[1])}
    """)
    allowed = [limit(keys=["rate"], args=[3, 100_000]) for _ in range(5)]
    assert [reply[0] for reply in allowed] == [1, 1, 1, 0, 0]
    assert all(0 < reply[1] <= 100_000 for reply in allowed)
    assert client.script_exists(limit.sha) == [True]
    pipeline = client.pipeline(transaction=False)
    for _ in range(100):
        limit(keys=["rate"], args=[3, 100_000], client=pipeline)
    assert len(pipeline.execute()) == 100
    assert client.get("rate") == "105"
    try:
        client.eval("return redis.call('LPUSH', KEYS[1], 'x')", 1, "rate")
        raise AssertionError("a number took an element")
    except redis.ResponseError as error:
        table = "class 'default' keeps its keys as rows of a SQL table (storage postgres)"
        refusal = table if storage == "postgres" else "WRONGTYPE Operation against a key"
        assert str(error).startswith(refusal), error
    assert client.eval_ro("return redis.call('GET', KEYS[1])", 1, "rate") == "105"


def transactions(client):
    client.delete("k", "n")
    with client.pipeline() as pipeline:
        pipeline.watch("k")
        assert pipeline.get("k") is None
        pipeline.multi()
        pipeline.set("k", "v")
        pipeline.incr("n")
        assert pipeline.execute() == [True, 1]
        pipeline.watch("k")
        client.set("k", "somebody else's")
        pipeline.multi()
        pipeline.set("k", "mine")
        try:
            pipeline.execute()
            raise AssertionError("a watched key was written and nobody minded")
        except redis.WatchError:
            pass
    assert client.get("k") == "somebody else's"
    client.delete("n")


def types(client):
    client.delete("h", "q", "k")
    assert client.hset("h", mapping={"f": "v"}) == 1
    assert client.hgetall("h") == {"f": "v"}
    with client.lock("lock", timeout=10):
        assert client.get("lock")
    assert client.get("lock") is None
    assert client.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "k", "eval") == "OK"
    assert client.get("k") == "eval"

    threading.Timer(0.05, lambda: client.rpush("q", "element")).start()
    assert client.blpop("q", timeout=20) in (("q", "element"), ["q", "element"])


def channels(client):
    messages = client.pubsub(ignore_subscribe_messages=True)
    messages.subscribe("channel")
    while messages.get_message(timeout=1) is not None:
        pass
    assert client.publish("channel", "hello") == 1
    while (message := messages.get_message(timeout=20)) is None:
        pass
    assert message["data"] == "hello"
    messages.close()


def copies():
    client = redis.Redis(port=port, protocol=3, decode_responses=True, cache_config=CacheConfig())
    other = redis.Redis(port=port, decode_responses=True)
    cache = client.get_cache()
    client.set("copied", "v")
    assert [client.get("copied") for _ in range(3)] == ["v"] * 3
    assert cache.size == 1
    for value in ("w", "x"):
        other.set("copied", value)
        # The client looks for what it is told when it is used.
        while client.get("copied") != value:
            time.sleep(0.01)
    client.set("copied", "y")
    while client.get("copied") != "y":
        time.sleep(0.01)
    other.flushall()
    while client.get("copied") is not None:
        time.sleep(0.01)
    client.close()
    other.close()


async def at_once(protocol):
    client = redis.asyncio.Redis(port=port, protocol=protocol, decode_responses=True)

    async def one(n):
        await client.set(f"async:{n}", n)
        return await client.get(f"async:{n}")

    assert await asyncio.gather(*map(one, range(50))) == [str(n) for n in range(50)]
    await client.aclose()


for protocol in (2, 3):
    client = redis.Redis(port=port, protocol=protocol, decode_responses=True)
    everyday(client)
    pipelines(client)
    errors(client)
    server(client)
    transactions(client)
    scripts(client)
    channels(client)
    if storage != "postgres":
        types(client)
    asyncio.run(at_once(protocol))
    client.close()
copies()
print("ok")
