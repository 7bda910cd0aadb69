//! Reading what every scope may set: options, boot rules, lease times.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::pxe::Architecture;

use super::definitions::{Definition, Definitions, VENDOR};
use super::effect_reader::Variables;
use super::fields::Fields;
use super::live::Naming;
use super::option_types::OptionType;
use super::problem::{Fault, Problems};
use super::scope::SpaceOptions;
use super::scope_draft::Lines;
use super::scope_spaces::SpaceValues;
use super::setting_reader::{self, path};
use super::source::{Files, Place};
use super::statement::{Action, Key, Mode, Statement};
use super::statement_reader::mode_of;
use super::tree::{Entry, Node, Value};
use super::{BootFile, BootRule, ClassId, ClientMatch, Line, OptionSet, Scope, Settings};
use super::{schema, units};

/// The longest path that `file` of the header holds with its closing NUL (RFC 2131, section 2).
const HEADER_FILE: usize = 127;

/// What names in scopes stand for.
#[derive(Debug)]
pub(super) struct Names<'a> {
    pub(super) definitions: &'a Definitions,
    pub(super) classes: HashMap<Box<str>, ClassId>,
    /// The values of every `[dhcp.option-space.NAME]`.
    pub(super) spaces: BTreeMap<Box<str>, (SpaceValues, Place)>,
    /// An expression asks for what relay agents say.
    pub(super) names_ports: Cell<bool>,
    pub(super) variables: RefCell<Variables>,
}

/// Where the parts of a scope stand that are looked at again when the whole is known.
#[derive(Clone, Debug, Default)]
pub(super) struct ScopePlaces {
    pub(super) routers: Option<Place>,
    pub(super) server_identifier: Option<Place>,
    pub(super) lease_time: Option<Place>,
    pub(super) min_lease_time: Option<Place>,
    pub(super) max_lease_time: Option<Place>,
    /// The file of each boot rule.
    pub(super) boot: Vec<Place>,
    pub(super) filename: Option<Place>,
    /// Where the scope begins, and where its values stand, for the model.
    pub(super) line: Option<Line>,
    pub(super) lines: Lines,
    /// Where the values stand, while the scope is read.
    pub(super) keys: Vec<(Key, Place)>,
    /// What `vendor-option-space` names, while the scope is read.
    vendor_option_space: Option<Cow<'static, [u8]>>,
    /// Of the bodies of its conditions.
    pub(super) inside: Inside,
}

/// What the bodies of conditions name that is looked at again when the whole is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Inside {
    /// Every `server-identifier`.
    pub(super) identifiers: Vec<(Ipv4Addr, Place)>,
    /// Boot files that this server has to have.
    pub(super) files: Vec<(Box<[u8]>, Place)>,
}

impl ScopePlaces {
    /// The boot files of a scope that this server has to have, unless a level names another one.
    pub(super) fn files<'s>(
        &self,
        settings: &'s Settings<'static>,
    ) -> impl Iterator<Item = (&'s [u8], Place)> {
        let rules = settings.boot.iter().zip(&self.boot);
        let of_rules = rules.filter_map(|(rule, &place)| match (&rule.file, rule.next_server) {
            (BootFile::File(file), None) => Some((&**file, place)),
            _ => None,
        });
        let plain = settings.filename.as_deref().filter(|file| !file.is_empty());
        of_rules.chain(plain.zip(self.filename))
    }
}

impl Inside {
    fn add(&mut self, scope: &Scope, places: &ScopePlaces) {
        let settings = scope.settings();
        self.identifiers.extend(settings.server_identifier.zip(places.server_identifier));
        self.identifiers.extend_from_slice(&places.inside.identifiers);
        if settings.next_server.is_none() {
            self.files.extend(places.files(settings).map(|(file, place)| (file.into(), place)));
            self.files.extend_from_slice(&places.inside.files);
        }
    }
}

/// Options of one scope while they are collected.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) values: BTreeMap<u8, (Vec<u8>, Place)>,
    /// Values for whole spaces: name, options, place.
    pub(super) spaces: Vec<(Box<str>, SpaceValues, Place)>,
    of_host: bool,
}

impl<'a> Names<'a> {
    /// Nothing but definitions.
    pub(super) fn new(definitions: &'a Definitions) -> Self {
        let (classes, spaces) = (HashMap::new(), BTreeMap::new());
        let variables = RefCell::default();
        Self { definitions, classes, spaces, names_ports: Cell::new(false), variables }
    }

    /// Those of a model.
    pub(super) fn of(naming: &'a Naming) -> Self {
        let Naming { definitions, classes, spaces } = naming;
        let (classes, spaces) = (classes.clone(), spaces.clone());
        Self { classes, spaces, ..Self::new(definitions) }
    }
}

impl Names<'_> {
    /// Takes the keys that every scope may have.
    pub(super) fn scope(
        &self,
        fields: &mut Fields,
        files: &Files,
        problems: &mut Problems,
    ) -> (Scope, ScopePlaces) {
        self.scope_with(Collected::default(), fields, files, problems)
    }

    /// The same for a host, of which the model knows one line for all.
    pub(super) fn host_scope(
        &self,
        fields: &mut Fields,
        files: &Files,
        problems: &mut Problems,
    ) -> (Scope, ScopePlaces) {
        let collected = Collected { of_host: true, ..Collected::default() };
        self.scope_with(collected, fields, files, problems)
    }

    /// The body of a condition, as statements. What a look at the whole asks for is added to that
    /// of the scope around it.
    pub(super) fn body(
        &self,
        fields: &mut Fields,
        inside: &mut Inside,
        files: &Files,
        problems: &mut Problems,
    ) -> Box<[Statement]> {
        let place = fields.place;
        let (scope, places) = self.scope(fields, files, problems);
        inside.add(&scope, &places);
        let Some(line) = places.line.or_else(|| files.line(place)) else { return Box::default() };
        let (fixed, statements) = scope.into_parts();
        let fixed = (!fixed.is_empty()).then(|| {
            let action = Action::Fixed(fixed, places.lines);
            Statement { line, action }
        });
        fixed.into_iter().chain(statements).collect()
    }

    /// The same for `[dhcp]` itself, where the values of the option spaces are for everybody. Of
    /// several spaces for option 43 none is, unless `vendor-option-space` names it, or they are
    /// chosen for each message.
    pub(super) fn global_scope(
        &self,
        fields: &mut Fields,
        files: &Files,
        problems: &mut Problems,
    ) -> (Scope, ScopePlaces) {
        let carriers = self.spaces.keys().map(|space| self.definitions.carrier(space));
        let vendors = carriers.filter(|&carrier| carrier == VENDOR).count();
        let spaces = self.spaces.iter().filter(|(space, _)| {
            let merged = self.definitions.id(space).is_some();
            merged || vendors == 1 || self.definitions.carrier(space) != VENDOR
        });
        let spaces = spaces.map(|(space, (values, place))| (space.clone(), values.clone(), *place));
        let spaces = spaces.collect();
        self.scope_with(Collected { spaces, ..Collected::default() }, fields, files, problems)
    }

    fn scope_with(
        &self,
        collected: Collected,
        fields: &mut Fields,
        files: &Files,
        problems: &mut Problems,
    ) -> (Scope, ScopePlaces) {
        let of_host = collected.of_host;
        let mut statements = self.first_of(fields, files, problems);
        statements.extend(self.dynamic_settings(fields, files, problems));
        let mut places = ScopePlaces {
            server_identifier: fields.place_of("server-identifier"),
            lease_time: fields.place_of("lease-time"),
            min_lease_time: fields.place_of("min-lease-time"),
            max_lease_time: fields.place_of("max-lease-time"),
            filename: fields.place_of("filename"),
            keys: self.setting_places(fields),
            ..ScopePlaces::default()
        };
        let (options, spaces, dynamic) =
            self.options(collected, fields, files, problems, &mut places);
        statements.extend(dynamic);
        let always_send = fields.list("always-send", problems, |node| self.code(node));
        let boot = self.boot(fields, problems, &mut places);
        let always_send = always_send.into_iter().map(|(code, _)| code).collect();
        let mut settings = setting_reader::settings(always_send, boot, fields, problems);
        settings.vendor_option_space = places.vendor_option_space.take();
        let mut conditions = self.switches_of(fields, &mut places.inside, files, problems);
        conditions.extend(self.conditions_of(fields, &mut places.inside, files, problems));
        conditions.sort_by_key(|(place, _)| place.start);
        statements.extend(conditions.into_iter().map(|(_, statement)| statement));
        statements.extend(self.events_of(fields, files, problems));
        if !of_host {
            places.line = files.line(fields.place);
            let rules = (0..).map(Key::Boot).zip(places.boot.iter().copied());
            let keys = std::mem::take(&mut places.keys).into_iter().chain(rules);
            let mut lines: Vec<_> =
                keys.filter_map(|(key, place)| Some((key, files.line(place)?))).collect();
            lines.sort_unstable();
            places.lines = lines.into();
        }
        let statements = statements.into();
        (Scope::new(options, settings, spaces, statements), places)
    }

    /// An entry of `always-send`.
    fn code(&self, node: &Node) -> Result<u8, Fault> {
        let key = match &node.value {
            Value::Integer(code) => code.to_string(),
            _ => units::text(node)?.to_owned(),
        };
        let found = match key.split_once('.') {
            Some((space, _)) if self.definitions.has_space(space) => {
                return Ok(self.definitions.carrier(space));
            }
            _ => self.definitions.option(&key),
        };
        found.map(|definition| definition.code).map_err(|fault| fault.after("names options, and"))
    }

    fn options(
        &self,
        mut collected: Collected,
        fields: &mut Fields,
        files: &Files,
        problems: &mut Problems,
        places: &mut ScopePlaces,
    ) -> (OptionSet, Box<[SpaceOptions]>, Vec<Statement>) {
        let mut statements = Vec::new();
        if let Some(entry) = fields.take("options") {
            match entry.node.value {
                Value::Table(table) => {
                    for entry in table.entries {
                        // An option of a space may be called as the words for these.
                        let is_space = self.definitions.has_space(&entry.key);
                        let is_value =
                            |(mode, _): &(Mode, _)| *mode == Mode::Supersede || !is_space;
                        if let Some(said) = mode_of(&entry.node).filter(is_value) {
                            let (option, place) = ((&*entry.key, entry.place), said.1.place);
                            let statement = self.dynamic_option(option, said, files, problems);
                            if statement.as_ref().is_some_and(Statement::names_routers) {
                                places.routers = Some(place);
                            }
                            statements.extend(statement);
                            continue;
                        }
                        self.collect(entry, &mut collected, problems);
                    }
                }
                _ => {
                    let help = "write options = { routers = [\"10.1.0.1\"] }";
                    let fault = units::must_be("a table", &entry.node, help);
                    problems.error(entry.node.place, fault.after("`options`"));
                }
            }
        }
        let chosen = fields.get_placed("vendor-option-space", problems, |node| {
            let space = units::text(node)?;
            if self.definitions.has_space(space) {
                return Ok(Box::<str>::from(space));
            }
            Err(self.definitions.unknown_space(space).after("names an option space, and"))
        });
        let spaces = self.merged_spaces(&mut collected, places);
        match chosen {
            Some((space, _)) if self.definitions.id(&space).is_some() => {
                places.vendor_option_space = Some(Cow::Owned(space.into_string().into_bytes()));
            }
            chosen => self.choose_spaces(&mut collected, chosen, problems),
        }
        let routers = collected.values.get(&bootstorm_protocols::dhcpv4::options::ROUTERS);
        places.routers = routers.map(|&(_, place)| place).or(places.routers);
        let keys = collected.values.iter().map(|(&code, &(_, place))| (Key::Option(code), place));
        places.keys.extend(keys);
        let values = collected.values.into_iter().map(|(code, (bytes, _))| (code, bytes));
        (OptionSet::new(values), spaces, statements)
    }

    fn collect(&self, entry: Entry, collected: &mut Collected, problems: &mut Problems) {
        if let Value::Table(table) = entry.node.value {
            let Some(space) = self.space_of(&entry.key) else {
                return problems.error(entry.place, self.definitions.unknown_space(&entry.key));
            };
            let values = self.space(&space, table, problems);
            return collected.spaces.push((space, values, entry.place));
        }
        let Some(definition) = problems.keep(entry.place, self.definitions.option(&entry.key))
        else {
            return;
        };
        let place = entry.node.place;
        let Some(bytes) = encode(&definition, &entry.key, &entry.node, problems) else { return };
        if let Some((_, first)) = collected.values.insert(definition.code, (bytes, place)) {
            let text = format!("option {} is set twice in one scope", definition.code);
            problems.conflict(place, Fault::new(text, "keep one of them"), first, "first set here");
        }
    }

    fn boot(
        &self,
        fields: &mut Fields,
        problems: &mut Problems,
        places: &mut ScopePlaces,
    ) -> Vec<BootRule> {
        let mut rules: Vec<BootRule> = Vec::new();
        let mut for_all: Option<Place> = None;
        for mut fields in fields.tables("boot", &schema::BOOT_RULE, problems) {
            if let Some(earlier) = for_all {
                let text = "this boot rule is never reached";
                let help = "the first rule that matches decides: put rules without conditions last";
                let fault = Fault::new(text, help);
                problems.warn_of(fields.place, fault, earlier, "this one matches every machine");
            }
            let place = fields.place_of("file").or(fields.place_of("url")).unwrap_or(fields.place);
            let matches = self.conditions(&mut fields, problems);
            let class = fields.list("class", problems, |node| self.class(node));
            let matches =
                ClientMatch { class: class.into_iter().map(|(id, _)| id).collect(), ..matches };
            let next_server = fields.get("next-server", problems, units::ipv4);
            let Some(file) = boot_file(&mut fields, problems) else { continue };
            if matches.is_empty() {
                for_all = for_all.or(Some(fields.place));
            }
            rules.push(BootRule { matches, file, next_server });
            places.boot.push(place);
        }
        rules
    }

    /// Takes the conditions that classes and boot rules have in common.
    pub(super) fn conditions(&self, fields: &mut Fields, problems: &mut Problems) -> ClientMatch {
        fn values<T>(placed: Vec<(T, Place)>) -> Vec<T> {
            placed.into_iter().map(|(value, _)| value).collect()
        }
        let arch = fields.list("arch", problems, architecture);
        ClientMatch {
            user_class: values(fields.list("user-class", problems, units::octets)),
            vendor_class: values(fields.list("vendor-class", problems, units::octets)),
            arch: values(arch).concat(),
            mac_prefix: values(fields.list("mac-prefix", problems, units::hardware)),
            uuid: values(fields.list("uuid", problems, units::uuid)),
            circuit_id: values(fields.list("circuit-id", problems, units::octets)),
            remote_id: values(fields.list("remote-id", problems, units::octets)),
            class: Vec::new(),
        }
    }

    /// A class by its name.
    pub(super) fn class(&self, node: &Node) -> Result<ClassId, Fault> {
        let name = units::text(node)?;
        self.class_named(name)
    }

    /// The same, for a key that names it.
    pub(super) fn class_named(&self, name: &str) -> Result<ClassId, Fault> {
        self.find_class(name).map_err(|fault| fault.after("names a class, and"))
    }

    /// The same, for an expression.
    pub(super) fn find_class(&self, name: &str) -> Result<ClassId, Fault> {
        self.classes.get(name).copied().ok_or_else(|| Fault {
            message: format!("there is no class `{name}`"),
            help: Some(match schema::nearest(name, self.classes.keys().map(|name| &**name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add [[dhcp.class]] with name = \"{name}\""),
            }),
        })
    }
}

pub(super) fn encode(
    definition: &Definition,
    key: &str,
    node: &Node,
    problems: &mut Problems,
) -> Option<Vec<u8>> {
    let value = match &definition.kind {
        // What option 43 holds is up to the vendor (RFC 2132, section 8.4): some read a text.
        Some(OptionType::Encapsulate(_))
            if definition.code == VENDOR && matches!(node.value, Value::Text(_)) =>
        {
            OptionType::Octets.encode(node)
        }
        Some(kind) => kind.encode(node),
        None => match &node.value {
            Value::Text(_) => OptionType::Octets.encode(node),
            _ => Err(units::must_be(
                "bytes",
                node,
                "nothing is known of this option: write \"hex:0a0b\" or a text, or give it a type \
                 with [[dhcp.option-definition]]",
            )),
        },
    };
    let value = value.map_err(|fault| fault.after(&format!("option `{key}`")));
    problems.keep(node.place, value)
}

/// `file` or `url` of a boot rule.
fn boot_file(fields: &mut Fields, problems: &mut Problems) -> Option<BootFile> {
    let (file_place, url_place) = (fields.place_of("file"), fields.place_of("url"));
    if let (Some(file), Some(url)) = (file_place, url_place) {
        let fault = Fault::new(
            "a boot rule has a file or a URL, not both",
            "write two rules: firmware that boots by HTTP has its own `arch`",
        );
        problems.conflict(url, fault, file, "the file");
        return None;
    }
    if let Some(place) = url_place {
        let url = fields.get("url", problems, |node| {
            let url = path(node)?;
            let schemes = ["http://", "https://", "tftp://", "ftp://", "nfs://", "iscsi:"];
            if schemes.iter().any(|scheme| url.starts_with(scheme)) {
                return Ok(url.to_owned());
            }
            let help = "write \"http://10.1.0.6/boot.ipxe\"; a path for TFTP is a `file`";
            Err(units::must_be("a URL", node, help))
        })?;
        warn_of_length(&url, place, problems);
        return Some(BootFile::Url(url.into_bytes().into()));
    }
    let Some(place) = file_place else {
        let help = "add file = \"pxelinux.0\", url = \"http://...\", or file = \"none\" to send \
                    no boot file";
        problems.error(fields.place, Fault::new("a boot rule needs a `file` or a `url`", help));
        return None;
    };
    let file = fields.get("file", problems, |node| path(node).map(str::to_owned))?;
    if file == "none" {
        return Some(BootFile::None);
    }
    warn_of_length(&file, place, problems);
    Some(BootFile::File(file.into_bytes().into()))
}

fn warn_of_length(file: &str, place: Place, problems: &mut Problems) {
    if file.len() > HEADER_FILE {
        let text = format!("this name has {} bytes", file.len());
        let help = "longer than 127 bytes it fits option 67 only; old firmware reads just the \
                    field `file`";
        problems.warn(place, Fault::new(text, help));
    }
}

/// The codes of an architecture (option 93): all that machines of this kind send.
fn architecture(node: &Node) -> Result<Vec<u16>, Fault> {
    let architecture = match &node.value {
        Value::Integer(code) => u16::try_from(*code).ok().map(Architecture::from_code),
        Value::Text(name) => Architecture::by_name(name),
        _ => None,
    };
    if let Some(wanted) = architecture {
        // The registry is below this number, and firmware may send any of its codes for one kind.
        let registered = (0..256).filter(|&code| Architecture::from_code(code) == wanted);
        let own = (wanted.code() >= 256).then_some(wanted.code());
        return Ok(registered.chain(own).collect());
    }
    let near = match &node.value {
        Value::Text(name) => schema::nearest(name, Architecture::names()),
        _ => None,
    };
    let help = match near {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("names are {}", Architecture::names().collect::<Vec<_>>().join(", ")),
    };
    Err(units::must_be("an architecture", node, &help))
}
