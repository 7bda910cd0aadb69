//! Options by name and number: the standard ones, those of the option spaces that machines boot
//! with, and those that the configuration defines.

use std::collections::BTreeMap;

use bootstorm_protocols::dhcpv4::options;

use super::expression::OptionPath;
use super::fields::Fields;
use super::option_types::OptionType;
use super::problem::{Fault, Problems};
use super::schema;
use super::source::Place;
use super::tree::Value;
use super::{Carrier, SpaceId, units};

/// Option 43, where vendors' own options travel.
pub(super) const VENDOR: u8 = options::VENDOR_ENCAPSULATED_OPTIONS;

/// The name of the space of standard options in definitions.
const TOP: &str = "dhcp";

/// The space of what relay agents say, in option 82.
const AGENT: &str = "agent";

/// The space of vendors, by their enterprise numbers, in option 125 (RFC 3925).
const ENTERPRISES: &str = "vendor";

/// One option.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) code: u8,
    pub(super) name: Box<str>,
    /// `None` for a number without a definition: only bytes can be given.
    pub(super) kind: Option<OptionType>,
}

/// Options with codes of their own, sent inside another.
#[derive(Debug, Default)]
struct Space {
    definitions: Vec<Definition>,
    /// What the configuration says that it travels in.
    carrier: Option<Carrier>,
}

/// All options that the configuration may name.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    /// Definitions of the configuration for the top level.
    own: Vec<Definition>,
    /// Definitions of the configuration for other spaces.
    spaces: BTreeMap<Box<str>, Space>,
    as_dhcpd: bool,
}

/// What to do instead of setting one of the options that the server decides or echoes.
fn protocol_option(code: u8) -> Option<&'static str> {
    Some(match code {
        options::LEASE_TIME => "write lease-time = \"1h\" instead",
        options::PARAMETER_REQUEST_LIST => "to send what clients do not ask for, use always-send",
        options::SERVER_IDENTIFIER => "write server-identifier = \"10.1.0.6\" in the scope instead",
        options::RAPID_COMMIT => "write rapid-commit = true in [dhcp] instead",
        _ if options::is_protocol(code) => "leave it out: its value follows from the exchange",
        _ => return None,
    })
}

impl Definitions {
    /// The standard ones; `as_dhcpd` where ISC dhcpd's rules hold.
    pub(super) fn new(as_dhcpd: bool) -> Self {
        Self { as_dhcpd, ..Self::default() }
    }

    /// Takes in every `[[dhcp.option-definition]]`.
    pub(super) fn read(&mut self, tables: Vec<Fields>, problems: &mut Problems) {
        for mut fields in tables {
            // In a space of their own vendors begin at 0.
            let first = if fields.place_of("space").is_some() { 0 } else { 1 };
            let last = match fields.peek("space").map(|node| &node.value) {
                Some(Value::Text(space)) if self.as_dhcpd && **space == *ENTERPRISES => u32::MAX,
                _ => 254,
            };
            let code =
                fields.require("code", "224", problems, |node| units::integer(node, first..=last));
            let name = fields.require("name", "\"rack-name\"", problems, |node| {
                option_name(units::text(node)?).map(Box::from)
            });
            let kind = fields.require("type", "\"text\"", problems, |node| {
                OptionType::parse(units::text(node)?)
            });
            let space = fields.get("space", problems, |node| units::text(node).map(Box::from));
            let (Some((code, place)), Some((name, _)), Some((kind, _))) = (code, name, kind) else {
                continue;
            };
            match (u8::try_from(code), kind) {
                (_, OptionType::Encapsulate(inner)) if last == u32::MAX => {
                    self.spaces.entry(inner).or_default().carrier = Some(Carrier::Enterprise(code));
                }
                (Ok(code), kind) => {
                    let definition = Definition { code, name, kind: Some(kind) };
                    self.define(definition, space, place, problems);
                }
                (Err(_), _) => {
                    let text = format!("only a space has a number such as {code}");
                    let help = "write type = \"encapsulate NAME\"";
                    problems.error(place, Fault::new(text, help));
                }
            }
        }
    }

    /// Takes in an option that another language defines. One that this language has no words for
    /// is left out, and may be named by its number.
    pub(super) fn add(&mut self, name: &str, code: u32, kind: &str, space: Option<&str>) {
        let (Ok(code), Ok(kind)) = (u8::try_from(code), OptionType::parse(kind)) else { return };
        let definition = Definition { code, name: name.into(), kind: Some(kind) };
        let nowhere = Place { file: 0, start: 0, end: 0 };
        self.define(definition, space.map(Box::from), nowhere, &mut Problems::default());
    }

    fn define(
        &mut self,
        definition: Definition,
        space: Option<Box<str>>,
        place: Place,
        problems: &mut Problems,
    ) {
        let space = space.filter(|space| &**space != TOP);
        if definition.code == 0 && space.as_deref().is_none_or(pads_with_zero) {
            return problems.error(place, zero_is_padding(space.as_deref().unwrap_or(TOP)));
        }
        if space.is_none()
            && let Some(why) = protocol_option(definition.code)
        {
            let text = format!("option {} belongs to the protocol", definition.code);
            return problems.error(place, Fault::new(text, why));
        }
        if let (None, Some(OptionType::Encapsulate(inner))) = (&space, &definition.kind) {
            self.spaces.entry(inner.clone()).or_default().carrier =
                Some(Carrier::Option(definition.code));
        }
        let definitions = match space {
            None => &mut self.own,
            Some(space) => &mut self.spaces.entry(space).or_default().definitions,
        };
        let same = |other: &Definition| {
            other.code == definition.code
                && other.name == definition.name
                && other.kind == definition.kind
        };
        if definitions.iter().any(same) {
            return;
        }
        // What comes with the server may be defined anew; a name stands for one option then.
        definitions.retain(|other| other.name != definition.name);
        definitions.push(definition);
    }

    /// Whether there is such a space.
    pub(super) fn has_space(&self, name: &str) -> bool {
        self.spaces.contains_key(name) || standard_space(name).is_some()
    }

    /// The option that carries a space: the one defined to encapsulate it, or option 43.
    pub(super) fn carrier(&self, name: &str) -> u8 {
        self.carried_by(name).option()
    }

    fn carried_by(&self, name: &str) -> Carrier {
        let own = self.spaces.get(name).and_then(|space| space.carrier);
        own.unwrap_or_else(|| match standard_space(name).map(|space| space.code) {
            None | Some(VENDOR) => Carrier::Vendor,
            Some(code) => Carrier::Option(code),
        })
    }

    /// Every space, in the order of [`Self::id`].
    fn names(&self) -> impl Iterator<Item = &str> {
        let own = self.spaces.keys().map(|name| &**name);
        STANDARD_SPACES.into_iter().chain(own.filter(|name| standard_space(name).is_none()))
    }

    /// The spaces of the model. By dhcpd's rules their options are put together from all levels
    /// for each message; else each scope has the bytes of its own, and there are none.
    pub(super) fn model(&self) -> Vec<super::Space> {
        let model = |name: &str| super::Space {
            name: name.into(),
            code_width: 1,
            length_width: 1,
            carrier: self.carried_by(name),
        };
        let names = self.as_dhcpd.then(|| self.names());
        names.into_iter().flatten().map(model).collect()
    }

    /// The place of a space in the model, if that has it.
    pub(super) fn id(&self, name: &str) -> Option<SpaceId> {
        let place = self.names().position(|other| other == name).filter(|_| self.as_dhcpd)?;
        u32::try_from(place).ok().map(SpaceId::from_index)
    }

    /// There is no such space.
    pub(super) fn unknown_space(&self, space: &str) -> Fault {
        let help = match schema::nearest(
            space,
            STANDARD_SPACES.into_iter().chain(self.spaces.keys().map(|name| &**name)),
        ) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("define its options: [[dhcp.option-definition]] with space = \"{space}\"")
            }
        };
        Fault::new(format!("there is no option space `{space}`"), help)
    }

    /// An option that a client may send, by its name or number. dhcpd calls one without a name
    /// `unknown-224`.
    pub(super) fn in_message(&self, space: Option<&str>, key: &str) -> Result<OptionPath, Fault> {
        self.of_message(space, key).map(|(path, _)| path)
    }

    /// The same, and what it is.
    pub(super) fn of_message(
        &self,
        space: Option<&str>,
        key: &str,
    ) -> Result<(OptionPath, Definition), Fault> {
        let number = key.strip_prefix("unknown-").filter(|code| code.parse::<u8>().is_ok());
        let key = number.unwrap_or(key);
        let space = space.filter(|space| *space != TOP);
        let (carrier, option) = match space {
            None => (None, self.any_option(key)?),
            Some(AGENT) => {
                let option = self.space_option(AGENT, options::space(AGENT), key)?;
                (Some(options::RELAY_AGENT_INFORMATION), option)
            }
            Some(space) if self.has_space(space) => {
                (Some(self.carrier(space)), self.sub_option(space, key)?)
            }
            Some(space) => return Err(self.unknown_space(space)),
        };
        // dhcpd has 60 as bytes and 77 as a text.
        let text = match (carrier, option.code) {
            (None, options::VENDOR_CLASS_IDENTIFIER) => false,
            (None, options::USER_CLASS) => true,
            _ => option.kind == Some(OptionType::Text),
        };
        let inner = carrier.map(|_| option.code);
        Ok((OptionPath { code: carrier.unwrap_or(option.code), inner, text }, option))
    }

    /// The standard or defined option of a name or number.
    fn any_option(&self, key: &str) -> Result<Definition, Fault> {
        let definition = find(&self.own, key).cloned().or_else(|| standard(key));
        definition.or_else(|| by_number(key)).ok_or_else(|| {
            let own = self.own.iter().map(|definition| &*definition.name);
            let known = options::DEFINITIONS.iter().map(|definition| definition.name).chain(own);
            unknown_option(key, "", known)
        })
    }

    /// The same, of those that a configuration may set.
    pub(super) fn option(&self, key: &str) -> Result<Definition, Fault> {
        let definition = self.any_option(key)?;
        match protocol_option(definition.code) {
            // What is sent whatever the client asks for.
            Some(_) if self.as_dhcpd && definition.code == options::PARAMETER_REQUEST_LIST => {
                Ok(definition)
            }
            Some(why) => Err(Fault::new(format!("option `{key}` belongs to the protocol"), why)),
            None => Ok(definition),
        }
    }

    /// The option of a name or number in a space.
    pub(super) fn sub_option(&self, space: &str, key: &str) -> Result<Definition, Fault> {
        self.space_option(space, standard_space(space), key)
    }

    fn space_option(
        &self,
        space: &str,
        standard: Option<&options::Space>,
        key: &str,
    ) -> Result<Definition, Fault> {
        let own = self.spaces.get(space).map_or(&[][..], |space| &space.definitions);
        let standard = standard.map_or(&[][..], |space| space.definitions);
        let number: Option<u8> = key.parse().ok();
        if number == Some(0) {
            if pads_with_zero(space) {
                return Err(zero_is_padding(space));
            }
            let unnamed = Definition { code: 0, name: key.into(), kind: None };
            return Ok(find(own, key).cloned().unwrap_or(unnamed));
        }
        let known = || {
            let found =
                standard.iter().find(|known| known.is_named(key) || number == Some(known.code))?;
            Some(Definition::standard(found))
        };
        find(own, key).cloned().or_else(known).or_else(|| by_number(key)).ok_or_else(|| {
            let own = own.iter().map(|definition| &*definition.name);
            let known = standard.iter().map(|definition| definition.name).chain(own);
            unknown_option(key, &format!(" in space {space}"), known)
        })
    }
}

impl Definition {
    fn standard(known: &options::Definition) -> Self {
        Self { code: known.code, name: known.name.into(), kind: Some(OptionType::of(&known.kind)) }
    }
}

/// The spaces of the protocol library that a server sends.
const STANDARD_SPACES: [&str; 3] = ["PXE", "ipxe", "nwip"];

fn standard_space(name: &str) -> Option<&'static options::Space> {
    STANDARD_SPACES.contains(&name).then(|| options::space(name))?
}

/// Whether code 0 is padding in a space, as in the standard options (RFC 2132, section 3.1).
fn pads_with_zero(space: &str) -> bool {
    standard_space(space).is_some()
}

fn zero_is_padding(space: &str) -> Fault {
    Fault::new(
        format!("0 is padding in space {space}, not an option"),
        "codes begin at 1; only spaces that you define may have an option 0",
    )
}

fn find<'d>(definitions: &'d [Definition], key: &str) -> Option<&'d Definition> {
    let number: Option<u8> = key.parse().ok();
    definitions
        .iter()
        .find(|definition| *definition.name == *key || number == Some(definition.code))
}

fn by_number(key: &str) -> Option<Definition> {
    let code = key.parse().ok().filter(|code| (1..=254).contains(code))?;
    Some(Definition { code, name: key.into(), kind: None })
}

fn standard(key: &str) -> Option<Definition> {
    let known = match key.parse() {
        Ok(code) => options::by_code(code),
        Err(_) => options::by_name(key),
    }?;
    Some(Definition::standard(known))
}

fn option_name(text: &str) -> Result<&str, Fault> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.chars().all(good) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(text);
    }
    Err(Fault::new(
        format!("must be a name, not `{}`", text.escape_debug()),
        "names have letters, digits, `-`, `_` and `.`, and begin with a letter",
    ))
}

fn unknown_option<'n>(key: &str, space: &str, known: impl Iterator<Item = &'n str>) -> Fault {
    let help = match schema::nearest(key, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write its number (224 = \"hex:0a0b\"), or define it: \
                 [[dhcp.option-definition]] with code, name and type"
            .to_owned(),
    };
    Fault::new(format!("there is no option `{key}`{space}"), help)
}
