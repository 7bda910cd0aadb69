//! The state of one simulated machine.

use std::net::{Ipv4Addr, SocketAddrV4};

use bootstorm_net::{SocketId, TimerKey};
use bootstorm_protocols::tftp::{Listener, Negotiated, Receiver};
use bootstorm_protocols::time::Moment;

use super::encoder::Form;
use crate::firmware::Program;
use crate::metrics::State;
use crate::validator::FileId;

/// What a machine is doing. Each phase says what its timer is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Without power. The timer, if one runs, powers it on.
    Off,
    /// Pauses before the stage it stands in: after a failed boot, a DECLINE, an ACK. The timer ends
    /// the pause.
    Pausing,
    /// The program begins. The timer lets it send its first DISCOVER.
    Starting,
    /// Has sent a DISCOVER. The timer sends it again.
    Selecting,
    /// Has an offer, and waits for better ones. The timer ends that.
    Collecting,
    /// Has sent a REQUEST. The timer sends it again.
    Requesting,
    /// Has asked whether the address that it remembers is still its own. The timer asks again.
    Rebooting,
    /// Has asked for parameters alone. The timer asks again.
    Informing,
    /// Loads a file by TFTP. The timer is the transfer's.
    Loading,
    /// Loads by HTTP. No timer.
    Fetching,
    /// Up. The timer, if one runs, renews the lease.
    Up,
    /// Has asked for more time. The timer asks again, and at last ends the lease.
    Renewing,
    /// Has given up.
    GivenUp,
}

impl Phase {
    /// The message that is sent in this phase, and whose answer it waits for.
    pub(super) const fn message(self) -> Option<Form> {
        match self {
            Phase::Selecting | Phase::Collecting => Some(Form::Discover),
            Phase::Requesting => Some(Form::Selecting),
            Phase::Rebooting => Some(Form::Rebooting),
            Phase::Informing => Some(Form::Inform),
            Phase::Renewing => Some(Form::Renewing),
            _ => None,
        }
    }

    /// Whether an ACK is what it waits for.
    pub(super) const fn awaits_ack(self) -> bool {
        matches!(self, Phase::Requesting | Phase::Rebooting | Phase::Informing | Phase::Renewing)
    }
}

/// A machine. There are 100,000 of them: it is kept small.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) phase: Phase,
    pub(super) state: State,
    /// The machine's own firmware.
    pub(super) firmware: Program,
    /// Which program runs now.
    pub(super) program: Program,
    /// Place in the list of stages.
    pub(super) stage: u8,
    /// Boots that have failed.
    pub(super) failed_boots: u8,
    /// How often the message that is waited for was repeated.
    pub(super) tries: u8,
    /// How often the program began again with a DISCOVER.
    pub(super) rounds: u8,
    /// Counts exchanges; part of the transaction id.
    pub(super) serial: u8,
    /// What its last message was, and what it was offered.
    pub(super) exchange: Exchange,
    /// Addresses that it will still decline.
    pub(super) declines: u8,
    /// Times it asked for the file it stands at.
    pub(super) file_tries: u8,
    /// Counts transfers, so that each has another port than the last.
    pub(super) transfers: u8,
    /// Place in the list of files of a stage.
    pub(super) item: u16,
    /// Its relay agent.
    pub(super) relay: u16,
    /// Datagrams sent and received, for what the network does to each.
    pub(super) datagrams: [u32; 2],
    /// What it was offered; then what it has.
    pub(super) address: Ipv4Addr,
    /// Whether `address` is its own.
    pub(super) bound: bool,
    /// Server identifier of the offer it took.
    pub(super) server_id: Ipv4Addr,
    /// The server of boot files that it was told.
    pub(super) next_server: Ipv4Addr,
    /// Lease time in seconds.
    pub(super) lease: u32,
    pub(super) boot_file: Option<FileId>,
    pub(super) timer: Option<TimerKey>,
    /// When the timer is to fire; a running one may be earlier.
    pub(super) due: Moment,
    /// When the running timer fires.
    pub(super) timer_at: Moment,
    /// When it was powered on; `None` before the first time.
    pub(super) powered: Option<Moment>,
    /// When its DISCOVER was meant to be sent first.
    pub(super) discovered: Moment,
    /// When the message that is waited for was meant to be sent first.
    pub(super) asked: Moment,
    /// When it was sent last; a lease counts from here.
    pub(super) sent: Moment,
    /// When the lease began.
    pub(super) leased: Moment,
    pub(super) transfer: Option<Box<Transfer>>,
}

/// An exchange of messages with one transaction id, as far as answers to it are held against it.
#[derive(Copy, Clone, Debug)]
pub(super) struct Exchange {
    /// Who asks.
    pub(super) program: Program,
    /// The last message.
    pub(super) form: Form,
    /// When the first offer came.
    pub(super) offered: Option<Moment>,
    /// Its address.
    pub(super) address: Ipv4Addr,
    /// Its lease time in seconds.
    pub(super) lease: u32,
}

impl Default for Exchange {
    fn default() -> Exchange {
        Exchange {
            program: Program::Plain,
            form: Form::Discover,
            offered: None,
            address: Ipv4Addr::UNSPECIFIED,
            lease: 0,
        }
    }
}

/// A transfer under way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) receiver: Receiver,
    /// In place of the receiver once the server has granted a place in a stream, with its group. By
    /// itself, for most machines have none.
    pub(super) listener: Option<Box<(SocketAddrV4, Listener)>>,
    /// What was asked for, for another request.
    pub(super) asked: Negotiated,
    pub(super) file: FileId,
    pub(super) socket: SocketId,
    pub(super) server: Ipv4Addr,
    /// Address and port that answered (RFC 1350 section 4).
    pub(super) peer: Option<SocketAddrV4>,
    /// Only to learn the size.
    pub(super) probe: bool,
    pub(super) bytes: u64,
    pub(super) began: Moment,
    /// The request or ACK that waits for an answer was repeated so often.
    pub(super) repeated: u32,
    /// Blocks that came once more.
    pub(super) twice: u32,
}

impl Machine {
    pub(super) fn new(firmware: Program, relay: u16) -> Machine {
        let nowhere = Ipv4Addr::UNSPECIFIED;
        let never = Moment::default();
        Machine {
            phase: Phase::Off,
            state: State::Off,
            firmware,
            program: firmware,
            stage: 0,
            failed_boots: 0,
            tries: 0,
            rounds: 0,
            serial: 0,
            exchange: Exchange::default(),
            declines: 0,
            file_tries: 0,
            transfers: 0,
            item: 0,
            relay,
            datagrams: [0; 2],
            address: nowhere,
            bound: false,
            server_id: nowhere,
            next_server: nowhere,
            lease: 0,
            boot_file: None,
            timer: None,
            due: never,
            timer_at: never,
            powered: None,
            discovered: never,
            asked: never,
            sent: never,
            leased: never,
            transfer: None,
        }
    }

    /// Begins an exchange with a transaction id of its own.
    pub(super) fn begin_exchange(&mut self) {
        self.serial = self.serial.wrapping_add(1);
        self.exchange = Exchange::default();
    }

    /// Forgets what power loss makes a machine forget.
    pub(super) fn lose_power(&mut self) {
        self.phase = Phase::Off;
        self.stage = 0;
        self.failed_boots = 0;
        self.bound = false;
        self.boot_file = None;
        self.transfer = None;
    }

    /// Whether it waits for a DHCP answer.
    pub(super) fn awaits_answer(&self) -> bool {
        self.phase == Phase::Selecting || self.phase.awaits_ack()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_fit_in_memory() {
        assert!(size_of::<Machine>() <= 232, "{}", size_of::<Machine>());
    }
}
