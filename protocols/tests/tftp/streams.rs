//! One stream for many clients (RFC 2090): lost blocks, and clients that join late.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use bootstorm_protocols::tftp::{
    Acked, Arrived, Listener, ListenerSend, Multicast, Negotiated, Options, Packet, RetryPolicy,
    Sender, SenderSend,
};
use bootstorm_protocols::time::Moment;

use crate::pair::Random;

const BLOCK: u64 = 8;
const STEP: Duration = Duration::from_micros(50);

struct Client {
    listener: Option<Listener>,
    joins: u64,
    taken: u64,
    done: bool,
}

/// Sends a stream of `blocks` blocks to clients that join at the steps `joins`. `loss` percent of
/// all packets to and from each client are lost. Returns how many blocks were sent.
fn play(blocks: u64, window: u16, joins: &[u64], loss: u64, seed: u64) -> u64 {
    let mut random = Random(seed);
    let mut lost = || random.next() % 100 < loss;
    let policy =
        RetryPolicy { tries: 40, total: Duration::from_secs(3600), ..RetryPolicy::default() };
    let group = Some(SocketAddrV4::new(Ipv4Addr::new(239, 255, 0, 1), 1758));
    let multicast = Some(Multicast { group, master: true });
    let granted = Negotiated {
        blksize: Some(BLOCK as u16),
        windowsize: Some(window),
        multicast,
        ..Negotiated::default()
    };
    let mut clients: Vec<Client> = joins
        .iter()
        .map(|&joins| Client { listener: None, joins, taken: 0, done: false })
        .collect();
    let mut now = Moment::from_nanos(1_000_000);
    let mut server: Option<(usize, Sender)> = None;
    let (mut sent, mut finished) = (0, vec![false; clients.len()]);
    for step in 0.. {
        assert!(step < 2_000_000, "the stream does not end");
        now = now + STEP;
        let mut acks = Vec::new();
        for (index, client) in clients.iter_mut().enumerate() {
            if client.joins == step && client.listener.is_none() {
                let len = BLOCK as u16;
                client.listener = Some(Listener::new(len, window, None, false, &policy, now));
            }
            let Some(listener) = &mut client.listener else { continue };
            if !client.done && listener.deadline().is_some_and(|deadline| deadline <= now) {
                listener.on_deadline(now).expect("tries are left");
            }
            let Some(says) = listener.pending() else { continue };
            listener.sent(now);
            // One that asks anew is on the list already.
            if let ListenerSend::Ack(block) = says {
                acks.push((index, block));
            }
        }
        for (index, block) in acks {
            if lost() {
                continue;
            }
            match &mut server {
                Some((master, sender)) if *master == index => {
                    if sender.on_ack(block as u16, now) == Acked::Finished {
                        finished[index] = true;
                        server = None;
                    }
                }
                _ => finished[index] |= block == blocks,
            }
        }
        if finished.iter().all(|&finished| finished) {
            break;
        }
        if server.is_none() {
            let next = (0..clients.len())
                .find(|&index| !finished[index] && clients[index].listener.is_some());
            server = next.map(|next| {
                let mut sender = Sender::new(&granted, &policy, now);
                sender.content(blocks, Some(blocks));
                (next, sender)
            });
        }
        let Some((master, sender)) = &mut server else { continue };
        if sender.deadline().is_some_and(|deadline| deadline <= now) {
            sender.on_deadline(now).expect("tries are left");
        }
        match sender.pending() {
            Some(SenderSend::OptionAck) => {
                sender.sent_option_ack(now);
                if !lost()
                    && let Some(listener) = &mut clients[*master].listener
                {
                    listener.on_option_ack(&oack(&granted), now).expect("an OACK");
                }
            }
            Some(SenderSend::Blocks { first, count }) => {
                for block in first..first + count {
                    let len = if block == blocks { 3 } else { BLOCK as usize };
                    for client in &mut clients {
                        let Some(listener) = client.listener.as_mut().filter(|_| !lost()) else {
                            continue;
                        };
                        match listener.on_data(block as u16, len, now) {
                            Arrived::Take => client.taken += 1,
                            Arrived::Complete => {
                                client.taken += 1;
                                assert_eq!(client.taken, blocks);
                                client.done = true;
                            }
                            Arrived::Ignored => {}
                            Arrived::TooLong => panic!("block {block}"),
                        }
                    }
                }
                sent += count;
                sender.sent(count, now);
            }
            None => {}
        }
    }
    assert!(clients.iter().all(|client| client.done));
    sent
}

fn oack(granted: &Negotiated) -> Options<'static> {
    let mut buf = [0; 128];
    let len = granted.write_option_ack(&mut buf).expect("128 bytes hold every OACK");
    let Ok(Packet::OptionAck(options)) = Packet::parse(buf[..len].to_vec().leak()) else {
        panic!("{:?}", &buf[..len])
    };
    options
}

#[test]
fn clients_that_hear_everything_cost_one_transfer() {
    for window in [1, 7, 16] {
        assert_eq!(play(100, window, &[0; 50], 0, 1), 100);
    }
}

#[test]
fn who_comes_late_is_sent_what_it_missed_and_little_more() {
    // Joins when about half of the blocks are over; the others are sent again up to there.
    let sent = play(1000, 4, &[0, 125, 125, 126], 0, 1);
    assert!((1200..=1600).contains(&sent), "{sent}");
}

#[test]
fn losses_are_made_good_for_everybody() {
    for window in [1, 4, 16] {
        for seed in 0..10 {
            let sent = play(300, window, &[0, 0, 0, 5, 90, 300], 5, seed);
            assert!(sent >= 300, "{sent}");
        }
    }
}

#[test]
fn the_longest_file_of_a_stream() {
    let sent = play(65_535, 64, &[0, 0, 700], 1, 3);
    assert!(sent < 4 * 65_535, "{sent}");
}
