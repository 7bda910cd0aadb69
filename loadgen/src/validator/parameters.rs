//! The parameters that all machines of a network and a program must get alike: subnet mask, router,
//! server of boot files, option 43. Each is held against what the scenario expects, against the
//! machine's network, and against what most such machines were told.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::Message;
use bootstorm_protocols::dhcpv4::options::{ROUTERS, SUBNET_MASK, VENDOR_ENCAPSULATED_OPTIONS};

use foldhash::HashMap;

use super::answers::{Answer, Asked};
use super::{Kind, Validator};
use crate::firmware::Program;
use crate::routes::{Block, mask};

/// Of whom equal parameters are expected: relay agent, network, and program. Mask and router are
/// the same for all programs.
type Peers = (u16, Ipv4Addr, Option<Program>);

/// What most machines of each kind were told.
pub(super) type References = HashMap<Peers, Reference>;

/// What machines of one kind were told.
#[derive(Debug)]
pub(super) struct Reference {
    mask: Majority<Option<Ipv4Addr>>,
    router: Majority<Option<Ipv4Addr>>,
    next_server: Majority<Ipv4Addr>,
    option_43: Majority<Vec<u8>>,
}

impl Reference {
    fn new(first: &Parameters) -> Reference {
        Reference {
            mask: Majority::new(first.mask),
            router: Majority::new(first.router),
            next_server: Majority::new(first.next_server),
            option_43: Majority::new(first.option_43.clone()),
        }
    }

    /// Counts an answer; returns what the others were told.
    fn others(&mut self, found: &Parameters) -> Parameters {
        Parameters {
            mask: self.mask.count(&found.mask),
            router: self.router.count(&found.router),
            next_server: self.next_server.count(&found.next_server),
            option_43: self.option_43.count(&found.option_43),
        }
    }
}

/// The value of most, after Boyer and Moore: a wrong one that came first is soon outvoted.
#[derive(Debug)]
struct Majority<T> {
    value: T,
    votes: u32,
}

impl<T: Clone + PartialEq> Majority<T> {
    fn new(value: T) -> Majority<T> {
        Majority { value, votes: 0 }
    }

    /// Counts a value; returns the one of most before that.
    fn count(&mut self, found: &T) -> T {
        let before = self.value.clone();
        if before == *found {
            self.votes = self.votes.saturating_add(1);
        } else if self.votes <= 1 {
            *self = Majority { value: found.clone(), votes: 1 };
        } else {
            self.votes -= 1;
        }
        before
    }
}

/// Parameters of one answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Parameters {
    mask: Option<Ipv4Addr>,
    router: Option<Ipv4Addr>,
    next_server: Ipv4Addr,
    option_43: Vec<u8>,
}

impl Parameters {
    fn of(message: &Message<'_>) -> Parameters {
        let first_router = || {
            let routers = message.option(ROUTERS)?;
            let mut bytes = routers.bytes();
            let mut octet = || bytes.next();
            Some(Ipv4Addr::new(octet()?, octet()?, octet()?, octet()?))
        };
        let option_43 = message.option(VENDOR_ENCAPSULATED_OPTIONS);
        Parameters {
            mask: message.option(SUBNET_MASK).and_then(|data| data.ipv4()),
            router: first_router(),
            next_server: message.siaddr(),
            option_43: option_43.map(|data| data.bytes().collect()).unwrap_or_default(),
        }
    }
}

impl Validator {
    /// Checks the parameters of an OFFER or ACK.
    pub(super) fn parameters(&mut self, asked: &Asked<'_>, answer: Answer<'_>) {
        let message = answer.message;
        let found = Parameters::of(message);
        let told = found.mask.map(|mask| Block::around(message.yiaddr(), prefix(mask)));
        // Behind one relay agent may be several networks, unless it is known which one it is.
        let network = asked.network.or(told);
        let of = network.map_or(Ipv4Addr::UNSPECIFIED, |network| network.first);
        let mut of_most = |program: Option<Program>| {
            let peers = (asked.relay, of, program);
            self.references.entry(peers).or_insert_with(|| Reference::new(&found)).others(&found)
        };
        let others = of_most(Some(asked.program));
        let all = of_most(None);
        let expected = &self.expected;
        let problems = [
            (Kind::SubnetMask, mask_problem(asked.network, &found, &all)),
            (Kind::Router, router_problem(network, expected.router, &found, &all)),
            (Kind::NextServer, next_server_problem(expected.next_server, &found, &others)),
            (
                Kind::Option43,
                option_43_problem(expected.option_43.as_deref(), message, &found, &others),
            ),
        ];
        for (kind, problem) in problems {
            if let Some(problem) = problem {
                self.violation(kind, asked.machine, asked.mac, answer.now, || problem);
            }
        }
    }
}

/// The length of a mask's prefix.
fn prefix(mask: Ipv4Addr) -> u8 {
    u32::from(mask).leading_ones() as u8
}

fn mask_problem(network: Option<Block>, found: &Parameters, others: &Parameters) -> Option<String> {
    let show = |mask: Option<Ipv4Addr>| mask.map_or("none".to_owned(), |mask| mask.to_string());
    let wanted = network.map(|network| Ipv4Addr::from(mask(network.prefix)));
    if let Some(wanted) = wanted {
        let wrong = found.mask != Some(wanted);
        return wrong
            .then(|| format!("subnet mask {}, the network's is {wanted}", show(found.mask)));
    }
    let odd = found.mask.filter(|found| mask(prefix(*found)) != u32::from(*found));
    if let Some(odd) = odd {
        return Some(format!("subnet mask {odd}, which is no prefix"));
    }
    (found.mask != others.mask).then(|| {
        format!("subnet mask {}, another machine was told {}", show(found.mask), show(others.mask))
    })
}

fn router_problem(
    network: Option<Block>,
    expected: Option<Ipv4Addr>,
    found: &Parameters,
    others: &Parameters,
) -> Option<String> {
    let show =
        |router: Option<Ipv4Addr>| router.map_or("none".to_owned(), |router| router.to_string());
    let router = show(found.router);
    if let Some(expected) = expected {
        let wrong = found.router != Some(expected);
        return wrong.then(|| format!("router {router}, expected {expected}"));
    }
    let outside = found.router.zip(network).filter(|(router, network)| !network.contains(*router));
    if let Some((router, network)) = outside {
        return Some(format!("router {router} is not in {network}"));
    }
    (found.router != others.router)
        .then(|| format!("router {router}, another machine was told {}", show(others.router)))
}

fn next_server_problem(
    expected: Option<Ipv4Addr>,
    found: &Parameters,
    others: &Parameters,
) -> Option<String> {
    let wanted = expected.unwrap_or(others.next_server);
    (found.next_server != wanted).then(|| match expected {
        Some(_) => format!("siaddr {}, expected {wanted}", found.next_server),
        None => format!("siaddr {}, another machine was told {wanted}", found.next_server),
    })
}

fn option_43_problem(
    expected: Option<&[u8]>,
    message: &Message<'_>,
    found: &Parameters,
    others: &Parameters,
) -> Option<String> {
    // What another vendor's option 43 looks like is that vendor's to say.
    let pxe = message.vendor_class().is_some_and(|class| class.starts_with(b"PXEClient"));
    if pxe && !is_encapsulated(&found.option_43) {
        return Some(format!("option 43 is cut off: {}", hex(&found.option_43)));
    }
    let wanted = expected.filter(|_| pxe).unwrap_or(&others.option_43);
    (found.option_43 != *wanted)
        .then(|| format!("option 43 is {}, expected {}", hex(&found.option_43), hex(wanted)))
}

/// Whether bytes are sub-options: code, length, value (RFC 2132 section 8.4).
fn is_encapsulated(mut bytes: &[u8]) -> bool {
    loop {
        bytes = match bytes {
            [] | [255, ..] => return true,
            [0, rest @ ..] => rest,
            [_, len, rest @ ..] => match rest.get(usize::from(*len)..) {
                Some(rest) => rest,
                None => return false,
            },
            [_] => return false,
        };
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Parameters {
        Parameters {
            mask: Some(Ipv4Addr::new(255, 255, 0, 0)),
            router: Some(Ipv4Addr::new(10, 0, 0, 1)),
            next_server: Ipv4Addr::new(10, 0, 0, 2),
            option_43: vec![6, 1, 8, 255],
        }
    }

    #[test]
    fn a_wrong_value_that_came_first_is_outvoted() {
        let mut router = Majority::new(9);
        let found = [9, 1, 1, 1, 9, 1];
        let wrong: Vec<bool> = found.iter().map(|value| router.count(value) != *value).collect();
        // The first one is not known to be wrong, and the second is blamed for it.
        assert_eq!(wrong, [false, true, false, false, true, false]);
    }

    #[test]
    fn a_mask_is_that_of_the_network_or_of_the_others() {
        let network = Some(Block::around(Ipv4Addr::new(10, 0, 0, 0), 16));
        assert_eq!(mask_problem(network, &told(), &told()), None);
        let other = Parameters { mask: Some(Ipv4Addr::new(255, 255, 128, 0)), ..told() };
        assert!(mask_problem(network, &other, &other).unwrap().contains("255.255.0.0"));
        assert!(mask_problem(None, &other, &told()).unwrap().contains("another machine"));
        let odd = Parameters { mask: Some(Ipv4Addr::new(255, 0, 255, 0)), ..told() };
        assert!(mask_problem(None, &odd, &odd).unwrap().contains("no prefix"));
    }

    #[test]
    fn a_router_is_in_the_network_and_the_one_of_the_others() {
        let network = Some(Block::around(Ipv4Addr::new(10, 0, 0, 0), 16));
        let outside = Parameters { router: Some(Ipv4Addr::new(10, 1, 0, 1)), ..told() };
        assert!(router_problem(network, None, &outside, &outside).is_some());
        let other = Parameters { router: Some(Ipv4Addr::new(10, 0, 0, 9)), ..told() };
        assert!(router_problem(network, None, &other, &told()).is_some());
        assert_eq!(router_problem(network, None, &told(), &told()), None);
        assert!(router_problem(network, other.router, &told(), &told()).is_some());
        let expected = Some(Ipv4Addr::new(10, 0, 0, 3));
        assert!(next_server_problem(expected, &told(), &told()).is_some());
    }

    #[test]
    fn sub_options_that_are_cut_off_are_seen() {
        for whole in [&[][..], &[255], &[6, 1, 8, 255], &[0, 6, 1, 8], &[71, 0, 255, 9]] {
            assert!(is_encapsulated(whole), "{whole:?}");
        }
        for cut in [&[6][..], &[6, 2, 8], &[6, 1, 8, 9]] {
            assert!(!is_encapsulated(cut), "{cut:?}");
        }
    }
}
