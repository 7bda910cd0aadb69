//! What happens in one simulation, made from its seed: who is there, what goes wrong and when.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use crate::program::{Identity, Program};
use crate::random::Seed;
use crate::site::{BARE_PORTS, LINKS, Link, Site};

macro_rules! troubles {
    ($($name:ident = $word:literal,)*) => {
        /// One thing that may go wrong, or one kind of configuration.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(crate) enum Trouble { $($name,)* }

        impl Trouble {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name for people and the command line.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

troubles! {
    Loss = "loss",
    Disorder = "disorder",
    Cut = "cut",
    Stall = "stall",
    SendErrors = "send-errors",
    SlowDisk = "slow-disk",
    FailingDisk = "failing-disk",
    FullDisk = "full-disk",
    FlippedBits = "flipped-bits",
    Stop = "stop",
    Kill = "kill",
    Reboot = "reboot",
    WallClock = "wall-clock",
    Reorder = "reorder",
    MovePools = "move-pools",
    LeaseTime = "lease-time",
    Infinite = "infinite",
    Reserve = "reserve",
    Swap = "swap",
    HostsByUuid = "hosts-by-uuid",
    HostsByClientId = "hosts-by-client-id",
    HostsByPort = "hosts-by-port",
    ClassPools = "class-pools",
    KnownPools = "known-pools",
    ClientIds = "client-ids",
    EitherIdentity = "client-id-or-hardware",
    AsDhcpd = "as-dhcpd",
    CacheThreshold = "cache-threshold",
    LeaseLimit = "lease-limit",
    Subclasses = "subclasses",
    Ifs = "ifs",
    OneLease = "one-lease",
    InfiniteReserved = "infinite-is-reserved",
    LiveHosts = "live-hosts",
    TwoCards = "two-cards",
    MovingMachines = "moving-machines",
    Decline = "decline",
    Release = "release",
    OperatorRelease = "operator-release",
    Inform = "inform",
    Bootp = "bootp",
    PingCheck = "ping-check",
    Strangers = "strangers",
    RapidCommit = "rapid-commit",
    ReplyDelay = "reply-delay",
    Adversary = "adversary",
    Transfers = "transfers",
    Crowd = "crowd",
}

/// Where the server is known to break its promises: see docs/SIMULATION.md.
const NOT_YET: &[Trouble] = &[];

/// Which troubles there are.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) struct Troubles(u64);

impl Troubles {
    pub(crate) fn all() -> Self {
        Self(u64::MAX)
    }

    /// What the server withstands as it is.
    pub(crate) fn withstood() -> Self {
        NOT_YET.iter().fold(Self::all(), |all, trouble| all.without(*trouble))
    }

    pub(crate) fn none() -> Self {
        Self(0)
    }

    pub(crate) fn with(self, trouble: Trouble) -> Self {
        Self(self.0 | 1 << trouble as u64)
    }

    pub(crate) fn without(self, trouble: Trouble) -> Self {
        Self(self.0 & !(1 << trouble as u64))
    }

    pub(crate) fn has(self, trouble: Trouble) -> bool {
        self.0 & 1 << trouble as u64 != 0
    }
}

impl fmt::Debug for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Trouble::ALL.iter().filter(|each| self.has(**each)).map(|each| each.name());
        f.debug_list().entries(names).finish()
    }
}

/// Where a machine is plugged in.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) link: usize,
    pub(crate) port: u16,
}

impl Place {
    /// Whether the relay agent says where it is.
    pub(crate) fn is_told(self) -> bool {
        LINKS[self.link] == Link::RelayWithPorts && self.port < BARE_PORTS
    }
}

/// A machine before anything has happened.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) identity: Identity,
    pub(crate) programs: Vec<Program>,
    pub(crate) place: Place,
    /// It reads its boot files.
    pub(crate) reads: bool,
    /// Left out of a story that was shortened.
    pub(crate) absent: bool,
}

/// What the network does to datagrams, each with a probability in 1000.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) duplicate: u64,
    pub(crate) reorder: u64,
    /// Milliseconds.
    pub(crate) delay: u64,
    pub(crate) send_errors: u64,
}

/// A way to change the configuration. What exactly is changed depends on who holds what then, and
/// on the number that comes with it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Subnets and hosts stand in another order.
    Reorder,
    /// A pool's range moves, so that it has some addresses no more and others anew.
    MovePool,
    ShrinkPool,
    GrowPool,
    RemovePool,
    AddPool,
    LeaseTime(Option<u32>),
    /// A machine gets an address of its own: one that another machine holds, or one that nobody
    /// has.
    Reserve {
        taken: bool,
        moves_pool: bool,
    },
    /// The port that a machine is plugged into at first gets a host entry, without an address.
    ReservePort {
        machine: usize,
    },
    /// Two hosts exchange their addresses.
    Swap,
    /// The address of one host goes to another.
    HandOver,
    /// A host entry goes.
    Forget,
    /// The file as it was at the beginning.
    Undo,
}

/// How the server ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It finishes what it began.
    Stop,
    /// kill -9. The number says whether it hits a checkpoint, and where. So many bits of the disk
    /// flip before the next start.
    Kill { draw: u8, flips: u8 },
    /// The machine loses its power, and with it what was not flushed; its wall clock is wrong by so
    /// many seconds when it is started again.
    Reboot { draw: u8, wall: i64, flips: u8 },
}

/// Something that happens from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// A machine is switched on, or off and on again: its first program begins.
    Boot {
        machine: usize,
    },
    /// Its system starts again and remembers its address (INIT-REBOOT).
    Reset {
        machine: usize,
    },
    Off {
        machine: usize,
    },
    Release {
        machine: usize,
    },
    /// The next address that it is given is in use by somebody else, it finds.
    WillDecline {
        machine: usize,
    },
    Move {
        machine: usize,
        place: Place,
    },
    Reload {
        change: Change,
        pick: u64,
    },
    Restart {
        end: End,
        shards: usize,
        pause: Duration,
    },
    Weather(Weather),
    /// A link is cut off, or only what the server sends to it is lost.
    Cut {
        link: usize,
        time: Duration,
        answers: bool,
    },
    Stall {
        shard: usize,
        time: Duration,
    },
    /// A write takes so many milliseconds.
    SlowDisk {
        millis: u64,
    },
    /// So many of 1000 writes fail.
    FailingDisk {
        share: u64,
    },
    /// The disk is full for a while.
    FullDisk {
        time: Duration,
    },
    /// So many bits of the disk flip, whether the server runs or not.
    FlippedBits {
        flips: u8,
    },
    /// A bit flips in each of the last batches that were written, but for the very last.
    SpoiledBatches {
        count: u8,
    },
    WallStep {
        seconds: i64,
    },
    /// `bootstorm leases release` of an address that somebody has.
    OperatorRelease {
        pick: u64,
    },
    /// A machine that has an address asks for options.
    Inform {
        machine: usize,
    },
    /// A device with an address of its own, of which the server does not know.
    Stranger {
        ip: Ipv4Addr,
        time: Duration,
    },
    Hostile {
        machine: usize,
        act: u64,
    },
}

/// Something that happens, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    pub(crate) at: Moment,
    pub(crate) what: What,
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) seed: Seed,
    pub(crate) troubles: Troubles,
    pub(crate) site: Site,
    pub(crate) machines: Vec<Plan>,
    pub(crate) shards: usize,
    pub(crate) events: Vec<Event>,
    /// When everything that goes wrong has ended.
    pub(crate) calm: Moment,
}
