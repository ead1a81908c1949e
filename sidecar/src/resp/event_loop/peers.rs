//! The clients of a loop by their places.

use super::mailbox::Token;
use super::peer::Peer;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Peers {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Place {
    /// How many have had it.
    generation: u32,
    peer: Option<Box<Peer>>,
}

impl Peers {
    /// Gives a place to the peer that is made for it.
    pub(super) fn insert(&mut self, make: impl FnOnce(Token) -> Peer) -> Token {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            // Each has a descriptor, of which there are fewer.
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.places[place as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let token = Token { place, generation: slot.generation };
        slot.peer = Some(Box::new(make(token)));
        token
    }

    pub(super) fn get(&self, token: Token) -> Option<&Peer> {
        let place = self.places.get(token.place as usize);
        place.filter(|place| place.generation == token.generation)?.peer.as_deref()
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Peer> {
        let place = self.places.get_mut(token.place as usize);
        place.filter(|place| place.generation == token.generation)?.peer.as_deref_mut()
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Box<Peer>> {
        let place = self.places.get_mut(token.place as usize);
        let peer = place.filter(|place| place.generation == token.generation)?.peer.take();
        if peer.is_some() {
            self.free.push(token.place);
        }
        peer
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Token, &mut Peer)> {
        self.places.iter_mut().zip(0..).filter_map(|(slot, place)| {
            let token = Token { place, generation: slot.generation };
            slot.peer.as_deref_mut().map(|peer| (token, peer))
        })
    }
}
