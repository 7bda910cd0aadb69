//! Two network namespaces, a veth pair between them, and memory to send from.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::Failure;

/// Bytes of a datagram: a TFTP block of 1468 and its header.
pub(crate) const SEGMENT: usize = 1472;
/// Bytes of the image: more than any cache near a core holds.
pub(crate) const IMAGE: usize = 64 << 20;
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(10, 99, 8, 1);
pub(crate) const THERE: Ipv4Addr = Ipv4Addr::new(10, 99, 8, 2);
pub(crate) const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 8, 1], [2, 0, 0, 0, 8, 2]];
/// Where a socket refuses everything, and where one answers.
pub(crate) const SINK: u16 = 7001;
pub(crate) const ECHO: u16 = 7002;

/// This thread's namespace and the other, which lives as long as its thread waits.
pub(crate) struct Namespaces {
    sink: Socket,
    gro: bool,
    /// Dropped, it lets the other thread end.
    _over: mpsc::Sender<()>,
}

impl Namespaces {
    /// Moves the calling thread to CPU 0 and into a network namespace of its own, and makes the
    /// other.
    pub(crate) fn new(gro: bool) -> Result<Namespaces, Failure> {
        let (tell, told) = mpsc::channel();
        let (hand, handed) = mpsc::channel();
        let (over, wait) = mpsc::channel::<()>();
        let (go, gone) = mpsc::channel::<()>();
        thread::spawn(move || {
            let there = || -> Result<Socket, Failure> {
                settle(1)?;
                tell.send(rustix::thread::gettid().as_raw_nonzero().get())?;
                gone.recv()?;
                configure(THERE)?;
                answer()?;
                sink(gro)
            };
            let _ = hand.send(there().map_err(|error| error.to_string()));
            // Until the other side is dropped.
            let _ = wait.recv();
        });
        settle(0)?;
        let other = match told.recv() {
            Ok(other) => other,
            Err(_) => return Err(handed.recv()?.map_or_else(Into::into, |_| "no thread".into())),
        };
        let [here, there] = MACS.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
        ip(&format!(
            "link add veth0 address {here} type veth peer name veth0 address {there} netns {other}"
        ))?;
        configure(HERE)?;
        go.send(())?;
        let sink = handed.recv()??;
        ip(&format!("neigh replace {THERE} lladdr {there} dev veth0"))?;
        Ok(Namespaces { sink, gro, _over: over })
    }

    /// Whether datagrams that came together count as one.
    pub(crate) fn counts_together(&self) -> bool {
        self.gro
    }

    /// Datagrams that the sink has refused so far, as 32 bits count them.
    pub(crate) fn arrived(&self) -> u32 {
        let mut info = [0_u32; 9]; // SK_MEMINFO_VARS
        let mut len = size_of_val(&info) as libc::socklen_t;
        // SAFETY: info is writable for len bytes, and both outlive the call.
        unsafe {
            let value = info.as_mut_ptr().cast();
            let name = libc::SO_MEMINFO;
            libc::getsockopt(self.sink.as_raw_fd(), libc::SOL_SOCKET, name, value, &mut len);
        }
        info[8] // SK_MEMINFO_DROPS
    }
}

/// A thread in a namespace of its own, on one core.
fn settle(cpu: usize) -> Result<(), Failure> {
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(cpu);
    rustix::thread::sched_setaffinity(None, &cpus)?;
    // SAFETY: only the namespace of this thread changes; nothing that is shared with others goes
    // with it.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
        .map_err(|error| format!("a network namespace needs root: {error}"))?;
    Ok(())
}

fn configure(address: Ipv4Addr) -> Result<(), Failure> {
    ip(&format!("addr add {address}/24 dev veth0"))?;
    ip("link set veth0 up")
}

/// A child of this thread, so in its namespace.
fn ip(arguments: &str) -> Result<(), Failure> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// A socket whose filter refuses every datagram.
fn sink(gro: bool) -> Result<Socket, Failure> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    if gro {
        set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, &1_i32)?;
    }
    // Return 0: keep no byte.
    let mut program = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)?;
    socket.bind(&SockAddr::from(SocketAddrV4::new(THERE, SINK)))?;
    Ok(socket)
}

/// Answers every datagram in a thread of its own, until an empty one comes.
fn answer() -> Result<(), Failure> {
    let socket = std::net::UdpSocket::bind((THERE, ECHO))?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len @ 1.., peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], peer);
        }
    });
    Ok(())
}

/// A socket to send from, with segments of [`SEGMENT`] bytes where a send holds several.
pub(crate) fn sender(segments: u16) -> Result<OwnedFd, Failure> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &(8_i32 << 20))?;
    if segments > 1 {
        set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, &(SEGMENT as i32))?;
    }
    socket.bind(&SockAddr::from(SocketAddrV4::new(HERE, 0)))?;
    Ok(socket.into())
}

pub(crate) fn set_option<T>(
    socket: &impl AsFd,
    level: i32,
    name: i32,
    value: &T,
) -> io::Result<()> {
    // SAFETY: value is readable for its size, and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An IPv4 socket address as the kernel reads it.
pub(crate) fn address(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(THERE).to_be() },
        sin_zero: [0; 8],
    }
}

/// A descriptor of a call that returned one.
pub(crate) fn descriptor(result: i32) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made it for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// Processor time of all threads of this process, the kernel's for its rings among them.
pub(crate) fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Memory mapped for as long as it lives.
pub(crate) struct Memory {
    start: *mut u8,
    len: usize,
}

impl Memory {
    /// `len` bytes, in huge pages if `huge`.
    pub(crate) fn new(len: usize, huge: bool) -> io::Result<Memory> {
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: a new mapping of the kernel's choice touches no memory of ours; the advice
        // concerns this mapping alone.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let start = libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0);
            if start == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            libc::madvise(start, len, advice);
            start.cast::<u8>()
        };
        let memory = Memory { start, len };
        // SAFETY: the mapping is len bytes long and nobody else knows it yet.
        unsafe { std::slice::from_raw_parts_mut(start, len) }.fill(0xa5);
        Ok(memory)
    }

    /// A file's memory, shared with the kernel.
    pub(crate) fn of(file: &OwnedFd, len: usize, offset: i64) -> io::Result<Memory> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, flags, file.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Memory { start: start.cast(), len })
    }

    /// Where byte `at` is, which must be one of it.
    pub(crate) fn at(&self, at: usize) -> *mut u8 {
        assert!(at < self.len);
        self.start.wrapping_add(at)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever handed its bytes to the kernel has let go of
        // them: see the ways.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
