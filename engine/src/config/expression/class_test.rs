//! The `test` of a `[[dhcp.class]]`.

use std::ops::Range;

use bootstorm_protocols::dhcpv4::options;
use bumpalo::Bump;

use super::super::problem::{Fault, Problems};
use super::super::scope_reader::Names;
use super::super::source::{Files, Place};
use super::super::tree::Node;
use super::super::{schema, units};
use super::parser::{self, Vocabulary};
use super::{Boolean, Data, Facts, OptionPath, Wrong, place};
use crate::config::statement::Key;
use crate::config::{ClassId, VariableId};

/// A condition in dhcpd's language.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassTest {
    pub(super) condition: Boolean,
}

impl ClassTest {
    /// A test.
    pub(in crate::config) fn new(condition: Boolean) -> Self {
        Self { condition }
    }

    /// Whether it is true; null is not.
    pub(crate) fn holds<'a>(&'a self, facts: &impl Facts<'a>, arena: &'a Bump) -> bool {
        self.condition.evaluate(facts, arena) == Some(true)
    }
}

/// Reads the test of the class `own`, whose name is `name`.
pub(in crate::config) fn read(
    node: &Node,
    (own, name): (ClassId, &str),
    names: &Names<'_>,
    files: &Files,
    problems: &mut Problems,
) -> Option<ClassTest> {
    let text = units::text(node)
        .map_err(|fault| Fault { message: format!("`test` {}", fault.message), ..fault });
    let text = problems.keep(node.place, text)?;
    let place_of = |part: Range<usize>| within(node.place, part, files);
    let names = ClassNames { names, own };
    let mut doubts = Vec::new();
    let condition = match parser::condition(text, &names, &mut doubts) {
        Ok(condition) => condition,
        Err(Wrong { part, fault }) => {
            problems.error(place_of(part), named(fault));
            return None;
        }
    };
    for Wrong { part, fault } in doubts {
        problems.warn(place_of(part), named(fault));
    }
    let always = match condition {
        Boolean::Constant(true) => Some("everybody is a member"),
        Boolean::Constant(false) | Boolean::Null => Some("nobody is a member"),
        _ => None,
    };
    if let Some(always) = always {
        let text = format!("{always} of class `{name}`: its test does not depend on the message");
        let help = "compare something of the message: option, hardware, packet";
        problems.warn(node.place, Fault::new(text, help));
    }
    Some(ClassTest { condition })
}

fn named(fault: Fault) -> Fault {
    Fault { message: format!("`test`: {}", fault.message), ..fault }
}

/// Where a part of a text value stands; the whole value if nobody can tell.
pub(in crate::config) fn within(whole: Place, part: Range<usize>, files: &Files) -> Place {
    let found = || {
        let raw = files.get(whole.file)?.text()?.get(whole.range())?;
        let part = place::in_string(raw, part)?;
        let offset = |at: usize| whole.start.checked_add(u32::try_from(at).ok()?);
        Some(Place { start: offset(part.start)?, end: offset(part.end)?, ..whole })
    };
    found().unwrap_or(whole)
}

/// What names stand for in the test of one class.
struct ClassNames<'n> {
    names: &'n Names<'n>,
    own: ClassId,
}

impl Vocabulary for ClassNames<'_> {
    fn decides_classes(&self) -> bool {
        true
    }

    fn option(&self, space: Option<&str>, name: &str) -> Result<OptionPath, Fault> {
        let option = self.names.definitions.in_message(space, name)?;
        if option.code == options::RELAY_AGENT_INFORMATION {
            self.names.names_ports.set(true);
        }
        Ok(option)
    }

    fn class(&self, name: &str) -> Result<ClassId, Fault> {
        let classes = &self.names.classes;
        match classes.get(name) {
            Some(&class) if class < self.own => Ok(class),
            Some(_) => Err(Fault::new(
                format!("class `{name}` is decided after this one"),
                "classes are decided in the order of the configuration: put it before this one",
            )),
            None => Err(Fault {
                message: format!("there is no class `{name}`"),
                help: Some(match schema::nearest(name, classes.keys().map(|name| &**name)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add [[dhcp.class]] with name = \"{name}\""),
                }),
            }),
        }
    }

    fn variable(&self, name: &str) -> Result<VariableId, Fault> {
        let is_option = self.names.definitions.in_message(None, name).is_ok();
        Err(parser::means_nothing(name, is_option))
    }

    fn configured(&self, _space: Option<&str>, _name: &str) -> Result<Key, Fault> {
        let help = "what it is sent is decided by its classes: use the value itself";
        Err(Fault::new("`config-option` is not known when classes are decided", help))
    }

    fn host_name(&self, _name: &str) -> Result<Data, Fault> {
        Err(Fault::new("names are not looked up here", "write the address: 0a:01:00:06"))
    }
}
