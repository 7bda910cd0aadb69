//! Which of the served files have changed since (inotify), so that what nobody will be sent any more leaves memory first.
//!
//! That an image is never mixed from two versions, and that a new request gets the new version, does not depend on it: both are
//! checked when a file is opened and read. So a system without inotify, or without a watch to spare, is no error.

use std::collections::HashMap;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init, remove_watch};

/// Room for events: a file has no name in them, so each has 16 bytes.
const EVENTS: usize = 16 * 256;

/// Watches on the files behind images, which `K` names.
#[derive(Debug)]
pub(super) struct Watch<K> {
    inotify: Option<OwnedFd>,
    /// By watch descriptor: a file, in each shape that it was asked for.
    files: HashMap<i32, Vec<K>>,
}

impl<K> Default for Watch<K> {
    fn default() -> Self {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        Self { inotify, files: HashMap::new() }
    }
}

impl<K: PartialEq> Watch<K> {
    /// Watches an open file on behalf of an image.
    pub(super) fn add(&mut self, file: &File, key: K) {
        let Some(inotify) = &self.inotify else { return };
        // The file itself and not its name, which may mean another by now. Written to, replaced (its link is gone), moved away.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF;
        if let Ok(descriptor) = add_watch(inotify, path, flags) {
            self.files.entry(descriptor).or_default().push(key);
        }
    }

    /// An image is forgotten.
    pub(super) fn remove(&mut self, key: &K) {
        let Some(inotify) = &self.inotify else { return };
        self.files.retain(|&descriptor, keys| {
            keys.retain(|own| own != key);
            if keys.is_empty() {
                // It may be gone with its file.
                let _ = remove_watch(inotify, descriptor);
            }
            !keys.is_empty()
        });
    }

    /// The images of files that have changed since the last call.
    pub(super) fn changed(&mut self) -> Vec<K> {
        let mut changed = Vec::new();
        let Some(inotify) = &self.inotify else { return changed };
        let mut room = [const { MaybeUninit::uninit() }; EVENTS];
        let mut events = Reader::new(inotify, &mut room);
        // It ends with "would block".
        while let Ok(event) = events.next() {
            changed.extend(self.files.remove(&event.wd()).into_iter().flatten());
        }
        changed
    }
}
