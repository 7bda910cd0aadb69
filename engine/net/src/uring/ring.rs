//! The ring itself: made, entered, and emptied before it is closed.

use std::io;
use std::time::Duration;

use io_uring::squeue::SubmissionQueue;
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, squeue};

/// How long the kernel may take to end cancelled requests.
const CANCEL: Duration = Duration::from_millis(100);

/// How long a call that submits may wait for a completion.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    No,
    AtMost(Duration),
    Forever,
}

/// One ring. The only holder of its descriptor: neither wakers nor requests have one, and a child
/// process loses it with exec.
pub(super) struct Ring {
    ring: IoUring,
}

impl Ring {
    /// A ring with what this kernel has of the flags that only make it quicker.
    pub(super) fn open(submissions: u32, completions: u32) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder
            .dontfork()
            .setup_cqsize(completions)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag();
        // Linux 6.6.
        let ring = match builder.clone().setup_no_sqarray().build(submissions) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(submissions),
            result => result,
        }?;
        Ok(Ring { ring })
    }

    pub(super) fn io_uring(&self) -> &IoUring {
        &self.ring
    }

    pub(super) fn submission(&mut self) -> SubmissionQueue<'_> {
        self.ring.submission()
    }

    /// Completions that can be had without a call.
    pub(super) fn completions(&mut self) -> io_uring::cqueue::CompletionQueue<'_> {
        self.ring.completion()
    }

    /// Queues an entry; false if the queue is full.
    ///
    /// # Safety
    /// What the entry leads to lives until the kernel is done with it.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Whether the kernel has taken everything that was queued.
    pub(super) fn is_submitted(&mut self) -> bool {
        self.ring.submission().is_empty()
    }

    /// Whether completions or work towards them wait for a call.
    pub(super) fn needs_call(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// Whether completions did not fit in their queue and wait in the kernel.
    pub(super) fn has_overflow(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// One call: submits what is queued, as far as the kernel takes it, and waits for a completion
    /// if asked to. False if the kernel was short of memory or of room for completions.
    ///
    /// # Errors
    /// Those that no repetition cures.
    pub(super) fn submit(&mut self, wait: Wait) -> io::Result<bool> {
        let submitter = self.ring.submitter();
        let result = match wait {
            Wait::No => submitter.submit(),
            Wait::Forever => submitter.submit_and_wait(1),
            Wait::AtMost(time) => {
                let timeout = Timespec::from(time);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
        };
        match result {
            Err(error) if is_shortage(&error) => Ok(false),
            Err(error) if !is_interruption(&error) => Err(error),
            _ => Ok(self.is_submitted()),
        }
    }

    /// One call that submits nothing and takes what the kernel has done meanwhile.
    ///
    /// # Errors
    /// Those that no repetition cures.
    pub(super) fn reap(&mut self) -> io::Result<()> {
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: nothing is submitted and no argument is given.
        match unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, flags, None) } {
            Err(error) if !is_shortage(&error) && !is_interruption(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends the requests that match, before it returns. False if that has to be tried again.
    ///
    /// # Errors
    /// Those that no repetition cures.
    pub(super) fn cancel(&self, requests: CancelBuilder) -> io::Result<bool> {
        let timeout = Some(Timespec::from(CANCEL));
        match self.ring.submitter().register_sync_cancel(timeout, requests) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if is_shortage(&error) || is_interruption(&error) => Ok(false),
            result => result.map(|()| true),
        }
    }
}

/// The kernel has no memory at the moment, or wants completions to be taken out first.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM))
}

/// Time is up, or a signal came.
fn is_interruption(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR))
}
