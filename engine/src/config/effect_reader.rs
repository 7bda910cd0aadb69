//! Statements with effects as TOML has them: `set`, `add-class`, `switch` and `on`.

use super::expression::{self, Boolean, Data, Numeric, Tokens};
use super::fields::Fields;
use super::problem::{Fault, Problems};
use super::scope_reader::{Inside, Names};
use super::source::{Files, Place};
use super::statement::{Action, Block, Events, Operand, Statement, SwitchPart};
use super::statement_reader::{Words, expression_of};
use super::tree::{Node, Value};
use super::{LogLevel, VariableId, schema, units};

/// The variables of a configuration: names in lower case.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pub(super) names: Vec<Box<str>>,
    /// Which of them something sets.
    set: Vec<bool>,
    /// Those that the expression names that is read now.
    named: Vec<VariableId>,
    /// Where they are named.
    used: Vec<(VariableId, Place)>,
}

impl Variables {
    /// Variables that are set elsewhere.
    pub(super) fn known(names: Vec<Box<str>>) -> Self {
        let set = vec![true; names.len()];
        Self { names, set, ..Self::default() }
    }

    /// A variable that is named, in upper or lower case.
    pub(super) fn named(&mut self, name: &str) -> VariableId {
        let name = name.to_ascii_lowercase();
        let known = self.names.iter().position(|own| **own == *name);
        let place = known.unwrap_or_else(|| {
            self.names.push(name.into());
            self.set.push(false);
            self.names.len() - 1
        });
        // Files of 4 GiB at most have been read.
        let id = VariableId(u32::try_from(place).unwrap_or(u32::MAX));
        self.named.push(id);
        id
    }

    /// What was read stands there.
    pub(super) fn read_at(&mut self, place: Place) {
        self.used.extend(self.named.drain(..).map(|id| (id, place)));
    }

    /// Says which variables nothing sets, and gives the names of all.
    pub(super) fn finish(self, problems: &mut Problems) -> Vec<Box<str>> {
        let Self { names, set, used, .. } = self;
        let is_set = |id: &VariableId| set.get(id.index()).copied().unwrap_or_default();
        for (id, place) in used.iter().filter(|(id, _)| !is_set(id)) {
            let name = &names[id.index()];
            let known = names.iter().zip(&set).filter(|(_, set)| **set).map(|(name, _)| &**name);
            let help = match schema::nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "texts stand in quotes, options behind the word `option`, and a variable \
                         is set by the key `set`"
                    .to_owned(),
            };
            let text = format!("`{name}` means nothing here, and is no variable");
            problems.error(*place, Fault::new(text, help));
        }
        names
    }
}

/// What `on` has done at one event: its statements, and their text.
#[derive(Default)]
struct Done {
    statements: Vec<Statement>,
    text: String,
}

impl Done {
    fn add(&mut self, statements: &[Statement], text: &str) {
        self.statements.extend_from_slice(statements);
        self.text.push_str(text);
    }
}

impl Names<'_> {
    /// Takes `set` and `add-class` of a scope.
    pub(super) fn first_of(
        &self,
        fields: &mut Fields,
        files: &Files,
        problems: &mut Problems,
    ) -> Vec<Statement> {
        let mut statements = self.sets(fields, files, problems, &mut String::new());
        for (class, place) in fields.list("add-class", problems, |node| self.class(node)) {
            let Some(line) = files.line(place) else { continue };
            statements.push(Statement { line, action: Action::AddClass(class) });
        }
        statements
    }

    /// Takes `set`: variables, and the expression of each. What it says is added to `text`.
    fn sets(
        &self,
        fields: &mut Fields,
        files: &Files,
        problems: &mut Problems,
        text: &mut String,
    ) -> Vec<Statement> {
        let Some(entry) = fields.take("set") else { return Vec::new() };
        let Value::Table(table) = entry.node.value else {
            let help = "write set = { vendor = 'option vendor-class-identifier' }";
            let fault = units::must_be("a table", &entry.node, help);
            problems.error(entry.node.place, fault.after("`set`"));
            return Vec::new();
        };
        let mut statements = Vec::new();
        for entry in table.entries {
            let variable = problems.keep(entry.place, self.variable_to_set(&entry.key));
            let operand = match entry.node.value {
                Value::Bool(value) => Some(Operand::Boolean(Boolean::Constant(value))),
                Value::Integer(number) => {
                    Some(Operand::Numeric(Numeric::Constant(number.cast_unsigned())))
                }
                _ => self.read(&entry.key, None, &entry.node, files, problems, expression::any),
            };
            add_text(text, &entry.key, &entry.node);
            if let (Some(variable), Some(operand), Some(line)) =
                (variable, operand, files.line(entry.place))
            {
                statements.push(Statement { line, action: Action::Set(variable, operand) });
            }
        }
        statements
    }

    /// The variable of a name that is to be one.
    fn variable_to_set(&self, name: &str) -> Result<VariableId, Fault> {
        let words = Words::of_scope(self);
        let mut tokens = Tokens::new(name);
        let read = expression::any(&mut tokens, &words, &mut Vec::new());
        let mut variables = self.variables.borrow_mut();
        variables.named.clear();
        match read {
            Ok(Operand::Variable(id)) if tokens.offset() == name.len() => {
                variables.set[id.index()] = true;
                Ok(id)
            }
            _ => Err(Fault::new(
                format!("`{name}` cannot be the name of a variable"),
                "names begin with a letter, have letters, digits, `-` and `_`, and are no words of \
                 the language and no options",
            )),
        }
    }

    /// Takes every `switch` of a scope.
    pub(super) fn switches_of(
        &self,
        fields: &mut Fields,
        inside: &mut Inside,
        files: &Files,
        problems: &mut Problems,
    ) -> Vec<(Place, Statement)> {
        let mut statements = Vec::new();
        for mut fields in fields.tables("switch", &schema::SWITCH, problems) {
            let place = fields.place;
            let operand = match fields.take("value") {
                None => {
                    let text = "a `switch` needs the key `value`";
                    let help = "add value = 'option vendor-class-identifier'";
                    problems.error(place, Fault::new(text, help));
                    None
                }
                Some(entry) => self.compared(&entry.node, files, problems),
            };
            let mut parts = Vec::new();
            for mut case in fields.tables("case", &schema::CASE, problems) {
                let labels = case.list("is", problems, |node| label(node, operand.as_ref()));
                if labels.is_empty() && case.place_of("is").is_none() {
                    let text = "a `case` needs the key `is`";
                    problems.error(case.place, Fault::new(text, "add is = \"PXEClient\""));
                }
                let goes_on = case.get("fall-through", problems, units::boolean);
                let line = files.line(case.place);
                let labels = line.into_iter().flat_map(|line| {
                    labels.iter().map(move |(label, _)| SwitchPart::Case(line, label.clone()))
                });
                parts.extend(labels);
                let body = self.body(&mut case, inside, files, problems);
                parts.extend(body.into_iter().map(SwitchPart::Statement));
                if let (Some(line), false) = (line, goes_on.unwrap_or_default()) {
                    let end = Statement { line, action: Action::Break };
                    parts.push(SwitchPart::Statement(end));
                }
            }
            let otherwise = fields
                .take("default")
                .and_then(|entry| Fields::open(entry.node, &schema::DEFAULT, problems));
            if let Some(mut fields) = otherwise {
                parts.extend(files.line(fields.place).map(SwitchPart::Default));
                let body = self.body(&mut fields, inside, files, problems);
                parts.extend(body.into_iter().map(SwitchPart::Statement));
            }
            if let (Some(operand), Some(line)) = (operand, files.line(place)) {
                let action = Action::Switch(operand, parts.into());
                statements.push((place, Statement { line, action }));
            }
        }
        statements
    }

    /// The `value` of a `switch`.
    fn compared(&self, node: &Node, files: &Files, problems: &mut Problems) -> Option<Operand> {
        let operand = self.read("value", None, node, files, problems, expression::any)?;
        if matches!(operand, Operand::Boolean(_)) {
            let help = "for a condition write an `if` with the key `test`";
            let text = "`value` must yield bytes or a number, and this is true or false";
            problems.error(node.place, Fault::new(text, help));
            return None;
        }
        Some(operand)
    }

    /// Takes every `on` of a scope. What they say of one event adds up.
    pub(super) fn events_of(
        &self,
        fields: &mut Fields,
        files: &Files,
        problems: &mut Problems,
    ) -> Vec<Statement> {
        let mut all: [Done; 3] = Default::default();
        let mut first = None;
        for mut fields in fields.tables("on", &schema::ON, problems) {
            let Some(line) = files.line(fields.place) else { continue };
            first = first.or(Some(line));
            if fields.place_of("event").is_none() {
                let help = "add event = \"commit\", \"release\" or \"expiry\", or a list of them";
                problems.error(fields.place, Fault::new("an `on` needs the key `event`", help));
            }
            let events = fields.list("event", problems, event);
            let mut text = String::new();
            let mut statements = self.sets(&mut fields, files, problems, &mut text);
            if let Some(entry) = fields.take("log") {
                add_text(&mut text, "log", &entry.node);
                let words = self.text("log", &entry.node, files, problems);
                let action = words.map(|words| Action::Log(LogLevel::Info, words));
                statements.extend(action.map(|action| Statement { line, action }));
            }
            let words = fields.nodes("execute");
            words.iter().for_each(|word| add_text(&mut text, "execute", word));
            let action = self.program(&words, files, problems);
            statements.extend(action.map(|action| Statement { line, action }));
            for (event, _) in events {
                all[event].add(&statements, &text);
            }
        }
        let Some(line) = first else { return Vec::new() };
        let of_event = |(event, Done { statements, text }): (usize, Done)| {
            let [commit, release, expiry] = [0, 1, 2].map(|own| own == event);
            let block = Block::of(&text, statements.into());
            let action = Action::On(Events { commit, release, expiry }, block);
            Statement { line, action }
        };
        let all = all.into_iter().enumerate().filter(|(_, done)| !done.statements.is_empty());
        all.map(of_event).collect()
    }

    /// `execute`: a program and its arguments.
    fn program(&self, words: &[Node], files: &Files, problems: &mut Problems) -> Option<Action> {
        let (program, arguments) = words.split_first()?;
        let name = units::text(program).map_err(|fault| fault.after("`execute`"));
        let name = problems.keep(program.place, name)?.as_bytes().into();
        let arguments: Option<Box<[Data]>> =
            arguments.iter().map(|word| self.text("execute", word, files, problems)).collect();
        Some(Action::Execute(name, arguments?))
    }

    /// A text, or an expression that yields one.
    fn text(&self, key: &str, node: &Node, files: &Files, problems: &mut Problems) -> Option<Data> {
        if let Some(node) = expression_of(node) {
            return self.read(key, None, node, files, problems, expression::data);
        }
        if let Value::Text(text) = &node.value {
            return Some(Data::Constant(text.as_bytes().into()));
        }
        let fault = units::must_be("a text", node, "write it in quotes, or { expression = '...' }");
        problems.error(node.place, fault.after(&format!("`{key}`")));
        None
    }
}

/// The place of an event among all of them.
fn event(node: &Node) -> Result<usize, Fault> {
    match units::text(node)? {
        "commit" => Ok(0),
        "release" => Ok(1),
        "expiry" => Ok(2),
        _ => Err(units::must_be("commit, release or expiry", node, "these are the events")),
    }
}

/// What the value of a `switch` is compared with. A variable may be of either type.
fn label(node: &Node, operand: Option<&Operand>) -> Result<Operand, Fault> {
    let is_number = match operand {
        Some(Operand::Numeric(_)) => true,
        Some(Operand::Variable(_)) => matches!(node.value, Value::Integer(_)),
        _ => false,
    };
    if !is_number {
        return Ok(Operand::Data(Data::Constant(units::octets(node)?)));
    }
    let number = units::integer(node, 0..=u32::MAX)?;
    Ok(Operand::Numeric(Numeric::Constant(number.into())))
}

/// Adds what stands there, for the name of a block.
fn add_text(text: &mut String, key: &str, node: &Node) {
    let (kind, node) = match expression_of(node) {
        Some(inner) => ('=', inner),
        None => (':', node),
    };
    text.push_str(key);
    text.push(kind);
    match &node.value {
        Value::Text(own) => text.push_str(own),
        Value::Integer(number) => text.push_str(&number.to_string()),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        _ => {}
    }
    text.push('\0');
}
