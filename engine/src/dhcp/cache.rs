//! Replies that were written before, to be copied for the next client.
//!
//! Machines of one kind that stand in one place ask for the same and get the same: their replies
//! differ in the fixed fields and in a few values that are as long in each. So a reply is kept
//! under its key, which is all that its other bytes depend on, and copied with its own values put
//! in.
//!
//! Memory is bounded and allocated once. Where more kinds of replies are written than there is room
//! for, the one that was not used for longest gives way. Replies of another configuration are
//! dropped as soon as one of the current configuration is written.

use std::hash::BuildHasher;

use bootstorm_protocols::dhcpv4::{FIXED_FIELDS, Header, Message};
use foldhash::fast::RandomState;

use super::reply::{Reply, VARYING};
use crate::config::ModelId;

/// Replies of a set; the one that was not used for longest gives way.
const WAYS: usize = 4;
/// Times [`WAYS`] is the number of replies that are kept on one shard: 1024, in 1.5 MiB.
const SETS: usize = 256;
/// Room for one reply and its key, in bytes. Longer ones are not kept.
const ROOM: usize = 1536;
/// The longest key.
pub(super) const KEY: usize = 384;

/// The replies that one shard wrote.
#[derive(Default)]
pub struct ReplyCache {
    /// Which configuration they are of.
    model: Option<ModelId>,
    hasher: RandomState,
    /// How often a reply was looked for.
    clock: u64,
    /// Empty until there is something to keep.
    sets: Vec<Set>,
    /// What is kept at the same place.
    places: Vec<Place>,
    /// Keys and replies, [`ROOM`] bytes each.
    bytes: Vec<u8>,
}

/// One line of the processor's cache: all that is read for a reply that is not kept.
#[derive(Copy, Clone, Default)]
#[repr(align(64))]
struct Set([Tag; WAYS]);

#[derive(Copy, Clone, Default)]
struct Tag {
    /// Hash of the key.
    hash: u64,
    /// When it was used last; 0 where nothing is kept.
    used: u64,
}

#[derive(Copy, Clone, Default)]
struct Place {
    key_len: u16,
    /// Length of the message. The fixed fields, which are not kept, count.
    len: u16,
    /// Where the values stand that differ, from the start of the message; 0 for those that do not.
    offsets: [u16; VARYING],
}

impl ReplyCache {
    /// Writes the reply of this key to `buf` if there is one like it, and returns its length.
    pub(super) fn copy(
        &mut self,
        key: &[u8],
        reply: &Reply<'_>,
        header: &Header<'_>,
        buf: &mut [u8],
    ) -> Option<usize> {
        let model = Some(reply.model());
        if self.model != model {
            self.sets.iter_mut().for_each(|set| *set = Set::default());
            self.model = model;
        }
        if self.sets.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let set = place_of(hash);
        let way = self.sets[set].0.iter().position(|tag| tag.hash == hash && tag.used > 0)?;
        let place = set * WAYS + way;
        let Place { key_len, len, offsets } = self.places[place];
        let len = usize::from(len);
        let (known, image) = self.slot(place).split_at(key_len.into());
        if known != key {
            return None;
        }
        let (fields, rest) = buf.get_mut(..len)?.split_first_chunk_mut::<FIXED_FIELDS>()?;
        header.write_fixed(fields);
        rest.copy_from_slice(image.get(..rest.len())?);
        for (offset, (_, value)) in offsets.into_iter().zip(reply.varying()) {
            let Some(value) = value.filter(|_| offset > 0) else { continue };
            let start = usize::from(offset);
            buf.get_mut(start..start + value.len())?.copy_from_slice(value);
        }
        self.clock += 1;
        self.sets[set].0[way].used = self.clock;
        Some(len)
    }

    /// Keeps a reply that was written. One that is too long, or whose own values stand there in
    /// pieces, is not kept.
    pub(super) fn keep(&mut self, key: &[u8], reply: &Reply<'_>, written: &[u8]) {
        let Some(offsets) = offsets(reply, written) else { return };
        let Some(image) = written.get(FIXED_FIELDS..) else { return };
        if key.len() + image.len() > ROOM {
            return;
        }
        if self.sets.is_empty() {
            self.sets = vec![Set::default(); SETS];
            self.places = vec![Place::default(); SETS * WAYS];
            self.bytes = vec![0; SETS * WAYS * ROOM];
        }
        let hash = self.hasher.hash_one(key);
        let set = place_of(hash);
        let tags = &mut self.sets[set].0;
        let own = tags.iter().position(|tag| tag.hash == hash);
        let oldest = (0..WAYS).min_by_key(|&way| tags[way].used);
        let Some(way) = own.or(oldest) else { return };
        self.clock += 1;
        tags[way] = Tag { hash, used: self.clock };
        let place = set * WAYS + way;
        // Both lengths fit 16 bits: a message is no longer than a datagram, a key than its room.
        let (key_len, len) = (key.len() as u16, written.len() as u16);
        self.places[place] = Place { key_len, len, offsets };
        let slot = &mut self.bytes[place * ROOM..(place + 1) * ROOM];
        slot[..key.len()].copy_from_slice(key);
        slot[key.len()..key.len() + image.len()].copy_from_slice(image);
    }

    /// How many replies are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.sets.iter().flat_map(|set| &set.0).filter(|tag| tag.used > 0).count()
    }

    fn slot(&self, place: usize) -> &[u8] {
        &self.bytes[place * ROOM..(place + 1) * ROOM]
    }
}

/// The set where a reply may be.
fn place_of(hash: u64) -> usize {
    // Below SETS, so it fits.
    (hash % SETS as u64) as usize
}

/// Where the values of its own stand in a reply that was written; `None` when one is in pieces.
fn offsets(reply: &Reply<'_>, written: &[u8]) -> Option<[u16; VARYING]> {
    let message = Message::parse(written).ok()?;
    let mut offsets = [0; VARYING];
    for (offset, (code, value)) in offsets.iter_mut().zip(reply.varying()) {
        // What had no room has none in any reply of this key.
        if value.is_some() && message.option(code).is_some() {
            *offset = message.value_offset(code)?.try_into().ok()?;
        }
    }
    Some(offsets)
}
