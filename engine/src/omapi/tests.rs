use std::path::Path;

use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::json;

use super::wire::{Message, Operation, Unread, Values};
use super::*;
use crate::config;
use crate::config::OmapiAlgorithm;
use crate::leases::{Admission, BootId, ClientKey, LeaseState, Notes};
use bootstorm_protocols::time::Moment;

const CONFIG: &str = "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\npools = [\"10.0.0.100-10.0.0.120\"]\n\
    [[dhcp.host]]\nname = \"static\"\nhardware = \"52:54:00:00:00:99\"\nip = \"10.0.0.9\"\n";

const CLOCK: Clock = Clock {
    now: Moment::from_nanos(1_000_000_000_000),
    wall: 1_795_831_565,
    boot: BootId([1; 16]),
    synchronised: true,
};

const OFFERED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 102);
const EXPIRED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 103);

/// A server whose live hosts are in memory.
struct Fake {
    live: Mutex<Vec<HostObject>>,
    released: Mutex<Vec<Ipv4Addr>>,
}

impl Fake {
    fn new() -> Self {
        Self { live: Mutex::default(), released: Mutex::default() }
    }
}

/// The configuration with live hosts, or what is wrong with it.
fn with_hosts(live: &[HostObject]) -> Result<Config, String> {
    let mut text = CONFIG.to_owned();
    for host in live {
        text += "[[dhcp.host]]\n";
        for key in ["name", "hardware", "ip"] {
            if let Some(value) = host.get(key) {
                text += &format!("{key} = {value}\n");
            }
        }
    }
    config::parse(Path::new("test.toml"), text.as_bytes()).map_err(|error| error.render(false))
}

impl Backend for Fake {
    fn config(&self) -> Arc<Config> {
        Arc::new(with_hosts(&self.live.lock()).unwrap())
    }

    fn live_host(&self, name: &str) -> Option<HostObject> {
        self.live.lock().iter().find(|host| host["name"] == name).cloned()
    }

    fn change(&self, change: Change, host: HostObject) -> Result<(), String> {
        let mut live = self.live.lock();
        let mut next = live.clone();
        next.retain(|known| known["name"] != host["name"]);
        match change {
            Change::Remove if next.len() == live.len() => return Err("no live host".to_owned()),
            Change::Remove => {}
            Change::Add | Change::Set => next.push(host),
        }
        with_hosts(&next)?;
        *live = next;
        Ok(())
    }

    fn lease(&self, wanted: &Wanted<'_>) -> (Option<Lease>, Clock) {
        let hardware = Hardware::ethernet([0x52, 0x54, 0, 0, 0, 0x11]);
        let client = ClientKey::hardware(&hardware);
        let said = [Some(&b"\x01RT"[..]), Some(b"n1"), None, None];
        let lease = Lease {
            ip: [10, 0, 0, 100].into(),
            notes: Notes::new(&client, hardware, said, Admission::Unknown),
            client,
            hardware,
            state: LeaseState::Active,
            starts: CLOCK.now,
            expires: CLOCK.now + Duration::from_secs(3600),
            refused: false,
            told: None,
            pending: false,
        };
        let other = match *wanted {
            Wanted::Address(OFFERED) => Some((OFFERED, LeaseState::Offered)),
            Wanted::Address(EXPIRED) => Some((EXPIRED, LeaseState::Expired)),
            _ => None,
        };
        if let Some((ip, state)) = other {
            return (Some(Lease { ip: ip.into(), state, ..lease }), CLOCK);
        }
        let is_it = match *wanted {
            Wanted::Address(ip) => lease.ip == ip,
            Wanted::Hardware(card) => lease.hardware == card,
            Wanted::ClientId(id) => lease.notes.client_id() == Some(id),
        };
        let ended = self.released.lock().contains(&Ipv4Addr::new(10, 0, 0, 100));
        ((is_it && !ended).then_some(lease), CLOCK)
    }

    fn release(&self, ip: Ipv4Addr) -> Result<bool, String> {
        self.released.lock().push(ip);
        Ok(ip == Ipv4Addr::new(10, 0, 0, 100))
    }
}

fn key(algorithm: OmapiAlgorithm) -> OmapiKey {
    OmapiKey { name: "k".to_owned(), algorithm, secret: (*b"secret").into() }
}

fn values(values: &[(&str, &[u8])]) -> Values {
    Values(values.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect())
}

/// What a client sends: its bytes, signed if it has a key.
fn asked(message: &Message, key: Option<&OmapiKey>) -> Vec<u8> {
    match key {
        Some(key) => wire::write(message, key::length(key), |bytes| key::sign(key, bytes)),
        None => wire::write(message, 0, |_| Vec::new()),
    }
}

/// A client with one connection.
struct Client<'b> {
    session: Session<'b>,
    key: Option<OmapiKey>,
    ids: u32,
}

impl<'b> Client<'b> {
    fn new(fake: &'b Fake, key: Option<OmapiKey>) -> Self {
        let session = Session::new(key.clone().map(Arc::new), fake);
        let mut client = Self { session, key: None, ids: 0 };
        if let Some(key) = key {
            let algorithm = OmapiAlgorithm::NAMES
                .iter()
                .find(|(_, algorithm)| *algorithm == key.algorithm)
                .map(|(name, _)| format!("{}.SIG-ALG.REG.INT.", name.to_uppercase()))
                .unwrap();
            let object = values(&[("name", b"k"), ("algorithm", algorithm.as_bytes())]);
            let answer = client.ask(Operation::Open, 0, &[("type", b"authenticator")], object);
            assert_eq!((answer.operation, answer.handle), (Operation::Update, 1));
            client.key = Some(key);
        }
        client
    }

    fn ask(
        &mut self,
        operation: Operation,
        handle: u32,
        message: &[(&str, &[u8])],
        object: Values,
    ) -> Message {
        self.ids += 1;
        let authenticator = u32::from(self.key.is_some());
        let message = values(message);
        let id = self.ids;
        let asks = Message { authenticator, operation, handle, id, answers: 0, message, object };
        let bytes = asked(&asks, self.key.as_ref());
        let answer = self.session.answer(&wire::read(&bytes).unwrap());
        assert!(!answer.last);
        let received = wire::read(&answer.bytes).unwrap();
        assert_eq!(received.length, answer.bytes.len());
        if let Some(key) = &self.key {
            assert!(key::verify(key, received.signed, received.signature));
        }
        assert_eq!(received.message.answers, id);
        received.message
    }

    fn open(&mut self, kind: &str, how: &[&str], object: &[(&str, &[u8])]) -> Message {
        let mut message = vec![("type", kind.as_bytes())];
        message.extend(how.iter().map(|name| (*name, &[0, 0, 0, 1][..])));
        self.ask(Operation::Open, 0, &message, values(object))
    }
}

fn result(message: &Message) -> u32 {
    assert_eq!(message.operation, Operation::Status, "{message:?}");
    u32::from_be_bytes(message.message.get("result").unwrap().try_into().unwrap())
}

const CARD: &[u8] = &[0x52, 0x54, 0, 0, 0, 1];
const ETHER: &[u8] = &[0, 0, 0, 1];
const CREATE: [&str; 2] = ["create", "exclusive"];

/// What dhcpd 4.4.3-P1 answers to the same messages.
#[test]
fn a_host_is_created_found_changed_and_removed() {
    for algorithm in OmapiAlgorithm::NAMES.map(|(_, algorithm)| algorithm) {
        let fake = Fake::new();
        let mut client = Client::new(&fake, Some(key(algorithm)));
        let card = [("hardware-address", CARD), ("hardware-type", ETHER)];
        assert_eq!(result(&client.open("host", &[], &card)), 0x17);
        let all = [
            ("name", &b"h1"[..]),
            card[0],
            card[1],
            ("ip-address", &[10, 0, 0, 5]),
            ("statements", b"filename = \"a\"; option host-name = \"hh\";"),
        ];
        let created = client.open("host", &CREATE, &all);
        let expected = [
            ("ip-address".to_owned(), vec![10, 0, 0, 5]),
            ("name".to_owned(), b"h1".to_vec()),
            ("hardware-address".to_owned(), CARD.to_vec()),
            ("hardware-type".to_owned(), ETHER.to_vec()),
        ];
        assert_eq!((created.operation, &created.object.0[..]), (Operation::Update, &expected[..]));
        let host = serde_json::Value::Object(fake.live_host("h1").unwrap());
        let kept = json!({"name": "h1", "hardware": "52:54:00:00:00:01", "ip": ["10.0.0.5"],
                          "boot": {"file": "a"}, "options": {"host-name": "hh"}});
        assert_eq!(host, kept);

        assert_eq!(result(&client.open("host", &CREATE, &all)), 0x12);
        let other = [("name", &b"h2"[..]), card[0], card[1]];
        assert_eq!(result(&client.open("host", &CREATE, &other)), 0x6_0007);
        let found = client.open("host", &[], &card);
        assert_eq!(found.handle, created.handle);
        let empty = Values::default;
        let moved = values(&[("ip-address", &[10, 0, 0, 8])]);
        assert_eq!(result(&client.ask(Operation::Update, found.handle, &[], moved)), 0);
        let fresh = client.ask(Operation::Refresh, found.handle, &[], empty());
        assert_eq!(fresh.object.get("ip-address"), Some(&[10, 0, 0, 8][..]));
        assert_eq!(result(&client.ask(Operation::Delete, found.handle, &[], empty())), 0);
        assert_eq!(result(&client.open("host", &[], &card)), 0x17);
        assert_eq!(result(&client.ask(Operation::Delete, found.handle, &[], empty())), 0x17);
    }
}

#[test]
fn what_a_host_cannot_be_is_refused() {
    let fake = Fake::new();
    let mut client = Client::new(&fake, None);
    let unnamed = client.open("host", &CREATE, &[("hardware-address", CARD)]);
    assert_eq!(unnamed.object.get("name"), Some(&b"nh525400000001"[..]));
    for object in [
        &[("name", &b"h5"[..])][..],
        &[("hardware-address", b"\x01\x02"), ("statements", b"nonsense foo;")],
        &[("hardware-address", b"\x01\x02"), ("ip-address", b"abc")],
        &[("hardware-address", b"\x01\x02"), ("colour", b"red")],
        &[("hardware-address", b"\x01\x02"), ("name", b"\xff")],
    ] {
        assert_eq!(result(&client.open("host", &CREATE, object)), 0x6_0003, "{object:?}");
    }
    let fixed = client.open("host", &[], &[("name", b"static")]);
    assert_eq!(fixed.object.get("ip-address"), Some(&[10, 0, 0, 9][..]));
    let moved = values(&[("ip-address", &[10, 0, 0, 8])]);
    assert_eq!(result(&client.ask(Operation::Update, fixed.handle, &[], moved)), 6);
    assert_eq!(result(&client.open("group", &["create"], &[("name", b"g")])), 27);
    assert_eq!(result(&client.open("failover-state", &[], &[("name", b"g")])), 0x17);
}

#[test]
fn leases_are_looked_up() {
    let fake = Fake::new();
    let mut client = Client::new(&fake, None);
    let card = [0x52, 0x54, 0, 0, 0, 0x11];
    for object in [
        ("ip-address", &[10, 0, 0, 100][..]),
        ("hardware-address", &card),
        ("dhcp-client-identifier", b"\x01RT"),
    ] {
        let lease = client.open("lease", &[], &[object]);
        let get = |name| lease.object.get(name);
        assert_eq!(get("state"), Some(&[0, 0, 0, 2][..]), "{object:?}");
        assert_eq!(get("ip-address"), Some(&[10, 0, 0, 100][..]));
        assert_eq!(get("hardware-address"), Some(&card[..]));
        assert_eq!(get("client-hostname"), Some(&b"n1"[..]));
        assert_eq!(get("ends"), Some(&(1_795_831_565 + 3600_u32).to_be_bytes()[..]));
    }
    let free = client.open("lease", &[], &[("ip-address", &[10, 0, 0, 101])]);
    assert_eq!(free.object.get("state"), Some(&[0, 0, 0, 1][..]));
    assert_eq!(result(&client.open("lease", &[], &[("ip-address", &[10, 0, 0, 7])])), 0x17);
}

/// As dhcpd 4.4.3-P1 does it for MAAS.
#[test]
fn a_lease_is_ended() {
    for (name, value) in [("ends", &[0; 4]), ("state", &[0, 0, 0, 1])] {
        let fake = Fake::new();
        let mut client = Client::new(&fake, None);
        let found = client.open("lease", &[], &[("ip-address", &[10, 0, 0, 100])]);
        let mut update = |object: &[(&str, &[u8])]| {
            result(&client.ask(Operation::Update, found.handle, &[], values(object)))
        };
        let later = (1_795_831_565 + 60_u32).to_be_bytes();
        for refused in
            [("ends", &later[..]), ("starts", &[0; 4]), ("state", &[0, 0, 0, 5]), ("ends", b"")]
        {
            assert_eq!(update(&[refused]), 6, "{refused:?}");
            // Whatever stands before it or behind it.
            assert_eq!(update(&[refused, (name, value)]), 6, "{refused:?}");
            assert_eq!(update(&[(name, value), refused]), 6, "{refused:?}");
        }
        // What a client knows of the lease it may send back.
        assert_eq!(update(&[("state", &[0, 0, 0, 2])]), 0);
        assert!(fake.released.lock().is_empty());
        assert_eq!(update(&[("state", &[0, 0, 0, 2]), (name, value)]), 0);
        assert_eq!(*fake.released.lock(), [Ipv4Addr::new(10, 0, 0, 100)]);
        assert_eq!(update(&[(name, value)]), 0);
        assert_eq!(fake.released.lock().len(), 1, "it has ended already");
    }
}

#[test]
fn what_nobody_holds_is_not_ended() {
    let fake = Fake::new();
    let mut client = Client::new(&fake, None);
    let mut end = |ip: Ipv4Addr| {
        let found = client.open("lease", &[], &[("ip-address", &ip.octets())]);
        let object = values(&[("ends", &[0; 4])]);
        client.ask(Operation::Update, found.handle, &[], object)
    };
    let refused = end(OFFERED);
    assert_eq!(result(&refused), 0x6_0003);
    assert_eq!(refused.message.get("message"), Some(&b"nobody holds 10.0.0.102"[..]));
    assert_eq!(result(&end(EXPIRED)), 0, "it has ended already");
    assert_eq!(*fake.released.lock(), [OFFERED]);
}

#[test]
fn nobody_gets_in_without_the_key() {
    let fake = Fake::new();
    let own = key(OmapiAlgorithm::Sha256);
    let open = |authenticator| Message {
        authenticator,
        operation: Operation::Open,
        handle: 0,
        id: 7,
        answers: 0,
        message: values(&[("type", b"host"), ("create", ETHER)]),
        object: values(&[("hardware-address", CARD)]),
    };
    let answer = |session: &mut Session<'_>, bytes: &[u8]| {
        let answer = session.answer(&wire::read(bytes).unwrap());
        (result(&wire::read(&answer.bytes).unwrap().message), answer.last)
    };
    let mut session = Session::new(Some(Arc::new(own.clone())), &fake);
    assert_eq!(answer(&mut session, &asked(&open(0), None)), (0x6_0009, false));
    // Signed, but the key was not named.
    assert_eq!(answer(&mut session, &asked(&open(1), Some(&own))), (6, true));
    // Named, and signed with another.
    let mut client = Client::new(&fake, Some(own.clone()));
    let wrong = OmapiKey { secret: (*b"guess").into(), ..own.clone() };
    assert_eq!(answer(&mut client.session, &asked(&open(1), Some(&wrong))), (6, true));
    assert_eq!(answer(&mut client.session, &asked(&open(1), None)), (6, true));
    assert_eq!(answer(&mut client.session, &asked(&open(0), None)), (0x6_0009, false));
    // One bit of a message that was signed.
    let mut bytes = asked(&open(1), Some(&own));
    bytes[70] ^= 1;
    assert_eq!(answer(&mut client.session, &bytes), (6, true));
    assert!(fake.live.lock().is_empty());
    assert!(!format!("{own:?}").contains("secret"));
}

#[test]
fn a_message_has_a_limit() {
    let mut long = asked(
        &Message {
            authenticator: 0,
            operation: Operation::Open,
            handle: 0,
            id: 1,
            answers: 0,
            message: values(&[("type", &[b'x'; 60_000])]),
            object: values(&[("name", &[b'x'; 6000])]),
        },
        None,
    );
    assert_eq!(wire::read(&long).unwrap_err(), Unread::TooLong);
    // A signature of four thousand million bytes.
    long[4..8].fill(0xff);
    assert_eq!(wire::read(&long).unwrap_err(), Unread::TooLong);
    assert!(matches!(wire::read(&long[..20]), Err(Unread::More)));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = wire::read(&bytes);
    }

    #[test]
    fn what_is_damaged_is_answered_or_refused(
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        statements in "[a-z0-9\"{};=, .-]{0,40}",
    ) {
        let fake = Fake::new();
        let mut session = Session::new(None, &fake);
        let mut bytes = asked(&Message {
            authenticator: 0,
            operation: Operation::Open,
            handle: 0,
            id: 1,
            answers: 0,
            message: values(&[("type", b"host"), ("create", ETHER)]),
            object: values(&[
                ("name", b"h1"), ("hardware-address", CARD), ("ip-address", &[10, 0, 0, 5]),
                ("statements", statements.as_bytes()),
            ]),
        }, None);
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(received) = wire::read(&bytes) {
            let answer = session.answer(&received);
            prop_assert!(wire::read(&answer.bytes).is_ok());
        }
    }

    #[test]
    fn every_part_of_a_message_waits_for_the_rest(cut in any::<prop::sample::Index>()) {
        let own = key(OmapiAlgorithm::Md5);
        let message = Message {
            authenticator: 1,
            operation: Operation::Update,
            handle: 2,
            id: 3,
            answers: 4,
            message: Values::default(),
            object: values(&[("name", b"h1"), ("empty", b"")]),
        };
        let bytes = asked(&message, Some(&own));
        let whole = wire::read(&bytes).unwrap();
        prop_assert_eq!(&whole.message, &message);
        prop_assert!(matches!(wire::read(&bytes[..cut.index(bytes.len())]), Err(Unread::More)));
    }
}
