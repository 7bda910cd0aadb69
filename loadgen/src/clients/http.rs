//! HTTP of a machine: one path after the other, by the fetcher.

use std::net::SocketAddrV4;
use std::time::Duration;

use bootstorm_net::Transmit;
use bootstorm_protocols::time::Moment;

use super::Clients;
use super::machine::Phase;
use super::sockets::Sources;
use crate::http::{Fetch, Fetched};
use crate::metrics::{State, Timed};
use crate::scenario::Stage;
use crate::validator::{BlockOutcome, Flaw, HTTP, Kind};

impl Clients {
    /// Begins with the path at the machine's place in its list.
    pub(super) fn fetch<T: Transmit>(&mut self, index: u32, at: Moment, tx: &mut T) {
        let machine = &mut self.machines[index as usize];
        let Some(Stage::Http(paths)) = self.stages.get(usize::from(machine.stage)) else { return };
        let Some(path) = paths.get(usize::from(machine.item)).cloned() else {
            self.finish_stage(index, Duration::ZERO, tx);
            return;
        };
        machine.phase = Phase::Fetching;
        machine.transfers = machine.transfers.wrapping_add(1);
        machine.asked = at;
        let own = matches!(self.sockets.sources, Sources::Addresses { .. }) && machine.bound;
        let fetch = Fetch {
            machine: index,
            serial: machine.transfers,
            source: own.then_some(machine.address),
            server: self.http_server.unwrap_or(SocketAddrV4::new(self.sockets.server, 80)),
            path,
            wanted: at,
        };
        self.set_state(index, State::Loading);
        self.disarm(index);
        self.metrics.http.begin(at);
        match &self.fetcher {
            Some(fetcher) => fetcher.fetch(fetch),
            None => {
                self.metrics.http.end(false, at);
                self.fail_boot(index, "HTTP is not played here", at);
            }
        }
    }

    /// Takes what the fetcher has.
    pub(super) fn take_fetched<T: Transmit>(&mut self, tx: &mut T) {
        while let Some(fetched) = self.fetcher.as_ref().and_then(|fetcher| fetcher.received()) {
            self.fetched(fetched, tx);
        }
    }

    fn fetched<T: Transmit>(&mut self, fetched: Fetched, tx: &mut T) {
        let now = tx.now();
        let Fetched { machine: index, serial, waited, refused, odd_status, result } = fetched;
        self.health.fetch_began(waited, refused);
        let Some(machine) = self.machines.get(index as usize) else { return };
        if machine.phase != Phase::Fetching || machine.transfers != serial {
            // Its machine has lost power meanwhile.
            self.metrics.http.set_aside();
            return;
        }
        let (asked, place) = (machine.asked, usize::from(machine.item));
        let name = match self.stages.get(usize::from(machine.stage)) {
            Some(Stage::Http(paths)) => paths.get(place).cloned().unwrap_or_default(),
            _ => String::new(),
        };
        self.metrics.http.end(result.is_ok(), now);
        match result {
            Ok((bytes, digest)) => {
                self.metrics.fetched(bytes);
                self.metrics.took(Timed::Http, asked, now);
                if let Some(status) = odd_status {
                    let mac = self.ids.mac(index);
                    self.validator.violation(Kind::HttpProtocol, index, mac, now, || {
                        format!("status {status} for `{name}`, which was asked for as a whole")
                    });
                }
                self.check_body(index, &name, bytes, digest, now);
                self.machines[index as usize].item += 1;
                self.fetch(index, now, tx);
            }
            Err(reason) => {
                self.metrics.failed(Timed::Http);
                self.fail_boot(index, &format!("{reason}: {name}"), now);
            }
        }
    }

    fn check_body(&mut self, index: u32, path: &str, bytes: u64, digest: u64, now: Moment) {
        let Some(file) = self.files.named(format!("{HTTP}{path}").as_bytes()) else { return };
        let mac = self.ids.mac(index);
        // It has no blocks.
        if let Some(Flaw::Length(expected)) = self.files.complete(file, index, 0, bytes) {
            self.validator.violation(Kind::FileSize, index, mac, now, || {
                format!("`{path}` has {bytes} bytes, it should have {expected}")
            });
        } else if self.files.whole(file, digest) == BlockOutcome::Wrong {
            self.validator.violation(Kind::Content, index, mac, now, || {
                match self.files.has_copy(file) {
                    true => format!("`{path}` has other bytes than the local copy"),
                    false => format!("`{path}` has other bytes than another machine was sent"),
                }
            });
        }
    }
}
