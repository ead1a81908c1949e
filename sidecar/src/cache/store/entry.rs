//! One entry: its header, key and payload in a single allocation that a slot of six bytes owns.
//!
//! The header has only the fields that the entry needs, four bytes at least:
//!
//! ```text
//! shape 1 | marks 1 | key length 1 or 4 | [string length 1 or 4] | [expires at 8]
//!       | [version 8] | [filled at 6] | key | string, integer 8, or address of the object 8
//! ```
//!
//! This is the one place of the store that uses `unsafe`. What holds, and why it is sound:
//!
//! - *A slot is zero, or the address of an allocation that it alone owns.* Only [`Slot::new`] makes
//!   one that isn't zero, a slot is neither `Clone` nor `Copy`, and only its `drop` frees, so the
//!   borrow of a slot is a borrow of its entry.
//! - *The shape says what was allocated and initialized.* It changes only in [`Slot::overwrite`], to
//!   one of the same capacity. Both make it themselves of what they write. All reads besides the header's go through a slice of that size.
//! - The address fits 48 bits, as user space does where Warp runs; [`Slot::new`] checks it. Its
//!   provenance is exposed there and taken up again by every access.
//! - *The object's address comes from `Box::into_raw`* and is taken back once: by [`Slot::take`],
//!   which leaves an integer in its place, by `overwrite`, or by `drop`.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::{ptr, slice};

use super::payload::{Found, Meta, Origin, Owned, Payload, View};
use super::size::{allocated, capacity};
use crate::adapter::UnixMillis;

/// What is initialized in every allocation, and so may be read before its shape is known.
const PRELUDE: usize = 10;

const EXPIRES: u8 = 1;
const VERSION: u8 = 1 << 1;
const FILLED: u8 = 1 << 2;
const WIDE_KEY: u8 = 1 << 3;
const WIDE_TEXT: u8 = 1 << 4;
const INTEGER: u8 = 1 << 5;
const OBJECT: u8 = 1 << 6;

/// What eviction notes of an entry: how often it was used, in which queue it is, and the generation
/// of its ticket there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Marks(u8);

impl Marks {
    /// How often an entry may be used and still count.
    const MOST_USES: u8 = 3;
    const USES: u8 = 0b11;
    const IN_MAIN: u8 = 1 << 2;
    const GENERATION: u32 = 3;
    /// How many generations there are.
    pub(super) const GENERATIONS: u8 = 1 << (u8::BITS - Self::GENERATION);

    pub(super) fn new(generation: u8, in_main: bool) -> Self {
        Self((generation << Self::GENERATION) | if in_main { Self::IN_MAIN } else { 0 })
    }

    pub(super) fn generation(self) -> u8 {
        self.0 >> Self::GENERATION
    }

    pub(super) fn in_main(self) -> bool {
        self.0 & Self::IN_MAIN != 0
    }

    pub(super) fn uses(self) -> u8 {
        self.0 & Self::USES
    }

    pub(super) fn used(self) -> Self {
        if self.uses() == Self::MOST_USES { self } else { Self(self.0 + 1) }
    }

    pub(super) fn less_used(self) -> Self {
        if self.uses() == 0 { self } else { Self(self.0 - 1) }
    }
}

/// What an entry will look like in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    flags: u8,
    key: usize,
    /// The string; 0 where there is none.
    text: usize,
}

impl Shape {
    /// The shape of an entry; `None` when a length is beyond what a header can say.
    pub(super) fn new<O>(key: usize, payload: &Payload<'_, O>, meta: Meta) -> Option<Self> {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let (text, kind) = match payload {
            Payload::Bytes(text) => (text.len(), 0),
            Payload::Integer(_) => (0, INTEGER),
            Payload::Object(_) => (0, OBJECT),
        };
        let longest = u32::MAX as usize;
        if key > longest || text > longest {
            return None;
        }
        let flags = kind
            | flag(meta.expires_at.is_some(), EXPIRES)
            | flag(meta.origin.is_some_and(|origin| origin.version != 0), VERSION)
            | flag(meta.origin.is_some(), FILLED)
            | flag(key > u8::MAX.into(), WIDE_KEY)
            | flag(text > u8::MAX.into(), WIDE_TEXT);
        Some(Self { flags, key, text })
    }

    /// Reads it from the first bytes of an entry.
    #[inline]
    fn read(head: &[u8; PRELUDE]) -> Self {
        let flags = head[0];
        let wide = |at: usize| {
            u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize
        };
        let (key, at) =
            if flags & WIDE_KEY == 0 { (usize::from(head[2]), 3) } else { (wide(2), 6) };
        let text = if flags & (INTEGER | OBJECT) != 0 {
            0
        } else if flags & WIDE_TEXT == 0 {
            usize::from(head[at])
        } else {
            wide(at)
        };
        Self { flags, key, text }
    }

    const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    const fn is_text(self) -> bool {
        !self.has(INTEGER | OBJECT)
    }

    /// Where the optional fields begin.
    #[inline]
    const fn fields(self) -> usize {
        let key = if self.has(WIDE_KEY) { 4 } else { 1 };
        let text = if !self.is_text() {
            0
        } else if self.has(WIDE_TEXT) {
            4
        } else {
            1
        };
        2 + key + text
    }

    #[inline]
    const fn key_at(self) -> usize {
        self.fields()
            + if self.has(EXPIRES) { 8 } else { 0 }
            + if self.has(VERSION) { 8 } else { 0 }
            + if self.has(FILLED) { 6 } else { 0 }
    }

    #[inline]
    const fn payload_at(self) -> usize {
        self.key_at() + self.key
    }

    /// Bytes that are written.
    const fn size(self) -> usize {
        self.payload_at() + if self.is_text() { self.text } else { 8 }
    }

    /// Bytes that are allocated.
    pub(super) fn capacity(self) -> usize {
        capacity(self.size())
    }

    /// Bytes of memory that it costs, those of an object's own weight left out.
    pub(super) fn cost<O>(self) -> usize {
        let object = if self.has(OBJECT) { allocated(size_of::<O>()) } else { 0 };
        allocated(self.size()) + object
    }
}

/// A place for an entry: empty, or its owner.
#[repr(transparent)]
pub(super) struct Slot<O> {
    address: [u8; 6],
    owns: PhantomData<Box<O>>,
}

/// An entry as it is read.
pub(super) struct Entry<'a, O> {
    shape: Shape,
    bytes: &'a [u8],
    object: PhantomData<&'a O>,
}

impl<O> Slot<O> {
    /// A slot without an entry.
    pub(super) const EMPTY: Self = Self { address: [0; 6], owns: PhantomData };

    /// A new entry; `None` where it can have no shape.
    pub(super) fn new(key: &[u8], payload: Payload<'_, O>, meta: Meta) -> Option<Self> {
        let shape = Shape::new(key.len(), &payload, meta)?;
        let capacity = shape.capacity();
        let Ok(layout) = Layout::from_size_align(capacity, 1) else {
            // A capacity above isize::MAX, which lengths of 32 bits can't give.
            handle_alloc_error(Layout::new::<u8>())
        };
        // SAFETY: the layout isn't of size zero: a capacity is at least 24.
        let start = unsafe { alloc(layout) };
        let address = start.expose_provenance() as u64;
        if start.is_null() || address >> 48 != 0 {
            handle_alloc_error(layout);
        }
        let head = PRELUDE.max(shape.payload_at());
        // SAFETY: `start` is an allocation of `capacity` bytes that nobody else has, and that is at
        // least `PRELUDE` and at least `size()`. Zeroed, the head is initialized; the payload is of
        // the shape's length.
        let bytes = unsafe {
            ptr::write_bytes(start, 0, head);
            write_payload(start.add(shape.payload_at()), payload);
            slice::from_raw_parts_mut(start, shape.payload_at())
        };
        bytes[0] = shape.flags;
        bytes[shape.key_at()..].copy_from_slice(key);
        write_head(shape, bytes, meta);
        let mut slot = Self::EMPTY;
        slot.address.copy_from_slice(&address.to_le_bytes()[..6]);
        Some(slot)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.address == [0; 6]
    }

    /// Where the entry is, to have it fetched; null when there is none.
    #[inline]
    pub(super) fn start(&self) -> *mut u8 {
        let mut address = [0; 8];
        address[..6].copy_from_slice(&self.address);
        ptr::with_exposed_provenance_mut(u64::from_le_bytes(address) as usize)
    }

    #[inline]
    fn shape(&self) -> Option<Shape> {
        // SAFETY: a slot that isn't empty owns an allocation whose first bytes are initialized.
        (!self.is_empty()).then(|| Shape::read(unsafe { &*self.start().cast() }))
    }

    /// Whether it holds the entry of `key`.
    #[inline]
    pub(super) fn is_of(&self, key: &[u8]) -> bool {
        self.shape().is_some_and(|shape| {
            // SAFETY: the key was written from there on, and the borrow of the slot keeps it.
            let there =
                || unsafe { slice::from_raw_parts(self.start().add(shape.key_at()), shape.key) };
            shape.key == key.len() && there() == key
        })
    }

    #[inline]
    pub(super) fn entry(&self) -> Option<Entry<'_, O>> {
        let shape = self.shape()?;
        // SAFETY: that many bytes were allocated and written, and the borrow of the slot keeps them.
        let bytes = unsafe { slice::from_raw_parts(self.start(), shape.size()) };
        Some(Entry { shape, bytes, object: PhantomData })
    }

    #[inline]
    fn entry_mut(&mut self) -> Option<(Shape, &mut [u8])> {
        let shape = self.shape()?;
        // SAFETY: as above, and the borrow of the slot is exclusive.
        Some((shape, unsafe { slice::from_raw_parts_mut(self.start(), shape.size()) }))
    }

    /// The byte of the marks.
    #[inline]
    fn marks_mut(&mut self) -> Option<&mut Marks> {
        // SAFETY: a slot that isn't empty owns an allocation of at least `PRELUDE` initialized bytes,
        // and the borrow of the slot is exclusive. Marks are a byte (`repr(transparent)`).
        (!self.is_empty()).then(|| unsafe { &mut *self.start().add(1).cast() })
    }

    #[inline]
    pub(super) fn set_marks(&mut self, marks: Marks) {
        if let Some(there) = self.marks_mut() {
            *there = marks;
        }
    }

    /// Notes that the entry was used.
    #[inline]
    pub(super) fn count_use(&mut self) {
        if let Some(marks) = self.marks_mut()
            && *marks != marks.used()
        {
            *marks = marks.used();
        }
    }

    /// Writes another payload and what is beside it over an entry, if the allocation takes them; else
    /// gives the payload back.
    pub(super) fn overwrite<'a>(
        &mut self,
        payload: Payload<'a, O>,
        meta: Meta,
    ) -> Result<(), Payload<'a, O>> {
        let Some(old) = self.shape() else { return Err(payload) };
        let shape = match Shape::new(old.key, &payload, meta) {
            Some(shape) if shape.capacity() == old.capacity() => shape,
            _ => return Err(payload),
        };
        drop(self.take_object());
        let start = self.start();
        // SAFETY: the allocation has `capacity` bytes, at least as many as both sizes, and the slot
        // owns it. The key is moved before anything is written where it was; the head that it leaves
        // is zeroed, so that all of the new size is initialized. The first `PRELUDE` bytes stay so.
        let bytes = unsafe {
            ptr::copy(start.add(old.key_at()), start.add(shape.key_at()), shape.key);
            ptr::write_bytes(start.add(2), 0, shape.key_at() - 2);
            write_payload(start.add(shape.payload_at()), payload);
            slice::from_raw_parts_mut(start, shape.payload_at())
        };
        bytes[0] = shape.flags;
        write_head(shape, bytes, meta);
        Ok(())
    }

    /// Gives an entry that has an end another one; whether it has one.
    pub(super) fn set_end(&mut self, expires_at: UnixMillis) -> bool {
        match self.entry_mut() {
            Some((shape, bytes)) if shape.has(EXPIRES) => {
                let at = shape.fields();
                bytes[at..at + 8].copy_from_slice(&expires_at.to_le_bytes());
                true
            }
            _ => false,
        }
    }

    /// The object, to be changed.
    pub(super) fn object_mut(&mut self) -> Option<&mut O> {
        let object = self.entry()?.object_at()?;
        // SAFETY: the entry owns the object, and the borrow of the slot is exclusive.
        Some(unsafe { &mut *object })
    }

    /// Takes the object out, and leaves an integer in its place.
    fn take_object(&mut self) -> Option<Box<O>> {
        let object = self.entry()?.object_at()?;
        let (shape, bytes) = self.entry_mut()?;
        bytes[0] = (shape.flags & !OBJECT) | INTEGER;
        // SAFETY: the address came from `Box::into_raw`, and the shape no longer says that it is one.
        Some(unsafe { Box::from_raw(object) })
    }

    /// Takes the entry apart.
    pub(super) fn take(mut self) -> Option<(Owned<O>, Meta)> {
        let meta = self.entry()?.meta();
        if let Some(object) = self.take_object() {
            return Some((Owned::Object(*object), meta));
        }
        let owned = match self.entry()?.payload() {
            View::Integer(integer) => Owned::Integer(integer),
            View::Bytes(text) => Owned::Bytes(text.into()),
            View::Object(_) => return None,
        };
        Some((owned, meta))
    }
}

impl<O> Drop for Slot<O> {
    fn drop(&mut self) {
        let Some(shape) = self.shape() else { return };
        drop(self.take_object());
        if let Ok(layout) = Layout::from_size_align(shape.capacity(), 1) {
            // SAFETY: allocated by `new` with this layout: an object's capacity is an integer's, and
            // `overwrite` keeps it.
            unsafe { dealloc(self.start(), layout) };
        }
    }
}

// SAFETY: a slot owns its entry and its object as a `Box` would, and shares them with nobody.
unsafe impl<O: Send> Send for Slot<O> {}
// SAFETY: a shared slot lends shared references to its object, and nothing else.
unsafe impl<O: Sync> Sync for Slot<O> {}

impl<'a, O> Entry<'a, O> {
    #[inline]
    pub(super) fn key(&self) -> &'a [u8] {
        &self.bytes[self.shape.key_at()..self.shape.payload_at()]
    }

    #[inline]
    pub(super) fn marks(&self) -> Marks {
        Marks(self.bytes[1])
    }

    /// Bytes of memory that it costs, those of an object's own weight left out.
    pub(super) fn cost(&self) -> usize {
        self.shape.cost::<O>()
    }

    #[inline]
    pub(super) fn payload(&self) -> View<'a, O> {
        let at = self.shape.payload_at();
        match self.object_at() {
            // SAFETY: the entry owns the object, and is borrowed for `'a`.
            Some(object) => View::Object(unsafe { &*object }),
            None if self.shape.has(INTEGER) => View::Integer(word(self.bytes, at).cast_signed()),
            None => View::Bytes(&self.bytes[at..]),
        }
    }

    /// When it ends.
    #[inline]
    pub(super) fn expires_at(&self) -> Option<UnixMillis> {
        self.shape.has(EXPIRES).then(|| word(self.bytes, self.shape.fields()))
    }

    #[inline]
    pub(super) fn meta(&self) -> Meta {
        let expires_at = self.expires_at();
        let mut at = self.shape.fields() + if expires_at.is_some() { 8 } else { 0 };
        let mut version = 0;
        if self.shape.has(VERSION) {
            version = word(self.bytes, at);
            at += 8;
        }
        let origin = self.shape.has(FILLED).then(|| Origin {
            version,
            // The key or the payload follows, so that there are eight bytes to read: an entry with
            // an empty key and an empty string is read byte by byte.
            filled_at: (0..6).rev().fold(0, |sum, i| sum << 8 | u64::from(self.bytes[at + i])),
        });
        Meta { expires_at, origin }
    }

    #[inline]
    pub(super) fn found(&self) -> Found<'a, O> {
        Found { payload: self.payload(), meta: self.meta() }
    }

    /// Where the object is, if there is one.
    fn object_at(&self) -> Option<*mut O> {
        let address = || word(self.bytes, self.shape.payload_at()) as usize;
        self.shape.has(OBJECT).then(|| ptr::with_exposed_provenance_mut(address()))
    }
}

/// Writes the lengths and what is beside the payload.
fn write_head(shape: Shape, bytes: &mut [u8], meta: Meta) {
    let mut at = 2;
    let mut put = |field: &[u8]| {
        bytes[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    // The shape says that a length fits.
    let digits = |length: usize, is_wide: bool| {
        let digits = (length as u64).to_le_bytes();
        (digits, if is_wide { 4 } else { 1 })
    };
    let (length, count) = digits(shape.key, shape.has(WIDE_KEY));
    put(&length[..count]);
    if shape.is_text() {
        let (length, count) = digits(shape.text, shape.has(WIDE_TEXT));
        put(&length[..count]);
    }
    if let Some(expires_at) = meta.expires_at {
        put(&expires_at.to_le_bytes());
    }
    if let Some(origin) = meta.origin {
        if origin.version != 0 {
            put(&origin.version.to_le_bytes());
        }
        // 48 bits of milliseconds are nine thousand years.
        put(&origin.filled_at.min((1 << 48) - 1).to_le_bytes()[..6]);
    }
}

/// Writes a payload.
///
/// # Safety
///
/// As many bytes as the shape made of `payload` says can be written at `to`.
unsafe fn write_payload<O>(to: *mut u8, payload: Payload<'_, O>) {
    let word = match payload {
        Payload::Bytes(text) => {
            // SAFETY: by the contract; the text isn't in an allocation that is being written.
            unsafe { ptr::copy_nonoverlapping(text.as_ptr(), to, text.len()) };
            return;
        }
        Payload::Integer(integer) => integer.to_le_bytes(),
        Payload::Object(object) => {
            (Box::into_raw(Box::new(object)).expose_provenance() as u64).to_le_bytes()
        }
    };
    // SAFETY: by the contract.
    unsafe { ptr::copy_nonoverlapping(word.as_ptr(), to, word.len()) };
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}
