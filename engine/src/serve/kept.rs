//! Sockets of ports 67 and 69 that outlive this process: the service manager keeps them, and what
//! waits in them, while the server is started again. Those that it opened itself (socket
//! activation) are taken as well.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bootstorm_net::{Socket, UdpSocketSpec, inherited};
use parking_lot::Mutex;

use crate::service_manager::ServiceManager;

/// What was inherited and has not been taken, and the way to the service manager.
pub(super) struct KeptSockets {
    inherited: Mutex<Vec<(String, OwnedFd)>>,
    manager: Arc<ServiceManager>,
}

/// How this server names the `number`th socket of a group of `count`; the manager returns it so.
fn name(group: &str, number: usize, count: usize) -> String {
    format!("{group}-{number}of{count}")
}

/// Whether [`name`] made it. Others are what a socket unit calls its sockets.
fn is_own(name: &str) -> bool {
    let parts = name.rsplit_once('-').and_then(|(_, end)| end.split_once("of"));
    parts.is_some_and(|(number, count)| [number, count].iter().all(|n| n.parse::<u16>().is_ok()))
}

impl KeptSockets {
    /// What this process has inherited.
    pub(super) fn from_environment(manager: Arc<ServiceManager>) -> Self {
        Self { inherited: Mutex::new(inherited()), manager }
    }

    /// The sockets of a group, in the order of `specs`: inherited if all of them were, else opened.
    /// The manager keeps them from now on. If a socket unit opened too few for `specs` and enough
    /// for `fewer`, they are those of `fewer`: none could be opened beside them, for they are
    /// another user's.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open(
        &self,
        group: &str,
        specs: &[UdpSocketSpec],
        fewer: Option<&[UdpSocketSpec]>,
    ) -> io::Result<Vec<Socket>> {
        let taken = self.take(group, specs);
        let (specs, taken) = match (taken, fewer) {
            (None, Some(fewer)) => match self.take_of_unit(fewer) {
                Some(taken) => (fewer, Some(taken)),
                None => (specs, None),
            },
            (taken, _) => (specs, taken),
        };
        let count = specs.len();
        let needed = fewer.map_or(count, <[_]>::len);
        match (self.unused_of_unit(specs), specs.first()) {
            (0, _) | (_, None) => {}
            (unused, Some(UdpSocketSpec { bind, .. })) => tracing::warn!(
                "sockets of {bind} that a socket unit opened are not used ({unused}), and what \
                 comes to them is lost: it needs a ListenDatagram= for each shard, {needed} in all"
            ),
        }
        if let Some(taken) = taken {
            return specs.iter().zip(taken).map(|(spec, fd)| spec.adopt(fd)).collect();
        }
        // Sockets of another number of shards would be members of the new group.
        self.discard(|fd| specs.iter().any(|spec| spec.describes(fd)));
        let sockets: Vec<Socket> =
            specs.iter().map(UdpSocketSpec::open).collect::<Result<_, _>>()?;
        for (number, socket) in sockets.iter().enumerate() {
            self.manager.keep(&name(group, number, count), socket.as_fd());
        }
        Ok(sockets)
    }

    /// A whole group out of what was inherited: by its names, or in the order of a socket unit.
    fn take(&self, group: &str, specs: &[UdpSocketSpec]) -> Option<Vec<OwnedFd>> {
        let own = |number, inherited: &str| inherited == name(group, number, specs.len());
        self.take_named(specs, own).or_else(|| self.take_of_unit(specs))
    }

    /// A whole group of a socket unit, in its order.
    fn take_of_unit(&self, specs: &[UdpSocketSpec]) -> Option<Vec<OwnedFd>> {
        self.take_named(specs, |_, inherited| !is_own(inherited))
    }

    /// A whole group of sockets whose names `fit` their numbers.
    fn take_named(
        &self,
        specs: &[UdpSocketSpec],
        fit: impl Fn(usize, &str) -> bool,
    ) -> Option<Vec<OwnedFd>> {
        let mut inherited = self.inherited.lock();
        let mut places = Vec::with_capacity(specs.len());
        for (number, spec) in specs.iter().enumerate() {
            let place = inherited.iter().enumerate().position(|(place, (name, fd))| {
                !places.contains(&place) && fit(number, name) && spec.describes(fd)
            })?;
            places.push(place);
        }
        let mut all: Vec<_> = std::mem::take(&mut *inherited).into_iter().map(Some).collect();
        let taken = places.iter().filter_map(|&place| all[place].take().map(|(_, fd)| fd));
        let taken = taken.collect();
        *inherited = all.into_iter().flatten().collect();
        Some(taken)
    }

    /// How many sockets of a socket unit are left that belong to a group. The service manager goes
    /// on holding them, so the kernel goes on giving them their share.
    fn unused_of_unit(&self, specs: &[UdpSocketSpec]) -> usize {
        let belongs = |fd: &OwnedFd| specs.iter().any(|spec| spec.describes(fd));
        self.inherited.lock().iter().filter(|(name, fd)| !is_own(name) && belongs(fd)).count()
    }

    /// Closes what was inherited and is not needed.
    pub(super) fn discard_rest(&self) {
        self.discard(|_| true);
    }

    fn discard(&self, unwanted: impl Fn(&OwnedFd) -> bool) {
        let gone: Vec<_> = self.inherited.lock().extract_if(.., |(_, fd)| unwanted(fd)).collect();
        if gone.is_empty() {
            return;
        }
        for (name, _) in &gone {
            tracing::info!(
                "the inherited socket {name:?} is not needed, or not all of its group is there"
            );
        }
        self.forget(gone.iter().map(|(name, _)| name.clone()));
    }

    /// The manager no longer keeps the sockets of a group, which are closed.
    pub(super) fn forget_group(&self, group: &str, count: usize) {
        self.forget((0..count).map(|number| name(group, number, count)));
    }

    fn forget(&self, names: impl Iterator<Item = String>) {
        names.for_each(|name| self.manager.forget(&name));
        // They are open until the manager has heard of it.
        self.manager.wait_until_heard();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(count: usize) -> Vec<UdpSocketSpec> {
        let bind = ([127, 0, 0, 1], 0).into();
        let first = UdpSocketSpec { bind, reuseport: true, ..Default::default() };
        let port = first.open().unwrap().local_addr().unwrap();
        (0..count).map(|_| UdpSocketSpec { bind: port, ..first.clone() }).collect()
    }

    fn kept(inherited: Vec<(String, OwnedFd)>) -> KeptSockets {
        KeptSockets { inherited: Mutex::new(inherited), manager: Arc::default() }
    }

    /// Sockets that are told apart by what waits in them.
    fn opened(specs: &[UdpSocketSpec], names: &[&str]) -> Vec<(String, OwnedFd)> {
        let open = |(spec, name): (&UdpSocketSpec, &&str)| {
            let fd = spec.open().unwrap().as_fd().try_clone_to_owned().unwrap();
            (name.to_string(), fd)
        };
        specs.iter().zip(names).map(open).collect()
    }

    fn numbers(fds: &[(String, OwnedFd)]) -> Vec<u64> {
        fds.iter().map(|(_, fd)| rustix::fs::fstat(fd).unwrap().st_ino).collect()
    }

    fn taken(kept: &KeptSockets, group: &str, specs: &[UdpSocketSpec]) -> Option<Vec<u64>> {
        let fds = kept.take(group, specs)?;
        Some(fds.iter().map(|fd| rustix::fs::fstat(fd).unwrap().st_ino).collect())
    }

    #[test]
    fn a_group_is_taken_whole_and_in_its_order_whatever_order_it_comes_in() {
        let specs = specs(2);
        let inherited = opened(&specs, &["dhcp-7-1of2", "dhcp-7-0of2"]);
        let [last, first] = numbers(&inherited)[..] else { panic!() };
        let kept = kept(inherited);
        assert_eq!(taken(&kept, "dhcp-8", &specs), None);
        assert_eq!(taken(&kept, "dhcp-7", &specs), Some(vec![first, last]));
        assert!(kept.inherited.lock().is_empty());
    }

    #[test]
    fn sockets_of_a_socket_unit_are_taken_in_their_order() {
        let specs = specs(2);
        let inherited = opened(&specs, &["bootstorm.socket", "bootstorm.socket"]);
        let order = numbers(&inherited);
        let kept = kept(inherited);
        assert_eq!(taken(&kept, "dhcp-7", &specs), Some(order));
        assert_eq!(kept.unused_of_unit(&specs), 0);
    }

    #[test]
    fn a_socket_unit_may_open_fewer_sockets_that_are_enough() {
        let four = specs(4);
        let opened_in = |names: &[&str]| {
            let inherited = opened(&four, names);
            let known = numbers(&inherited);
            let sockets = kept(inherited).open("dhcp-7", &four, Some(&four[..2])).unwrap();
            let numbers = sockets.iter().map(|each| rustix::fs::fstat(each).unwrap().st_ino);
            (known, numbers.collect::<Vec<_>>())
        };
        let (known, sockets) = opened_in(&["bootstorm.socket"; 4]);
        assert_eq!(sockets, known);
        for unit in [2, 3] {
            let (known, sockets) = opened_in(&["bootstorm.socket"; 4][..unit]);
            assert_eq!(sockets, known[..2]);
        }
        // Names of this program's own are no socket unit's.
        let (known, sockets) = opened_in(&["dhcp-7-0of2", "dhcp-7-1of2"]);
        assert!(sockets.len() == 4 && known.iter().all(|number| !sockets.contains(number)));
        let (known, sockets) =
            opened_in(&["dhcp-7-3of4", "dhcp-7-2of4", "dhcp-7-1of4", "dhcp-7-0of4"]);
        assert!(sockets.into_iter().rev().eq(known));
    }

    #[test]
    fn a_socket_unit_with_another_number_of_sockets_is_noticed() {
        let three = specs(3);
        let names = ["bootstorm.socket", "bootstorm.socket", "dhcp-7-0of2"];
        let too_few = kept(opened(&three, &names));
        assert_eq!(taken(&too_few, "dhcp-7", &three), None);
        assert_eq!(too_few.unused_of_unit(&three), 2);
        let too_many = kept(opened(&three, &names));
        assert!(taken(&too_many, "dhcp-7", &three[..1]).is_some());
        assert_eq!(too_many.unused_of_unit(&three), 1);
    }

    #[test]
    fn a_group_of_another_number_of_shards_is_closed_and_opened_anew() {
        let specs = specs(3);
        let inherited = opened(&specs, &["dhcp-7-0of2", "dhcp-7-1of2"]);
        let before = numbers(&inherited);
        let kept = kept(inherited);
        let sockets = kept.open("dhcp-7", &specs, None).unwrap();
        let numbers = sockets.iter().map(|each| rustix::fs::fstat(each).unwrap().st_ino);
        assert!(kept.inherited.lock().is_empty() && sockets.len() == 3);
        assert!(numbers.into_iter().all(|number| !before.contains(&number)));
    }
}
