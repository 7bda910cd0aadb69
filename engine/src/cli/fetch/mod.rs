//! `bootstorm fetch`

mod transfer;
mod url;

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootstorm_protocols::tftp::{MAX_WINDOWSIZE, Negotiated, RetryPolicy};

use self::transfer::{FetchError, Fetched, fetch};
use self::url::TftpUrl;
use super::{Answer, Failure, Outcome, complain};

/// Load a file by TFTP, as a machine would
///
/// Shows how fast it came and what was agreed on. A file arrives under its name only when it is
/// complete. Exit 1 when the server refuses, 2 when it does not answer or the file cannot be
/// written.
#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {
    /// tftp://HOST[:PORT]/FILE
    url: TftpUrl,
    /// Where to put it; - is standard output [default: the name in the URL]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Block size in bytes to ask for (RFC 2348)
    #[arg(long, value_name = "BYTES", default_value_t = 1468, value_parser = clap::value_parser!(u16).range(8..=65464))]
    blksize: u16,
    /// Window in blocks to ask for (RFC 7440)
    #[arg(long, value_name = "BLOCKS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_WINDOWSIZE)))]
    windowsize: u16,
    /// Ask for nothing: blocks of 512 bytes, one at a time, as in RFC 1350
    #[arg(long, conflicts_with_all = ["blksize", "windowsize"])]
    no_options: bool,
    /// Seconds of silence after which to give up
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Take the file even if its length is not the one that the server announced
    #[arg(long)]
    no_verify: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Fetch {
    pub(crate) fn run(self, out: &mut dyn Write) -> Outcome {
        let server = resolve(&self.url)?;
        let mut target = self.target(out)?;
        let mut progress = Progress::new(&self.url, !self.quiet && io::stderr().is_terminal());
        let policy =
            RetryPolicy { total: Duration::from_secs(self.timeout), ..RetryPolicy::default() };
        let file = &self.url.file;
        let fetched =
            fetch(server, file, &self.asked(), &policy, target.writer(), |bytes, size| {
                progress.show(bytes, size);
            });
        progress.clear();
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(FetchError::Refused { code, message }) => {
                let refused = FetchError::Refused { code, message };
                complain(&format!("{}: {refused}", self.url));
                return Ok(Answer::No);
            }
            Err(FetchError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(Failure::OutputClosed);
            }
            Err(error) => return Err(Failure::of(&self.url, error)),
        };
        if let Some(size) = fetched.negotiated.tsize.filter(|size| *size != fetched.bytes)
            && !self.no_verify
        {
            let cause = format!("{} bytes came, but the server announced {size}", fetched.bytes);
            return Err(Failure::of(&self.url, format!("{cause}; --no-verify takes it anyway")));
        }
        target.finish()?;
        if !self.quiet {
            // On standard error, for standard output may be the file; nobody may be there to read
            // it.
            let _closed = writeln!(io::stderr(), "{}", summary(&self.url, &fetched));
        }
        Ok(Answer::Yes)
    }

    fn asked(&self) -> Negotiated {
        if self.no_options {
            return Negotiated::default();
        }
        Negotiated {
            blksize: Some(self.blksize),
            windowsize: Some(self.windowsize),
            tsize: Some(0),
            ..Negotiated::default()
        }
    }

    fn target<'o>(&self, out: &'o mut dyn Write) -> Result<Target<'o>, Failure> {
        match &self.output {
            Some(path) if path.as_os_str() == "-" => Ok(Target::Stdout(out)),
            Some(path) => Target::file(path),
            None => match self.url.base_name() {
                Some(name) => Target::file(Path::new(&name)),
                None => Err(Failure::of(&self.url, "its name cannot be a file here; use -o FILE")),
            },
        }
    }
}

fn resolve(url: &TftpUrl) -> Result<SocketAddr, Failure> {
    (&*url.host, url.port)
        .to_socket_addrs()
        .map_err(|error| Failure::of(&url.host, error))?
        .next()
        .ok_or_else(|| Failure::of(&url.host, "it has no address"))
}

fn summary(url: &TftpUrl, fetched: &Fetched) -> String {
    let seconds = fetched.took.as_secs_f64().max(1e-9);
    format!(
        "{url}: {} bytes in {seconds:.3} s ({:.1} MB/s), blksize {}, windowsize {}",
        fetched.bytes,
        fetched.bytes as f64 / seconds / 1e6,
        fetched.negotiated.block_len(),
        fetched.negotiated.window_len()
    )
}

/// Where the bytes go.
enum Target<'o> {
    Stdout(&'o mut dyn Write),
    /// A file that takes its name when it is complete; removed when it never is.
    New {
        part: PathBuf,
        path: PathBuf,
        writer: BufWriter<File>,
    },
    /// A device or a pipe, which is written as it is and never replaced.
    Special(File, PathBuf),
}

impl<'o> Target<'o> {
    fn file(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::of(path.display(), error);
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                return Err(Failure::of(path.display(), "is a directory; name a file with -o"));
            }
            Ok(there) if !there.is_file() => {
                let file = File::options().write(true).open(path).map_err(failed)?;
                return Ok(Self::Special(file, path.to_owned()));
            }
            _ => {}
        }
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".part-{}", std::process::id()));
        let part = PathBuf::from(part);
        let file = File::create_new(&part).map_err(|error| Failure::of(part.display(), error))?;
        Ok(Self::New { part, path: path.to_owned(), writer: BufWriter::new(file) })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout(out) => out,
            Self::New { writer, .. } => writer,
            Self::Special(file, _) => file,
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        match &mut self {
            Self::Stdout(out) => Ok(out.flush()?),
            Self::New { part, path, writer } => writer
                .flush()
                .and_then(|()| fs::rename(&*part, &*path))
                .map_err(|error| Failure::of(path.display(), error)),
            Self::Special(file, path) => {
                file.flush().map_err(|error| Failure::of(path.display(), error))
            }
        }
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        if let Self::New { part, .. } = self {
            // Renamed when complete; nothing is left to remove then.
            let _renamed = fs::remove_file(part);
        }
    }
}

/// A line on the terminal that is written over and over.
struct Progress<'u> {
    url: &'u TftpUrl,
    shown: bool,
    began: Instant,
    last: Instant,
}

impl<'u> Progress<'u> {
    fn new(url: &'u TftpUrl, shown: bool) -> Self {
        let now = Instant::now();
        Self { url, shown, began: now, last: now }
    }

    fn show(&mut self, bytes: u64, size: Option<u64>) {
        if !self.shown || self.last.elapsed() < Duration::from_millis(200) {
            return;
        }
        self.last = Instant::now();
        let rate = bytes as f64 / self.began.elapsed().as_secs_f64() / 1e6;
        let share = match size {
            Some(size) if size > 0 => format!(" {:.0} %,", bytes as f64 / size as f64 * 100.0),
            _ => String::new(),
        };
        // Progress on a closed terminal is nobody's.
        let _closed = write!(
            io::stderr(),
            "\r{}:{share} {:.1} MB, {rate:.1} MB/s\x1b[K",
            self.url,
            bytes as f64 / 1e6
        );
    }

    fn clear(&self) {
        if self.shown {
            let _closed = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
