//! The pace of an update of a managed NATS: which servers may run the new revision by now.
//!
//! Kubernetes steps on when a server is ready; a copy of the stream may then still be behind, and
//! stopping the next server could stop the stream, or lose it. So the operator holds the
//! StatefulSet's `partition` and lowers it one server at a time, when all others are ready and
//! current.

/// One server as its pod shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The number in its name.
    pub ordinal: i32,
    /// Its pod is ready.
    pub ready: bool,
    /// Its copy of the stream is current.
    pub current: bool,
    /// It runs the StatefulSet's newest revision.
    pub updated: bool,
}

/// The StatefulSet as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Hash of its pod template, see [`super::build::nats_stateful_set::TEMPLATE_HASH`].
    pub template: Option<String>,
    /// Servers of a number below it stay at their revision.
    pub partition: i32,
    /// Its controller has seen its newest generation.
    pub observed: bool,
    /// It has carried a stream.
    pub established: bool,
    /// Its pods.
    pub servers: Vec<Server>,
}

/// The partition to apply together with the template of hash `template`.
pub fn partition(replicas: i32, template: &str, present: Option<&Present>) -> i32 {
    let Some(present) = present.filter(|_| replicas > 1) else {
        return 0;
    };
    // Without a quorum there is no stream to spare, and a good template may be what is needed.
    let ready = present.servers.iter().filter(|server| server.ready).count();
    if ready * 2 <= usize::try_from(replicas).unwrap_or_default() {
        return 0;
    }
    if present.template.as_deref() != Some(template) {
        return replicas;
    }
    let next = present.partition.min(replicas) - 1;
    if next < 0 || !present.observed {
        return present.partition;
    }
    let others_are_well = present
        .servers
        .iter()
        .filter(|server| server.ordinal != next)
        .all(|server| server.ready && server.current);
    // Servers above the partition that have not been replaced yet still come down by themselves.
    let earlier_are_done =
        (next + 1..replicas).all(|at| present.servers.iter().any(|s| s.ordinal == at && s.updated));
    if others_are_well && earlier_are_done { next } else { present.partition }
}

/// Whether to make the StatefulSet anew with the template of hash `template`, rather than to update
/// it: Kubernetes updates one server and waits for it, which waits for the others, which can't start
/// with the template that they have. Only where there has never been a stream to lose.
pub fn start_over(template: &str, present: &Present) -> bool {
    let changed = present.template.as_deref() != Some(template);
    changed && !present.established && present.servers.iter().all(|server| !server.ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(ordinal: i32) -> Server {
        Server { ordinal, ready: true, current: true, updated: false }
    }

    fn present(partition: i32, servers: Vec<Server>) -> Present {
        Present {
            template: Some("new".to_owned()),
            partition,
            observed: true,
            established: true,
            servers,
        }
    }

    #[test]
    fn a_new_template_is_held_back_first() {
        let running = Present {
            template: Some("old".to_owned()),
            ..present(0, vec![server(0), server(1), server(2)])
        };
        assert_eq!(partition(3, "new", Some(&running)), 3);
        assert_eq!(partition(1, "new", Some(&running)), 0);
        assert_eq!(partition(3, "new", None), 0);
    }

    #[test]
    fn it_steps_down_one_server_at_a_time() {
        let updated = |ordinal| Server { updated: true, ..server(ordinal) };
        let all_old = vec![server(0), server(1), server(2)];
        assert_eq!(partition(3, "new", Some(&present(3, all_old.clone()))), 2);
        // The step was taken, and the server isn't replaced yet.
        assert_eq!(partition(3, "new", Some(&present(2, all_old))), 2);
        let one = vec![server(0), server(1), updated(2)];
        assert_eq!(partition(3, "new", Some(&present(2, one))), 1);
        let all = vec![updated(0), updated(1), updated(2)];
        assert_eq!(partition(3, "new", Some(&present(0, all))), 0);
    }

    #[test]
    fn it_waits_for_a_copy_that_is_behind_or_a_server_that_is_away() {
        let updated = Server { updated: true, ..server(2) };
        for ill in [
            Server { current: false, ..updated.clone() },
            Server { ready: false, ..updated.clone() },
        ] {
            let waiting = present(2, vec![server(0), server(1), ill]);
            assert_eq!(partition(3, "new", Some(&waiting)), 2);
        }
        let unseen = Present { observed: false, ..present(2, vec![server(0), server(1), updated]) };
        assert_eq!(partition(3, "new", Some(&unseen)), 2);
    }

    #[test]
    fn a_server_that_a_bad_template_broke_is_replaced_by_a_good_one() {
        let broken = Server { ready: false, current: false, ..server(2) };
        let stuck = present(3, vec![server(0), server(1), broken.clone()]);
        assert_eq!(partition(3, "new", Some(&stuck)), 2);
        let down = Server { ordinal: 1, ..broken.clone() };
        let lost = Present { template: None, ..present(0, vec![server(0), down, broken]) };
        assert_eq!(partition(3, "new", Some(&lost)), 0);
    }

    #[test]
    fn servers_that_never_started_are_made_anew() {
        let broken = |ordinal| Server { ready: false, ..server(ordinal) };
        let stuck =
            Present { established: false, ..present(0, vec![broken(0), broken(1), broken(2)]) };
        assert!(start_over("newer", &stuck));
        assert!(!start_over("new", &stuck), "it hasn't changed");
        let established = Present { established: true, ..stuck.clone() };
        assert!(!start_over("newer", &established), "there may be a stream");
        let ready = Present { servers: vec![broken(0), server(1)], ..stuck };
        assert!(!start_over("newer", &ready), "one has started");
    }
}
