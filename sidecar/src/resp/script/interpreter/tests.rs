//! What holds whatever a script does: it ends, it takes no more than it may, and leaves nothing.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::Interpreter;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::script::{Call, Limits, Script, Scripts};

const MEMORY: usize = 4 * 1024 * 1024;

fn interpreter() -> Interpreter {
    Interpreter::new(Limits { time: Duration::from_mins(1), memory: MEMORY })
}

fn hurried() -> Interpreter {
    Interpreter::new(Limits { time: Duration::from_millis(50), memory: MEMORY })
}

fn script(source: &str) -> Script {
    Script::parse(Bytes::copy_from_slice(source.as_bytes())).unwrap()
}

/// Commands that give their arguments back.
fn echo(call: Call<'_>) -> Reply {
    Reply::Array(call.arguments.iter().map(|argument| Reply::bulk(argument)).collect())
}

fn run(interpreter: &mut Interpreter, source: &str) -> Reply {
    interpreter.run(&script(source), &[], &[], &mut echo)
}

fn error(interpreter: &mut Interpreter, source: &str) -> String {
    match run(interpreter, source) {
        Reply::Error(words) => words.into_owned(),
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn nothing_is_taken_before_the_first_script() {
    let mut interpreter = interpreter();
    assert_eq!(interpreter.memory(), 0);
    assert_eq!(run(&mut interpreter, "return 1"), Reply::Integer(1));
    assert!(interpreter.memory() > 0);
}

#[test]
fn a_call_is_shown_as_the_script_made_it() {
    let mut interpreter = interpreter();
    let mut seen = Vec::new();
    let source = "redis.pcall('get', KEYS[1], 1.5) redis.setresp(3) redis.call('set', ARGV[1], 2)";
    interpreter.run(&script(source), &[b"key"], &[b"argument"], &mut |call| {
        seen.push((call.arguments.join(&b' '), call.protocol, call.protected));
        Reply::OK
    });
    assert_eq!(
        seen,
        [
            (b"get key 1.5".to_vec(), Protocol::Resp2, true),
            (b"set argument 2".to_vec(), Protocol::Resp3, false),
        ]
    );
}

#[test]
fn encoded_replies_are_read() {
    let mut interpreter = interpreter();
    let mut raw = |_: Call<'_>| Reply::Raw(Bytes::from_static(b"*2\r\n:1\r\n$1\r\nx\r\n"));
    let reply = interpreter.run(&script("return redis.call('a')[2]"), &[], &[], &mut raw);
    assert_eq!(reply, Reply::text("x"));
    let mut raw = |_: Call<'_>| Reply::Raw(Bytes::from_static(b"-WRONG kind\r\n"));
    let reply = interpreter.run(&script("return redis.call('a')"), &[], &[], &mut raw);
    assert!(matches!(reply, Reply::Error(words) if words.starts_with("WRONG kind script: ")));
}

#[test]
fn no_script_goes_on_when_its_time_is_over() {
    let mut interpreter = hurried();
    for source in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "coroutine.wrap(function() while true do end end)()",
        "local f = function() return f() end f = loadstring('while true do end') pcall(f)",
        "for i = 1, 1e9 do string.rep('', 1e9) end while true do end",
        "string.find(string.rep('a', 100), string.rep('a-', 40) .. 'b')",
        "return string.gsub(string.rep('a', 60), string.rep('a*', 30) .. 'b', 'x')",
        "pcall(string.match, string.rep('a', 60), string.rep('a?', 60) .. string.rep('a', 61))",
        "for _ in string.gmatch(string.rep('a', 60), string.rep('.-', 30) .. 'b') do end",
        "string.gsub('a', 'a', function() while true do end end)",
        "table.sort({1, 2, 3}, function() while true do end end)",
        "setmetatable({}, {__index = function() while true do end end}).x = 1 local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
        "local t = {} for i = 1, 40 do t = {t, t} end return cjson.encode(t)",
        "while true do redis.call('x') end",
        "while true do collectgarbage() end",
    ] {
        let words = error(&mut interpreter, source);
        assert!(
            words.starts_with("ERR Script killed by timeout after 50 milliseconds...")
                || words.contains("not enough memory")
                || words.contains("attempt to call upvalue"),
            "{source}: {words}"
        );
        assert_eq!(run(&mut interpreter, "return 1"), Reply::Integer(1));
    }
}

#[test]
fn a_script_is_killed_from_another_thread() {
    let mut interpreter = interpreter();
    let kill = interpreter.kill();
    let words = {
        let mut calls = 0;
        let reply =
            interpreter.run(&script("redis.call('x') while true do end"), &[], &[], &mut |_| {
                calls += 1;
                let kill = kill.clone();
                std::thread::spawn(move || kill.kill()).join().unwrap();
                Reply::OK
            });
        assert_eq!(calls, 1);
        reply
    };
    assert!(
        matches!(&words, Reply::Error(words) if words.starts_with("ERR Script killed by user with SCRIPT KILL... script: ")),
        "{words:?}"
    );
    kill.kill();
    assert_eq!(run(&mut interpreter, "return 1"), Reply::Integer(1));
}

#[test]
fn no_script_takes_more_than_its_memory() {
    let mut interpreter = interpreter();
    for source in [
        "return string.rep('x', 1e9)",
        "return string.rep('xxxx', 2^62)",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = {} end",
        "local t = {} for i = 1, 1e9 do t[i] = tostring(i) end",
        "local t = {} for i = 1, 1000 do t[i] = string.rep('x', 1e5) end return table.concat(t)",
        "return string.format('%s%s%s', string.rep('x', 2e6), string.rep('y', 2e6), string.rep('z', 2e6))",
        "return string.gsub(string.rep('x', 1e5), 'x', string.rep('y', 1e4))",
        "local s = string.rep('x', 1e6) return {s, s, s, s, s, s}",
        "local s = string.rep('x', 1e6) return cjson.encode({s, s, s, s, s, s})",
        "local s = string.rep('x', 1e6) return cmsgpack.pack({s, s, s, s, s, s})",
        "local s = string.rep('x', 1e6) return struct.pack('c0c0c0c0c0c0', s, s, s, s, s, s)",
        "local s = string.rep('x', 1e6) return redis.call(s, s, s, s, s, s)",
        "local t = {} for i = 1, 40 do t = {t, t} end return t",
        "local t = {} for i = 1, 15 do t = {t, t, t, t, t, t, t, t} end return cmsgpack.pack(t)",
        "return cjson.decode('[' .. string.rep('{},', 1e5) .. '1]')",
        "return cmsgpack.unpack(string.rep('\\145', 60) .. '\\221\\255\\255\\255\\255' .. string.rep('\\128', 1e6))",
        "return loadstring('return \"' .. string.rep('x', 2e6) .. '\"')()",
        "local function f(...) return f(1, ...) end f()",
        "return {pcall(string.rep, 'x', 1e9), string.rep('x', 1e9)}",
    ] {
        let words = error(&mut interpreter, source);
        assert!(
            words.contains("not enough memory") || words.contains("stack"),
            "{source}: {words}"
        );
        assert!(interpreter.memory() < MEMORY, "{source}");
        assert_eq!(run(&mut interpreter, "return 1"), Reply::Integer(1));
    }
}

/// Lua's own `pcall` and `xpcall` fail for want of room on the stack, which a build for tests
/// asserts.
#[test]
fn many_results_pass_wherever_one_does() {
    let mut interpreter = interpreter();
    for results in [0, 1, 8, 9, 19, 20, 21, 40, 250, 1000, 5000] {
        for source in [
            "return select('#', pcall(unpack, t)) - 1",
            "return select('#', pcall(pcall, unpack, t)) - 2",
            "return select('#', xpcall(function() return unpack(t) end, error)) - 1",
            "return select('#', coroutine.resume(coroutine.create(function() return unpack(t) end))) - 1",
            "return select('#', coroutine.wrap(function(...) return ... end)(unpack(t)))",
            "local c = coroutine.wrap(function() coroutine.yield(unpack(t)) end) return select('#', c())",
            "return select('#', cmsgpack.unpack(string.rep('\\1', #t)))",
            "return select('#', pcall(cmsgpack.unpack, string.rep('\\1', #t))) - 1",
            "return select('#', struct.unpack(string.rep('b', #t), string.rep('x', #t))) - 1",
            "return select('#', pcall(function(...) return ... end, unpack(t))) - 1",
            "pcall(error, unpack(t)) return #t",
            "local n = 0 for i = 1, 3 do n = #t redis.call(1, unpack(t)) end return n",
            "return select('#', unpack(t)), unpack(t)",
        ] {
            let source = format!("local t = {{}} for i = 1, {results} do t[i] = i end {source}");
            assert_eq!(run(&mut interpreter, &source), Reply::Integer(results), "{source}");
        }
    }
    let captures = "string.rep('a', 32), string.rep('(a)', 32)";
    for (call, results) in [
        ("string.match", 32),
        ("string.find", 34),
        ("pcall(string.match", 33),
        ("string.gmatch(X)", 32),
        ("string.gsub", 2),
    ] {
        let source = match call.strip_suffix("(X)") {
            Some(call) => format!("return select('#', {call}({captures})())"),
            None if call.starts_with("pcall") => format!("return select('#', {call}, {captures}))"),
            None if call == "string.gsub" => format!(
                "return select('#', {call}({captures}, function(...) return select('#', ...) end))"
            ),
            None => format!("return select('#', {call}({captures}))"),
        };
        assert_eq!(run(&mut interpreter, &source), Reply::Integer(results), "{source}");
    }
}

#[test]
fn garbage_is_no_burden() {
    let source = "local s for i = 1, 2000 do s = string.rep('x', 1e5) .. i end return #s";
    assert_eq!(run(&mut interpreter(), source), Reply::Integer(100_004));
}

#[test]
fn depth_is_bounded() {
    let mut interpreter = interpreter();
    for (source, words) in [
        ("local function f() return 1 + f() end return f()", "stack overflow"),
        ("local function f() return pcall(f) and error('x') end error(tostring(f()))", ""),
        ("local t = {} t[1] = t return t", "reached lua stack limit"),
        ("local t = {} t[1] = t return cjson.encode(t)", "excessive nesting"),
        ("return cjson.decode(string.rep('[', 1e5))", "too many nested"),
        ("return cmsgpack.unpack(string.rep('\\145', 1e5))", "Bad data format"),
        ("return string.find('a', string.rep('(', 100))", "too many captures"),
        ("local s = string.rep('(', 1e5) return assert(loadstring('return ' .. s))", ""),
        ("local t = {} for i = 1, 1e4 do t[i] = 'x' end return redis.call(unpack(t))", ""),
        ("return cmsgpack.unpack(string.rep('\\160', 1e5))", "stack"),
        (
            "local s = setmetatable({}, {__index = function(t, k) return t[k] end}) return s.x",
            "overflow",
        ),
    ] {
        let shown = error(&mut interpreter, source);
        assert!(shown.contains(words), "{source}: {shown}");
        assert_eq!(run(&mut interpreter, "return 1"), Reply::Integer(1));
    }
}

#[test]
fn a_script_leaves_nothing_for_the_next() {
    let mut interpreter = interpreter();
    for source in [
        "KEYS.x = 1 return KEYS.x == 1",
        "table.insert(string, 'x') return string[1] == 'x'",
        "cjson.encode_max_depth(1) return cjson.encode_max_depth() == 1",
        "redis.setresp(3) return redis.call('x') ~= nil",
        "return getmetatable('') == false and getmetatable(string) == false",
        "local ok = pcall(setmetatable, string, nil) return not ok",
        "local ok = pcall(rawset, string, 'upper', nil) return not ok",
        "local ok = pcall(rawset, _G, 'x', nil) return not ok",
        "local ok = pcall(function() string.upper = nil end) return not ok",
        "local ok = pcall(function() _G.string = nil end) return not ok",
        "math.randomseed(7) return math.random() ~= 0.39646477376027534",
    ] {
        let reply = run(&mut interpreter, source);
        assert!(matches!(reply, Reply::Integer(1) | Reply::Boolean(true)), "{source}: {reply:?}");
    }
    for source in [
        "return KEYS.x == nil",
        "return string[1] == nil and string.upper('x') == 'X' and ('x'):upper() == 'X'",
        "return cjson.encode_max_depth() == 1000",
        "return math.floor(math.random() * 1e6) == 396464",
    ] {
        assert_eq!(run(&mut interpreter, source), Reply::Integer(1), "{source}");
    }
}

#[test]
fn what_is_behind_the_sandbox_is_out_of_reach() {
    let mut interpreter = interpreter();
    for name in [
        "io",
        "package",
        "require",
        "debug",
        "dofile",
        "loadfile",
        "print",
        "module",
        "getfenv",
        "setfenv",
        "newproxy",
        "jit",
        "ffi",
        "native",
        "host",
        "__redis__err__handler",
    ] {
        let words = error(&mut interpreter, &format!("return {name}"));
        assert!(words.contains("nonexistent global variable"), "{name}: {words}");
    }
    assert_eq!(run(&mut interpreter, "return string.dump"), Reply::Null);
    let clock = "local n = 0 for k in pairs({os = os}) do n = n + 1 end return os.execute";
    assert_eq!(run(&mut interpreter, clock), Reply::Null);
}

#[test]
fn a_sweep_of_scripts_stays_within_bounds() {
    let mut interpreter = interpreter();
    let mut scripts = Scripts::default();
    for number in 0..2000 {
        let source = format!("return {number} + {}", "1 + ".repeat(200) + "0");
        let script = scripts.load(source.as_bytes(), &mut interpreter).unwrap();
        let reply = interpreter.run(&script, &[], &[], &mut echo);
        assert_eq!(reply, Reply::Integer(number + 200));
    }
    assert!(interpreter.memory() < MEMORY);
}

/// Pieces of Lua that make scripts which compile now and then.
fn pieces() -> impl Strategy<Value = String> {
    let words = vec![
        "local x =",
        "x",
        "return",
        "function()",
        "end",
        "do",
        "while true do",
        "for i = 1, 9 do",
        "if x then",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ",",
        ";",
        "=",
        "..",
        "+",
        "-",
        "#",
        "'a'",
        "1",
        "nil",
        "1e308",
        "-1",
        "redis.call('x')",
        "redis.pcall('y', 1)",
        "KEYS",
        "ARGV[1]",
        "string.rep('x', 1e9)",
        "string.gsub('aa', '(a)', '%1%1')",
        "('x'):find('[^a-]%w*')",
        "cjson.encode(x)",
        "cjson.decode('[1,{}]')",
        "cmsgpack.pack(x)",
        "cmsgpack.unpack('\\145')",
        "struct.pack('>I2s', 1, 'a')",
        "struct.unpack('bc0', '\\1a')",
        "bit.tohex(x)",
        "pcall(x)",
        "error(x)",
        "error({err='E x'})",
        "setmetatable({}, {__index = x})",
        "rawset(_G, 1, x)",
        "coroutine.wrap(x)()",
        "table.sort(x)",
        "tostring(x)",
        "loadstring('return 1')()",
        "x = x",
        "x()",
        "x.y",
        "_G",
        "unpack({1, 2})",
        "select('#', x)",
        "string.format('%d', x)",
    ];
    prop::collection::vec(prop::sample::select(words), 1..25).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_script_ends_with_a_reply(sources in prop::collection::vec(pieces(), 1..8)) {
        let mut interpreter =
            Interpreter::new(Limits { time: Duration::from_millis(5), memory: MEMORY });
        for source in &sources {
            let _ = run(&mut interpreter, source);
            prop_assert!(interpreter.memory() < 2 * MEMORY);
        }
        let one = run(&mut Interpreter::new(Limits::default()), "return 1");
        prop_assert_eq!(one, Reply::Integer(1));
    }

    #[test]
    fn any_bytes_end_with_a_reply(source: Vec<u8>) {
        let mut interpreter = hurried();
        if let Ok(script) = Script::parse(source.into()) {
            let _ = interpreter.run(&script, &[], &[], &mut echo);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read_by_the_libraries(
        data: Vec<u8>,
        format in "[<>!bBhHlLTiIfdsxc0-9 ]{0,12}",
        pattern in "[a-c%.*+?()\\[\\]^$1bfw-]{0,12}",
    ) {
        let mut interpreter = hurried();
        let source = "
            pcall(cjson.decode, ARGV[1]) pcall(cmsgpack.unpack, ARGV[1])
            pcall(struct.unpack, ARGV[2], ARGV[1]) pcall(struct.size, ARGV[2])
            pcall(struct.pack, ARGV[2], 1, 2, 3, 4)
            pcall(string.find, ARGV[1] .. 'abcabc', ARGV[3])
            pcall(string.gsub, ARGV[1] .. 'abcabc', ARGV[3], '%1%0')
            return 1";
        let arguments = [data.as_slice(), format.as_bytes(), pattern.as_bytes()];
        let reply = interpreter.run(&script(source), &[], &arguments, &mut echo);
        prop_assert_eq!(reply, Reply::Integer(1));
    }

    #[test]
    fn what_is_packed_is_read(text: Vec<u8>, number: i32) {
        let mut interpreter = interpreter();
        let source = "
            local value = {ARGV[1], tonumber(ARGV[2]), {key = ARGV[1]}}
            local packed = cmsgpack.unpack(cmsgpack.pack(value))
            local number = struct.unpack('>i4', struct.pack('>i4', tonumber(ARGV[2])))
            local json = cjson.decode(cjson.encode({tonumber(ARGV[2]), {key = ARGV[1]}}))
            return {packed[1], packed[2], packed[3].key, number, json[1], json[2].key}";
        let digits = number.to_string();
        let arguments = [text.as_slice(), digits.as_bytes()];
        let reply = interpreter.run(&script(source), &[], &arguments, &mut echo);
        let (text, number) = (Reply::bulk(&text), Reply::Integer(number.into()));
        let expected = vec![
            text.clone(), number.clone(), text.clone(), number.clone(), number, text,
        ];
        // JSON of bytes with a NUL within is escaped, so all bytes come back.
        prop_assert_eq!(reply, Reply::Array(expected));
    }
}
