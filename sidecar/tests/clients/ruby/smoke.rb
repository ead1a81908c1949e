# redis-rb against Warp. Usage: smoke.rb PORT STORAGE
require "digest"
require "redis"

PORT, STORAGE = ARGV
RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"

def client(**options) = Redis.new(port: PORT, timeout: 20, **options)

def equal(expected, actual)
  raise "expected #{expected.inspect}, got #{actual.inspect}" unless expected == actual
end

def refused(start)
  yield
  raise "was not refused with #{start}"
rescue Redis::CommandError => error
  raise "another error: #{error.message}" unless error.message.start_with?(start)
end

def everyday(client)
  client.flushall
  equal "PONG", client.ping
  equal "me", client.client(:getname)
  equal true, client.set("k", "v", ex: 100, nx: true)
  equal false, client.set("k", "w", nx: true)
  equal "v", client.set("k", "w", keepttl: true, get: true)
  equal true, client.ttl("k") > 90
  equal "OK", client.mset("a", 1, "b", 2)
  equal ["1", "2", nil], client.mget("a", "b", "nothing")
  equal({ "a" => "1" }, client.mapped_mget("a"))
  equal 42, client.incrby("a", 41)
  equal 2, client.del("a", "b")
  equal "string", client.type("k")
  bytes = "\0\xff\r\n".b
  client.set("bytes", bytes)
  equal bytes, client.get("bytes").b
  refused("ERR value is not an integer") { client.incr("k") }

  replies = client.pipelined do |pipeline|
    1000.times do |n|
      pipeline.set("p:#{n}", n)
      pipeline.get("p:#{n}")
    end
  end
  equal (0...1000).map(&:to_s), replies.each_slice(2).map(&:last)
  equal 1000, client.scan_each(match: "p:*", count: 50).to_a.uniq.size
end

# One connection, which threads take by turns.
def threads(client)
  several = (0...20).map do |n|
    Thread.new do
      client.set("t:#{n}", n)
      client.get("t:#{n}")
    end
  end
  equal (0...20).map(&:to_s), several.map(&:value)
end

def transactions(client)
  equal ["OK", "w"], client.multi { |transaction| transaction.set("k", "w"); transaction.get("k") }
  result = client.watch("k") do
    client().set("k", "somebody else's")
    client.multi { |transaction| transaction.set("k", "mine") }
  end
  equal nil, result
  equal "somebody else's", client.get("k")
end

def types(client)
  equal 2, client.hset("h", { "f" => "v", "g" => "w" })
  equal({ "f" => "v", "g" => "w" }, client.hgetall("h"))
  equal 3, client.rpush("l", %w[a b c])
  equal %w[a b c], client.lrange("l", 0, -1)
  equal 2, client.sadd("s", %w[a b])
  equal %w[a b], client.smembers("s").sort
  equal 2, client.zadd("z", [[1.5, "a"], [2, "b"]])
  equal [["a", 1.5], ["b", 2.0]], client.zrange("z", 0, -1, with_scores: true)
  refused("WRONGTYPE") { client.get("h") }
end

def scripts(client)
  client.script(:flush)
  client.set("lock", "mine", px: 30_000, nx: true)
  sha = Digest::SHA1.hexdigest(RELEASE)
  refused("NOSCRIPT") { client.evalsha(sha, ["lock"], ["other"]) }
  equal sha, client.script(:load, RELEASE)
  equal 0, client.evalsha(sha, ["lock"], ["other"])
  equal 1, client.evalsha(sha, ["lock"], ["mine"])
end

def channels
  publisher = Thread.new do
    sleep 0.005 while client.publish("news", "hello").zero?
  end
  received = nil
  subscriber = client
  subscriber.subscribe("news") do |on|
    on.message do |channel, message|
      received = [channel, message]
      subscriber.unsubscribe
    end
  end
  equal ["news", "hello"], received
  publisher.join
end

one = client(id: "me")
everyday(one)
threads(one)
transactions(one)
unless STORAGE == "postgres"
  types(one)
  scripts(one)
end
channels
equal "PONG", client(username: "default", password: "any").ping
begin
  client(username: "nobody", password: "wrong").ping
  raise "nobody was let in"
rescue Redis::CannotConnectError, Redis::CommandError => error
  raise unless error.message.include?("WRONGPASS")
end
puts "ok"
