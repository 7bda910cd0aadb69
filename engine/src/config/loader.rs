//! From a file to a configuration.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::builder::{Builder, WantedFile};
use super::fields::Fields;
use super::problem::{ConfigError, Fault, Problem, Problems};
use super::rows::NotInRows;
use super::settings::Milliseconds;
use super::source::{FileState, Files, Place, as_text};
use super::tree::{Node, Table, Value};
use super::{
    CommandLine, Config, Control, Dhcp, Log, Scope, Server, Tftp, dhcp_reader, dhcpd, disk, live,
    rows, schema, sections, units,
};
use crate::live_hosts::{self, LiveHostsError};

/// Address space, of which a usual file touches a few pages. The parser bounds nesting to 80
/// tables, each behind a key of 80 parts, and drops what it made by recursion: more than the stack
/// of an ordinary thread holds.
const STACK: usize = 64 << 20;

/// Reads a configuration and everything that it includes.
///
/// Nothing is asked of the host; [`load_on_host`] and [`check`] do that.
///
/// # Errors
/// Everything that is wrong, each with file, line, column, and what to write instead.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    read(path, None, (Live::InStateDir, None), Depth::Text)
}

/// Reads a configuration as [`load`] does, and warns of addresses that this host lacks for it.
///
/// # Errors
/// As [`load`]; what the host lacks is never an error.
pub fn load_on_host(path: &Path, given: &CommandLine) -> Result<Config, ConfigError> {
    read(path, None, (Live::InStateDir, Some(given)), Depth::Addresses)
}

/// Reads a configuration as [`load_on_host`] does, with the live hosts of another file than that
/// in its state directory.
///
/// # Errors
/// As [`load`].
pub fn load_with_hosts(
    path: &Path,
    given: &CommandLine,
    live_hosts: &Path,
) -> Result<Config, ConfigError> {
    read(path, None, (Live::In(live_hosts), Some(given)), Depth::Addresses)
}

/// Reads a configuration as [`load`] does, with the live hosts of another file.
///
/// # Errors
/// As [`load`].
pub fn load_beside(path: &Path, live_hosts: &Path) -> Result<Config, ConfigError> {
    read(path, None, (Live::In(live_hosts), None), Depth::Text)
}

/// Reads a configuration as [`load_on_host`] does, and warns of interfaces that do not exist and
/// of boot files that are not below the TFTP root.
///
/// # Errors
/// As [`load`].
pub fn check(path: &Path, given: &CommandLine) -> Result<Config, ConfigError> {
    read(path, None, (Live::InStateDir, Some(given)), Depth::Host)
}

/// Reads where the server of a configuration keeps its state. Hosts are not read, of which there
/// may be many, and nothing is said of what does not matter for it.
///
/// # Errors
/// When a file cannot be read, or `[server]` is wrong.
pub fn state_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    in_thread(path, || Loader::default().state_dir(path))
}

/// Reads a configuration from a text as if it stood in the file `path`.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &[u8]) -> Result<Config, ConfigError> {
    read(path, Some(text), (Live::None, None), Depth::Text)
}

/// Reads a configuration as [`parse`] does, its file at once, as before it was read in rows.
#[cfg(test)]
pub(super) fn parse_whole(path: &Path, text: &[u8]) -> Result<Config, ConfigError> {
    let loader = Loader { whole: vec![path.to_owned()], ..Loader::default() };
    loader.run(path, Some(text), Depth::Text).expect("nothing is in rows")
}

/// The file of live hosts in the state directory: `[[dhcp.host]]` tables that were added while the
/// server ran.
pub const LIVE_HOSTS: &str = "hosts.toml";

/// Where hosts stand that were added while the server ran.
#[derive(Copy, Clone, Debug, Default)]
enum Live<'p> {
    /// There are none.
    #[default]
    None,
    /// In [`LIVE_HOSTS`] and its journal, if they are there.
    InStateDir,
    /// In this file.
    In(&'p Path),
}

/// How far to look.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// Only at what is written.
    Text,
    /// At the host's addresses, too.
    Addresses,
    /// At its interfaces and boot files, too.
    Host,
}

/// Reads a configuration in a thread of its own.
fn read(
    path: &Path,
    text: Option<&[u8]>,
    (live, given): (Live<'_>, Option<&CommandLine>),
    depth: Depth,
) -> Result<Config, ConfigError> {
    in_thread(path, || {
        let mut whole = Vec::new();
        loop {
            let loader = Loader { whole: whole.clone(), live, given, ..Loader::default() };
            match loader.run(path, text, depth) {
                Ok(read) => return read,
                Err(path) => whole.push(path),
            }
        }
    })
}

/// Reads in a thread with a stack that is large enough.
fn in_thread<T: Send>(
    path: &Path,
    read: impl FnOnce() -> Result<T, ConfigError> + Send,
) -> Result<T, ConfigError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("configuration".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, read);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(read)) => read,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => {
                let mut problems = Problems::default();
                let text = format!("no thread can be started to read files: {error}");
                problems.general(Fault::plain(text));
                Err(ConfigError::of(problems, path, &Files::default()))
            }
        }
    })
}

/// The bytes of a file, and its state unless they come from elsewhere.
type Read = (Vec<u8>, Option<FileState>);

#[derive(Debug, Default)]
struct Loader<'p> {
    live: Live<'p>,
    /// `None` where nobody says which server it is.
    given: Option<&'p CommandLine>,
    files: Files,
    problems: Problems,
    /// Files that have been read, by their true paths.
    read: Vec<PathBuf>,
    /// Files that cannot be read but as a whole.
    whole: Vec<PathBuf>,
}

impl Loader<'_> {
    /// The configuration, or the path of a file that must be read as a whole.
    fn run(
        mut self,
        path: &Path,
        text: Option<&[u8]>,
        depth: Depth,
    ) -> Result<Result<Config, ConfigError>, PathBuf> {
        let read = match text {
            Some(text) => Ok((text.to_vec(), None)),
            None => disk::read(path).map(|(bytes, state)| (bytes, Some(state))),
        };
        let in_dhcpds = |bytes: &[u8]| dhcpd::is_dhcpd(&String::from_utf8_lossy(bytes));
        let config = match read {
            Ok(read) if in_dhcpds(&read.0) => self.dhcpd_config(path, read, depth),
            read => {
                if let Some(given) = self.given {
                    given.refuse(&mut self.problems);
                }
                let table = self.tree(path, read);
                self.config(table, depth)
            }
        };
        let config = match config {
            Ok(config) => config,
            Err(NotInRows { file }) => return Err(self.files.paths[file as usize].clone()),
        };
        let Self { files, problems, .. } = self;
        Ok(match problems.finish(path, &files) {
            Ok((warnings, more_warnings)) => {
                Ok(Config { warnings, more_warnings, sources: files.paths, ..config })
            }
            Err(error) => Err(error),
        })
    }

    /// See [`state_dir`].
    fn state_dir(mut self, path: &Path) -> Result<PathBuf, ConfigError> {
        let read = disk::read(path).map(|(bytes, state)| (bytes, Some(state)));
        // dhcpd's language has no words for it.
        if let Ok((bytes, _)) = &read
            && dhcpd::is_dhcpd(&String::from_utf8_lossy(bytes))
        {
            return Ok(Server::default().state_dir);
        }
        let mut table = self.tree(path, read);
        let at = table.entries.iter().position(|entry| &*entry.key == "server");
        let server = at.map(|at| table.entries.swap_remove(at).node);
        let Self { files, mut problems, .. } = self;
        let (server, _) = sections::server(server, &files, &mut problems);
        problems.finish(path, &files).map(|_| server.state_dir)
    }

    /// The file and all that it includes as one tree.
    fn tree(&mut self, path: &Path, read: io::Result<Read>) -> Table {
        let mut root = match read {
            Ok((bytes, state)) => {
                self.read.extend(path.canonicalize());
                self.parse(path.to_owned(), bytes, state)
            }
            Err(error) => {
                let text = format!("{} cannot be read: {error}", path.display());
                self.problems.general(Fault::plain(text));
                Table::default()
            }
        };
        let mut waiting = VecDeque::from(self.includes(&mut root));
        while let Some((path, place)) = waiting.pop_front() {
            let Some(mut table) = self.included(path, place) else { continue };
            waiting.extend(self.includes(&mut table));
            root.merge(table, &mut self.problems);
        }
        root
    }

    fn parse(&mut self, path: PathBuf, bytes: Vec<u8>, state: Option<FileState>) -> Table {
        let (text, invalid) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                (as_text(error.into_bytes()), Some(valid))
            }
        };
        let whole = self.whole.contains(&path);
        let file = match self.files.add(path, text, state) {
            Ok(file) => file,
            Err(error) => {
                self.problems.general(Fault::plain(error));
                return Table::default();
            }
        };
        if let Some(offset) = invalid {
            let start = u32::try_from(offset).unwrap_or(u32::MAX);
            let place = Place { file, start, end: start.saturating_add(1) };
            let help = "save the file as UTF-8; write bytes in options as \"hex:0a0b\"";
            self.problems.error(place, Fault::new("this is not UTF-8", help));
            return Table::default();
        }
        let Self { files, problems, .. } = self;
        let Some(source) = files.get(file) else { return Table::default() };
        let in_rows = (!whole).then(|| rows::parse(source, file, problems).ok()).flatten();
        in_rows.unwrap_or_else(|| Table::parse(source.text().unwrap_or_default(), file, problems))
    }

    /// Takes `include` out of a file's tree: the files it names, and where.
    fn includes(&mut self, table: &mut Table) -> Vec<(PathBuf, Place)> {
        let Some(at) = table.entries.iter().position(|entry| &*entry.key == "include") else {
            return Vec::new();
        };
        let place = table.entries[at].place;
        let only = Table { entries: vec![table.entries.swap_remove(at)] };
        let mut fields = Fields::of(only, place, &schema::ROOT, &mut self.problems);
        let patterns =
            fields.list("include", &mut self.problems, |node| units::text(node).map(PathBuf::from));
        let mut found = Vec::new();
        for (pattern, place) in patterns {
            match disk::expand(&self.files.beside(place, &pattern)) {
                Ok(paths) => found.extend(paths.into_iter().map(|path| (path, place))),
                Err(error) => self.problems.error(place, Fault::plain(error)),
            }
        }
        found
    }

    fn included(&mut self, path: PathBuf, place: Place) -> Option<Table> {
        let read = disk::read(&path).and_then(|read| Ok((read, path.canonicalize()?)));
        match read {
            Ok((_, real)) if self.read.contains(&real) => {
                let text = format!("{} is read already", path.display());
                let help = "a file is included once, and never by itself or what it includes";
                self.problems.error(place, Fault::new(text, help));
                None
            }
            Ok(((bytes, state), real)) => {
                self.read.push(real);
                Some(self.parse(path, bytes, Some(state)))
            }
            Err(error) => {
                let text = format!("{} cannot be read: {error}", path.display());
                self.problems.error(place, Fault::plain(text));
                None
            }
        }
    }

    /// A configuration in dhcpd's language. It says nothing of the server, nor of TFTP.
    fn dhcpd_config(&mut self, path: &Path, read: Read, depth: Depth) -> Result<Config, NotInRows> {
        let given = self.given.cloned().unwrap_or_default();
        let mut server = given.server();
        let Self { files, problems, .. } = self;
        let mut resolver = match depth {
            Depth::Text => dhcpd::Resolver::none(),
            Depth::Addresses | Depth::Host => dhcpd::Resolver::of_host(),
        };
        let dhcpd::Read { mut builder, definitions, lease_file, omapi } =
            dhcpd::read(path.to_owned(), read, &mut resolver, files, problems);
        server.lease_file = Some(lease_file);
        let live = self.live_hosts(&server.state_dir, depth);
        let Self { files, problems, .. } = self;
        dhcp_reader::add_live_hosts(live, definitions, &mut builder, files, problems)?;
        let (dhcp, wanted) = builder.finish(problems);
        if depth >= Depth::Addresses && !problems.has_errors() {
            disk::warn_of_addresses(&wanted, &dhcp.hosts, problems);
            let start = Place { file: 0, start: 0, end: 0 };
            let start = (depth == Depth::Host).then_some(start);
            server.interfaces = given.served(&dhcp, start, problems);
        }
        let tftp = given.tftp_root.map(Tftp::new);
        if depth >= Depth::Host
            && !problems.has_errors()
            && let Some(tftp) = &tftp
        {
            disk::warn_of_missing_files(tftp, &wanted.files, problems);
        }
        Ok(Config {
            server,
            dhcp,
            tftp,
            control: Control { omapi, ..Control::default() },
            log: Log::default(),
            warnings: Vec::new(),
            more_warnings: 0,
            sources: Vec::new(),
            host_names: resolver.found(),
        })
    }

    /// The hosts that were added while the server ran.
    fn live_hosts(&mut self, state_dir: &Path, depth: Depth) -> Vec<Node> {
        let path = match self.live {
            Live::None => return Vec::new(),
            Live::InStateDir => state_dir.join(LIVE_HOSTS),
            Live::In(path) => path.to_owned(),
        };
        let read = match self.live {
            Live::InStateDir => live_hosts::text_with_journal(&path),
            _ => Ok(None),
        };
        let read = match read {
            Ok(None) => disk::read(&path).map(|(bytes, state)| (bytes, Some(state))),
            Ok(Some(text)) => Ok((text.into_bytes(), None)),
            Err(LiveHostsError::Io { cause, .. }) => Err(cause),
            Err(error) => Err(io::Error::other(error)),
        };
        let (bytes, state) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            // Who may not read them may still ask what the configuration says.
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && depth != Depth::Addresses =>
            {
                return Vec::new();
            }
            Err(error) => {
                let text = format!("the live hosts of {} cannot be read: {error}", path.display());
                self.problems.general(Fault::plain(text));
                return Vec::new();
            }
        };
        let table = self.parse(path, bytes, state);
        let file = u32::try_from(self.files.paths.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.files.live = Some(file);
        live::nodes(table, file, &mut self.problems)
    }

    fn config(&mut self, table: Table, depth: Depth) -> Result<Config, NotInRows> {
        let start = Place { file: 0, start: 0, end: 0 };
        let empty = table.entries.is_empty();
        let problems = &mut self.problems;
        let mut fields = Fields::of(table, start, &schema::ROOT, problems);
        let mut section = |key| fields.take(key).map(|entry| entry.node);
        let (server, dhcp, tftp) = (section("server"), section("dhcp"), section("tftp"));
        let (control, log) = (section("control"), section("log"));
        let nothing = dhcp.is_none() && tftp.is_none();
        let dhcp_place = dhcp.as_ref().map(|node| node.place);
        let offer_time = dhcp.as_ref().and_then(|node| place_of(node, "offer-time"));
        let (server, interfaces) = sections::server(server, &self.files, problems);
        let live = self.live_hosts(&server.state_dir, depth);
        let problems = &mut self.problems;
        let tftp = sections::tftp(tftp, &mut self.files, problems);
        let builder = match dhcp {
            Some(node) => dhcp_reader::dhcp(node, live, &mut self.files, problems)?,
            None => Builder::default(),
        };
        let (dhcp, wanted) = builder.finish(problems);
        if let (Some(place), true) = (dhcp_place, dhcp.subnets.is_empty()) {
            let help = "add [[dhcp.subnet]] with subnet = \"10.1.0.0/16\"";
            problems.warn(place, Fault::new("[dhcp] has no subnet: no machine is answered", help));
        }
        if let Some(place) = offer_time {
            warn_of_short_offers(&dhcp, tftp.as_ref(), place, problems);
        }
        if tftp.is_none() {
            warn_of_nobody(&wanted.files, problems);
        }
        if depth >= Depth::Addresses && !problems.has_errors() {
            disk::warn_of_addresses(&wanted, &dhcp.hosts, problems);
        }
        if depth >= Depth::Host && !problems.has_errors() {
            disk::warn_of_interfaces(&server, &interfaces, problems);
            if let Some(tftp) = &tftp {
                disk::warn_of_missing_files(tftp, &wanted.files, problems);
            }
        }
        let control = sections::control(control, problems);
        let log = sections::log(log, problems);
        if nothing && !problems.has_errors() {
            let text = if empty { "this file is empty" } else { "nothing is served by this file" };
            let help = "it needs [dhcp] with [[dhcp.subnet]], or [tftp] with root = \"/srv/tftp\"";
            problems.error(start, Fault::new(text, help));
        }
        Ok(Config {
            server,
            dhcp,
            tftp,
            control,
            log,
            warnings: Vec::<Problem>::new(),
            more_warnings: 0,
            sources: Vec::new(),
            host_names: Vec::new(),
        })
    }
}

/// The place of a value in a table.
fn place_of(node: &Node, key: &str) -> Option<Place> {
    let Value::Table(table) = &node.value else { return None };
    table.entries.iter().find(|entry| &*entry.key == key).map(|entry| entry.node.place)
}

/// Offers that end while they wait for a ping or their delay: others are offered their addresses.
fn warn_of_short_offers(dhcp: &Dhcp, tftp: Option<&Tftp>, place: Place, problems: &mut Problems) {
    let quirks = tftp.into_iter().flat_map(|tftp| tftp.quirks.iter());
    let scopes = || dhcp.scopes().map(Scope::settings);
    let delays = scopes().filter_map(|settings| settings.reply_delay);
    let pings =
        scopes().filter_map(|settings| settings.ping_timeout_ms).map(Milliseconds::duration);
    let waits = delays.chain(quirks.filter_map(|quirk| quirk.reply_delay)).chain(pings);
    if let Some(longest) = waits.max().filter(|longest| *longest >= dhcp.offer_time) {
        let text = format!("an offer is over before it leaves: replies wait up to {longest:?}");
        let help = "make offer-time longer than reply-delay and ping-check by the time that a \
                    machine takes to ask for its offer";
        problems.warn(place, Fault::new(text, help));
    }
}

/// Boot files without anybody to send them.
fn warn_of_nobody(wanted: &[WantedFile], problems: &mut Problems) {
    if let Some(first) = wanted.iter().min_by_key(|wanted| wanted.place) {
        let text = "nobody serves this boot file: there is no [tftp], and no next-server";
        let help = "add [tftp] with root = \"/srv/tftp\", or next-server = \"...\" in the scope";
        problems.warn(first.place, Fault::new(text, help));
    }
}
