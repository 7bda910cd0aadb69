//! What of a scope depends on the message, as TOML has it: `if`, and values that are expressions.

use std::ops::Range;

use bootstorm_protocols::dhcpv4::options;

use super::expression::{self, Boolean, Data, OptionPath, Token, Tokens, Vocabulary, Width, Wrong};
use super::fields::Fields;
use super::option_types::OptionType;
use super::problem::{Fault, Problems};
use super::scope_reader::{self, Inside, Names};
use super::source::{Files, Place};
use super::statement::{Action, Branch, Key, Mode, Operand, Statement};
use super::tree::{Node, Value};
use super::{ClassId, ClassTest, Parameter, Settings, VariableId, schema, units};

/// The key of a table that stands in the place of a value.
const EXPRESSION: &str = "expression";

/// Settings that no expression may give in TOML: spaces are put together when the file is read,
/// replies must not wait for ever, and the other one has the key.
const FIXED: [Parameter; 3] =
    [Parameter::VendorOptionSpace, Parameter::ReplyDelay, Parameter::PingTimeout];

/// The expression of a value, if it is one.
pub(super) fn expression_of(node: &Node) -> Option<&Node> {
    let Value::Table(table) = &node.value else { return None };
    match table.entries.as_slice() {
        [entry] if &*entry.key == EXPRESSION => Some(&entry.node),
        _ => None,
    }
}

/// What becomes of the value of wider scopes, and the value, if that is said of an option.
pub(super) fn mode_of(node: &Node) -> Option<(Mode, &Node)> {
    let Value::Table(table) = &node.value else { return None };
    let [entry] = table.entries.as_slice() else { return None };
    let mode = match &*entry.key {
        EXPRESSION => return Some((Mode::Supersede, &entry.node)),
        "default" => Mode::Default,
        "append" => Mode::Append,
        "prepend" => Mode::Prepend,
        _ => return None,
    };
    Some((mode, &entry.node))
}

impl Names<'_> {
    /// Takes every setting whose value is an expression.
    pub(super) fn dynamic_settings(
        &self,
        fields: &mut Fields,
        files: &Files,
        problems: &mut Problems,
    ) -> Vec<Statement> {
        let mut statements = Vec::new();
        for parameter in Parameter::all().filter(|one| !FIXED.contains(one)) {
            let key = parameter.key();
            if fields.peek(key).and_then(expression_of).is_none() {
                continue;
            }
            let Some(entry) = fields.take(key) else { continue };
            let Some(node) = expression_of(&entry.node) else { continue };
            let (key, kind) = (Key::Parameter(parameter), Settings::kind(parameter));
            let into = (Mode::Supersede, key);
            statements.extend(self.assignment(into, Some(&kind), node, files, problems));
        }
        statements
    }

    /// Where the settings of a scope stand, and its boot rules.
    pub(super) fn setting_places(&self, fields: &Fields) -> Vec<(Key, Place)> {
        let place = |one: Parameter| Some((Key::Parameter(one), fields.place_of(one.key())?));
        let mut places: Vec<(Key, Place)> = Parameter::all().filter_map(place).collect();
        places.extend(fields.place_of("always-send").map(|place| (Key::AlwaysSend, place)));
        places
    }

    /// The statement that sets an option to what an expression yields, or that says what becomes of
    /// the value of wider scopes.
    pub(super) fn dynamic_option(
        &self,
        (name, place): (&str, Place),
        (mode, node): (Mode, &Node),
        files: &Files,
        problems: &mut Problems,
    ) -> Option<Statement> {
        let definition = problems.keep(place, self.definitions.option(name))?;
        let key = Key::Option(definition.code);
        let expression = match mode {
            Mode::Supersede => Some(node),
            _ => expression_of(node),
        };
        if let Some(node) = expression {
            let kind = definition.kind.as_ref();
            return self.assignment((mode, key), kind, node, files, problems);
        }
        let value = scope_reader::encode(&definition, name, node, problems)?;
        let line = files.line(node.place)?;
        let action = Action::Assign(mode, key, Data::Constant(value.into()));
        Some(Statement { line, action })
    }

    /// The statement that sets a key to what an expression yields.
    pub(super) fn assignment(
        &self,
        (mode, key): (Mode, Key),
        kind: Option<&OptionType>,
        node: &Node,
        files: &Files,
        problems: &mut Problems,
    ) -> Option<Statement> {
        let operand = self.read(
            EXPRESSION,
            None,
            node,
            files,
            problems,
            |tokens, words, doubts| match kind {
                Some(OptionType::Boolean) => {
                    expression::boolean(tokens, words, doubts).map(Operand::Boolean)
                }
                Some(OptionType::Unsigned(_) | OptionType::Signed(_)) => {
                    expression::data_or_numeric(tokens, words, doubts)
                }
                _ => expression::data(tokens, words, doubts).map(Operand::Data),
            },
        )?;
        let line = files.line(node.place)?;
        let set = |value| Statement { line, action: Action::Assign(mode, key, value) };
        let bit = |on: u8| Box::from([set(Data::Constant([on].into()))]);
        Some(match operand {
            Operand::Data(data) => set(data),
            Operand::Numeric(number) => {
                let width = match kind {
                    Some(OptionType::Unsigned(1) | OptionType::Signed(1)) => Width::Eight,
                    Some(OptionType::Unsigned(2) | OptionType::Signed(2)) => Width::Sixteen,
                    _ => Width::ThirtyTwo,
                };
                set(Data::EncodeInt(Box::new(number), width))
            }
            Operand::Boolean(condition) => {
                let branch = Branch { line, condition, statements: bit(1) };
                let action = Action::If([branch].into(), bit(0));
                Statement { line, action }
            }
            Operand::Variable(variable) => set(Data::Variable(variable)),
        })
    }

    /// Takes every `if` of a scope.
    pub(super) fn conditions_of(
        &self,
        fields: &mut Fields,
        inside: &mut Inside,
        files: &Files,
        problems: &mut Problems,
    ) -> Vec<(Place, Statement)> {
        let mut statements = Vec::new();
        for mut fields in fields.tables("if", &schema::IF, problems) {
            let place = fields.place;
            let mut branches = Vec::new();
            let others = fields.tables("elsif", &schema::ELSIF, problems);
            let last = fields
                .take("else")
                .and_then(|entry| Fields::open(entry.node, &schema::ELSE, problems));
            for mut fields in std::iter::once(fields).chain(others) {
                let test = self.test(&mut fields, files, problems);
                let body = self.body(&mut fields, inside, files, problems);
                let line = files.line(fields.place);
                branches.extend(test.zip(line).map(|(condition, line)| Branch {
                    line,
                    condition,
                    statements: body,
                }));
            }
            let otherwise = last.map(|mut fields| self.body(&mut fields, inside, files, problems));
            let Some(line) = files.line(place) else { continue };
            let action = Action::If(branches.into(), otherwise.unwrap_or_default());
            statements.push((place, Statement { line, action }));
        }
        statements
    }

    /// The condition of an `if`.
    fn test(&self, fields: &mut Fields, files: &Files, problems: &mut Problems) -> Option<Boolean> {
        let Some(entry) = fields.take("test") else {
            let text = "an `if` needs the key `test`";
            let help = "add test = 'option vendor-class-identifier = \"PXEClient\"'";
            problems.error(fields.place, Fault::new(text, help));
            return None;
        };
        let test = self.read("test", None, &entry.node, files, problems, expression::boolean)?;
        if matches!(test, Boolean::Constant(_) | Boolean::Null) {
            let text = "this test does not depend on the message";
            let help = "compare something of the message: option, hardware, packet";
            problems.warn(entry.node.place, Fault::new(text, help));
        }
        Some(test)
    }

    /// Reads the test of the class `own`, whose name is `name`.
    pub(super) fn class_test(
        &self,
        node: &Node,
        (own, name): (ClassId, &str),
        files: &Files,
        problems: &mut Problems,
    ) -> Option<ClassTest> {
        let words = Words { names: self, own: Some(own), is_test: true };
        let condition = read_text("test", node, files, problems, |text, doubts| {
            // Of a wrong test no more is told.
            expression::condition(text, &words, doubts).inspect_err(|_| doubts.clear())
        })?;
        let always = match condition {
            Boolean::Constant(true) => Some("everybody is a member"),
            Boolean::Constant(false) | Boolean::Null => Some("nobody is a member"),
            _ => None,
        };
        if let Some(always) = always {
            let text =
                format!("{always} of class `{name}`: its test does not depend on the message");
            let help = "compare something of the message: option, hardware, packet";
            problems.warn(node.place, Fault::new(text, help));
        }
        Some(ClassTest::new(condition))
    }

    /// Reads a text that is one expression; `own` is the class whose members it decides.
    pub(super) fn read<T>(
        &self,
        key: &str,
        own: Option<ClassId>,
        node: &Node,
        files: &Files,
        problems: &mut Problems,
        read: impl FnOnce(&mut Tokens<'_>, &dyn Vocabulary, &mut Vec<Wrong>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let words = Words { names: self, own, is_test: false };
        let value = read_text(key, node, files, problems, |text, doubts| {
            let mut tokens = Tokens::new(text);
            let value = read(&mut tokens, &words, doubts)?;
            let (token, place) = tokens.next()?;
            if token == Token::End {
                return Ok(value);
            }
            let text = format!("{} does not belong here", token.describe());
            let help = "write an operator before it: and, or, =, !=, ~=, ~~; a minus needs blanks";
            Err(Wrong::new(place, Fault::new(text, help)))
        });
        self.variables.borrow_mut().read_at(node.place);
        value
    }
}

/// Reads a text in dhcpd's language, and tells what is doubtful or wrong where it stands.
fn read_text<T>(
    key: &str,
    node: &Node,
    files: &Files,
    problems: &mut Problems,
    read: impl FnOnce(&str, &mut Vec<Wrong>) -> Result<T, Wrong>,
) -> Option<T> {
    let named = |fault: Fault| fault.after(&format!("`{key}`:"));
    let text = units::text(node).map_err(|fault| fault.after(&format!("`{key}`")));
    let text = problems.keep(node.place, text)?;
    let place_of = |part: Range<usize>| expression::within(node.place, part, files);
    let mut doubts = Vec::new();
    let value = read(text, &mut doubts);
    for Wrong { part, fault } in doubts {
        problems.warn(place_of(part), named(fault));
    }
    value.map_err(|Wrong { part, fault }| problems.error(place_of(part), named(fault))).ok()
}

/// What names stand for in expressions.
pub(super) struct Words<'n> {
    names: &'n Names<'n>,
    /// The class whose members are decided.
    own: Option<ClassId>,
    /// They are by its test, not by what tells its subclasses apart.
    is_test: bool,
}

impl<'n> Words<'n> {
    /// The words of a scope.
    pub(super) fn of_scope(names: &'n Names<'n>) -> Self {
        Self { names, own: None, is_test: false }
    }
}

impl Vocabulary for Words<'_> {
    fn decides_classes(&self) -> bool {
        self.own.is_some()
    }

    fn option(&self, space: Option<&str>, name: &str) -> Result<OptionPath, Fault> {
        let option = self.names.definitions.in_message(space, name)?;
        if option.code == options::RELAY_AGENT_INFORMATION {
            self.names.names_ports.set(true);
        }
        Ok(option)
    }

    fn class(&self, name: &str) -> Result<ClassId, Fault> {
        let class = match self.is_test {
            true => self.names.find_class(name),
            false => self.names.class_named(name),
        }?;
        match self.own {
            Some(own) if class >= own => Err(Fault::new(
                format!("class `{name}` is decided after this one"),
                "classes are decided in the order of the configuration: put it before this one",
            )),
            _ => Ok(class),
        }
    }

    fn variable(&self, name: &str) -> Result<VariableId, Fault> {
        let is_option = self.names.definitions.in_message(None, name).is_ok();
        if is_option || self.own.is_some() {
            return Err(expression::means_nothing(name, is_option));
        }
        Ok(self.names.variables.borrow_mut().named(name))
    }

    fn configured(&self, space: Option<&str>, name: &str) -> Result<Key, Fault> {
        if self.is_test {
            let help = "what it is sent is decided by its classes: use the value itself";
            return Err(Fault::new("`config-option` is not known when classes are decided", help));
        }
        match space {
            None | Some("dhcp") => {
                self.names.definitions.option(name).map(|it| Key::Option(it.code))
            }
            Some("server") => {
                let named = |one: &Parameter| one.dhcpd_name() == name || one.key() == name;
                let found = Parameter::all().find(named);
                let known = || Parameter::all().map(Parameter::dhcpd_name);
                found.map(Key::Parameter).ok_or_else(|| Fault {
                    message: format!("there is no parameter `{name}`"),
                    help: schema::nearest(name, known())
                        .map(|near| format!("did you mean `{near}`?")),
                })
            }
            Some(_) => Err(Fault::new(
                "only options of the message itself and parameters of the server can be named here",
                "use the value itself",
            )),
        }
    }

    fn host_name(&self, _name: &str) -> Result<Data, Fault> {
        Err(Fault::new("names are not looked up here", "write the address: 0a:01:00:06"))
    }
}
