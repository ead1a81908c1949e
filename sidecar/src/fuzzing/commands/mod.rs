//! Commands on the memory storage beside a model: *every reply is the model's*, whatever came before,
//! whatever the time, alone or in a transaction, in both protocols. What the model knows was written
//! from the command reference, apart from what it is compared with.

use std::sync::LazyLock;

use super::Input;
use crate::resp::by_hand::ByHand;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::reply_parse::{length, parse};

/// The words of a command.
macro_rules! words {
    ($($word:expr),* $(,)?) => { vec![$(AsRef::<[u8]>::as_ref(&$word).to_vec()),*] };
}

/// A command of these words, and what it means.
macro_rules! command {
    ([$($word:expr),* $(,)?], $meaning:expr) => {{
        let words = words![$($word),*];
        Command::new(words, $meaning)
    }};
}

pub(super) mod any;
mod expiry;
mod hashes;
mod lists;
mod model;
mod sets;
mod sorted_sets;
mod strings;

use model::Model;

/// A command, and what it means.
struct Command {
    words: Vec<Vec<u8>>,
    meaning: Box<dyn FnOnce(&mut Model) -> Answer>,
}

/// What the model answers.
enum Answer {
    Exactly(Reply),
    /// A list, a set or a map, whose order isn't promised.
    InAnyOrder(Reply),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Exactly(reply)
    }
}

impl<R: Into<Answer>> From<Result<R, Reply>> for Answer {
    fn from(result: Result<R, Reply>) -> Self {
        result.map_or_else(Self::Exactly, Into::into)
    }
}

impl Command {
    fn new<R: Into<Answer>>(
        words: impl IntoIterator<Item = Vec<u8>>,
        meaning: impl FnOnce(&mut Model) -> R + 'static,
    ) -> Self {
        Self {
            words: words.into_iter().collect(),
            meaning: Box::new(|model| meaning(model).into()),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        if *SHOWS {
            eprintln!("{}", shown(self));
        }
        Reply::Array(self.words.iter().map(|word| Reply::bulk(word)).collect())
            .encode(Protocol::Resp2, out);
    }
}

/// Whether commands are shown as they are sent, to see how something was come by.
static SHOWS: LazyLock<bool> = LazyLock::new(|| std::env::var_os("WARP_FUZZ_SHOWS").is_some());

pub(super) fn target(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let protocol = if input.truth() { Protocol::Resp3 } else { Protocol::Resp2 };
    let mut server = ByHand::new(protocol);
    let mut model = Model::new(protocol, ByHand::now());
    while !input.is_empty() {
        match input.below(20) {
            0 => later(&mut input, &mut model),
            1 => transaction(&mut input, &mut server, &mut model),
            _ => several(&mut input, &mut server, &mut model),
        }
    }
}

/// Time goes on.
fn later(input: &mut Input<'_>, model: &mut Model) {
    model.now += u64::from(input.byte()) * 8;
    ByHand::set_now(model.now);
    if *SHOWS {
        eprintln!("it is {}", model.now);
    }
}

/// Some commands, sent together.
fn several(input: &mut Input<'_>, server: &mut ByHand, model: &mut Model) {
    let commands: Vec<_> = (0..=input.below(3)).map(|_| command(input, model)).collect();
    let mut sent = Vec::new();
    commands.iter().for_each(|command| command.write(&mut sent));
    let mut received = server.send(&sent);
    for command in commands {
        let shown = shown(&command);
        check(&shown, take(&mut received), (command.meaning)(model), model.protocol);
    }
    assert!(received.is_empty(), "more was answered than asked: {received:?}");
}

/// The same within MULTI, which is given up now and then.
fn transaction(input: &mut Input<'_>, server: &mut ByHand, model: &mut Model) {
    let commands: Vec<_> = (0..input.below(6)).map(|_| command(input, model)).collect();
    let mut sent = b"MULTI\r\n".to_vec();
    commands.iter().for_each(|command| command.write(&mut sent));
    let mut received = server.send(&sent);
    assert_eq!(take(&mut received), Reply::Simple("OK".into()));
    for _ in &commands {
        assert_eq!(take(&mut received), Reply::Simple("QUEUED".into()));
    }
    // What is queued goes by the time at which it is executed.
    later(input, model);
    if input.below(4) == 0 {
        assert_eq!(take(&mut server.send(b"DISCARD\r\n")), Reply::Simple("OK".into()));
        return;
    }
    let mut received = server.send(b"EXEC\r\n");
    let Reply::Array(replies) = take(&mut received) else { panic!("EXEC answers a list") };
    assert_eq!(replies.len(), commands.len());
    for (command, reply) in commands.into_iter().zip(replies) {
        let shown = format!("{} in a transaction", shown(&command));
        check(&shown, reply, (command.meaning)(model), model.protocol);
    }
}

fn command(input: &mut Input<'_>, model: &Model) -> Command {
    match input.below(12) {
        0..=2 => strings::command(input, model.now),
        3 | 4 => expiry::command(input, model.now),
        5 | 6 => hashes::command(input),
        7 | 8 => lists::command(input),
        9 => sets::command(input),
        _ => sorted_sets::command(input),
    }
}

fn shown(command: &Command) -> String {
    let words = command.words.iter().map(|word| word.escape_ascii().to_string());
    words.collect::<Vec<_>>().join(" ")
}

/// Takes the first reply.
fn take(received: &mut bytes::Bytes) -> Reply {
    let end = length(received).expect("replies").expect("a whole reply");
    parse(&received.split_to(end)).expect("a reply")
}

fn check(shown: &str, received: Reply, expected: Answer, protocol: Protocol) {
    let heard = |reply: &Reply| {
        let mut out = Vec::new();
        reply.encode(protocol, &mut out);
        parse(&out.into()).expect("a reply")
    };
    match expected {
        Answer::Exactly(reply) => assert_eq!(received, heard(&reply), "{shown}"),
        Answer::InAnyOrder(reply @ Reply::Map(_)) => {
            assert_eq!(sorted(in_pairs(received)), sorted(in_pairs(heard(&reply))), "{shown}");
        }
        Answer::InAnyOrder(reply) => assert_eq!(sorted(received), sorted(heard(&reply)), "{shown}"),
    }
}

/// A map, which RESP2 says as a list, as a list of lists of two.
fn in_pairs(reply: Reply) -> Reply {
    match reply {
        Reply::Map(pairs) => Reply::Array(
            pairs.into_iter().map(|(one, other)| Reply::Array(vec![one, other])).collect(),
        ),
        Reply::Array(items) => {
            Reply::Array(items.chunks(2).map(|pair| Reply::Array(pair.to_vec())).collect())
        }
        other => other,
    }
}

fn sorted(reply: Reply) -> Reply {
    let by_text = |mut items: Vec<Reply>| {
        items.sort_by_key(|item| format!("{item:?}"));
        items
    };
    match reply {
        Reply::Array(items) => Reply::Array(by_text(items)),
        Reply::Set(items) => Reply::Set(by_text(items)),
        other => other,
    }
}

/// One of a few keys, so that types meet on them.
fn key(input: &mut Input<'_>) -> Vec<u8> {
    vec![b'k', b'0' + input.byte() % 4]
}

/// A string, an element, a field or a member: few, so that they meet, and some that are kept in
/// another way than the rest.
fn text(input: &mut Input<'_>) -> Vec<u8> {
    const TEXTS: [&[u8]; 12] = [
        b"",
        b"a",
        b"b",
        b"c",
        b"10",
        b"-3",
        b"007",
        b"1.5",
        b"9223372036854775807",
        b" 1",
        b"\0\r\n",
        b"longer than what is kept in a small place, and longer than what a list packs together",
    ];
    match input.byte() {
        byte @ 0..240 => TEXTS[usize::from(byte) % TEXTS.len()].to_vec(),
        byte => vec![b'x'; usize::from(byte - 240) * 40],
    }
}

/// A position, a count or an amount.
fn number(input: &mut Input<'_>) -> i64 {
    const NUMBERS: [i64; 12] = [0, 1, -1, 2, -2, 3, 5, -5, 10, 100, i64::MAX, i64::MIN];
    *input.one_of(&NUMBERS)
}

fn say(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}
