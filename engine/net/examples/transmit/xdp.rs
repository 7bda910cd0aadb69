//! AF_XDP: whole frames from memory that is shared with the kernel, past its UDP and IP.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bootstorm_protocols::frame::{HEADROOM, UdpFrame};

use crate::namespaces::{self, HERE, IMAGE, MACS, Memory, SEGMENT, SINK, THERE};
use crate::{Failure, Make, Way};

/// Bytes of a frame's place, and how many there are; each ring has room for all.
const FRAME: usize = 2048;
const FRAMES: u32 = 512;
/// Frames that are made between two calls: the kernel takes 32 in one.
const BURST: u32 = 32;

/// The ways of AF_XDP, which knows no segments.
pub(crate) fn ways(segments: u16) -> Vec<(&'static str, Make)> {
    if segments > 1 {
        return Vec::new();
    }
    let way = |copies| -> Make { Box::new(move |_| Ok(Box::new(Xdp::new(copies)?))) };
    vec![
        ("AF_XDP, each frame made anew", way(true)),
        ("AF_XDP, frames made beforehand", way(false)),
    ]
}

struct Xdp {
    // Before the memory, so that the kernel lets go of it first.
    socket: OwnedFd,
    tx: Ring,
    completion: Ring,
    frames: Memory,
    image: Memory,
    at: usize,
    /// Whether the payload is copied and the frame sealed for each send, as for clients that
    /// differ.
    copies: bool,
    free: Vec<u32>,
}

/// One ring: 32-bit counters and entries.
struct Ring {
    memory: Memory,
    producer: usize,
    consumer: usize,
    entries: usize,
}

impl Xdp {
    fn new(copies: bool) -> Result<Xdp, Failure> {
        // SAFETY: no memory is handed over.
        let socket =
            namespaces::descriptor(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0) })?;
        let frames = Memory::new(FRAMES as usize * FRAME, false)?;
        let region = libc::xdp_umem_reg_v1 {
            addr: frames.at(0) as u64,
            len: (FRAMES as usize * FRAME) as u64,
            chunk_size: FRAME as u32,
            headroom: 0,
        };
        set(&socket, "XDP_UMEM_REG", libc::XDP_UMEM_REG, &region)?;
        set(&socket, "XDP_UMEM_FILL_RING", libc::XDP_UMEM_FILL_RING, &FRAMES)?;
        set(&socket, "XDP_UMEM_COMPLETION_RING", libc::XDP_UMEM_COMPLETION_RING, &FRAMES)?;
        set(&socket, "XDP_TX_RING", libc::XDP_TX_RING, &FRAMES)?;
        let offsets = offsets(&socket)?;
        let tx_len = size_of::<libc::xdp_desc>();
        let tx = Ring::map(&socket, libc::XDP_PGOFF_TX_RING, &offsets.tx, tx_len)?;
        let at = libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64;
        let completion = Ring::map(&socket, at, &offsets.cr, size_of::<u64>())?;
        bind(&socket)?;
        let image = Memory::new(IMAGE, false)?;
        let free = (0..FRAMES).collect();
        let mut xdp = Xdp { socket, tx, completion, frames, image, at: 0, copies, free };
        for number in 0..FRAMES {
            xdp.seal(number)?;
        }
        Ok(xdp)
    }

    /// Makes a frame of the next bytes of the image.
    fn seal(&mut self, number: u32) -> Result<(), Failure> {
        if self.at + SEGMENT > IMAGE {
            self.at = 0;
        }
        let place = self.frames.at(number as usize * FRAME);
        // SAFETY: the frame is free, so the kernel does not look at it; image and frame are long
        // enough and apart.
        let bytes = unsafe {
            let payload = place.add(HEADROOM);
            std::ptr::copy_nonoverlapping(self.image.at(self.at), payload, SEGMENT);
            std::slice::from_raw_parts_mut(place, HEADROOM + SEGMENT)
        };
        self.at += SEGMENT;
        let frame = UdpFrame {
            src_mac: MACS[0],
            dst_mac: MACS[1],
            src: SocketAddrV4::new(HERE, 69),
            dst: SocketAddrV4::new(THERE, SINK),
        };
        frame.seal(bytes, SEGMENT)?;
        Ok(())
    }

    fn kick(&self) -> io::Result<()> {
        // SAFETY: no memory is handed over.
        let sent = unsafe {
            let flags = libc::MSG_DONTWAIT;
            libc::sendto(self.socket.as_raw_fd(), std::ptr::null(), 0, flags, std::ptr::null(), 0)
        };
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // More is left than one call takes, or the completion ring is full.
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => Ok(()),
            _ if sent < 0 => Err(error),
            _ => Ok(()),
        }
    }

    fn collect(&mut self) {
        let (produced, mut consumed) = (self.completion.produced(), self.completion.consumed());
        while consumed != produced {
            // SAFETY: the kernel has written the entries up to its producer.
            let address = unsafe { self.completion.entry::<u64>(consumed).read() };
            self.free.push((address / FRAME as u64) as u32);
            consumed = consumed.wrapping_add(1);
        }
        self.completion.consume(consumed);
    }
}

impl Way for Xdp {
    fn burst(&mut self) -> Result<u64, Failure> {
        while self.free.len() < BURST as usize {
            self.collect();
            self.kick()?;
        }
        let mut produced = self.tx.produced();
        for _ in 0..BURST {
            let Some(number) = self.free.pop() else { break };
            if self.copies {
                self.seal(number)?;
            }
            let frame = libc::xdp_desc {
                addr: u64::from(number) * FRAME as u64,
                len: (HEADROOM + SEGMENT) as u32,
                options: 0,
            };
            // SAFETY: there are as many entries as frames, so this one is free.
            unsafe { self.tx.entry::<libc::xdp_desc>(produced).write(frame) };
            produced = produced.wrapping_add(1);
        }
        self.tx.produce(produced);
        self.kick()?;
        self.collect();
        Ok(BURST.into())
    }
}

impl Ring {
    fn map(
        socket: &OwnedFd,
        at: i64,
        offsets: &libc::xdp_ring_offset,
        entry: usize,
    ) -> io::Result<Ring> {
        let entries = offsets.desc as usize;
        let memory = Memory::of(socket, entries + FRAMES as usize * entry, at)?;
        let (producer, consumer) = (offsets.producer as usize, offsets.consumer as usize);
        Ok(Ring { memory, producer, consumer, entries })
    }

    fn counter(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the kernel's offsets are aligned and inside of the mapping; both sides use the
        // counters atomically.
        unsafe { AtomicU32::from_ptr(self.memory.at(at).cast()) }
    }

    fn produced(&self) -> u32 {
        self.counter(self.producer).load(Ordering::Acquire)
    }

    fn produce(&self, until: u32) {
        self.counter(self.producer).store(until, Ordering::Release);
    }

    fn consumed(&self) -> u32 {
        self.counter(self.consumer).load(Ordering::Acquire)
    }

    fn consume(&self, until: u32) {
        self.counter(self.consumer).store(until, Ordering::Release);
    }

    fn entry<T>(&self, number: u32) -> *mut T {
        self.memory.at(self.entries + (number % FRAMES) as usize * size_of::<T>()).cast()
    }
}

fn set<T>(socket: &OwnedFd, what: &str, name: i32, value: &T) -> Result<(), Failure> {
    namespaces::set_option(socket, libc::SOL_XDP, name, value)
        .map_err(|error| format!("{what}: {error}").into())
}

fn offsets(socket: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: a C struct of integers, for which all zero is a value; the kernel writes at most its
    // size.
    unsafe {
        let mut offsets: libc::xdp_mmap_offsets = std::mem::zeroed();
        let mut len = size_of_val(&offsets) as libc::socklen_t;
        let place = (&raw mut offsets).cast();
        let name = libc::XDP_MMAP_OFFSETS;
        match libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, place, &mut len) {
            0 => Ok(offsets),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Binds to the only queue of the veth; its driver copies.
fn bind(socket: &OwnedFd) -> Result<(), Failure> {
    // SAFETY: a string with its NUL.
    let sxdp_ifindex = unsafe { libc::if_nametoindex(c"veth0".as_ptr()) };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of_val(&address) as libc::socklen_t;
    let late = Instant::now() + Duration::from_secs(1);
    loop {
        // SAFETY: the address is readable for its size, and outlives the call.
        let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        let error = io::Error::last_os_error();
        match error.kind() {
            _ if result == 0 => return Ok(()),
            // The kernel lets go of a queue some time after its socket was closed.
            io::ErrorKind::ResourceBusy if Instant::now() < late => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => return Err(format!("bind to veth0: {error}").into()),
        }
    }
}
