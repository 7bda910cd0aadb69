//! What is known while files are read: spaces, classes, and other names that count from where they
//! stand.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bootstorm_protocols::dhcpv4::options;

use super::super::expression::{OptionPath, Token, Tokens};
use super::super::problem::{Fault, Problems};
use super::super::source::{FileState, Files, Place, as_text};
use super::super::{ClassId, Key, Line, OmapiKey, Parameter, VariableId, disk, schema};
use super::ast::{Body, Class, ClassNumber};
use super::grammar::{Parser, Within};
use super::lower;
use super::resolve::{Lookup, Resolver};
use super::spaces::{Definition, SpaceNumber, Spaces};
use super::standard;
use super::table::{self, Row};

pub(super) struct Reader<'r> {
    pub(super) files: &'r mut Files,
    pub(super) problems: &'r mut Problems,
    resolver: &'r mut Resolver,
    pub(super) spaces: Spaces,
    /// The space of names without a dot.
    pub(super) dhcp: SpaceNumber,
    pub(super) classes: Vec<Class>,
    pub(super) class_names: HashMap<Rc<str>, ClassNumber>,
    pub(super) groups: HashSet<Rc<str>>,
    pub(super) hosts: HashMap<Rc<str>, Place>,
    /// Keys by their names in lower case; `None` for one that signs nothing here.
    pub(super) keys: HashMap<String, Option<OmapiKey>>,
    pub(super) peers: HashSet<String>,
    /// Declarations and files around what is read.
    pub(super) depth: usize,
    /// Bytes of all files.
    bytes: u64,
    /// The subnet6 around it.
    pub(super) subnet6: Option<(Ipv6Addr, u8)>,
    /// Options that the files define, in their order, and where.
    pub(super) defined: Vec<(SpaceNumber, Definition, Line)>,
    /// The same, to be looked up.
    pub(super) defines: HashSet<(SpaceNumber, u32)>,
    /// The first subnet of IPv4, and that of IPv6.
    pub(super) subnets: [Option<Place>; 2],
    /// Statements that were warned of.
    warned: HashSet<&'static str>,
    warned_options: HashSet<(SpaceNumber, u32)>,
    /// The first `host-identifier` of each option code.
    pub(super) identifiers: HashMap<u32, (SpaceNumber, Place)>,
    /// Names that an expression has, and nobody knows.
    pub(super) unresolved: Vec<Fault>,
    pub(super) variables: Vec<Box<str>>,
    variable_names: HashMap<Box<str>, VariableId>,
    /// Something that was read asks for something that relay agents say.
    pub(super) asks_ports: bool,
}

/// The file that was named.
pub(super) const START: Place = Place { file: 0, start: 0, end: 0 };

/// Files of a configuration together, in bytes: what is included again and again ends there.
const MOST_BYTES: u64 = 1 << 30;

impl<'r> Reader<'r> {
    pub(super) fn new(
        files: &'r mut Files,
        problems: &'r mut Problems,
        resolver: &'r mut Resolver,
    ) -> Self {
        let mut spaces = Spaces::standard();
        let dhcp = spaces.number(standard::DHCP);
        let dhcp = dhcp.unwrap_or_else(|| spaces.add(standard::DHCP, (1, 1)));
        Self {
            files,
            problems,
            resolver,
            spaces,
            dhcp,
            classes: Vec::new(),
            class_names: HashMap::new(),
            groups: HashSet::new(),
            hosts: HashMap::new(),
            keys: HashMap::new(),
            peers: HashSet::new(),
            depth: 0,
            bytes: 0,
            subnet6: None,
            defined: Vec::new(),
            defines: HashSet::new(),
            subnets: [None; 2],
            warned: HashSet::new(),
            warned_options: HashSet::new(),
            identifiers: HashMap::new(),
            unresolved: Vec::new(),
            variables: Vec::new(),
            variable_names: HashMap::new(),
            asks_ports: false,
        }
    }

    /// Reads a file and all that it includes.
    pub(super) fn read(&mut self, path: PathBuf, bytes: Vec<u8>, state: Option<FileState>) -> Body {
        let mut body = Body::default();
        if let Some((text, file)) = self.add(path, bytes, state) {
            Parser::new(&text, file, self).file(Within::Root, &mut body);
        }
        match self.subnets {
            [Some(_), Some(place)] => {
                let text = "subnets of DHCPv6 stand in a file of DHCPv4";
                let help = "move them to a file of their own, as dhcpd wants it";
                self.problems.error(place, Fault::new(text, help));
            }
            [None, None] => {
                let help = "add subnet 10.1.0.0 netmask 255.255.0.0 { }";
                let fault = Fault::new("there is no subnet: no machine is answered", help);
                self.problems.warn(START, fault);
            }
            _ => {}
        }
        body
    }

    /// Opens a file that is included.
    pub(super) fn open(&mut self, name: &[u8], place: Place) -> Option<(String, u32)> {
        let path = Path::new(std::ffi::OsStr::from_bytes(name));
        let path = self.files.beside(place, path);
        let read = disk::read(&path);
        match read {
            Ok((bytes, state)) => self.add(path, bytes, Some(state)),
            Err(error) => {
                let text = format!("{} cannot be read: {error}", path.display());
                self.problems.error(place, Fault::plain(text));
                None
            }
        }
    }

    /// Takes a file in. Its text is here while it is read, and read again if a place in it is to
    /// be told, for files of many hosts are large.
    fn add(
        &mut self,
        path: PathBuf,
        bytes: Vec<u8>,
        state: Option<FileState>,
    ) -> Option<(String, u32)> {
        self.bytes += bytes.len() as u64;
        let invalid = std::str::from_utf8(&bytes).is_err().then(|| invalid_bytes(&bytes));
        let text = as_text(bytes);
        let added = if self.bytes > MOST_BYTES {
            Err(format!("all files together have more than {MOST_BYTES} bytes"))
        } else {
            match state {
                Some(state) => self.files.add_unread(path, state),
                None => self.files.add(path, text.clone(), None),
            }
        };
        match added {
            Ok(file) => {
                self.refuse_invalid(&text, file, &invalid.unwrap_or_default());
                Some((text, file))
            }
            Err(error) => {
                self.problems.general(Fault::plain(error));
                None
            }
        }
    }

    /// Bytes that are no UTF-8 may stand in comments.
    fn refuse_invalid(&mut self, text: &str, file: u32, invalid: &[usize]) {
        let mut invalid = invalid.iter().copied().peekable();
        let mut tokens = Tokens::new(text);
        while invalid.peek().is_some() {
            let range = match tokens.next() {
                Ok((Token::End, _)) => return,
                Ok((_, range)) => range,
                Err(wrong) => wrong.part,
            };
            while invalid.next_if(|&at| at < range.start).is_some() {}
            if let Some(at) = invalid.next_if(|at| range.contains(at)) {
                let place = Place::of(file, at..at + 1);
                let help = "save the file as UTF-8; write other bytes in a text as \\344 or \\xe4";
                self.problems.error(place, Fault::new("this is not UTF-8", help));
            }
            while invalid.next_if(|&at| at < range.end).is_some() {}
        }
    }

    /// Notes that a statement does nothing, the first time that it is met.
    pub(super) fn warn_once(&mut self, row: &'static Row, place: Place) {
        if self.warned.insert(row.name) {
            let text = format!("`{}` is read and does nothing", row.name);
            self.problems.warn(place, Fault::new(text, row.note));
        }
    }

    /// The addresses of a name; nothing where nobody knows it, which is a warning.
    pub(super) fn resolve(&mut self, name: &str, place: Place) -> Vec<Ipv4Addr> {
        let addresses = self.lookup(name);
        for fault in std::mem::take(&mut self.unresolved) {
            self.problems.warn(place, fault);
        }
        addresses
    }

    /// The same without a place: whoever knows it takes the warning from [`Reader::unresolved`].
    pub(super) fn lookup(&mut self, name: &str) -> Vec<Ipv4Addr> {
        match self.resolver.addresses(name) {
            Lookup::Known(addresses) => addresses,
            Lookup::Unknown(why) => {
                let text = format!("`{name}` cannot be resolved: {why}");
                let help = "what is set here is left out; write an address";
                self.unresolved.push(Fault::new(text, help));
                Vec::new()
            }
            Lookup::NotAsked => Vec::new(),
        }
    }

    pub(super) fn add_class(&mut self, name: Rc<str>) -> ClassNumber {
        let number = ClassNumber(u32::try_from(self.classes.len()).unwrap_or(u32::MAX));
        self.class_names.insert(name.clone(), number);
        self.classes.push(Class {
            name,
            match_if: None,
            submatch: None,
            sources: Vec::new(),
            lease_limit: None,
            body: Body::default(),
        });
        number
    }

    pub(super) fn class_mut(&mut self, number: ClassNumber) -> &mut Class {
        &mut self.classes[number.0 as usize]
    }

    /// An option that a message may have.
    pub(super) fn option_path(
        &mut self,
        space: Option<&str>,
        name: &str,
    ) -> Result<OptionPath, Fault> {
        let number = match space {
            Some(space) => self.spaces.named(space)?,
            None => self.dhcp,
        };
        let definition = self.spaces.option(number, name)?;
        let text = definition.format.is_text();
        let space = self.spaces.get(number);
        let unread = || Fault::plain(format!("options of space {} are not read", space.name));
        let narrow = |code: u32| u8::try_from(code).map_err(|_| unread());
        let (carrier, inner) = match space.carrier {
            _ if number == self.dhcp => (definition.code, None),
            Some((space, code)) if space == self.dhcp => (code, Some(definition.code)),
            // A vendor's options travel in option 43.
            None => (u32::from(options::VENDOR_ENCAPSULATED_OPTIONS), Some(definition.code)),
            Some(_) => return Err(unread()),
        };
        let code = narrow(carrier)?;
        self.asks_ports |= code == options::RELAY_AGENT_INFORMATION;
        Ok(OptionPath { code, inner: inner.map(narrow).transpose()?, text })
    }

    /// What a scope can set.
    pub(super) fn configured(&mut self, space: Option<&str>, name: &str) -> Result<Key, Fault> {
        if space.is_some_and(|space| space.eq_ignore_ascii_case("server")) {
            let Some(row) = table::parameter(name) else {
                return Err(Fault::plain(format!("there is no parameter `{name}`")));
            };
            return Ok(match Parameter::by_dhcpd_name(row.name) {
                Some(parameter) => Key::Parameter(parameter),
                None => self.spaces.read_back(row),
            });
        }
        let number = match space {
            Some(space) => self.spaces.named(space)?,
            None => self.dhcp,
        };
        let definition = self.spaces.option(number, name)?;
        lower::option(&self.spaces, number, definition.code)
            .ok_or_else(|| Fault::plain(format!("no scope sets option `{name}`")))
    }

    /// A class that is declared before.
    pub(super) fn class(&self, name: &str) -> Result<ClassId, Fault> {
        self.class_names.get(name).map(|number| ClassId(number.0)).ok_or_else(|| {
            let known = self.class_names.keys().map(|name| &**name);
            let help = schema::nearest(name, known).map(|near| format!("did you mean `{near}`?"));
            Fault { message: format!("there is no class `{name}` before this"), help }
        })
    }

    /// The variable of a name, in upper or lower case.
    pub(super) fn variable(&mut self, name: &str) -> VariableId {
        let name = name.to_ascii_lowercase();
        if let Some(&known) = self.variable_names.get(name.as_str()) {
            return known;
        }
        let id = VariableId(u32::try_from(self.variables.len()).unwrap_or(u32::MAX));
        self.variables.push(name.as_str().into());
        self.variable_names.insert(name.into(), id);
        id
    }

    /// Notes that an option is set which is not sent.
    pub(super) fn warn_of_option(&mut self, space: SpaceNumber, code: u32, place: Place) {
        let why = match &*self.spaces.get(space).name {
            standard::FQDN => "DNS is not updated by this server",
            standard::AGENT => "what a relay agent says is sent back to it as it is",
            standard::DHCP6 => "DHCPv6 is checked and not served",
            standard::DHCP if lower::option(&self.spaces, space, code).is_none() && code != 61 => {
                "the server works it out, as dhcpd does"
            }
            _ => return,
        };
        if self.warned_options.insert((space, code)) {
            self.problems.warn(place, Fault::new("this option is read and does nothing", why));
        }
    }
}

/// Where bytes are that are no part of UTF-8.
fn invalid_bytes(bytes: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut invalid = Vec::new();
    for chunk in bytes.utf8_chunks() {
        at += chunk.valid().len();
        invalid.extend(at..at + chunk.invalid().len());
        at += chunk.invalid().len();
    }
    invalid
}
