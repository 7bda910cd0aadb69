//! The threads that touch the disk, so that a slow one never stalls a shard.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use bootstorm_net::Waker;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use crossbeam::queue::SegQueue;

use super::frame::Shape;
use super::images::{Image, Images};
use super::map::Asker;
use super::paths::{PathError, relative};
use super::reason::Reason;
use super::service::Service;
use super::upload::Incoming;

/// Jobs that may wait; what comes on top is refused and asked for again.
const QUEUE: usize = 32_768;

/// What a shard wants to have done.
#[derive(Debug)]
pub(super) enum Job {
    /// Open a file and frame its beginning.
    Open { door: Arc<Door>, transfer: u64, request: Named, shape: Shape },
    /// Frame a chunk.
    Chunk { image: Arc<Image>, index: usize },
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

/// The pool. Dropped, it finishes what waits and ends its threads.
#[derive(Debug)]
pub(super) struct Loader {
    /// `None` without threads: then every job is done where it is asked for, which tests need.
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    images: Arc<Images>,
}

impl Loader {
    pub(super) fn new(threads: usize, images: Arc<Images>) -> io::Result<Self> {
        let (sender, receiver) = bounded(QUEUE);
        let mut loader = Self { queue: Some(sender), threads: Vec::new(), images };
        for index in 0..threads {
            let (jobs, images) = (receiver.clone(), Arc::clone(&loader.images));
            let thread = std::thread::Builder::new().name(format!("tftp-disk-{index}"));
            loader.threads.push(thread.spawn(move || work(&jobs, &images))?);
        }
        if threads == 0 {
            loader.queue = None;
        }
        Ok(loader)
    }

    /// Gives a job to the pool, or the job back when too many wait.
    pub(super) fn submit(&self, job: Job) -> Result<(), Job> {
        match &self.queue {
            Some(queue) => queue.try_send(job).map_err(TrySendError::into_inner),
            None => {
                run(job, &self.images);
                Ok(())
            }
        }
    }

    /// Asks for a chunk on behalf of a shard, or ahead of need without one; false when too many jobs wait.
    pub(super) fn want(&self, image: &Arc<Image>, index: usize, door: Option<&Arc<Door>>) -> bool {
        if !image.ask(index, door) {
            return true;
        }
        let taken = self.submit(Job::Chunk { image: Arc::clone(image), index }).is_ok();
        if !taken {
            image.unask(index);
        }
        taken
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Receiver<Job>, images: &Images) {
    while let Ok(job) = jobs.recv() {
        run(job, images);
    }
}

fn run(job: Job, images: &Images) {
    match job {
        Job::Open { door, transfer, request, shape } => {
            let result = open(&request, shape, images);
            door.post(News::Opened { transfer, result });
        }
        Job::Chunk { image, index } => images.load(&image, index),
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

fn open(request: &Named, shape: Shape, images: &Images) -> Result<Arc<Image>, Reason> {
    let Named { service, name, asker } = request;
    let exists = |name: &[u8]| relative(name).and_then(|path| service.root.read(&path)).is_ok();
    let name = service.map.apply(name, *asker, exists)?;
    let (file, stat) = service.root.read(&relative(&name)?)?;
    let image = images.image(file, &stat, shape);
    if image.ask(0, None) {
        images.load(&image, 0);
    }
    match image.failure() {
        Some(failure) => Err(failure.into()),
        None => Ok(image),
    }
}

fn create(request: &Named) -> Result<Incoming, Reason> {
    let Named { service, name, asker } = request;
    // Whether a name can be written to shows when it is tried; for rules `E` a free name is a good one.
    let free =
        |name: &[u8]| relative(name).and_then(|path| service.root.parent(&path).map(drop)).is_ok();
    let name = service.map.apply(name, *asker, free)?;
    Ok(Incoming::create(&service.root, &relative(&name)?)?)
}
