<?php
// phpredis against Warp. Usage: phpredis.php PORT STORAGE
require __DIR__ . '/check.php';

[$port, $storage] = [(int) $argv[1], $argv[2]];

function client(): Redis
{
    global $port;
    $client = new Redis();
    that($client->pconnect('127.0.0.1', $port, 20), 'a persistent connection');
    return $client;
}

function everyday(Redis $client): void
{
    $client->flushAll();
    equal(true, $client->ping());
    that($client->client('setname', 'me') && $client->client('getname') === 'me', 'the name');
    equal(true, $client->set('k', 'v', ['nx', 'ex' => 100]));
    equal(false, $client->set('k', 'w', ['nx']));
    equal('v', $client->get('k'));
    that($client->ttl('k') > 90, 'TTL');
    equal(true, $client->persist('k'));
    equal(true, $client->mset(['a' => '1', 'b' => '2']));
    equal(['1', '2', false], $client->mget(['a', 'b', 'nothing']));
    equal(42, $client->incrBy('a', 41));
    equal(2, $client->del('a', 'b'));
    equal(Redis::REDIS_STRING, $client->type('k'));
    $client->set('bytes', "\0\xff\r\n");
    equal("\0\xff\r\n", $client->get('bytes'));
    equal(false, $client->incr('k'));
    // phpredis gives it a NUL at its end.
    equal('ERR value is not an integer or out of range', rtrim($client->getLastError(), "\0"));

    $pipeline = $client->pipeline();
    for ($n = 0; $n < 1000; $n++) {
        $pipeline->set("p:$n", $n)->get("p:$n");
    }
    $replies = $pipeline->exec();
    equal(2000, count($replies));
    equal('999', $replies[1999]);

    $client->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    [$found, $cursor] = [[], null];
    while (($keys = $client->scan($cursor, 'p:*', 50)) !== false) {
        array_push($found, ...$keys);
    }
    equal(1000, count(array_unique($found)));
}

function transactions(Redis $client): void
{
    $client->set('k', 'v');
    equal([true, 'w', 1], $client->multi()->set('k', 'w')->get('k')->incr('n')->exec());
    $other = new Redis();
    $other->connect('127.0.0.1', $GLOBALS['port']);
    $client->watch('k');
    $other->set('k', "somebody else's");
    equal(false, $client->multi()->set('k', 'mine')->exec());
    equal("somebody else's", $client->get('k'));
    $client->del('n');
}

function types(Redis $client): void
{
    equal(true, $client->hMSet('h', ['f' => 'v', 'g' => 'w']));
    equal(['f' => 'v', 'g' => 'w'], $client->hGetAll('h'));
    equal(3, $client->rPush('l', 'a', 'b', 'c'));
    equal(['a', 'b', 'c'], $client->lRange('l', 0, -1));
    equal(2, $client->sAdd('s', 'a', 'b'));
    equal(true, $client->sIsMember('s', 'a'));
    equal(2, $client->zAdd('z', 1.5, 'a', 2, 'b'));
    equal(['a' => 1.5, 'b' => 2.0], $client->zRange('z', 0, -1, true));
    equal(false, $client->get('h'));
    that(str_starts_with($client->getLastError(), 'WRONGTYPE'), 'WRONGTYPE');
}

function scripts(Redis $client): void
{
    $client->script('flush');
    equal(true, $client->set('lock', 'mine', ['nx', 'px' => 30000]));
    equal(false, $client->evalSha(sha1(RELEASE), ['lock', 'other'], 1));
    that(str_starts_with($client->getLastError(), 'NOSCRIPT'), 'NOSCRIPT');
    $client->clearLastError();
    equal(0, $client->eval(RELEASE, ['lock', 'other'], 1));
    equal(1, $client->evalSha(sha1(RELEASE), ['lock', 'mine'], 1));
}

function channels(): void
{
    global $port;
    $child = meanwhile(function () use ($port) {
        $publisher = new Redis();
        $publisher->connect('127.0.0.1', $port);
        while (true) {
            $publisher->publish('news', 'hello');
            usleep(5000);
        }
    });
    $received = null;
    while ($received === null) {
        $subscriber = new Redis();
        $subscriber->connect('127.0.0.1', $port, 20, null, 0, 1);
        try {
            $subscriber->subscribe(['news'], function ($subscriber, $channel, $message) use (&$received) {
                $received = [$channel, $message];
                $subscriber->unsubscribe(['news']);
            });
        } catch (RedisException $nothing) {
            // phpredis reads on until nothing comes, whatever it has unsubscribed from.
        }
    }
    posix_kill($child, SIGKILL);
    pcntl_waitpid($child, $status);
    equal(['news', 'hello'], $received);
}

$client = client();
everyday($client);
transactions($client);
if ($storage !== 'postgres') {
    types($client);
    scripts($client);
}
channels();
$client->close();
equal(true, client()->ping());
echo "ok\n";
