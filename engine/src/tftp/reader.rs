//! The thread that reads chunks of files through its own ring: many at once, so that a file on a
//! slow disk does not delay the others.
//!
//! ```text
//!   shard, open thread --ChunkRequest--> [ ring: reads in flight ] --> framed --> images
//! ```

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_uring::Runtime;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::File;

use super::frame::{Framer, READ_LEN};
use super::images::{Failure, Image, Images};
use super::loader::ChunkRequest;

/// Reads in flight at most. Each takes the memory of a chunk; other files are held up only when so
/// many hang in a dead mount.
const READS: u32 = 64;

/// Starts the thread.
///
/// # Errors
/// What denied it a ring.
pub(super) fn start(
    images: Arc<Images>,
    queue: usize,
) -> io::Result<(mpsc::Sender<ChunkRequest>, JoinHandle<()>)> {
    let (sender, wanted) = mpsc::channel(queue);
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("tftp-reader".to_owned()).spawn(move || {
        crate::privileges::renounce_network_or_warn();
        let runtime = match Runtime::new(&tokio_uring::builder()) {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = tell.send(Err(error));
                return;
            }
        };
        let _ = tell.send(Ok(()));
        runtime.block_on(run(images, wanted));
    })?;
    told.blocking_recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
    Ok((sender, thread))
}

/// Serves requests until all senders are gone and all reads are done.
async fn run(images: Arc<Images>, mut wanted: mpsc::Receiver<ChunkRequest>) {
    let room = Arc::new(Semaphore::new(READS as usize));
    let buffers = Rc::new(Buffers::default());
    while let Some(wanted) = wanted.recv().await {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let (images, buffers) = (Arc::clone(&images), Rc::clone(&buffers));
        tokio_uring::spawn(async move {
            let read = read(&wanted.image, wanted.index, &buffers).await;
            wanted.loaded(&images, read);
            drop(permit);
        });
    }
    let _all = room.acquire_many(READS).await;
}

async fn read(image: &Image, index: usize, buffers: &Buffers) -> Result<Option<Framer>, Failure> {
    let Some(mut framer) = image.framer(index)? else { return Ok(None) };
    let file = image.file().try_clone().map_err(|_| Failure::Unreadable)?;
    let file = File::from_std(file);
    let mut buffer = buffers.take();
    while let Some((offset, len)) = framer.wants() {
        let (result, slice) = file.read_at(buffer.slice(..len), offset).await;
        buffer = slice.into_inner();
        let read = result.map_err(|_| Failure::Unreadable)?;
        if read == 0 {
            break;
        }
        framer.feed(&buffer[..read]);
    }
    buffers.give(buffer);
    Ok(Some(framer))
}

/// Free buffers. The last one returned is used first: it may still be in the processor's cache.
#[derive(Default)]
struct Buffers(RefCell<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(READ_LEN))
    }

    fn give(&self, buffer: Vec<u8>) {
        self.0.borrow_mut().push(buffer);
    }
}
