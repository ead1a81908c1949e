<?php
// Predis against Warp. Usage: predis.php PORT STORAGE
require __DIR__ . '/check.php';
require 'Predis/Autoloader.php';
Predis\Autoloader::register();

[$port, $storage] = [(int) $argv[1], $argv[2]];

function client(array $more = []): Predis\Client
{
    return new Predis\Client(['host' => '127.0.0.1', 'port' => $GLOBALS['port']] + $more);
}

function text($reply): string
{
    return (string) $reply;
}

function everyday(Predis\Client $client): void
{
    $client->flushall();
    equal('PONG', text($client->ping()));
    equal('OK', text($client->set('k', 'v', 'EX', 100, 'NX')));
    equal(null, $client->set('k', 'w', 'NX'));
    equal('v', $client->get('k'));
    that($client->ttl('k') > 90, 'TTL');
    equal('OK', text($client->mset(['a' => 1, 'b' => 2])));
    equal(['1', '2', null], $client->mget(['a', 'b', 'nothing']));
    equal(42, $client->incrby('a', 41));
    equal(2, $client->del(['a', 'b']));
    refused('ERR value is not an integer', fn () => $client->incr('k'));
    $client->set('bytes', "\0\xff\r\n");
    equal("\0\xff\r\n", $client->get('bytes'));

    $replies = $client->pipeline(function ($pipeline) {
        for ($n = 0; $n < 1000; $n++) {
            $pipeline->set("p:$n", $n);
            $pipeline->get("p:$n");
        }
    });
    equal(2000, count($replies));
    equal('999', $replies[1999]);
    $found = iterator_to_array(new Predis\Collection\Iterator\Keyspace($client, 'p:*', 50), false);
    equal(1000, count(array_unique($found)));
}

function transactions(Predis\Client $client): void
{
    $replies = $client->transaction(function ($transaction) {
        $transaction->set('k', 'w');
        $transaction->get('k');
    });
    equal(['OK', 'w'], array_map('text', $replies));
    // Tried again until nobody wrote in between.
    $tries = 0;
    $options = ['watch' => 'k', 'cas' => true, 'retry' => 3];
    $client->transaction($options, function ($transaction) use (&$tries) {
        $value = $transaction->get('k');
        if ($tries++ === 0) {
            client()->set('k', "somebody else's");
        }
        $transaction->multi();
        $transaction->set('k', "$value and mine");
    });
    equal([2, "somebody else's and mine"], [$tries, $client->get('k')]);
}

function types(Predis\Client $client): void
{
    equal('OK', text($client->hmset('h', ['f' => 'v', 'g' => 'w'])));
    equal(['f' => 'v', 'g' => 'w'], $client->hgetall('h'));
    equal(3, $client->rpush('l', ['a', 'b', 'c']));
    equal(['a', 'b', 'c'], $client->lrange('l', 0, -1));
    equal(2, $client->sadd('s', ['a', 'b']));
    equal(2, $client->zadd('z', ['a' => 1.5, 'b' => 2]));
    equal(['a' => '1.5', 'b' => '2'], $client->zrange('z', 0, -1, 'WITHSCORES'));
    refused('WRONGTYPE', fn () => $client->get('h'));
}

final class Release extends Predis\Command\ScriptCommand
{
    public function getKeysCount()
    {
        return 1;
    }

    public function getScript()
    {
        return RELEASE;
    }
}

/** Predis sends EVALSHA, and EVAL when it is told NOSCRIPT. */
function scripts(Predis\Client $client): void
{
    $client->getProfile()->defineCommand('release', 'Release');
    $client->script('flush');
    $client->set('lock', 'mine', 'PX', 30000, 'NX');
    equal(0, $client->release('lock', 'other'));
    equal(1, $client->release('lock', 'mine'));
}

function channels(): void
{
    $child = meanwhile(function () {
        while (client()->publish('news', 'hello') === 0) {
            usleep(5000);
        }
    });
    $loop = client(['read_write_timeout' => 20])->pubSubLoop();
    $loop->subscribe('news');
    foreach ($loop as $message) {
        if ($message->kind === 'message') {
            equal(['news', 'hello'], [$message->channel, $message->payload]);
            $loop->unsubscribe();
        }
    }
    pcntl_waitpid($child, $status);
}

$client = client(['persistent' => true]);
everyday($client);
transactions($client);
if ($storage !== 'postgres') {
    types($client);
    scripts($client);
}
channels();
refused('ERR AUTH <password> called without any password', fn () => client(['password' => 'any'])->ping());
refused('ERR DB index is out of range', fn () => client(['database' => 1])->ping());
echo "ok\n";
