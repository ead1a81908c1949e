//! What a Redis holds, as simply as it can be said.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::resp::reply::{Protocol, Reply};

pub(super) type Text = Vec<u8>;
pub(super) type Hash = BTreeMap<Text, Text>;
pub(super) type List = Vec<Text>;
pub(super) type Set = BTreeSet<Text>;
pub(super) type Sorted = BTreeMap<Text, f64>;

/// See the module.
pub(super) struct Model {
    pub(super) protocol: Protocol,
    /// Milliseconds.
    pub(super) now: u64,
    keys: HashMap<Text, Held>,
}

#[derive(Clone)]
struct Held {
    value: Value,
    ends: Option<u64>,
}

#[derive(Clone)]
pub(super) enum Value {
    Text(Text),
    Hash(Hash),
    List(List),
    Set(Set),
    Sorted(Sorted),
}

/// A collection. An empty one is no value.
pub(super) trait Collection: Default + Clone {
    fn of(value: &Value) -> Option<&Self>;
    fn into_value(self) -> Option<Value>;
}

macro_rules! collection {
    ($type:ty, $variant:ident) => {
        impl Collection for $type {
            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(value) = value { Some(value) } else { None }
            }

            fn into_value(self) -> Option<Value> {
                (!self.is_empty()).then_some(Value::$variant(self))
            }
        }
    };
}

collection!(Hash, Hash);
collection!(List, List);
collection!(Set, Set);
collection!(Sorted, Sorted);

impl Model {
    pub(super) fn new(protocol: Protocol, now: u64) -> Self {
        Self { protocol, now, keys: HashMap::new() }
    }

    fn live(&mut self, key: &[u8]) -> Option<&mut Held> {
        let now = self.now;
        if self.keys.get(key).is_some_and(|held| held.ends.is_some_and(|at| at <= now)) {
            self.keys.remove(key);
        }
        self.keys.get_mut(key)
    }

    pub(super) fn has(&mut self, key: &[u8]) -> bool {
        self.live(key).is_some()
    }

    /// All keys.
    pub(super) fn keys(&mut self) -> List {
        let now = self.now;
        self.keys.retain(|_, held| held.ends.is_none_or(|at| at > now));
        self.keys.keys().cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
    }

    pub(super) fn kind(&mut self, key: &[u8]) -> &'static str {
        match self.live(key).map(|held| &held.value) {
            None => "none",
            Some(Value::Text(_)) => "string",
            Some(Value::Hash(_)) => "hash",
            Some(Value::List(_)) => "list",
            Some(Value::Set(_)) => "set",
            Some(Value::Sorted(_)) => "zset",
        }
    }

    /// The string under `key`.
    pub(super) fn text(&mut self, key: &[u8]) -> Result<Option<Text>, Reply> {
        match self.live(key).map(|held| &held.value) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong_type()),
        }
    }

    /// The collection under `key`; an empty one if there is none.
    pub(super) fn get<C: Collection>(&mut self, key: &[u8]) -> Result<C, Reply> {
        let Some(held) = self.live(key) else { return Ok(C::default()) };
        C::of(&held.value).cloned().ok_or_else(wrong_type)
    }

    /// Puts a string in the place of what is there, with its end.
    pub(super) fn set_text(&mut self, key: &[u8], text: Text, ends: Option<u64>) {
        self.keys.insert(key.to_vec(), Held { value: Value::Text(text), ends });
    }

    /// Changes the string under `key`, which keeps its end.
    pub(super) fn put_text(&mut self, key: &[u8], text: Text) {
        let ends = self.end(key);
        self.set_text(key, text, ends);
    }

    /// Changes the collection under `key`, which keeps its end.
    pub(super) fn put(&mut self, key: &[u8], collection: impl Collection) {
        let ends = self.end(key);
        self.overwrite(key, collection);
        if let Some(held) = self.keys.get_mut(key) {
            held.ends = ends;
        }
    }

    /// Puts a collection in the place of what is there.
    pub(super) fn overwrite(&mut self, key: &[u8], collection: impl Collection) {
        match collection.into_value() {
            Some(value) => drop(self.keys.insert(key.to_vec(), Held { value, ends: None })),
            None => drop(self.keys.remove(key)),
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        self.live(key).is_some() && self.keys.remove(key).is_some()
    }

    /// Puts what is under `from`, with its end, under `to`, too.
    pub(super) fn copy(&mut self, from: &[u8], to: &[u8]) {
        if let Some(held) = self.live(from).cloned() {
            self.keys.insert(to.to_vec(), held);
        }
    }

    /// When `key` ends, if it is there and does.
    pub(super) fn end(&mut self, key: &[u8]) -> Option<u64> {
        self.live(key).and_then(|held| held.ends)
    }

    pub(super) fn set_end(&mut self, key: &[u8], ends: Option<u64>) {
        if let Some(held) = self.live(key) {
            held.ends = ends;
        }
    }
}

pub(super) fn error(words: &'static str) -> Reply {
    Reply::Error(words.into())
}

pub(super) fn wrong_type() -> Reply {
    error("WRONGTYPE Operation against a key holding the wrong kind of value")
}

pub(super) fn flag(truth: bool) -> Reply {
    Reply::Integer(i64::from(truth))
}

pub(super) fn count(number: usize) -> Reply {
    Reply::Integer(i64::try_from(number).expect("few"))
}

pub(super) fn bulks<B: AsRef<[u8]>>(items: impl IntoIterator<Item = B>) -> Reply {
    Reply::Array(items.into_iter().map(|item| Reply::bulk(item.as_ref())).collect())
}

pub(super) fn maybe(text: Option<impl AsRef<[u8]>>) -> Reply {
    text.map_or(Reply::Null, |text| Reply::bulk(text.as_ref()))
}

/// The number that a string is the one text of.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// The positions from `start` to `stop`, both included; negative ones count from the end.
pub(super) fn range(start: i64, stop: i64, length: usize) -> std::ops::Range<usize> {
    let length = i128::try_from(length).expect("few");
    let place = |at: i64| if at < 0 { length + i128::from(at) } else { i128::from(at) };
    let (start, stop) = (place(start).max(0), place(stop).min(length - 1));
    let at = |place: i128| usize::try_from(place).expect("in range");
    if start > stop { 0..0 } else { at(start)..at(stop) + 1 }
}
