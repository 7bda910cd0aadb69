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
use super::map::Asker;
use super::paths::{PathError, relative};
use super::reader;
use super::reason::Reason;
use super::service::Service;
use super::upload::Incoming;

/// Jobs that may wait; what comes on top is refused and asked for again.
const QUEUE: usize = 32_768;
/// Threads that open and write files, beside the one that reads. Two, so that one that hangs in a dead mount does not stop the other.
const OPENERS: usize = 2;
/// Threads for everything, where no ring reads: a few can hang before all do.
const READERS: usize = 4;

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
    Open { door: Arc<Door>, transfer: u64, request: Named, shape: Shape },
    /// Frame a chunk.
    Chunk(Wanted),
    /// Begin an upload.
    Create { door: Arc<Door>, transfer: u64, request: Named },
    /// Write a piece of an upload; `last` puts it in its place.
    Write {
        door: Arc<Door>,
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
pub(super) struct Wanted {
    pub(super) image: Arc<Image>,
    pub(super) index: usize,
    /// Whose transfer begins with it.
    opening: Option<(Arc<Door>, u64)>,
}

impl Wanted {
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
        let Some((door, transfer)) = self.opening else { return };
        let result = match self.image.failure() {
            Some(failure) => Err(failure.into()),
            None => Ok(self.image),
        };
        door.post(News::Opened { transfer, result });
    }
}

/// A name as it was asked for.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) service: Arc<Service>,
    pub(super) name: Vec<u8>,
    pub(super) asker: Asker,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum News {
    Opened { transfer: u64, result: Result<Arc<Image>, Reason> },
    Created { transfer: u64, result: Result<Arc<Incoming>, Reason> },
    Written { transfer: u64, last: bool, result: Result<(), Reason> },
}

/// Where a shard is told.
#[derive(Debug)]
pub(super) struct Door {
    news: SegQueue<News>,
    waker: Waker,
}

impl Door {
    pub(super) fn new(waker: Waker) -> Self {
        Self { news: SegQueue::new(), waker }
    }

    /// Something has come: the shard looks at what it waits for.
    pub(super) fn ring(&self) {
        self.waker.wake();
    }

    pub(super) fn take(&self) -> Option<News> {
        self.news.pop()
    }

    fn post(&self, news: News) {
        self.news.push(news);
        self.ring();
    }
}

/// The threads. Dropped, it finishes what waits and ends them.
#[derive(Debug)]
pub(super) struct Loader {
    /// `None` without threads.
    queue: Option<Sender<Job>>,
    disk: Disk,
    threads: Vec<JoinHandle<()>>,
    reader: Option<JoinHandle<()>>,
}

/// What a thread needs to do a job.
#[derive(Clone, Debug)]
struct Disk {
    images: Arc<Images>,
    /// The ring's queue, if there is one.
    ring: Option<mpsc::Sender<Wanted>>,
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
            _ if ring.is_some() => OPENERS,
            _ => READERS,
        };
        let (sender, receiver) = bounded(QUEUE);
        let disk = Disk { images, ring };
        let mut loader = Self { queue: None, disk, threads: Vec::new(), reader };
        for index in 0..count {
            let (jobs, disk) = (receiver.clone(), loader.disk.clone());
            let thread = std::thread::Builder::new().name(format!("tftp-disk-{index}"));
            loader.threads.push(thread.spawn(move || work(&jobs, &disk))?);
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
            (Job::Chunk(wanted), _) if self.disk.ring.is_some() => {
                self.disk.pass(wanted).map_err(Job::Chunk)
            }
            (job, Some(queue)) => queue.try_send(job).map_err(TrySendError::into_inner),
            (job, None) => {
                self.disk.run(job);
                Ok(())
            }
        }
    }

    /// Asks for a chunk on behalf of a shard, or ahead of need without one; false when too many jobs wait.
    pub(super) fn want(&self, image: &Arc<Image>, index: usize, door: Option<&Arc<Door>>) -> bool {
        if !image.ask(index, door) {
            return true;
        }
        let wanted = Wanted { image: Arc::clone(image), index, opening: None };
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
        self.disk.ring = None;
        for thread in self.threads.drain(..).chain(self.reader.take()) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Receiver<Job>, disk: &Disk) {
    while let Ok(job) = jobs.recv() {
        disk.run(job);
    }
}

impl Disk {
    /// Gives a chunk to the ring, or back when there is none or too many wait.
    fn pass(&self, wanted: Wanted) -> Result<(), Wanted> {
        match &self.ring {
            Some(ring) => ring.try_send(wanted).map_err(mpsc::error::TrySendError::into_inner),
            None => Err(wanted),
        }
    }

    fn run(&self, job: Job) {
        match job {
            Job::Open { door, transfer, request, shape } => {
                match open(&request, shape, &self.images) {
                    Ok(image) => self.begin(image, door, transfer),
                    Err(reason) => door.post(News::Opened { transfer, result: Err(reason) }),
                }
            }
            Job::Chunk(wanted) => wanted.load(&self.images),
            Job::Create { door, transfer, request } => {
                let result = create(&request).map(Arc::new);
                door.post(News::Created { transfer, result });
            }
            Job::Write { door, transfer, file, offset, bytes, last } => {
                let written = file.write(offset, &bytes).map_err(|_| Reason::UploadNotWritten);
                let result = written.and_then(|()| match last {
                    true => file.store().map_err(|error| match error {
                        PathError::Failed => Reason::UploadNotWritten,
                        error => error.into(),
                    }),
                    false => Ok(()),
                });
                door.post(News::Written { transfer, last, result });
            }
            Job::Discard { file } => drop(file),
        }
    }

    /// A transfer begins when the first chunk is there, so that what cannot be read is refused and not broken off. Who finds that it is
    /// being read for another waits for it as for any chunk.
    fn begin(&self, image: Arc<Image>, door: Arc<Door>, transfer: u64) {
        let load = image.ask(0, None);
        let first = Wanted { image, index: 0, opening: Some((door, transfer)) };
        if !load {
            first.opened();
        } else if let Err(first) = self.pass(first) {
            first.load(&self.images);
        }
    }
}

fn open(request: &Named, shape: Shape, images: &Images) -> Result<Arc<Image>, Reason> {
    let Named { service, name, asker } = request;
    let exists = |name: &[u8]| relative(name).and_then(|path| service.root.read(&path)).is_ok();
    let name = service.map.apply(name, *asker, exists)?;
    let (file, stat) = service.root.read(&relative(&name)?)?;
    Ok(images.image(file, &stat, shape))
}

fn create(request: &Named) -> Result<Incoming, Reason> {
    let Named { service, name, asker } = request;
    // Whether a name can be written to shows when it is tried; for rules `E` a free name is a good one.
    let free =
        |name: &[u8]| relative(name).and_then(|path| service.root.parent(&path).map(drop)).is_ok();
    let name = service.map.apply(name, *asker, free)?;
    Ok(Incoming::create(&service.root, &relative(&name)?)?)
}
