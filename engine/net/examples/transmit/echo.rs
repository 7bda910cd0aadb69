//! One datagram at a time to the other core and back, waited for with and without the busy polling
//! of io_uring (IORING_REGISTER_NAPI), and with a sender that asks again and again instead of
//! sleeping.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, Napi};
use io_uring::{IoUring, opcode};

use crate::namespaces::{self, Namespaces, SEGMENT};
use crate::{Failure, SPAN, median};

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Wait {
    Sleep,
    Napi,
    Spin,
}

pub(crate) fn compare(_namespaces: &Namespaces, rounds: usize) -> Result<(), Failure> {
    let socket = namespaces::sender(1)?;
    let waits = [
        (Wait::Sleep, "sleeps until it comes"),
        (Wait::Napi, "NAPI busy poll, 50 µs"),
        (Wait::Spin, "asks again and again"),
    ];
    let mut found: Vec<Result<Vec<f64>, String>> = waits.iter().map(|_| Ok(vec![])).collect();
    for _ in 0..rounds {
        for (at, (wait, _)) in waits.iter().enumerate() {
            let Ok(rates) = &mut found[at] else { continue };
            match exchanges(&socket, *wait) {
                Ok(rate) => rates.push(rate),
                Err(error) => found[at] = Err(error.to_string()),
            }
        }
    }
    println!(
        "\n| {SEGMENT} bytes there and back | exchanges/s | of sleeping | |\n| --- | --- | --- | --- |"
    );
    for ((_, name), rates) in waits.iter().zip(&found) {
        match (rates, &found[0]) {
            (Ok(rates), Ok(sleeping)) => {
                let part = median(rates.iter().zip(sleeping).map(|(own, base)| own / base));
                println!(
                    "| {name} | {:.0} | {part:.2} | {} |",
                    median(rates.iter().copied()),
                    napi_id(&socket)
                );
            }
            (Err(error), _) | (_, Err(error)) => println!("| {name} | | | {error} |"),
        }
    }
    send(&socket, &[])?;
    Ok(())
}

fn exchanges(socket: &OwnedFd, wait: Wait) -> Result<f64, Failure> {
    let mut ring: IoUring =
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)?;
    if wait == Wait::Napi {
        let mut napi = Napi::new().set_busy_poll_timeout(50).set_prefer_busy_poll(true);
        ring.submitter()
            .register_napi(&mut napi)
            .map_err(|error| format!("IORING_REGISTER_NAPI: {error}"))?;
    }
    let payload = [7; SEGMENT];
    let mut buffer = [0_u8; 2048];
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed() < SPAN {
        send(socket, &payload)?;
        let receive =
            opcode::Recv::new(Fd(socket.as_raw_fd()), buffer.as_mut_ptr(), buffer.len() as u32);
        // SAFETY: the loop below waits for the completion before the buffer is used again.
        unsafe { ring.submission().push(&receive.build())? };
        ring.submit()?;
        let late = Instant::now() + Duration::from_secs(1);
        while ring.completion().is_empty() {
            match wait {
                // With completions left to this thread a look at them is a call, too.
                Wait::Spin => ring.submitter().submit_with_args(
                    1,
                    &io_uring::types::SubmitArgs::new().timespec(&io_uring::types::Timespec::new()),
                ),
                Wait::Sleep | Wait::Napi => ring.submit_and_wait(1),
            }
            .or_else(|error| match error.raw_os_error() {
                Some(libc::ETIME) => Ok(0),
                _ => Err(error),
            })?;
            if Instant::now() > late {
                return Err("no answer for a second".into());
            }
        }
        if ring.completion().next().is_some_and(|completion| completion.result() == SEGMENT as i32)
        {
            count += 1;
        }
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

fn send(socket: &OwnedFd, payload: &[u8]) -> Result<(), Failure> {
    let address = std::net::SocketAddrV4::new(namespaces::THERE, namespaces::ECHO);
    rustix::net::sendto(socket, payload, rustix::net::SendFlags::empty(), &address)?;
    Ok(())
}

/// What busy polling would poll: 0 is nothing.
fn napi_id(socket: &OwnedFd) -> String {
    let (mut id, mut len) = (0_i32, size_of::<i32>() as libc::socklen_t);
    let name = libc::SO_INCOMING_NAPI_ID;
    // SAFETY: id is writable for len bytes, and both outlive the call.
    let result = unsafe {
        let value = (&raw mut id).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, &mut len)
    };
    match result {
        0 => format!("SO_INCOMING_NAPI_ID {id}"),
        _ => format!("SO_INCOMING_NAPI_ID: {}", std::io::Error::last_os_error()),
    }
}
