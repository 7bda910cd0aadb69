//! Messages of clients to a configuration, planned and written as the server does it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddrV4};

use bootstorm::config::Config;
use bootstorm::leases::Clock;
use bootstorm::rehearse::{Rehearsal, Seen};
use bootstorm_protocols::dhcpv4::{ETHERNET, Header, MessageType, MessageWriter, options};
use bootstorm_protocols::time::Moment;

use crate::random::Random;

/// Clients of a configuration.
const CLIENTS: u64 = 4;

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 67);

/// Has a configuration answer some clients; which, depends on the bytes that it is from.
pub(crate) fn answer(config: &Config, input: &[u8]) {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let mut random = Random::of(hasher.finish(), 0);
    let own: Vec<Ipv4Addr> =
        config.dhcp.subnets.first().map(|subnet| subnet.prefix.hosts().0).into_iter().collect();
    let Ok(mut rehearsal) = Rehearsal::new(config, Clock::default(), &[], &own) else { return };
    for client in 0..CLIENTS {
        let mut ip = own.first().copied().unwrap_or(*SERVER.ip());
        for (step, kind) in [MessageType::Discover, MessageType::Request].into_iter().enumerate() {
            let step = u64::try_from(step).unwrap_or_default();
            let at = Moment::from_nanos((1 + client * 10 + step) * 1_000_000_000);
            let Some(request) = message(kind, client, ip, &mut random) else { return };
            let client_end = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
            let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
            rehearsal.see(&Seen {
                at,
                source: client_end,
                destination: everybody,
                payload: &request,
            });
            let answer = match kind {
                MessageType::Discover => MessageType::Offer,
                _ => MessageType::Ack,
            };
            ip = Ipv4Addr::from(u32::from(ip).wrapping_add(1));
            let Some(mut reply) = message(answer, client, ip, &mut random) else { return };
            // BOOTREPLY, and yiaddr.
            reply[0] = 2;
            reply[16..20].copy_from_slice(&ip.octets());
            let source = own.first().map_or(SERVER, |ip| SocketAddrV4::new(*ip, 67));
            rehearsal.see(&Seen { at, source, destination: client_end, payload: &reply });
        }
    }
    rehearsal.finish();
}

fn message(kind: MessageType, client: u64, ip: Ipv4Addr, random: &mut Random) -> Option<Vec<u8>> {
    let mac = [0x52, 0x54, 0, 0, 0, client.to_le_bytes()[0]];
    let xid = u32::try_from(client).unwrap_or_default();
    let header = Header { secs: 9, ..Header::request(ETHERNET, &mac, xid) };
    let mut buf = vec![0; 1400];
    let room = buf.len();
    let mut writer = MessageWriter::new(&mut buf, room, &header).ok()?;
    writer.option(options::MESSAGE_TYPE, &[kind.code()]).ok()?;
    if kind == MessageType::Request {
        writer.option(options::REQUESTED_ADDRESS, &ip.octets()).ok()?;
    }
    for code in [12, 43, 55, 60, 61, 77, 82, 93, 97, 124, 125, 175] {
        if random.percent(50) {
            let count = random.below(40);
            let value = match random.below(3) {
                0 => random.bytes(count),
                1 => b"PXEClient:Arch:00007:UNDI:003016".to_vec(),
                _ => [1, 4, 101, 116, 104, 48, 2, 2, 1, 2].to_vec(),
            };
            writer.option(code, &value).ok()?;
        }
    }
    let len = writer.finish();
    buf.truncate(len.max(240));
    Some(buf)
}
