//! What one DHCP message costs on the wire: reading a request, and writing its reply.
//!
//! `cargo bench -p bootstorm-bench --bench dhcpv4`

use std::hint::black_box;

use bootstorm_protocols::dhcpv4::{Header, Message, MessageType, MessageWriter, options};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A DISCOVER as iPXE sends it: 16 options, 400 bytes.
fn discover() -> Vec<u8> {
    let text = include_str!("../../protocols/tests/golden/qemu-ipxe-rom-discover.hex");
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let pairs = digits.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// The same through a relay agent that adds option 82.
fn relayed(discover: &[u8]) -> Vec<u8> {
    let end = discover.iter().rposition(|byte| *byte == options::END).unwrap_or(discover.len());
    let mut bytes = discover[..end].to_vec();
    bytes[24..28].copy_from_slice(&[10, 9, 0, 1]);
    bytes.extend([82, 14, 1, 5, b'p', b'o', b'r', b't', b'7', 2, 5, 1, 2, 3, 4, 5, 255]);
    bytes
}

/// What a decision looks at in a request.
fn look(message: &Message<'_>) -> u64 {
    let mut seen = u64::from(message.xid()) + message.chaddr().len() as u64;
    seen += message.client_id().map_or(0, |id| id.len() as u64);
    seen += message.requested_address().map_or(0, |address| u64::from(address.to_bits()));
    seen += message.server_identifier().map_or(0, |address| u64::from(address.to_bits()));
    seen += message.architecture().map_or(0, |architecture| u64::from(architecture.code()));
    seen += message.machine_id().map_or(0, |id| u64::from(id.key()[0]));
    seen += message.stage() as u64 + message.reply_room(1500) as u64;
    seen + message.parameter_request_list().map(u64::from).sum::<u64>()
}

/// An OFFER as a rack gets it.
fn write_offer(request: &Message<'_>, buf: &mut [u8]) -> usize {
    let header = Header {
        yiaddr: [10, 1, 4, 17].into(),
        siaddr: [10, 1, 0, 6].into(),
        file: b"boot.ipxe",
        ..Header::reply_to(request)
    };
    let Ok(mut writer) = MessageWriter::new(buf, request.reply_room(1500), &header) else {
        return 0;
    };
    if let Some(agent) = request.relay_agent_information() {
        let _ = writer.echo(&agent);
    }
    let options: [(u8, &[u8]); 10] = [
        (options::MESSAGE_TYPE, &[MessageType::Offer.code()]),
        (options::SERVER_IDENTIFIER, &[10, 1, 0, 6]),
        (options::LEASE_TIME, &[0, 0, 14, 16]),
        (options::RENEWAL_TIME, &[0, 0, 7, 8]),
        (options::REBINDING_TIME, &[0, 0, 12, 78]),
        (options::SUBNET_MASK, &[255, 255, 0, 0]),
        (options::ROUTERS, &[10, 1, 0, 1]),
        (options::DOMAIN_NAME_SERVERS, &[10, 1, 0, 2, 10, 1, 0, 3]),
        (options::HOST_NAME, b"rack1-n01"),
        (options::BOOTFILE_NAME, b"boot.ipxe"),
    ];
    for (code, value) in options {
        let _ = writer.option(code, value);
    }
    writer.finish()
}

fn dhcpv4(criterion: &mut Criterion) {
    let direct = discover();
    let relayed = relayed(&direct);
    let mut group = criterion.benchmark_group("dhcpv4");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse", |bencher| {
        // All of the message is looked at, so that no part of the index is optimised away.
        bencher.iter(|| black_box(&Message::parse(black_box(&direct))).is_ok());
    });
    group.bench_function("parse and look at what decides", |bencher| {
        bencher.iter(|| Message::parse(black_box(&relayed)).map(|message| look(&message)));
    });
    let mut buf = [0; 2048];
    for (name, bytes) in [("write an offer", &direct), ("write a relayed offer", &relayed)] {
        let Ok(request) = Message::parse(bytes) else { continue };
        group.bench_function(name, |bencher| {
            bencher.iter(|| write_offer(black_box(&request), black_box(&mut buf)));
        });
    }
    group.finish();
}

criterion_group!(benches, dhcpv4);
criterion_main!(benches);
