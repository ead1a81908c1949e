//! The memory that copies are in: one for all classes, and one of its own for each class with a
//! quota. *A class with a quota takes no more than that, and nobody else takes any of it.*
//!
//! When keys move from one to another, everything is forgotten ([`Classes::must_forget`]); and a
//! stamp names its cache, so that what was read for one is never entered into another.

use std::sync::Arc;

use crate::cache::{Cache, Usage};
use crate::preset::Classes;

/// See the module.
#[derive(Debug)]
pub(super) struct Rooms {
    shared: Arc<Cache>,
    /// In the order of [`Classes::all`]; `None` is the shared one.
    own: Vec<Option<Arc<Cache>>>,
    quotas: usize,
}

impl Rooms {
    /// Rooms in `limit` bytes, those of `before` among them that go on.
    pub(super) fn new(classes: &Classes, limit: usize, before: Option<(&Classes, &Self)>) -> Self {
        let room_before = |name: &str| {
            let (classes, rooms) = before?;
            let at = classes.all().iter().position(|class| class.name == name)?;
            rooms.own[at].clone()
        };
        let mut quotas = 0usize;
        let own = classes
            .all()
            .iter()
            .map(|class| {
                let quota = usize::try_from(class.rules.quota).unwrap_or(usize::MAX);
                if quota == 0 {
                    return None;
                }
                quotas = quotas.saturating_add(quota);
                let room = room_before(&class.name).unwrap_or_else(|| Arc::new(Cache::new(quota)));
                room.set_limit(quota);
                Some(room)
            })
            .collect();
        let shared = before.map_or_else(|| Arc::new(Cache::new(0)), |(_, it)| it.shared.clone());
        let rooms = Self { shared, own, quotas };
        rooms.set_limit(limit);
        rooms
    }

    /// Changes the bytes of all of them together. Quotas stay.
    pub(super) fn set_limit(&self, limit: usize) {
        self.shared.set_limit(limit.saturating_sub(self.quotas));
    }

    /// The room of the class at this place.
    #[inline]
    pub(super) fn of_class(&self, at: usize) -> &Cache {
        self.own[at].as_ref().unwrap_or(&self.shared)
    }

    /// The room of all classes without a quota.
    pub(super) fn shared(&self) -> &Cache {
        &self.shared
    }

    /// What a class has taken of its quota; `None` where it has none.
    pub(super) fn usage_of(&self, at: usize) -> Option<Usage> {
        self.own[at].as_ref().map(|room| room.usage())
    }

    /// All together.
    pub(super) fn usage(&self) -> Usage {
        self.all().fold(Usage::default(), |sum, room| {
            let room = room.usage();
            Usage {
                entries: sum.entries + room.entries,
                bytes: sum.bytes + room.bytes,
                evicted: sum.evicted + room.evicted,
            }
        })
    }

    /// Forgets everything, and refuses what the present readers will bring.
    pub(super) fn forget_all(&self) {
        self.all().for_each(Cache::forget_all);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Cache> {
        self.own.iter().flatten().chain([&self.shared]).map(AsRef::as_ref)
    }
}
