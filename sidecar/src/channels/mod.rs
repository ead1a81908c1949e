//! What clients are told without having asked: the messages of channels, and which keys they must
//! forget.
//!
//! [`Hub`] knows who is subscribed to what, and [`Tracking`] who has read which keys. Both put
//! [`Message`]s into the [`Inbox`] of a connection and never wait for it: an inbox is bounded in
//! bytes, and who lets his own run over is disconnected. How messages are written is `resp`'s
//! business, and how they reach the other pods `core`'s and the bus's.

mod hub;
mod inbox;
mod tracking;

pub use hub::{Hub, Kind, Subscriber};
pub use inbox::{Inbox, Loss, Message, Overflow};
pub use tracking::{Mode, Muted, Options, Redirection, Tracker, Tracking, Unjudged};
