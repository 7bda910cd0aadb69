//! Ways of io_uring.

use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::namespaces::{self, IMAGE, Memory, SEGMENT};
use crate::{Failure, Make, Way};

/// The way that others are compared with: what the packet engine does.
pub(crate) const PLAIN: &str = "sendmsg (plain)";

/// IORING_SEND_ZC_REPORT_USAGE and what it reports in a notification.
const REPORT_USAGE: u16 = 1 << 3;
const COPIED: u32 = 1 << 31;
/// Sends of a chain.
const CHAIN: usize = 8;
/// user_data of sends, so that nothing else is taken for one.
const SEND: u64 = 7;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Kind {
    /// IORING_OP_SENDMSG, as the packet engine sends windows.
    Message,
    /// IORING_OP_SEND, for which the socket has the segment's length.
    Send,
    /// The same in chains of eight (IOSQE_IO_LINK).
    Linked,
    /// sendmmsg of so many datagrams a call, without a ring.
    Calls(usize),
    /// From a table of files (IOSQE_FIXED_FILE).
    FixedFile,
    /// A thread of the kernel takes what is submitted (IORING_SETUP_SQPOLL).
    Polled,
    /// IORING_OP_SEND_ZC, from memory that is registered or not.
    ZeroCopy { registered: bool },
    /// IORING_OP_SENDMSG_ZC.
    MessageZeroCopy,
}

/// Every way of io_uring, the plain one first.
pub(crate) fn ways(segments: u16) -> Vec<(&'static str, Make)> {
    let way = |kind, sockets, huge| -> Make {
        Box::new(move |_| Ok(Box::new(Blast::new(kind, segments, sockets, huge)?)))
    };
    vec![
        (PLAIN, way(Kind::Message, 1, false)),
        ("send", way(Kind::Send, 1, false)),
        ("sendmsg again", way(Kind::Message, 1, false)),
        ("sendmsg, 4 sockets in turn", way(Kind::Message, 4, false)),
        ("sendmsg, 16 sockets in turn", way(Kind::Message, 16, false)),
        ("sendmsg from huge pages", way(Kind::Message, 1, true)),
        ("sendmmsg of 64", way(Kind::Calls(64), 1, false)),
        ("sendmmsg of 4", way(Kind::Calls(4), 1, false)),
        ("sendmmsg of 2", way(Kind::Calls(2), 1, false)),
        ("sendmmsg of 1", way(Kind::Calls(1), 1, false)),
        ("send, linked in eights", way(Kind::Linked, 1, false)),
        ("send, direct descriptor", way(Kind::FixedFile, 1, false)),
        ("send, SQPOLL", way(Kind::Polled, 1, false)),
        ("SEND_ZC", way(Kind::ZeroCopy { registered: false }, 1, false)),
        ("SEND_ZC, registered buffer", way(Kind::ZeroCopy { registered: true }, 1, false)),
        ("SEND_ZC, registered huge pages", way(Kind::ZeroCopy { registered: true }, 1, true)),
        ("SENDMSG_ZC", way(Kind::MessageZeroCopy, 1, false)),
    ]
}

struct Blast {
    // Before the memory: what the ring has in hand is over when it is dropped, see `burst`.
    ring: IoUring,
    kind: Kind,
    sockets: Vec<OwnedFd>,
    image: Memory,
    len: usize,
    at: usize,
    segments: u16,
    sends: usize,
    target: Box<libc::sockaddr_in>,
    messages: Vec<Message>,
    next: usize,
    notified: u64,
    copied: u64,
}

/// A message header and what it leads to, at places that stay.
struct Message {
    header: Box<libc::msghdr>,
    piece: Box<libc::iovec>,
    /// The header leads here.
    _control: Box<[u64; 3]>,
}

impl Blast {
    fn new(kind: Kind, segments: u16, sockets: usize, huge: bool) -> Result<Blast, Failure> {
        let sends = if segments == 1 { 64 } else { 8 };
        let mut builder = IoUring::builder();
        match kind {
            // On the sender's own core: what it costs there is what a shard would pay.
            Kind::Polled => builder.setup_sqpoll(50).setup_sqpoll_cpu(0),
            _ => builder.setup_single_issuer().setup_defer_taskrun(),
        };
        let ring: IoUring = builder.build(64)?;
        // For messages the length of a segment comes with each.
        let by_socket = !matches!(kind, Kind::Message | Kind::MessageZeroCopy | Kind::Calls(_));
        let make = |_| namespaces::sender(if by_socket { segments } else { 1 });
        let sockets = (0..sockets).map(make).collect::<Result<Vec<_>, _>>()?;
        let image = Memory::new(IMAGE, huge)?;
        let len = usize::from(segments) * SEGMENT;
        if kind == (Kind::ZeroCopy { registered: true }) {
            let whole = libc::iovec { iov_base: image.at(0).cast(), iov_len: IMAGE };
            // SAFETY: the image lives longer than the ring.
            unsafe { ring.submitter().register_buffers(&[whole])? };
        }
        if kind == Kind::FixedFile {
            ring.submitter().register_files(&[sockets[0].as_raw_fd()])?;
        }
        let mut target = Box::new(namespaces::address(namespaces::SINK));
        let messages = (0..sends).map(|_| Message::new(&mut target, segments)).collect::<Vec<_>>();
        Ok(Blast {
            ring,
            kind,
            sockets,
            image,
            len,
            at: 0,
            segments,
            sends,
            target,
            messages,
            next: 0,
            notified: 0,
            copied: 0,
        })
    }

    /// The next part of the image.
    fn bytes(&mut self) -> *mut u8 {
        if self.at + self.len > IMAGE {
            self.at = 0;
        }
        let bytes = self.image.at(self.at);
        self.at += self.len;
        bytes
    }

    /// Sends all messages, `most` in each call of sendmmsg.
    fn calls(&mut self, most: usize) -> Result<(), Failure> {
        let mut headers = Vec::with_capacity(self.sends);
        for place in 0..self.sends {
            let bytes = self.bytes();
            let message = &mut self.messages[place];
            message.piece.iov_base = bytes.cast();
            message.piece.iov_len = self.len;
            headers.push(libc::mmsghdr { msg_hdr: *message.header, msg_len: 0 });
        }
        for part in headers.chunks_mut(most) {
            let (start, count) = (part.as_mut_ptr(), part.len() as libc::c_uint);
            // SAFETY: the headers lead to the target, the messages and the image, which outlive
            // the call.
            let sent = unsafe {
                libc::sendmmsg(self.sockets[0].as_raw_fd(), start, count, libc::MSG_DONTWAIT)
            };
            if usize::try_from(sent) != Ok(part.len()) {
                return Err(format!("sendmmsg: {sent} of {}", part.len()).into());
            }
        }
        Ok(())
    }

    fn entry(&mut self, place: usize) -> squeue::Entry {
        let bytes = self.bytes();
        self.next += 1;
        let fd = Fd(self.sockets[self.next % self.sockets.len()].as_raw_fd());
        let target = std::ptr::from_ref(&*self.target).cast::<libc::sockaddr>();
        let target_len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let len = self.len as u32;
        let message = &mut self.messages[place];
        message.piece.iov_base = bytes.cast();
        message.piece.iov_len = self.len;
        let header = std::ptr::from_ref(&*message.header);
        let quiet = squeue::Flags::SKIP_SUCCESS;
        let wait = libc::MSG_DONTWAIT;
        let entry = match self.kind {
            Kind::Message | Kind::Calls(_) => {
                opcode::SendMsg::new(fd, header).flags(wait as u32).build().flags(quiet)
            }
            Kind::FixedFile => opcode::Send::new(Fixed(0), bytes, len)
                .flags(wait)
                .dest_addr(target)
                .dest_addr_len(target_len)
                .build()
                .flags(quiet),
            Kind::Send | Kind::Linked | Kind::Polled => {
                let flags = match self.kind {
                    // The kernel goes on with a chain when its last part is over, so its end must
                    // be seen.
                    Kind::Linked if place % CHAIN == CHAIN - 1 => squeue::Flags::empty(),
                    Kind::Linked => quiet | squeue::Flags::IO_LINK,
                    _ => quiet,
                };
                opcode::Send::new(fd, bytes, len)
                    .flags(wait)
                    .dest_addr(target)
                    .dest_addr_len(target_len)
                    .build()
                    .flags(flags)
            }
            Kind::ZeroCopy { registered } => opcode::SendZc::new(fd, bytes, len)
                .buf_index(registered.then_some(0))
                .flags(wait)
                .dest_addr(target)
                .dest_addr_len(target_len)
                .zc_flags(REPORT_USAGE)
                .build(),
            Kind::MessageZeroCopy => {
                opcode::SendMsgZc::new(fd, header).flags(wait as u32).ioprio(REPORT_USAGE).build()
            }
        };
        entry.user_data(SEND)
    }

    /// Takes completions; `awaited` ends of chains, or notifications that the bytes are free, must
    /// come first.
    fn reap(&mut self, mut awaited: usize) -> Result<(), Failure> {
        loop {
            for completion in self.ring.completion() {
                let notifies = cqueue::notif(completion.flags());
                awaited =
                    awaited.saturating_sub(usize::from(notifies || self.kind == Kind::Linked));
                if notifies {
                    self.notified += 1;
                    self.copied += u64::from(completion.result() as u32 & COPIED != 0);
                } else if completion.result() < 0 {
                    let error = std::io::Error::from_raw_os_error(-completion.result());
                    return Err(format!("{:?}: {error}", self.kind).into());
                }
            }
            if awaited == 0 {
                return Ok(());
            }
            self.ring.submitter().submit_and_wait(1)?;
        }
    }
}

impl Way for Blast {
    fn burst(&mut self) -> Result<u64, Failure> {
        if let Kind::Calls(most) = self.kind {
            self.calls(most)?;
            return Ok(self.sends as u64 * u64::from(self.segments));
        }
        for place in 0..self.sends {
            let entry = self.entry(place);
            // SAFETY: image, target and messages live as long as the ring. A message is written
            // again only when the call below has taken it, and only ways whose entries say all by
            // themselves leave some behind (`Polled`).
            while unsafe { self.ring.submission().push(&entry) }.is_err() {
                self.ring.submitter().submit()?;
                self.ring.submitter().squeue_wait()?;
            }
        }
        self.ring.submitter().submit()?;
        self.reap(match self.kind {
            Kind::ZeroCopy { .. } | Kind::MessageZeroCopy => self.sends,
            Kind::Linked => self.sends / CHAIN,
            _ => 0,
        })?;
        Ok(self.sends as u64 * u64::from(self.segments))
    }

    fn note(&self) -> String {
        match self.notified {
            0 => String::new(),
            notified => format!("{} of {notified} copied by the kernel", self.copied),
        }
    }
}

impl Message {
    fn new(target: &mut libc::sockaddr_in, segments: u16) -> Message {
        let mut piece = Box::new(libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });
        let mut control = Box::new([0_u64; 3]);
        // SAFETY: msghdr is a C struct of integers and pointers; all zero is the empty message.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_name = std::ptr::from_mut(target).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = &raw mut *piece;
        header.msg_iovlen = 1;
        if segments > 1 {
            // cmsghdr: length, level and type; then the length of a segment.
            control[0] = 18;
            control[1] =
                u64::from(libc::SOL_UDP as u32) | u64::from(libc::UDP_SEGMENT as u32) << 32;
            control[2] = SEGMENT as u64;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = 24 as _;
        }
        Message { header, piece, _control: control }
    }
}
