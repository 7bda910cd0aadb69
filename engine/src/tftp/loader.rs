//! The threads that access the disk, so that a slow one never stalls a shard. One thread reads
//! through a ring ([`super::reader`]); a few plain threads open and write files, and read where
//! io_uring is denied.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use bootstorm_net::Waker;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use crossbeam::queue::SegQueue;
use tokio::sync::mpsc;

use crate::config::UploadMode;

use super::frame::{Framer, Shape};
use super::images::{Failure, Image, Images};
use super::map::Requester;
use super::paths::{PathError, relative};
use super::reader;
use super::reason::Reason;
use super::service::Service;
use super::upload::Incoming;

/// Jobs that may wait. Further ones are refused, and the caller tries again.
const QUEUE: usize = 32_768;
/// Threads that open and write files, beside the one that reads. Two, so that others go on when one
/// hangs in a dead mount.
const OPEN_THREADS: usize = 2;
/// Threads where io_uring is denied and these read as well. Up to three may hang.
const FALLBACK_THREADS: usize = 4;

/// Which threads a loader has.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Threads {
    /// A thread that reads through a ring, and plain threads; only these where io_uring is denied.
    Ring,
    /// As where io_uring is denied.
    #[cfg(test)]
    Denied,
    /// None: every job is done by the thread that submits it.
    None,
}

/// A job for the loader's threads.
#[derive(Debug)]
pub(super) enum Job {
    /// Open a file and frame its first chunk.
    Open { loader_queue: Arc<LoaderQueue>, transfer: u64, request: FileRequest, shape: Shape },
    /// Frame a chunk.
    Chunk(ChunkRequest),
    /// Begin an upload.
    Create { loader_queue: Arc<LoaderQueue>, transfer: u64, request: FileRequest },
    /// Write a part of an upload; with `last` the file then gets its name.
    Write {
        loader_queue: Arc<LoaderQueue>,
        transfer: u64,
        file: Arc<Incoming>,
        offset: u64,
        bytes: Vec<u8>,
        last: bool,
    },
    /// Drop an upload, which removes its file.
    Discard { file: Arc<Incoming> },
}

/// A chunk to be read.
#[derive(Debug)]
pub(super) struct ChunkRequest {
    pub(super) image: Arc<Image>,
    pub(super) index: usize,
    /// The transfer that begins with it, and the queue of its shard.
    opening: Option<(Arc<LoaderQueue>, u64)>,
}

impl ChunkRequest {
    /// Stores the chunk that was read, or the error, and completes the transfer's opening.
    pub(super) fn loaded(self, images: &Images, read: Result<Option<Framer>, Failure>) {
        images.loaded(&self.image, self.index, read);
        self.opened();
    }

    fn load(self, images: &Images) {
        images.load(&self.image, self.index);
        self.opened();
    }

    fn opened(self) {
        let Some((loader_queue, transfer)) = self.opening else { return };
        let result = match self.image.failure() {
            Some(failure) => Err(failure.into()),
            None => Ok(self.image),
        };
        loader_queue.post(Completion::Opened { transfer, result });
    }
}

/// A file name from a request.
#[derive(Debug)]
pub(super) struct FileRequest {
    pub(super) service: Arc<Service>,
    pub(super) name: Vec<u8>,
    pub(super) requester: Requester,
}

/// The result of a job.
#[derive(Debug)]
pub(super) enum Completion {
    Opened { transfer: u64, result: Result<Arc<Image>, Reason> },
    Created { transfer: u64, result: Result<Arc<Incoming>, Reason> },
    Written { transfer: u64, last: bool, result: Result<(), Reason> },
}

/// The completed jobs of a shard.
#[derive(Debug)]
pub(super) struct LoaderQueue {
    completions: SegQueue<Completion>,
    waker: Waker,
}

impl LoaderQueue {
    pub(super) fn new(waker: Waker) -> Self {
        Self { completions: SegQueue::new(), waker }
    }

    /// Wakes the shard.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn take(&self) -> Option<Completion> {
        self.completions.pop()
    }

    fn post(&self, completion: Completion) {
        self.completions.push(completion);
        self.wake();
    }
}

/// The threads. Dropping it finishes the jobs that wait and ends the threads.
#[derive(Debug)]
pub(super) struct Loader {
    /// `None` without threads.
    queue: Option<Sender<Job>>,
    worker: Worker,
    threads: Vec<JoinHandle<()>>,
    reader: Option<JoinHandle<()>>,
}

/// What a thread needs to do a job.
#[derive(Clone, Debug)]
struct Worker {
    images: Arc<Images>,
    /// The queue of the thread that reads through a ring, if there is one.
    ring: Option<mpsc::Sender<ChunkRequest>>,
}

impl Loader {
    pub(super) fn new(threads: Threads, images: Arc<Images>) -> io::Result<Self> {
        let ring = match threads {
            Threads::Ring => match reader::start(Arc::clone(&images), QUEUE) {
                Ok(ring) => Some(ring),
                Err(error) => {
                    tracing::debug!("TFTP files are read without io_uring: {error}");
                    None
                }
            },
            #[cfg(test)]
            Threads::Denied => None,
            Threads::None => None,
        };
        let (ring, reader) = ring.unzip();
        let count = match threads {
            Threads::None => 0,
            _ if ring.is_some() => OPEN_THREADS,
            _ => FALLBACK_THREADS,
        };
        let (sender, receiver) = bounded(QUEUE);
        let worker = Worker { images, ring };
        let mut loader = Self { queue: None, worker, threads: Vec::new(), reader };
        for index in 0..count {
            let (jobs, worker) = (receiver.clone(), loader.worker.clone());
            let thread = std::thread::Builder::new().name(format!("tftp-disk-{index}"));
            loader.threads.push(thread.spawn(move || work(&jobs, &worker))?);
            loader.queue = Some(sender.clone());
        }
        Ok(loader)
    }

    #[cfg(test)]
    pub(super) fn has_ring(&self) -> bool {
        self.reader.is_some()
    }

    /// Queues a job, or returns it if too many wait.
    pub(super) fn submit(&self, job: Job) -> Result<(), Job> {
        match (job, &self.queue) {
            (Job::Chunk(wanted), _) if self.worker.ring.is_some() => {
                self.worker.pass(wanted).map_err(Job::Chunk)
            }
            (job, Some(queue)) => queue.try_send(job).map_err(TrySendError::into_inner),
            (job, None) => {
                self.worker.run(job);
                Ok(())
            }
        }
    }

    /// Has a chunk read, and then wakes the shard of `loader_queue`, if there is one. Returns false
    /// if too many jobs wait.
    pub(super) fn want(
        &self,
        image: &Arc<Image>,
        index: usize,
        loader_queue: Option<&Arc<LoaderQueue>>,
    ) -> bool {
        if !image.ask(index, loader_queue) {
            return true;
        }
        let wanted = ChunkRequest { image: Arc::clone(image), index, opening: None };
        let taken = self.submit(Job::Chunk(wanted)).is_ok();
        if !taken {
            image.unask(index);
        }
        taken
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // The threads hold senders of the ring's queue, so it closes when the last of them ends.
        self.queue = None;
        self.worker.ring = None;
        for thread in self.threads.drain(..).chain(self.reader.take()) {
            // The panic of a thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Receiver<Job>, worker: &Worker) {
    crate::privileges::renounce_network_or_warn();
    while let Ok(job) = jobs.recv() {
        worker.run(job);
    }
}

impl Worker {
    /// Queues a chunk for the ring, or returns it if there is no ring or too many wait.
    fn pass(&self, wanted: ChunkRequest) -> Result<(), ChunkRequest> {
        match &self.ring {
            Some(ring) => ring.try_send(wanted).map_err(mpsc::error::TrySendError::into_inner),
            None => Err(wanted),
        }
    }

    fn run(&self, job: Job) {
        match job {
            Job::Open { loader_queue, transfer, request, shape } => {
                match open(&request, shape, &self.images) {
                    Ok(image) => self.begin(image, loader_queue, transfer),
                    Err(reason) => {
                        loader_queue.post(Completion::Opened { transfer, result: Err(reason) })
                    }
                }
            }
            Job::Chunk(wanted) => wanted.load(&self.images),
            Job::Create { loader_queue, transfer, request } => {
                let result = create(&request).map(Arc::new);
                loader_queue.post(Completion::Created { transfer, result });
            }
            Job::Write { loader_queue, transfer, file, offset, bytes, last } => {
                let written = file.write(offset, &bytes).map_err(|_| Reason::UploadNotWritten);
                let result = written.and_then(|()| match last {
                    true => file.store().map_err(|error| match error {
                        PathError::Failed => Reason::UploadNotWritten,
                        error => error.into(),
                    }),
                    false => Ok(()),
                });
                loader_queue.post(Completion::Written { transfer, last, result });
            }
            Job::Discard { file } => drop(file),
        }
    }

    /// Reads the first chunk before the transfer begins, so that a file that cannot be read is
    /// refused instead of broken off. If it is being read for another transfer, this one begins and
    /// waits for it as for any chunk.
    fn begin(&self, image: Arc<Image>, loader_queue: Arc<LoaderQueue>, transfer: u64) {
        let load = image.ask(0, None);
        let first = ChunkRequest { image, index: 0, opening: Some((loader_queue, transfer)) };
        if !load {
            first.opened();
        } else if let Err(first) = self.pass(first) {
            first.load(&self.images);
        }
    }
}

fn open(request: &FileRequest, shape: Shape, images: &Images) -> Result<Arc<Image>, Reason> {
    let FileRequest { service, name, requester } = request;
    let exists = |name: &[u8]| relative(name).and_then(|path| service.root.read(&path)).is_ok();
    let name = service.map.apply(name, *requester, exists)?;
    let (file, stat) = service.root.read(&relative(&name)?)?;
    Ok(images.image(file, &stat, shape))
}

fn create(request: &FileRequest) -> Result<Incoming, Reason> {
    let FileRequest { service, name, requester } = request;
    // For rules `E`: the directory must exist. Whether the file can be created shows later.
    let free =
        |name: &[u8]| relative(name).and_then(|path| service.root.parent(&path).map(drop)).is_ok();
    let name = service.map.apply(name, *requester, free)?;
    let overwrite = service.upload == UploadMode::Overwrite;
    Ok(Incoming::create(&service.root, &relative(&name)?, overwrite)?)
}
