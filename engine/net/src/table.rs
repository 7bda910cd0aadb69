//! The open sockets of one backend, named by index and generation.
//!
//! A [`SocketId`] names one socket for ever: the index of a removed socket is given again, lowest
//! first, with the next generation, so whatever still carries the old id (an entry of the outbox, a
//! request, a completion, a caller) finds nothing under it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use crate::backend::SocketId;
use crate::send_room::SendRoom;

/// Sockets by id; `S` is what the backend keeps of one.
#[derive(Debug)]
pub(crate) struct SocketTable<S> {
    places: Vec<Place<S>>,
    /// Indices of removed sockets.
    free: BinaryHeap<Reverse<u16>>,
}

#[derive(Debug)]
struct Place<S> {
    generation: u16,
    entry: Option<Entry<S>>,
}

/// An open socket and what sending must know of it.
#[derive(Debug)]
pub(crate) struct Entry<S> {
    pub(crate) socket: S,
    /// Its send buffer is full: nothing is tried until the kernel says it is writable.
    pub(crate) blocked: bool,
    /// UDP_SEGMENT has not failed on it.
    pub(crate) segmentation: bool,
    /// Used by the backend that does not wait for each result of a send.
    pub(crate) room: SendRoom,
}

/// At most so many sockets at once, so that a length fits in a u16 as an index does.
const MOST: usize = u16::MAX as usize;

impl<S> SocketTable<S> {
    pub(crate) fn new() -> SocketTable<S> {
        SocketTable { places: Vec::new(), free: BinaryHeap::new() }
    }

    /// Takes a socket and names it.
    ///
    /// # Errors
    /// Every index is in use.
    pub(crate) fn insert(&mut self, socket: S) -> io::Result<SocketId> {
        let index = match self.free.pop() {
            Some(Reverse(index)) => index,
            None => {
                let next = u16::try_from(self.places.len()).ok();
                let index = next.filter(|_| self.places.len() < MOST).ok_or_else(|| {
                    io::Error::other("65,535 sockets are open, and no more can be")
                })?;
                self.places.push(Place { generation: 0, entry: None });
                index
            }
        };
        let place = &mut self.places[usize::from(index)];
        place.entry =
            Some(Entry { socket, blocked: false, segmentation: true, room: SendRoom::default() });
        Ok(SocketId { index, generation: place.generation })
    }

    /// Takes a socket out; `None` if there is none of this id.
    pub(crate) fn remove(&mut self, id: SocketId) -> Option<S> {
        let place = self.places.get_mut(id.index())?;
        let entry = place.entry.take_if(|_| place.generation == id.generation)?;
        // An index whose generations are used up is not given again: no id names two sockets.
        if let Some(generation) = place.generation.checked_add(1) {
            place.generation = generation;
            self.free.push(Reverse(id.index));
        }
        Some(entry.socket)
    }

    pub(crate) fn get(&self, id: SocketId) -> Option<&Entry<S>> {
        let place = self.places.get(id.index())?;
        place.entry.as_ref().filter(|_| place.generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Entry<S>> {
        let place = self.places.get_mut(id.index())?;
        place.entry.as_mut().filter(|_| place.generation == id.generation)
    }

    /// Every open socket with its name.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (SocketId, &Entry<S>)> {
        (0..).zip(&self.places).filter_map(|(index, place)| {
            Some((SocketId { index, generation: place.generation }, place.entry.as_ref()?))
        })
    }

    /// Every open socket.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &S> {
        self.places.iter().filter_map(|place| place.entry.as_ref()).map(|entry| &entry.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_given_again_lowest_first_and_ids_never() {
        let mut table = SocketTable::new();
        let ids: Vec<_> = (0..5).map(|socket| table.insert(socket).unwrap()).collect();
        assert!(ids.iter().map(|id| id.index()).eq(0..5));
        for (id, removed) in [(3, Some(3)), (0, Some(0)), (1, Some(1)), (0, None), (3, None)] {
            assert_eq!(table.remove(ids[id]), removed);
        }
        let again: Vec<_> = (5..9).map(|socket| table.insert(socket).unwrap()).collect();
        assert!(again.iter().map(|id| id.index()).eq([0, 1, 3, 5]));
        assert!(ids.iter().all(|old| !again.contains(old)));
        assert!(table.get(ids[0]).is_none() && table.get_mut(ids[1]).is_none());
        assert_eq!(table.remove(ids[3]), None);
        assert_eq!(table.get(again[0]).unwrap().socket, 5);
        assert!(table.sockets().copied().eq([5, 6, 2, 7, 4, 8]));
    }

    #[test]
    fn every_index_but_the_last_is_given() {
        let mut table = SocketTable::new();
        let first = table.insert(()).unwrap();
        for index in 1..MOST {
            assert_eq!(table.insert(()).unwrap().index(), index);
        }
        assert!(table.insert(()).is_err());
        table.remove(first).unwrap();
        assert_eq!(table.insert(()).unwrap().index(), 0);
        assert!(table.insert(()).is_err());
    }

    #[test]
    fn an_index_with_no_generation_left_is_not_given_again() {
        let mut table = SocketTable::new();
        for generation in 0..=u16::MAX {
            let id = table.insert(()).unwrap();
            assert_eq!(id, SocketId { index: 0, generation });
            table.remove(id).unwrap();
        }
        assert_eq!(table.insert(()).unwrap(), SocketId { index: 1, generation: 0 });
    }
}
