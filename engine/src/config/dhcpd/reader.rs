//! What is known while files are read: spaces, classes, and other names that count from where they
//! stand.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::expression::{Data, OptionPath, Token, Tokens, Vocabulary};
use super::super::problem::{Fault, Problems};
use super::super::source::{FileState, Files, Place, as_text};
use super::super::{ClassId, Key, VariableId, disk, schema};
use super::ast::{Body, Class, ClassNumber};
use super::grammar::{Parser, Within};
use super::resolve::{Lookup, Resolver};
use super::spaces::{SpaceNumber, Spaces};
use super::standard;
use super::table::Row;

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
    pub(super) keys: HashSet<String>,
    pub(super) peers: HashSet<String>,
    /// Declarations and files around what is read.
    pub(super) depth: usize,
    /// Bytes of all files.
    bytes: u64,
    /// The subnet6 around it.
    pub(super) subnet6: Option<(Ipv6Addr, u8)>,
    /// Statements that were warned of.
    warned: HashSet<&'static str>,
}

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
            keys: HashSet::new(),
            peers: HashSet::new(),
            depth: 0,
            bytes: 0,
            subnet6: None,
            warned: HashSet::new(),
        }
    }

    /// Reads a file and all that it includes.
    pub(super) fn read(&mut self, path: PathBuf, bytes: Vec<u8>, state: Option<FileState>) -> Body {
        let mut body = Body::default();
        if let Some((text, file)) = self.add(path, bytes, state) {
            Parser::new(&text, file, self).file(Within::Root, &mut body);
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
            let clip = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
            if let Some(at) = invalid.next_if(|at| range.contains(at)) {
                let place = Place { file, start: clip(at), end: clip(at + 1) };
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
        match self.resolver.addresses(name) {
            Lookup::Known(addresses) => addresses,
            Lookup::Unknown(why) => {
                let text = format!("`{name}` cannot be resolved: {why}");
                let help = "what is set here is left out; write an address";
                self.problems.warn(place, Fault::new(text, help));
                Vec::new()
            }
            Lookup::NotAsked => Vec::new(),
        }
    }

    pub(super) fn add_class(&mut self, name: Rc<str>) -> ClassNumber {
        let number = ClassNumber(u32::try_from(self.classes.len()).unwrap_or(u32::MAX));
        self.class_names.insert(name.clone(), number);
        self.classes.push(Class { name, match_if: None, body: Body::default() });
        number
    }

    pub(super) fn class_mut(&mut self, number: ClassNumber) -> &mut Class {
        &mut self.classes[number.0 as usize]
    }

    /// What names in expressions stand for.
    pub(super) fn names(&self) -> Names<'_> {
        Names { spaces: &self.spaces, dhcp: self.dhcp, classes: &self.class_names }
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

/// What names in expressions stand for.
pub(super) struct Names<'n> {
    spaces: &'n Spaces,
    dhcp: SpaceNumber,
    classes: &'n HashMap<Rc<str>, ClassNumber>,
}

impl Vocabulary for Names<'_> {
    fn option(&self, space: Option<&str>, name: &str) -> Result<OptionPath, Fault> {
        let number = match space {
            Some(space) => self.spaces.named(space)?,
            None => self.dhcp,
        };
        let definition = self.spaces.option(number, name)?;
        let text = definition.format.is_text();
        let narrow = |code: u32| {
            u8::try_from(code).map_err(|_| {
                Fault::plain(format!(
                    "options of space {} are not read yet",
                    self.spaces.get(number).name
                ))
            })
        };
        if number == self.dhcp {
            return Ok(OptionPath { code: narrow(definition.code)?, inner: None, text });
        }
        match self.spaces.get(number).carrier {
            Some((space, code)) if space == self.dhcp => {
                Ok(OptionPath { code: narrow(code)?, inner: Some(narrow(definition.code)?), text })
            }
            // A vendor's options travel in option 43.
            None => Ok(OptionPath { code: 43, inner: Some(narrow(definition.code)?), text }),
            Some(_) => Err(Fault::plain(format!(
                "options of space {} are not read yet",
                self.spaces.get(number).name
            ))),
        }
    }

    fn class(&self, name: &str) -> Result<ClassId, Fault> {
        self.classes.get(name).map(|number| ClassId(number.0)).ok_or_else(|| {
            let known = self.classes.keys().map(|name| &**name);
            let help = schema::nearest(name, known).map(|near| format!("did you mean `{near}`?"));
            Fault { message: format!("there is no class `{name}` before this"), help }
        })
    }

    // Only tests of classes are read so far, which know nothing of these.
    fn decides_classes(&self) -> bool {
        true
    }

    fn variable(&self, name: &str) -> Result<VariableId, Fault> {
        Err(Fault::plain(format!("variables as `{name}` are not served yet")))
    }

    fn configured(&self, _space: Option<&str>, name: &str) -> Result<Key, Fault> {
        Err(Fault::plain(format!("config-option {name} is not served yet")))
    }

    fn host_name(&self, name: &str) -> Result<Data, Fault> {
        Err(Fault::plain(format!("`{name}` is not looked up yet")))
    }

    fn own_host_name(&self) -> Option<Box<[u8]>> {
        None
    }
}
