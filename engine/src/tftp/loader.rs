//! What touches the disk, so that a slow one never stalls a shard: one thread with a ring reads ([`super::reader`]), a few do what
//! rings cannot. Where rings are denied these read as well.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use bootstorm_net::Waker;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use crossbeam::queue::SegQueue;
use tokio::sync::mpsc;

use super::frame::{Framer, Shape};
use super::images::{Failure, Image, Images};
use super::map::Requester;
use super::paths::{PathError, relative};
use super::reader;
use super::reason::Reason;
use super::service::Service;
use super::upload::Incoming;

/// Jobs that may wait; what comes on top is refused and asked for again.
const QUEUE: usize = 32_768;
/// Threads that open and write files, beside the one that reads. Two, so that one that hangs in a dead mount does not stop the other.
const OPEN_THREADS: usize = 2;
/// Threads for everything, where no ring reads: a few can hang before all do.
const FALLBACK_THREADS: usize = 4;

/// What a server has.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Threads {
    /// A ring that reads, and threads for the rest; where rings are denied more of these.
    Ring,
    /// As where rings are denied.
    #[cfg(test)]
    Denied,
    /// None: every job is done where it is asked for.
    #[cfg(test)]
    None,
}

/// What a shard wants to have done.
#[derive(Debug)]
pub(super) enum Job {
    /// Open a file and frame its beginning.
    Open { loader_queue: Arc<LoaderQueue>, transfer: u64, request: FileRequest, shape: Shape },
    /// Frame a chunk.
    Chunk(ChunkRequest),
    /// Begin an upload.
    Create { loader_queue: Arc<LoaderQueue>, transfer: u64, request: FileRequest },
    /// Write a piece of an upload; `last` puts it in its place.
    Write {
        loader_queue: Arc<LoaderQueue>,
        transfer: u64,
        file: Arc<Incoming>,
        offset: u64,
        bytes: Vec<u8>,
        last: bool,
    },
    /// Forget an upload; the drop removes its file.
    Discard { file: Arc<Incoming> },
}

/// A chunk that is to be read.
#[derive(Debug)]
pub(super) struct ChunkRequest {
    pub(super) image: Arc<Image>,
    pub(super) index: usize,
    /// Whose transfer begins with it.
    opening: Option<(Arc<LoaderQueue>, u64)>,
}

impl ChunkRequest {
    /// It was read, or not: the images get it, and who asked is told.
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

/// A name as it was asked for.
#[derive(Debug)]
pub(super) struct FileRequest {
    pub(super) service: Arc<Service>,
    pub(super) name: Vec<u8>,
    pub(super) requester: Requester,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Completion {
    Opened { transfer: u64, result: Result<Arc<Image>, Reason> },
    Created { transfer: u64, result: Result<Arc<Incoming>, Reason> },
    Written { transfer: u64, last: bool, result: Result<(), Reason> },
}

/// Where a shard is told.
#[derive(Debug)]
pub(super) struct LoaderQueue {
    completions: SegQueue<Completion>,
    waker: Waker,
}

impl LoaderQueue {
    pub(super) fn new(waker: Waker) -> Self {
        Self { completions: SegQueue::new(), waker }
    }

    /// Something has come: the shard looks at what it waits for.
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

/// The threads. Dropped, it finishes what waits and ends them.
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
    /// The ring's queue, if there is one.
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
            Threads::Denied | Threads::None => None,
        };
        let (ring, reader) = ring.unzip();
        let count = match threads {
            #[cfg(test)]
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

    /// Gives a job to the threads, or the job back when too many wait.
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

    /// Asks for a chunk on behalf of a shard, or ahead of need without one; false when too many jobs wait.
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
        // The threads may have chunks read, so the ring's queue closes with the last of them.
        self.queue = None;
        self.worker.ring = None;
        for thread in self.threads.drain(..).chain(self.reader.take()) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Receiver<Job>, worker: &Worker) {
    while let Ok(job) = jobs.recv() {
        worker.run(job);
    }
}

impl Worker {
    /// Gives a chunk to the ring, or back when there is none or too many wait.
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

    /// A transfer begins when the first chunk is there, so that what cannot be read is refused and not broken off. Who finds that it is
    /// being read for another waits for it as for any chunk.
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
    // Whether a name can be written to shows when it is tried; for rules `E` a free name is a good one.
    let free =
        |name: &[u8]| relative(name).and_then(|path| service.root.parent(&path).map(drop)).is_ok();
    let name = service.map.apply(name, *requester, free)?;
    Ok(Incoming::create(&service.root, &relative(&name)?)?)
}
