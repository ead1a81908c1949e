//! JetStream's requests and replies, as data. Sources: the server's `ADR-1` (JSON API), `ADR-8`,
//! `ADR-28` (republish) and `ADR-31` (Direct Get), and what a server 2.15 says.

use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode};
use serde::Deserialize;
use serde_json::json;
use warp_crds::names::{
    invalidation_stream, invalidation_subject, message_subject, register_republish_subject,
    register_stream, register_subject, republish_subject,
};
use warp_crds::stream;

use super::super::Invalidation;
use super::super::cursor::{Answer, Fetch, Placed};
use super::super::wire;

/// A leader that hasn't heard from a majority for so long may have been replaced: followers wait 4
/// to 9 s for their leader before they elect another, and hear from it at least every 2 s. It goes
/// on answering for 11 s all the same.
const LEADER_LEASE: Duration = Duration::from_secs(3);

/// After which a Direct Get ends early; the rest is asked for anew.
const MOST_FETCHED_BYTES: usize = 1 << 20;

const STREAM_NOT_FOUND: u32 = 10059;
const STREAM_NAME_IN_USE: u32 = 10058;
const END_OF_BATCH: u16 = 204;

/// A tenant's stream and subjects.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) tenant: String,
    pub(super) stream: String,
    pub(super) publish: String,
    pub(super) live: String,
    pub(super) messages: String,
    pub(super) info: String,
    pub(super) create: String,
    pub(super) direct_get: String,
    pub(super) registers: RegisterNames,
}

/// The stream and subjects of a tenant's registers.
#[derive(Clone, Debug)]
pub(super) struct RegisterNames {
    pub(super) stream: String,
    /// Registers are written below it.
    pub(super) publish: String,
    /// They are republished below it.
    pub(super) live: String,
    pub(super) info: String,
    pub(super) create: String,
    pub(super) get: String,
    pub(super) direct_get: String,
}

impl RegisterNames {
    fn new(tenant: &str) -> Self {
        let stream = register_stream(tenant);
        Self {
            publish: register_subject(tenant),
            live: register_republish_subject(tenant),
            info: format!("$JS.API.STREAM.INFO.{stream}"),
            create: format!("$JS.API.STREAM.CREATE.{stream}"),
            get: format!("$JS.API.STREAM.MSG.GET.{stream}"),
            direct_get: format!("$JS.API.DIRECT.GET.{stream}"),
            stream,
        }
    }
}

impl Names {
    pub(super) fn new(tenant: &str) -> Self {
        let stream = invalidation_stream(tenant);
        Self {
            tenant: tenant.to_owned(),
            publish: invalidation_subject(tenant),
            live: republish_subject(tenant),
            messages: message_subject(tenant),
            info: format!("$JS.API.STREAM.INFO.{stream}"),
            create: format!("$JS.API.STREAM.CREATE.{stream}"),
            direct_get: format!("$JS.API.DIRECT.GET.{stream}"),
            registers: RegisterNames::new(tenant),
            stream,
        }
    }
}

/// Why an answer of the stream is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamFault {
    #[error("stream {0} is missing")]
    Missing(String),
    #[error("{0}")]
    Refused(String),
    #[error("stream {0} has no leader at the moment")]
    NoLeader(String),
    #[error(
        "stream {stream}'s leader hasn't heard from a majority of its replicas for {:.1} s",
        silent.as_secs_f32()
    )]
    CutOff { stream: String, silent: Duration },
    #[error(
        "stream {stream} isn't as Warp needs it: {wrong}. Correct it, or delete it so that it is made anew"
    )]
    Unfit { stream: String, wrong: &'static str },
    #[error("the server's reply can't be understood: {0}")]
    Unreadable(String),
}

#[derive(Deserialize)]
pub(super) struct ApiError {
    code: u32,
    #[serde(default)]
    pub(super) err_code: u32,
    #[serde(default)]
    description: String,
}

impl ApiError {
    pub(super) fn words(&self) -> String {
        format!("{} (code {}, {})", self.description, self.code, self.err_code)
    }
}

#[derive(Deserialize)]
struct StreamInfo {
    error: Option<ApiError>,
    config: Option<Config>,
    #[serde(default)]
    created: String,
    state: Option<State>,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    pub(super) subjects: Vec<String>,
    #[serde(default)]
    pub(super) allow_direct: bool,
    #[serde(default)]
    pub(super) allow_msg_ttl: bool,
    #[serde(default)]
    pub(super) max_msgs_per_subject: i64,
    #[serde(default)]
    pub(super) max_age: u64,
    #[serde(default)]
    pub(super) discard: String,
    pub(super) republish: Option<Republish>,
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
}

impl Config {
    pub(super) fn epoch(&self) -> Option<&str> {
        self.metadata.get(stream::EPOCH).and_then(serde_json::Value::as_str)
    }
}

#[derive(Deserialize)]
pub(super) struct Republish {
    #[serde(default)]
    src: String,
    #[serde(default)]
    pub(super) dest: String,
    #[serde(default)]
    pub(super) headers_only: bool,
}

#[derive(Deserialize)]
pub(super) struct State {
    first_seq: u64,
    last_seq: u64,
    #[serde(default)]
    last_ts: String,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: String,
    #[serde(default)]
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    /// Nanoseconds since the leader heard from it.
    #[serde(default)]
    active: u64,
}

/// Reads the reply to a `STREAM.INFO` of the invalidations.
pub(super) fn read_info(names: &Names, reply: &[u8]) -> Result<Answer, StreamFault> {
    let (config, created, state) = read_stream(&names.stream, reply)?;
    if let Some(wrong) = unfit(names, &config) {
        return Err(StreamFault::Unfit { stream: names.stream.clone(), wrong });
    }
    Ok(Answer {
        epoch: format!("{created} {}", config.epoch().unwrap_or_default()).trim_end().to_owned(),
        // 0 until the first message.
        first: state.first_seq.max(1),
        last: state.last_seq,
        last_stamp: sortable(&state.last_ts),
    })
}

/// Reads the reply to a `STREAM.INFO`: the config, when the stream was created, and its state, from
/// a leader that leads.
pub(super) fn read_stream(
    name: &str,
    reply: &[u8],
) -> Result<(Config, String, State), StreamFault> {
    let info: StreamInfo = serde_json::from_slice(reply)
        .map_err(|error| StreamFault::Unreadable(error.to_string()))?;
    let stream = || name.to_owned();
    match info.error {
        Some(ApiError { err_code: STREAM_NOT_FOUND, .. }) => {
            return Err(StreamFault::Missing(stream()));
        }
        Some(error) => return Err(StreamFault::Refused(error.words())),
        None => {}
    }
    if let Some(cluster) = &info.cluster {
        if cluster.leader.is_empty() {
            return Err(StreamFault::NoLeader(stream()));
        }
        let silent = majority_silence(&cluster.replicas);
        if silent > LEADER_LEASE {
            return Err(StreamFault::CutOff { stream: stream(), silent });
        }
    }
    match (info.config, info.state) {
        (Some(config), Some(state)) => Ok((config, info.created, state)),
        _ => Err(StreamFault::Unreadable("it has no config or no state".to_owned())),
    }
}

/// How long ago the leader last knew that it leads: since it heard from so many of its followers
/// that they are a majority with itself.
fn majority_silence(followers: &[Replica]) -> Duration {
    let mut silences: Vec<u64> = followers.iter().map(|replica| replica.active).collect();
    silences.sort_unstable();
    let needed = followers.len().div_ceil(2);
    needed
        .checked_sub(1)
        .and_then(|at| silences.get(at))
        .map_or(Duration::ZERO, |&silence| Duration::from_nanos(silence))
}

fn unfit(names: &Names, config: &Config) -> Option<&'static str> {
    let republished = config.republish.as_ref().is_some_and(|republish| {
        republish.dest == names.live
            && (republish.src == names.publish || republish.src.is_empty())
            && !republish.headers_only
    });
    if config.subjects != [names.publish.as_str()] {
        Some("it must have Warp's subject and no other")
    } else if !republished {
        Some("it must republish to Warp's live subject")
    } else if !config.allow_direct {
        Some("it must allow direct get")
    } else {
        None
    }
}

/// Reads the reply to a `STREAM.CREATE`. That someone else was earlier is a success.
pub(super) fn read_created(reply: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Created {
        error: Option<ApiError>,
    }
    match serde_json::from_slice(reply) {
        Ok(Created { error: None | Some(ApiError { err_code: STREAM_NAME_IN_USE, .. }) }) => Ok(()),
        Ok(Created { error: Some(error) }) => Err(error.words()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads the acknowledgement of a publish: the message's position.
pub(super) fn read_ack(reply: &[u8]) -> Result<u64, String> {
    #[derive(Deserialize)]
    struct Ack {
        error: Option<ApiError>,
        #[serde(default)]
        seq: u64,
    }
    match serde_json::from_slice(reply) {
        Ok(Ack { error: None, seq: seq @ 1.. }) => Ok(seq),
        Ok(Ack { error: Some(error), .. }) => Err(error.words()),
        Ok(_) => Err("the acknowledgement has no position".to_owned()),
        Err(error) => Err(format!("the acknowledgement can't be understood: {error}")),
    }
}

/// The body of a Direct Get for `fetch`.
pub(super) fn direct_get(names: &Names, fetch: Fetch) -> Vec<u8> {
    json!({
        "seq": fetch.from,
        "batch": fetch.to - fetch.from + 1,
        "max_bytes": MOST_FETCHED_BYTES,
        "next_by_subj": names.publish,
    })
    .to_string()
    .into_bytes()
}

/// One reply to a Direct Get.
#[derive(Debug, PartialEq)]
pub(super) enum Fetched {
    Message(Placed<Invalidation>),
    /// The server has given what it has.
    End,
    Unreadable,
}

/// Reads one reply to a Direct Get.
pub(super) fn read_fetched(message: &Message) -> Fetched {
    match message.status {
        // Nothing at or after the asked position; or the end of what there is.
        Some(StatusCode::NOT_FOUND) => Fetched::End,
        Some(status) if status.as_u16() == END_OF_BATCH => Fetched::End,
        Some(_) => Fetched::Unreadable,
        None => read_stored(message).map_or(Fetched::Unreadable, Fetched::Message),
    }
}

/// Reads a stored message, republished or fetched. The headers are the server's; a message without
/// them was sent past the stream and has no place.
pub(super) fn read_stored(message: &Message) -> Option<Placed<Invalidation>> {
    let headers = message.headers.as_ref()?;
    Some(Placed {
        position: header(headers, "Nats-Sequence")?.parse().ok()?,
        stamp: sortable(header(headers, "Nats-Time-Stamp")?),
        message: wire::decode(&message.payload),
    })
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get_last(name).map(async_nats::HeaderValue::as_str)
}

/// An RFC 3339 time in UTC, with all nine digits of its fraction, so that times sort as strings;
/// the server leaves zeros at the end away.
fn sortable(time: &str) -> String {
    let time = time.strip_suffix('Z').unwrap_or(time);
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{fraction:0<9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server 2.15 with three replicas says it.
    fn info(change: impl FnOnce(&mut serde_json::Value)) -> Result<Answer, StreamFault> {
        let names = Names::new("shop_main");
        let mut config = stream::config("shop_main", 3, "abc");
        config["metadata"]["_nats.level"] = "5".into();
        let mut info = json!({
            "type": "io.nats.jetstream.api.v1.stream_info_response",
            "config": config,
            "created": "2026-11-23T07:56:57.101739022Z",
            "state": {
                "messages": 5, "bytes": 550,
                "first_seq": 2, "first_ts": "2026-11-23T07:56:26.1Z",
                "last_seq": 5, "last_ts": "2026-11-23T07:56:26.10837174Z",
                "num_subjects": 1, "consumer_count": 0,
            },
            "cluster": {
                "name": "k", "leader": "n1",
                "replicas": [
                    {"name": "n2", "current": true, "active": 1_115_000_000_u64},
                    {"name": "n3", "current": false, "active": 9_000_000_000_u64},
                ],
            },
        });
        change(&mut info);
        read_info(&names, info.to_string().as_bytes())
    }

    #[test]
    fn an_answer_names_the_epoch_and_the_ends() {
        assert_eq!(
            info(|_| ()).unwrap(),
            Answer {
                epoch: "2026-11-23T07:56:57.101739022Z abc".to_owned(),
                first: 2,
                last: 5,
                last_stamp: "2026-11-23T07:56:26.108371740".to_owned(),
            }
        );
        let empty = info(|info| info["state"] = json!({"first_seq": 0, "last_seq": 0})).unwrap();
        assert_eq!((empty.first, empty.last), (1, 0));
    }

    #[test]
    fn a_leader_without_a_majority_is_not_believed() {
        let silent =
            info(|info| info["cluster"]["replicas"][0]["active"] = 3_100_000_000_u64.into());
        assert!(matches!(silent, Err(StreamFault::CutOff { .. })), "{silent:?}");
        let led_by_none = info(|info| info["cluster"]["leader"] = "".into());
        assert!(matches!(led_by_none, Err(StreamFault::NoLeader(_))));
        let single = info(|info| info["cluster"]["replicas"] = json!([]));
        assert!(single.is_ok());
        let standalone = info(|info| info["cluster"] = json!(null));
        assert!(standalone.is_ok());
        let replica = |active| Replica { active };
        let five = [replica(9), replica(1), replica(3), replica(8)];
        assert_eq!(majority_silence(&five), Duration::from_nanos(3));
    }

    #[test]
    fn a_stream_that_cannot_do_the_work_is_refused_by_name() {
        let wrong = |change: fn(&mut serde_json::Value)| match info(change) {
            Err(StreamFault::Unfit { wrong, .. }) => wrong,
            other => panic!("{other:?}"),
        };
        assert!(wrong(|info| info["config"]["allow_direct"] = false.into()).contains("direct get"));
        assert!(wrong(|info| info["config"]["republish"] = json!(null)).contains("republish"));
        assert!(wrong(|info| info["config"]["subjects"] = json!(["a", "b"])).contains("subject"));
    }

    #[test]
    fn errors_are_told_in_the_servers_words() {
        let error = json!({"code": 404, "err_code": 10059, "description": "stream not found"});
        let missing = info(|info| info["error"] = error);
        assert_eq!(missing, Err(StreamFault::Missing("WARP_INV_shop_main".to_owned())));
        let error = json!({"code": 503, "err_code": 10039, "description": "JetStream not enabled"});
        let refused = info(|info| info["error"] = error).unwrap_err().to_string();
        assert_eq!(refused, "JetStream not enabled (code 503, 10039)");
        assert_eq!(read_ack(br#"{"stream":"S","seq":7,"duplicate": true}"#), Ok(7));
        let unexpected = br#"{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"},"stream":"S","seq":0}"#;
        assert!(read_ack(unexpected).unwrap_err().contains("does not match"));
        assert!(read_ack(b"{}").is_err() && read_ack(b"").is_err());
    }

    #[test]
    fn another_creator_is_no_failure() {
        assert!(read_created(br#"{"did_create":true}"#).is_ok());
        let in_use = br#"{"error":{"code":400,"err_code":10058,"description":"in use"}}"#;
        assert!(read_created(in_use).is_ok());
        let overlap =
            br#"{"error":{"code":400,"err_code":10065,"description":"subjects overlap"}}"#;
        assert!(read_created(overlap).unwrap_err().contains("overlap"));
    }

    #[test]
    fn times_sort_as_strings_whatever_digits_the_server_leaves_away() {
        let times =
            ["2026-11-23T07:56:26Z", "2026-11-23T07:56:26.1Z", "2026-11-23T07:56:26.10001Z"];
        let sortable = times.map(sortable);
        assert!(sortable.is_sorted());
        assert_eq!(sortable[0], "2026-11-23T07:56:26.000000000");
    }
}
