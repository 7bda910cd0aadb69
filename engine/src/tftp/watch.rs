//! Watches the served files for changes (inotify), so that images of old versions leave memory.
//!
//! Correctness does not depend on it: that a new request gets the new version, and that an image
//! never mixes two, is checked when a file is opened and read. So it is no error if the system has
//! no inotify or no watch left.

use std::collections::HashMap;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init, remove_watch};

/// Bytes of the event buffer. An event of a watched file has no name, so it takes 16 bytes.
const EVENTS: usize = 16 * 256;

/// Watches on the files of images. `K` identifies an image.
#[derive(Debug)]
pub(super) struct Watch<K> {
    inotify: Option<OwnedFd>,
    /// The images of each watched file, by watch descriptor.
    files: HashMap<i32, Vec<K>>,
}

impl<K> Default for Watch<K> {
    fn default() -> Self {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        Self { inotify, files: HashMap::new() }
    }
}

impl<K: PartialEq> Watch<K> {
    /// Watches the open file of an image.
    pub(super) fn add(&mut self, file: &File, key: K) {
        let Some(inotify) = &self.inotify else { return };
        // By descriptor, because the name may mean another file by now. MODIFY: written to; ATTRIB:
        // unlinked or replaced; MOVE_SELF: renamed.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF;
        if let Ok(descriptor) = add_watch(inotify, path, flags) {
            self.files.entry(descriptor).or_default().push(key);
        }
    }

    /// Removes an image, and the watch of its file if it was the last.
    pub(super) fn remove(&mut self, key: &K) {
        let Some(inotify) = &self.inotify else { return };
        self.files.retain(|&descriptor, keys| {
            keys.retain(|own| own != key);
            if keys.is_empty() {
                // The kernel has removed it already if the file is gone.
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
        // It ends with EAGAIN.
        while let Ok(event) = events.next() {
            changed.extend(self.files.remove(&event.wd()).into_iter().flatten());
        }
        changed
    }
}
