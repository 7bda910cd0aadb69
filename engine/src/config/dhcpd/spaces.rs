//! Option spaces and the options in them, by name and by code: those that dhcpd knows, and those
//! that a configuration defines.

use std::collections::{HashMap, HashSet};

use super::super::problem::Fault;
use super::super::schema;
use super::super::{Carrier, Key, SpaceId};
use super::format::Format;
use super::standard::{self, DHCP, DHCP6};
use super::table::{self, Row};

/// One option.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Definition {
    pub(super) name: Box<str>,
    pub(super) code: u32,
    pub(super) format: Format,
}

/// A place in [`Spaces`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct SpaceNumber(u32);

/// The enterprise number under which a vendor's space travels in option 125 (RFC 3925).
pub(super) const ENTERPRISES: &str = "vendor";

/// Options with codes of their own.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) name: Box<str>,
    /// Bytes of a code on the wire: 1, 2 or 4.
    pub(super) code_width: u8,
    /// Bytes of a length on the wire: 1 or 2.
    length_width: u8,
    /// The option that carries it, if one does.
    pub(super) carrier: Option<(SpaceNumber, u32)>,
    /// Names are the same in upper and lower case. A name that is defined anew leaves its old
    /// definition in the list.
    options: Vec<Definition>,
    by_name: HashMap<Box<str>, usize>,
    by_code: HashMap<u32, usize>,
}

impl Space {
    fn new(name: &str, (code_width, length_width): (u8, u8)) -> Self {
        Self {
            name: name.into(),
            code_width,
            length_width,
            carrier: None,
            options: Vec::new(),
            by_name: HashMap::new(),
            by_code: HashMap::new(),
        }
    }

    /// The option of a name.
    pub(super) fn named(&self, name: &str) -> Option<&Definition> {
        self.by_name.get(&*name.to_ascii_lowercase()).map(|&at| &self.options[at])
    }

    /// The option of a code.
    pub(super) fn coded(&self, code: u32) -> Option<&Definition> {
        self.by_code.get(&code).map(|&at| &self.options[at])
    }

    /// Takes an option in. It is found by its name and its code from now on. Another option that
    /// had the code is found by its name still, as in dhcpd.
    fn define(&mut self, definition: Definition) {
        let at = self.options.len();
        if let Some(&old) = self.by_name.get(&*definition.name.to_ascii_lowercase())
            && self.by_code.get(&self.options[old].code) == Some(&old)
        {
            self.by_code.remove(&self.options[old].code);
        }
        self.by_name.insert(definition.name.to_ascii_lowercase().into(), at);
        self.by_code.insert(definition.code, at);
        self.options.push(definition);
    }
}

/// Every space.
#[derive(Debug)]
pub(super) struct Spaces {
    spaces: Vec<Space>,
    by_name: HashMap<Box<str>, SpaceNumber>,
    /// Parameters that do nothing here but to be read by `config-option`, by their rows. The model
    /// has them as options of a space that is sent nowhere.
    read_back: HashSet<u32>,
}

/// The space of the server's parameters. No name of a space has blanks.
const PARAMETERS: &str = "server parameters";

impl Spaces {
    /// Those that come with dhcpd.
    pub(super) fn standard() -> Self {
        let mut all =
            Self { spaces: Vec::new(), by_name: HashMap::new(), read_back: HashSet::new() };
        all.add(PARAMETERS, (4, 1));
        for standard in standard::SPACES {
            all.add(standard.name, standard.widths);
        }
        for standard in standard::SPACES {
            let Some(number) = all.number(standard.name) else { continue };
            let carrier =
                standard.carrier.and_then(|(space, code)| Some((all.number(space)?, code)));
            all.spaces[number.index()].carrier = carrier;
            for &(code, name, format) in standard.options {
                if let Some(format) = Format::of_standard(format) {
                    all.define(number, Definition { name: name.into(), code, format });
                }
            }
        }
        all
    }

    /// Makes a space. One of the same name is found no more.
    pub(super) fn add(&mut self, name: &str, widths: (u8, u8)) -> SpaceNumber {
        let number = SpaceNumber(u32::try_from(self.spaces.len()).unwrap_or(u32::MAX));
        self.spaces.push(Space::new(name, widths));
        self.by_name.insert(name.to_ascii_lowercase().into(), number);
        number
    }

    /// Defines an option. If it encapsulates a space it carries that space from now on.
    pub(super) fn define(&mut self, space: SpaceNumber, definition: Definition) {
        if let Some(inner) = definition.format.encapsulates()
            && let Some(inner) = self.number(inner)
        {
            self.spaces[inner.index()].carrier = Some((space, definition.code));
        }
        self.spaces[space.index()].define(definition);
    }

    /// The space of a name.
    pub(super) fn number(&self, name: &str) -> Option<SpaceNumber> {
        self.by_name.get(&*name.to_ascii_lowercase()).copied()
    }

    pub(super) fn get(&self, number: SpaceNumber) -> &Space {
        &self.spaces[number.index()]
    }

    /// The space of a name, or what is wrong with the name.
    pub(super) fn named(&self, name: &str) -> Result<SpaceNumber, Fault> {
        self.number(name).ok_or_else(|| {
            let known = self.spaces.iter().map(|space| &*space.name);
            let help = match schema::nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("define it before its options: option space {name};"),
            };
            Fault::new(format!("there is no option space `{name}`"), help)
        })
    }

    /// The option of a name in a space: one that is defined, or `unknown-` and a code.
    pub(super) fn option(&self, space: SpaceNumber, name: &str) -> Result<Definition, Fault> {
        let of = self.get(space);
        if let Some(definition) = of.named(name) {
            return Ok(definition.clone());
        }
        if let Some(code) = unknown_code(name) {
            let last = match of.code_width {
                1 => 254,
                2 => u32::from(u16::MAX),
                _ => u32::MAX,
            };
            if !(1..=last).contains(&code) {
                let text = format!("there is no option {code} in space {}", of.name);
                return Err(Fault::new(text, format!("codes are numbers from 1 to {last}")));
            }
            return Ok(of.coded(code).cloned().unwrap_or_else(|| Definition {
                name: name.into(),
                code,
                format: Format::bytes(),
            }));
        }
        Err(self.unknown(space, name))
    }

    fn unknown(&self, space: SpaceNumber, name: &str) -> Fault {
        let of = self.get(space);
        let full = match &*of.name {
            DHCP | DHCP6 => name.to_owned(),
            other => format!("{other}.{name}"),
        };
        let known = of.options.iter().map(|definition| &*definition.name);
        let help = match schema::nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "define it first: option {full} code 224 = text; or write its code: option \
                 unknown-224 0a:0b"
            ),
        };
        Fault::new(format!("there is no option `{full}`"), help)
    }
}

impl Spaces {
    /// What a parameter is in the model that has no meaning there.
    pub(super) fn parameter(&self, row: &Row) -> Option<Key> {
        let at = table::number(row);
        self.read_back.contains(&at).then_some(Key::InSpace(SpaceId(0), at))
    }

    /// Whether codes and lengths of a space have a byte each, as those that TOML defines.
    pub(super) fn is_plain(&self, number: SpaceNumber) -> bool {
        let space = self.get(number);
        (space.code_width, space.length_width) == (1, 1)
    }

    /// Notes that an expression reads such a parameter.
    pub(super) fn read_back(&mut self, row: &Row) -> Key {
        let at = table::number(row);
        self.read_back.insert(at);
        Key::InSpace(SpaceId(0), at)
    }

    /// The spaces of the model, by their numbers here.
    pub(super) fn model(&self) -> Vec<super::super::Space> {
        let dhcp = self.number(DHCP);
        let enterprises = self.number(ENTERPRISES);
        let carrier = |space: &Space| match space.carrier {
            Some((within, code)) if Some(within) == dhcp => {
                u8::try_from(code).map_or(Carrier::Vendor, Carrier::Option)
            }
            Some((within, number)) if Some(within) == enterprises => Carrier::Enterprise(number),
            _ => Carrier::Vendor,
        };
        let model = |space: &Space| super::super::Space {
            name: space.name.clone(),
            code_width: space.code_width,
            length_width: space.length_width,
            carrier: carrier(space),
        };
        self.spaces.iter().map(model).collect()
    }
}

impl SpaceNumber {
    /// Its id in the model.
    pub(super) fn id(self) -> SpaceId {
        SpaceId(self.0)
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// The code in `unknown-224`.
fn unknown_code(name: &str) -> Option<u32> {
    let (word, code) = name.split_at_checked(8)?;
    if !word.eq_ignore_ascii_case("unknown-") {
        return None;
    }
    // As atoi reads it: the digits that stand first.
    let digits = code.find(|c: char| !c.is_ascii_digit()).unwrap_or(code.len());
    Some(code[..digits].parse().unwrap_or(0))
}
