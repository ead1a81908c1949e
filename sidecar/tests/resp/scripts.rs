//! The same scripts, run by Warp's interpreter and by a Redis: the same bytes come back.
//!
//! What a script asks for with `redis.call` goes to a Redis in both cases, so that the replies that
//! it gets are the same too.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::{Bytes, BytesMut};
use warp_sidecar::resp::reply::{Protocol, Reply};
use warp_sidecar::resp::reply_parse;
use warp_sidecar::resp::script::{Call, Interpreter, Limits, Script};

use crate::client::command;
use crate::servers::redis::Redis;

/// A connection without a runtime, as the interpreter waits for its calls.
struct Line {
    stream: TcpStream,
    received: BytesMut,
    protocol: Protocol,
}

impl Line {
    fn open(server: &Redis, protocol: Protocol) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let mut line = Self { stream, received: BytesMut::new(), protocol: Protocol::Resp2 };
        line.speak(protocol);
        line
    }

    fn speak(&mut self, protocol: Protocol) {
        if self.protocol != protocol {
            self.ask(&[b"HELLO", protocol.number().to_string().as_bytes()]);
            self.protocol = protocol;
        }
    }

    fn ask(&mut self, words: &[&[u8]]) -> Bytes {
        self.stream.write_all(&command(words)).unwrap();
        loop {
            if let Some(length) = reply_parse::length(&self.received).unwrap() {
                return self.received.split_to(length).freeze();
            }
            let mut part = [0; 8192];
            let length = self.stream.read(&mut part).unwrap();
            assert!(length > 0, "Redis left at {:?}", words[1].escape_ascii().to_string());
            self.received.extend_from_slice(&part[..length]);
        }
    }

    /// As Redis answers a script's call.
    fn call(&mut self, call: Call<'_>) -> Reply {
        self.speak(call.protocol);
        match reply_parse::parse(&self.ask(call.arguments)).unwrap() {
            Reply::Error(words) if words.starts_with("ERR unknown command") => {
                Reply::err("Unknown Redis command called from script")
            }
            Reply::Error(words) if words.starts_with("ERR wrong number of arguments for") => {
                Reply::err("Wrong number of args calling Redis command from script")
            }
            reply => reply,
        }
    }
}

const KEYS: [&[u8]; 2] = [b"k1", b"k2"];
const ARGUMENTS: [&[u8]; 3] = [b"a", b"b\xff\x00c", b"3"];

fn same_as_redis<'a>(scripts: impl Iterator<Item = &'a str>) {
    let server = Redis::start();
    let mut interpreter = Interpreter::new(Limits::default());
    let scripts: Vec<&str> = scripts.collect();
    let mut wrong = Vec::new();
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut redis = Line::open(&server, protocol);
        let mut calls = Line::open(&server, Protocol::Resp2);
        for source in &scripts {
            redis.ask(&[b"FLUSHALL"]);
            // In Redis what one script sets in cjson is there for the next; a new interpreter isn't.
            redis.ask(&[b"SCRIPT", b"FLUSH"]);
            let mut words: Vec<&[u8]> = vec![b"EVAL", source.as_bytes(), b"2"];
            words.extend(KEYS.iter().chain(&ARGUMENTS));
            let there = redis.ask(&words);
            redis.ask(&[b"FLUSHALL"]);
            let script = Script::parse(Bytes::copy_from_slice(source.as_bytes()));
            let reply = match script {
                Ok(script) => {
                    interpreter.run(&script, &KEYS, &ARGUMENTS, &mut |call| calls.call(call))
                }
                Err(error) => error.into(),
            };
            let mut here = Vec::new();
            reply.encode(protocol, &mut here);
            if here != there {
                wrong.push(format!(
                    "{protocol:?} {source}\n  warp:  {}\n  redis: {}",
                    here.escape_ascii(),
                    there.escape_ascii()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

#[test]
fn values_become_replies() {
    same_as_redis(lines(
        r#"
        return 1
        return
        return nil
        return true
        return false
        return "text"
        return 'a\0b\r\n'
        return 3.99
        return -3.99
        return 1e15
        return {1e300, 0/0, -1e300}
        return {1, 2.9, 'x', nil, 4}
        return {}
        return {{}, {1, {2, {3}}}}
        return {true, false, true}
        return {1, cjson.null, 2}
        return function() end
        return {1, print and 1, 3}
        return {ok='fine'}
        return {ok='fi\r\nne'}
        return {err='MY error'}
        return {err='noprefix'}
        return {err=1}
        return {ok=1}
        return {err='a', ok='b'}
        return {double=3.5}
        return {double=3}
        return {double='x'}
        return {double=0.5}
        return {double=-1000.25}
        return {double=1/0}
        return {double=-1/0}
        return {big_number='123456789012345678901234567890'}
        return {big_number='12\r\n3'}
        return {verbatim_string={format='txt', string='hello'}}
        return {verbatim_string={format='x', string='hello'}}
        return {verbatim_string={format='txt'}}
        return {map={a=1}}
        return {map={[1]='x'}}
        return {set={a=true}}
        return {set={a={1}}}
        return {map={a={map={b={set={c=true}}}}}}
        redis.setresp(3) return {true, false}
        redis.setresp(3) return true
        redis.setresp(3) return nil
        redis.setresp(3) return {double=1.5}
        redis.setresp(3) return {map={a=true}}
        return {1, 2, {err='x y'}, {ok='z'}}
        return 1, 2, 3
        return KEYS
        return ARGV
        return {#KEYS, #ARGV, KEYS[3], ARGV[4]}
        KEYS[1] = 'other' return KEYS[1]
        return {KEYS[1], ARGV[2]}
        return tostring(cjson.null)
        "#,
    ));
}

#[test]
fn replies_become_values() {
    same_as_redis(lines(
        r"
        return redis.call('set', KEYS[1], ARGV[2])
        redis.call('set', KEYS[1], ARGV[2]) return redis.call('get', KEYS[1])
        return redis.call('get', KEYS[1])
        return type(redis.call('get', KEYS[1]))
        return tostring(redis.call('get', KEYS[1]))
        redis.setresp(3) return type(redis.call('get', KEYS[1]))
        redis.setresp(3) return {1, redis.call('get', KEYS[1]), 3}
        return redis.call('set', KEYS[1], 'x').ok
        return type(redis.call('incr', KEYS[1]))
        return redis.call('incrby', KEYS[1], 9007199254740993)
        return redis.call('incrby', KEYS[1], '9223372036854775807')
        return redis.call('echo', 0.1)
        return redis.call('echo', 1e17)
        return redis.call('echo', 1e16)
        return redis.call('echo', 12345678901234567890)
        return redis.call('echo', -1.5e-7)
        return redis.call('echo', 3.0)
        return redis.call('echo', -0.0)
        return redis.call('echo', 1/0)
        return redis.call('echo', 99999999999999999)
        redis.call('rpush', KEYS[1], 1, 2, 3) return redis.call('lrange', KEYS[1], 0, -1)
        redis.call('hset', KEYS[1], 'f', 'v') return redis.call('hgetall', KEYS[1])
        redis.call('hset', KEYS[1], 'f', 'v') return cjson.encode(redis.call('hgetall', KEYS[1]))
        redis.setresp(3) redis.call('hset', KEYS[1], 'f', 'v') return cjson.encode(redis.call('hgetall', KEYS[1]))
        redis.setresp(3) redis.call('hset', KEYS[1], 'f', 'v') return redis.call('hgetall', KEYS[1])
        redis.call('sadd', KEYS[1], 'm') return redis.call('smembers', KEYS[1])
        redis.setresp(3) redis.call('sadd', KEYS[1], 'm') return redis.call('smembers', KEYS[1])
        redis.setresp(3) redis.call('sadd', KEYS[1], 'm') return cjson.encode(redis.call('smembers', KEYS[1]))
        redis.call('zadd', KEYS[1], 1.5, 'm') return redis.call('zscore', KEYS[1], 'm')
        redis.setresp(3) redis.call('zadd', KEYS[1], 1.5, 'm') return redis.call('zscore', KEYS[1], 'm')
        redis.setresp(3) redis.call('zadd', KEYS[1], 0.1, 'm') return cjson.encode(redis.call('zscore', KEYS[1], 'm'))
        redis.call('zadd', KEYS[1], 1.5, 'm') return redis.call('zrange', KEYS[1], 0, -1, 'withscores')
        redis.setresp(3) redis.call('zadd', KEYS[1], 1.5, 'm') return redis.call('zrange', KEYS[1], 0, -1, 'withscores')
        redis.call('set', KEYS[1], 'x') return redis.call('incr', KEYS[1])
        redis.call('set', KEYS[1], 'x') return redis.pcall('incr', KEYS[1])
        redis.call('set', KEYS[1], 'x') return redis.pcall('incr', KEYS[1]).err
        redis.call('set', KEYS[1], 'x') return redis.pcall('lpush', KEYS[1], 1)
        redis.call('set', KEYS[1], 'x') return {pcall(redis.call, 'lpush', KEYS[1], 1)}
        redis.call('set', KEYS[1], 'x') local ok, e = pcall(redis.call, 'lpush', KEYS[1], 1) return e
        return cjson.encode(redis.pcall('nosuch'))
        return redis.call('nosuch')
        return redis.pcall('nosuch')
        return redis.call('get')
        return redis.call()
        return redis.pcall()
        return redis.pcall().err
        return redis.call({})
        return redis.call('get', nil)
        return redis.call('get', true)
        return redis.pcall('get', {})
        return redis.call('mget', KEYS[1], KEYS[2])
        redis.setresp(3) return #redis.call('mget', KEYS[1], KEYS[2])
        return redis.call('ping')
        return #redis.call('ping').ok
        local t = redis.call('keys', '*') return #t
        return redis.call('object', 'encoding', KEYS[1])
        ",
    ));
}

#[test]
fn the_functions_of_redis() {
    same_as_redis(lines(
        r"
        return redis.error_reply('MY error')
        return redis.error_reply('-MY error')
        return redis.error_reply('word')
        return redis.error_reply('')
        return redis.error_reply(1)
        return redis.error_reply()
        return redis.error_reply('a', 'b')
        return redis.error_reply('MY error').err
        return redis.status_reply('FINE')
        return redis.status_reply(1)
        return redis.status_reply('FINE').ok
        return redis.sha1hex('')
        return redis.sha1hex('abc')
        return redis.sha1hex(1)
        return redis.sha1hex(1.5)
        return redis.sha1hex()
        return redis.sha1hex('a', 'b')
        return redis.log(redis.LOG_WARNING, 'x')
        return redis.log(1)
        return redis.log('x', 'y')
        return redis.log(9, 'y')
        return redis.log('0', 'y', 1, {}, nil)
        return {redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING}
        return {redis.REPL_NONE, redis.REPL_AOF, redis.REPL_SLAVE, redis.REPL_REPLICA, redis.REPL_ALL}
        return {redis.REDIS_VERSION, redis.REDIS_VERSION_NUM}
        return redis.set_repl(redis.REPL_ALL)
        return redis.set_repl(9)
        return redis.set_repl()
        return redis.replicate_commands()
        return redis.breakpoint()
        return redis.debug('x')
        return redis.setresp(4)
        return redis.setresp()
        return redis.setresp('3')
        return redis.acl_check_cmd('get', 'k')
        return redis.acl_check_cmd()
        return redis.acl_check_cmd({})
        return redis.nothing
        ",
    ));
}

#[test]
fn errors_have_their_words_and_places() {
    let more = [
        "local x = 1\nlocal y = nil\n\nreturn x + y",
        "local function f()\n  error('deep')\nend\n\nf()",
        "#!lua flags=no-writes\n\nreturn nil + 1",
        "#!lua flags=no-writes,allow-stale\nreturn 7",
        "#!lua flags=\nreturn 7",
        "#!lua",
        "#!",
        "#! \nreturn 1",
        "#!js\nreturn 1",
        "#!LUA\nreturn 1",
        "#!lua flags=bad\nreturn 1",
        "#!lua flags=no-writes,\nreturn 1",
        "#!lua name=x\nreturn 1",
        "#!lua \"flags=no-writes\nreturn 1",
        "#!lua \"flags=no-writes\" flags=allow-oom\nreturn 1",
        "\x1bLua",
        "",
    ];
    same_as_redis(
        lines(
            r"
        error('boom')
        error('boom', 0)
        error('boom', 2)
        error({err='MY words'})
        error({err='MY words\r\n'})
        error({err='word', more=1})
        error('multi\nline')
        error(12)
        return nil + 1
        return nosuch
        return nosuch.field
        nosuch()
        x = 1
        _G.x = 1
        _G['x'] = 1
        function f() end
        return ('x').y.z
        return {} .. 'x'
        return 1 < 'x'
        return #5
        local t = nil; t.x = 1
        string.foo = 1
        string.upper = nil
        return string.foo
        math.pi = 3
        redis.call = nil
        KEYS = {}
        rawset(_G, 'x', 1)
        rawset(string, 'x', 1)
        rawset({}, nil, 1)
        rawset(1, 2, 3)
        rawset({}, 1)
        return rawset({}, 1, 'x')
        setmetatable(_G, {})
        setmetatable(string, nil)
        setmetatable(1, {})
        setmetatable({}, 1)
        setmetatable({})
        setmetatable(setmetatable({}, {__metatable=1}), {})
        return getmetatable(setmetatable({}, {__metatable='mine'}))
        return setmetatable({}, {__index={1, 2}})[2]
        return pcall(error)
        return {pcall(error, 'x')}
        return {pcall(error, {err='x y'})}
        return {pcall(error, {err=1})}
        return {pcall(error, {1, 2})}
        local ok, e = pcall(function() return nil + 1 end) return e
        local ok, e = pcall(function() error({err='E x', code=7}) end) return type(e)
        local ok, e = xpcall(function() error('x') end, function(e) return e .. '!' end) return {ok, e}
        local ok, e = xpcall(function() return redis.call('nosuch') end, function(e) return e.err end) return {ok, e}
        return {xpcall(function() return 1, 2 end, error)}
        return select(2, pcall(nosuch, 1))
        return select(2, pcall(function() x = 1 end))
        return {select(2, pcall(string.rep))}
        return string.rep()
        return string.rep('x', -1)
        return string.rep('ab', 3)
        return ('ab'):rep(3)
        return tostring()
        return tonumber('0x10')
        return {tonumber('z', 36), tonumber('10', 2), tonumber('x')}
        return ('x'):bad()
        local function f() return f() + 1 end return f()
        return (
        return return
        x = = 1
        for i = 1 do end
        return 'unfinished
        goto done
        local a <const> = 1
        return 1 // 2
        return loadstring('return 1 + 1')()
        return {loadstring('x x')}
        return select(2, loadstring('x x'))
        return select(2, loadstring('x x', '=name'))
        return select(2, loadstring('x x', '@file'))
        return select(2, loadstring('\27Lua'))
        return loadstring('return KEYS[1]')()
        return select(2, pcall(loadstring('x = 1')))
        local n = 0 return load(function() n = n + 1 return ({'return ', '4', '2'})[n] end)()
        local c = coroutine.create(function(a) local b = coroutine.yield(a + 1) error('in ' .. b) end) return {coroutine.resume(c, 1), select(2, coroutine.resume(c, 5)), coroutine.status(c)}
        local c = coroutine.wrap(function() error('wrapped') end) c()
        local c = coroutine.wrap(function() return redis.call('nosuch') end) c()
        local c = coroutine.create(function() return redis.call('nosuch') end) local ok, e = coroutine.resume(c) return {ok, type(e), e.err}
        local c = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) return {c(), c(), c()}
        return coroutine.status(coroutine.running() or coroutine.create(function() end))
        table.sort({3, 2, 'x'})
        table.sort({3, 1, 2}, function(a, b) error({err='SORT failed'}) end)
        return table.concat({1, {}, 3})
        return ('x'):gsub('x', function() error('in gsub') end)
        return ('x'):gsub('x', function() return redis.call('nosuch') end)
        return {pcall(assert, false, 'no')}
        assert(false)
        assert(nil, 'words')
        assert(false, {err='ASSERT table'})
        return {type(print), 1}
        return dofile
        return require
        return io
        return package
        return debug
        return getfenv
        return newproxy
        ",
        )
        .chain(more),
    );
}

#[test]
fn lua_itself() {
    same_as_redis(lines(
        r#"
        local t = {} for k in pairs({a=1, b=2, c=3, 10, 20}) do t[#t + 1] = tostring(k) end table.sort(t) return t
        local t = {} for i, v in ipairs({1, 2, nil, 4}) do t[i] = v end return t
        math.randomseed(42) return {math.random(1000), math.random(1000)}
        math.randomseed(-7.9) return math.random(1000)
        return math.random(0)
        return math.random(5, 1)
        return math.random(1, 2, 3)
        return math.random('x')
        return {math.floor(2.7), math.max(1, 5, 3), math.min(4, 2), math.abs(-3), math.fmod(7, 3)}
        return tostring(math.huge)
        return tostring(-math.huge)
        return tostring(0/0)
        return tostring(2^53)
        return tostring(1e15) .. ' ' .. tostring(1e14) .. ' ' .. tostring(0.1)
        return string.format('%d %5.2f %s %q %x %c %i %g', 42, 3.14159, 'str', 'q"uo\nte', 255, 65, 7, 1e20)
        return string.format('%d', 'x')
        return string.format('%y', 1)
        return string.format('%s')
        return {string.byte('abc', 1, -1)}
        return string.char(72, 105)
        return {('hello world'):find('wor'), ('hello'):find('l+'), ('hello'):find('xyz'), ('a.b'):find('.', 1, true)}
        return {('key=value'):match('(%w+)=(%w+)')}
        return {('hello world'):gsub('o', '0')}
        return {('hello'):gsub('', '-')}
        return {('hello world'):gsub('%w+', '<%0>', 1)}
        return {('abc'):gsub('%w', {a='1', b=true, c=false})}
        return {('abc'):gsub('(%w)(%w)', '%2%1')}
        return {('abc'):gsub('%w', function(c) if c == 'b' then return nil end return c:upper() end)}
        return ('x'):gsub('x', '%2')
        return ('x'):gsub('x', {})
        return ('x'):gsub('(', '')
        return ('x'):find('[a')
        return ('x'):find('%')
        return ('x'):match('x', 5)
        return ('THE (quick) fox'):find('%((%a+)%)')
        return {('f(a(b)c)d'):match('%b()')}
        return {('THE (quick) fox'):gsub('%f[%a]%a+', 'w')}
        return {('abc'):match('()b()')}
        return {('aXb'):match('^(%l)%u(%l)$')}
        return {('  trim  '):match('^%s*(.-)%s*$')}
        local t = {} for w in ('one two three'):gmatch('%a+') do t[#t + 1] = w end return t
        local t = {} for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do t[#t + 1] = k .. v end return t
        local t = {} for e in ('abc'):gmatch('') do t[#t + 1] = 'x' end return t
        return {('x'):find('')}
        return {('x'):find('', 10)}
        return ('abc'):find('b', -1)
        return {('a\0b'):find('\0')}
        return ('a\0b'):match('%z')
        return {('aaa'):find('a-b'), ('aaab'):find('a-b')}
        return {(''):rep(5), ('x'):len(), ('abc'):reverse(), ('AbC'):lower(), ('AbC'):upper(), ('hello'):sub(2, -2)}
        return string.gmatch('x')
        return ('x'):match()
        return string.find('x', {})
        return string.gsub('x', 'y')
        return ('x'):gsub('x', nil)
        return {(123):rep(2)}
        return {string.rep(12, 2), string.len(5), string.find(123, 2)}
        local t = {5, 3, 1} table.sort(t) table.insert(t, 9) table.insert(t, 1, 0) table.remove(t) return t
        return {table.concat({1, 2, 3}, '-'), table.maxn({1, 2, [9]=1}), table.getn({1, 2})}
        return {unpack({1, 2, 3})}
        return #{unpack({1, nil, 3}, 1, 3)}
        return {select('#', 1, nil, nil), select(2, 'a', 'b', 'c')}
        return {type(_G), _G == _G._G, type(_VERSION), _VERSION}
        return {next({}), next({7})}
        return {rawequal('a', 'a'), rawget({5}, 1)}
        return type(collectgarbage('count'))
        return collectgarbage('bad')
        return {collectgarbage('collect'), collectgarbage('stop')}
        return type(gcinfo())
        return 10 % 3 .. ' ' .. -10 % 3 .. ' ' .. 2 ^ 10 .. ' ' .. 7 / 2
        "#,
    ));
}

#[test]
fn the_library_cjson() {
    let deep =
        "local t = {} local r = t for i = 1, 999 do t[1] = {} t = t[1] end return #cjson.encode(r)";
    let too_deep =
        "local t = {} local r = t for i = 1, 1001 do t[1] = {} t = t[1] end return cjson.encode(r)";
    let deep_text = "return type(cjson.decode(('['):rep(1000) .. (']'):rep(1000)))";
    let too_deep_text = "return cjson.decode(('['):rep(1001) .. (']'):rep(1001))";
    same_as_redis(
        lines(
            r#"
        return cjson.encode({1, 2, 3})
        return cjson.encode({})
        return cjson.encode({a=1})
        return cjson.encode({a={b={c={}}}})
        return cjson.encode({[1]=1, [3]=3})
        return cjson.encode({[1]=1, [10]=10})
        return cjson.encode({[1]=1, [11]=11})
        return cjson.encode({[20]=1})
        cjson.encode_sparse_array(true) return cjson.encode({[20]=1})
        return {cjson.encode_sparse_array(true, 5, 3)}
        return cjson.encode({[1.5]=1})
        return cjson.encode({[0]=1})
        return cjson.encode({[-1]='x'})
        return cjson.encode({[true]=1})
        return cjson.encode({1, nil, 3})
        return cjson.encode({cjson.null, true, false})
        return cjson.encode('a"b\\c/d\n\t\r\b\f\1\127é')
        return cjson.encode('\0\31')
        return cjson.encode(nil)
        return cjson.encode(1)
        return cjson.encode(0.1)
        return cjson.encode(-0.0)
        return cjson.encode(1e100)
        return cjson.encode(123456789012345678)
        return cjson.encode(12345678901234)
        return cjson.encode(3.14159265358979)
        return cjson.encode({1e15, 1e14, 100000, 2^53})
        cjson.encode_number_precision(3) return cjson.encode(3.14159)
        return cjson.encode_number_precision(17)
        return cjson.encode_number_precision(0)
        return cjson.encode(1/0)
        return cjson.encode(0/0)
        cjson.encode_invalid_numbers(true) return cjson.encode({1/0, -1/0, 0/0})
        cjson.encode_invalid_numbers('null') return cjson.encode({1/0, -1/0})
        return cjson.encode_invalid_numbers('bad')
        return cjson.encode(function() end)
        return cjson.encode({f=print and 1 or function() end})
        return cjson.encode({coroutine.create(function() end)})
        return cjson.encode()
        return cjson.encode(1, 2)
        local t = {} t.t = t return cjson.encode(t)
        cjson.encode_max_depth(2) return cjson.encode({{{}}})
        return cjson.decode('{"a":[1,2.5,"x",true,false,null]}').a
        return cjson.encode(cjson.decode('{"a":[1,2.5,"x",true,false,null]}'))
        return cjson.decode('null') == cjson.null
        return cjson.decode('"\\u00e9\\ud83d\\ude00\\n\\/"')
        return cjson.decode('"\\ud83d"')
        return cjson.decode('"\\ude00"')
        return cjson.decode('"\\u12g4"')
        return cjson.decode('"\\x"')
        return cjson.decode('"abc')
        return cjson.decode('')
        return cjson.decode(' ')
        return cjson.decode('{')
        return cjson.decode('{"a"')
        return cjson.decode('{"a" 1}')
        return cjson.decode('{"a":1 "b":2}')
        return cjson.decode('{1:2}')
        return cjson.decode('[1 2]')
        return cjson.decode('[1,]')
        return cjson.decode('[,]')
        return cjson.decode('tru')
        return cjson.decode('nul')
        return cjson.decode('x')
        return cjson.decode('1 2')
        return cjson.decode('{"a":1}}')
        return cjson.decode('-')
        return cjson.decode('-x')
        return tostring(cjson.decode('0x10'))
        return tostring(cjson.decode('0x1.8p3'))
        return tostring(cjson.decode('0x'))
        return tostring(cjson.decode('inf'))
        return tostring(cjson.decode('-Infinity'))
        return tostring(cjson.decode('nan'))
        return tostring(cjson.decode('+1'))
        return tostring(cjson.decode('007'))
        return tostring(cjson.decode('1e'))
        return tostring(cjson.decode('1e5'))
        return tostring(cjson.decode('1.'))
        return tostring(cjson.decode('-.5'))
        return tostring(cjson.decode('1e400'))
        return tostring(cjson.decode('123456789012345678901234567890'))
        cjson.decode_invalid_numbers(false) return cjson.decode('007')
        cjson.decode_invalid_numbers(false) return cjson.decode('nan')
        cjson.decode_invalid_numbers(false) return cjson.decode('-inf')
        return cjson.decode('1\0')
        return cjson.decode('12\0x')
        return cjson.decode('\0001')
        return cjson.decode()
        return cjson.decode({})
        return cjson.decode(1)
        return cjson.decode('1', '2')
        cjson.decode_max_depth(2) return cjson.decode('[[[]]]')
        return cjson.decode_max_depth(0)
        return cjson.encode_max_depth('x')
        return cjson.encode_keep_buffer('off')
        return cjson.encode_keep_buffer(true, 1)
        return {cjson._NAME, cjson._VERSION}
        return cjson.new().encode({1})
        return {pcall(cjson.decode, '{')}
        return select(2, pcall(cjson.encode, function() end))
        return cjson.encode({a=1, b={1, 2, {c='d'}}, ['key with "quotes"']=true})
        return cjson.encode(cjson.decode('[[],{},[{}],""]'))
        local t = cjson.decode('{"z":1,"y":2,"x":3,"w":4,"v":5}') return cjson.encode(t)
        "#,
        )
        .chain([deep, too_deep, deep_text, too_deep_text]),
    );
}

#[test]
fn the_library_cmsgpack() {
    same_as_redis(lines(
        r"
        return cmsgpack.pack(1)
        return cmsgpack.pack(0, -1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, 2^53)
        return cmsgpack.pack(-32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649, -2^53)
        return cmsgpack.pack(0.5, 0.1, 1e300, 1/0, -1/0)
        return cmsgpack.pack(2^62, 2^63, -2^63, 2^64)
        return cmsgpack.pack(-0.0)
        return cmsgpack.pack(nil, true, false)
        return cmsgpack.pack('', 'abc', ('x'):rep(31), ('x'):rep(32), ('x'):rep(256))
        return cmsgpack.pack(('x'):rep(65536)):sub(1, 10)
        return cmsgpack.pack({})
        return cmsgpack.pack({1, 2, 3})
        return cmsgpack.pack({a=1})
        return cmsgpack.pack({[1]=1, [3]=3})
        return cmsgpack.pack({[1.5]='x'})
        return cmsgpack.pack({{{{}}}})
        local t = {} for i = 1, 16 do t[i] = i end return cmsgpack.pack(t)
        local t = {} t[1] = t return cmsgpack.pack(t)
        return cmsgpack.pack(function() end, cjson.null)
        return cmsgpack.pack()
        return cmsgpack.pack({1, nil, 3})
        return cmsgpack.unpack(cmsgpack.pack({1, 2, {3}}))
        return {cmsgpack.unpack(cmsgpack.pack(1, 'a', true, 2.5))}
        return cjson.encode(cmsgpack.unpack(cmsgpack.pack({a={b=1, c={1.5, 'x', true}}})))
        return {cmsgpack.unpack(cmsgpack.pack(128, 255, 65535, 4294967295, 4294967296, -33, -129, -32769, -2147483649))}
        return tostring(cmsgpack.unpack('\207\255\255\255\255\255\255\255\255'))
        return tostring(cmsgpack.unpack('\211\255\255\255\255\255\255\255\255'))
        return tostring(cmsgpack.unpack('\202\63\128\0\0'))
        return {cmsgpack.unpack('')}
        return cmsgpack.unpack('\192')
        return cmsgpack.unpack('\193')
        return cmsgpack.unpack('\165ab')
        return cmsgpack.unpack('\146\1')
        return cmsgpack.unpack('\220\255\255')
        return cmsgpack.unpack('\221\255\255\255\255\1')
        return cmsgpack.unpack('\222\0\1\1')
        return cmsgpack.unpack('\129\192\1')
        return cmsgpack.unpack('\219\0\0\0\2ab')
        return cmsgpack.unpack('\219\255\255\255\255ab')
        return cmsgpack.unpack('\204')
        return cmsgpack.unpack()
        return cmsgpack.unpack({})
        return {cmsgpack.unpack_one(cmsgpack.pack(1, 2, 3))}
        return {cmsgpack.unpack_one(cmsgpack.pack(1, 2, 3), 2)}
        return {cmsgpack.unpack_one(cmsgpack.pack(1), 1)}
        return {cmsgpack.unpack_one(cmsgpack.pack(1), 2)}
        return {cmsgpack.unpack_one(cmsgpack.pack(1), -1)}
        return {cmsgpack.unpack_limit(cmsgpack.pack(1, 2, 3), 2)}
        return {cmsgpack.unpack_limit(cmsgpack.pack(1, 2, 3), 2, 1)}
        return {cmsgpack.unpack_limit(cmsgpack.pack(1, 2, 3), 0)}
        return {cmsgpack.unpack_limit(cmsgpack.pack(1, 2, 3), -1)}
        return {cmsgpack.unpack_limit(cmsgpack.pack(1, 2, 3))}
        return {cmsgpack._NAME, cmsgpack._VERSION, cmsgpack._COPYRIGHT, cmsgpack._DESCRIPTION}
        ",
    ));
}

#[test]
fn the_libraries_struct_and_bit() {
    same_as_redis(lines(
        r"
        return struct.pack('HH', 1, 2)
        return struct.pack('>HH', 1, 2)
        return struct.pack('<i4>i4', -1, 258)
        return struct.pack('bBhHlLTiI', -1, 255, -2, 65535, -3, 3, 4, -5, 6)
        return struct.pack('i3I16', -2, 5)
        return struct.pack('>i16', -2)
        return struct.pack('f', 1.5)
        return struct.pack('>d', 0.1)
        return struct.pack('s', 'abc')
        return struct.pack('c2c0c1', 'abc', 'def', 'x')
        return struct.pack('c5', 'abc')
        return struct.pack('!4 b i4', 1, 2)
        return struct.pack('!b d', 1, 2)
        return struct.pack('!3')
        return struct.pack('i33', 1)
        return struct.pack('i99999999999', 1)
        return struct.pack('?', 1)
        return struct.pack('b')
        return struct.pack('b', 'x')
        return struct.pack('xbx', 1)
        return struct.pack('I', 2^40)
        return struct.pack('L', 2^63)
        return struct.pack('b\0b', 1)
        return struct.pack('i0', 1)
        return struct.pack()
        return {struct.unpack('HH', struct.pack('HH', 1, 2))}
        return {struct.unpack('bBhHlLTiI', struct.pack('bBhHlLTiI', -1, 255, -2, 65535, -3, 3, 4, -5, 6))}
        return {struct.unpack('>i3', '\255\255\254')}
        return {struct.unpack('<i3', '\254\255\255')}
        return {tostring(struct.unpack('f', struct.pack('f', 1.5))), tostring(struct.unpack('>d', struct.pack('>d', 0.1)))}
        return {struct.unpack('s', 'abc\0rest')}
        return {struct.unpack('s', 'abc')}
        return {struct.unpack('bc0', '\3abcd')}
        return {struct.unpack('c0', 'abc')}
        return {struct.unpack('bc0', '\9abc')}
        return {struct.unpack('c3', 'abcd', 2)}
        return {struct.unpack('c4', 'abcd', 2)}
        return {struct.unpack('b', 'x', 0)}
        return {struct.unpack('b', 'x', 9)}
        return {struct.unpack('!4 b i4', struct.pack('!4 b i4', 1, 2))}
        return {struct.unpack('', 'x')}
        return {struct.size('HH'), struct.size('!4bi4'), struct.size('c10'), struct.size('d')}
        return struct.size('s')
        return struct.size('c0')
        return struct.size('?')
        return {bit.band(0xff, 0x0f), bit.bor(1, 2, 4), bit.bxor(0xff, 1), bit.bnot(0)}
        return {bit.lshift(1, 31), bit.rshift(-1, 28), bit.arshift(-8, 1), bit.lshift(1, 33)}
        return {bit.rol(0x12345678, 8), bit.ror(0x12345678, 8), bit.bswap(0x12345678)}
        return {bit.tobit(2^32 + 5), bit.tobit(-1), bit.tobit(1.5), bit.tobit(2.5), bit.tobit(2^31), bit.tobit(1e20)}
        return {bit.tohex(255), bit.tohex(255, 4), bit.tohex(255, -4), bit.tohex(255, 0), bit.tohex(-1, 99)}
        return bit.band()
        return bit.band(1, 'x')
        return bit.band('0xff', '15')
        return bit.tobit({})
        return bit.lshift(1)
        ",
    ));
}
