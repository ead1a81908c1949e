<?php
// What the smoke tests have in common.

function equal($expected, $actual): void
{
    if ($expected !== $actual) {
        throw new Exception('expected ' . var_export($expected, true) . ', got ' . var_export($actual, true));
    }
}

function that(bool $holds, string $what): void
{
    equal([$what, true], [$what, $holds]);
}

/** Runs something that has to fail with a message that says so. */
function refused(string $words, callable $work): void
{
    try {
        $work();
    } catch (RedisException | Predis\PredisException $error) {
        that(str_contains($error->getMessage(), $words), "another error: {$error->getMessage()}");
        return;
    }
    throw new Exception("was not refused with $words");
}

/** What a lock is released by. */
const RELEASE = <<<'LUA'
    if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
    return 0
    LUA;

/** Runs `work` in another process. */
function meanwhile(callable $work): int
{
    $child = pcntl_fork();
    if ($child === 0) {
        $work();
        // Without the ends of what the parent has open.
        posix_kill(getmypid(), SIGKILL);
    }
    return $child;
}
