//! Running the statements of a chain for one message.
//!
//! The widest level runs first. Conditions and variables are worked out at once; what options and
//! settings are set to is worked out when all statements have run, so that an expression may name
//! what a narrower level sets. Of what was set the last stands. All of it lies in the arena.

use std::cell::Cell;

use bootstorm_protocols::dhcpv4::options;
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use bumpalo::format as format_in;

use super::chain::{Layer, LayerSet, Level};
use super::decisions::{Decision, Watched};
use super::effects::{Asked, Before, Collected as Effecting, Effects};
use super::expression::{Boolean, Data, Facts, Names, Numeric, OptionPath, Value};
use super::option_set::OptionView;
use super::parts::{End, Part, Parts};
use super::scope::ScopeView;
use super::spaces::{Carried, Collected};
use super::statement::{Action, Key, Line, Mode, Operand, Statement, SwitchPart};
use super::unset::Unset;
use super::{
    Carrier, ClassId, Dhcp, Flag, LogLevel, Parameter, Scope, ScopeId, Space, SpaceId, VariableId,
};

/// How often the expressions of one message may name what is sent. Beyond that it is null: they may
/// name one another in a circle.
const MOST_LOOK_UPS: u32 = 1000;
/// Few messages have more set for them.
const USUAL_ENTRIES: usize = 8;
/// How deep they may name one another.
const DEEPEST: u32 = 16;

/// What a statement set.
#[derive(Copy, Clone)]
struct Entry<'c> {
    /// The place of its level in the chain.
    level: usize,
    line: Line,
    set: Set<'c>,
}

#[derive(Copy, Clone)]
enum Set<'c> {
    /// The values of a scope without statements.
    Fixed(&'c Scope, &'c [(Key, Line)]),
    /// One value.
    Parts(Key, &'c Parts<'c>),
}

/// What a run comes to.
pub(super) struct Ran<'c> {
    pub(super) levels: &'c [Level<'c>],
    pub(super) effects: &'c Effects<'c>,
    /// Classes that the client was made a member of, whose own levels are to run before those of
    /// its other classes. In dhcpd a member is made one again, and what its class says runs twice.
    pub(super) late: &'c [ClassId],
}

/// Whether the list of statements that a statement stands in goes on.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Flow {
    On,
    Break,
}

pub(super) struct Run<'r, 'c, F> {
    dhcp: &'c Dhcp,
    unset: Unset<'c>,
    facts: &'r F,
    pub(super) arena: &'c Bump,
    pub(super) levels: &'c [Level<'c>],
    /// The level whose statements run; those behind it have run.
    pub(super) level: usize,
    /// In the order in which they were set.
    entries: BumpVec<'c, Entry<'c>>,
    collected: Effecting<'c>,
    /// Added classes whose statements are to run: dhcpd runs those of classes after those of the
    /// client's place.
    late: BumpVec<'c, ClassId>,
    /// The levels from here on are those of the client's place.
    by_place: usize,
    /// Of the variables those that the widest level sets to a constant.
    constants: BumpVec<'c, (VariableId, Option<Value<'c>>)>,
    /// The value of an option is put together. dhcpd knows only `constants` then, and the options
    /// that no level sets.
    composing: Cell<bool>,
    pub(super) look_ups: Cell<u32>,
    depth: Cell<u32>,
    /// What it decides is noted for people.
    pub(super) watched: Option<Watched<'r>>,
}

impl<'r, 'c, F: Facts<'c>> Run<'r, 'c, F> {
    fn new(
        unset: Unset<'c>,
        (levels, by_place): (&'c [Level<'c>], usize),
        facts: &'r F,
        arena: &'c Bump,
    ) -> Self {
        Self {
            dhcp: unset.dhcp,
            unset,
            facts,
            arena,
            levels,
            level: levels.len(),
            entries: BumpVec::with_capacity_in(USUAL_ENTRIES, arena),
            collected: Effecting::new(arena),
            late: BumpVec::new_in(arena),
            by_place,
            constants: BumpVec::new_in(arena),
            composing: Cell::new(false),
            look_ups: Cell::new(0),
            depth: Cell::new(0),
            watched: None,
        }
    }

    /// Runs all statements of the levels, of which those from `by_place` on are of the client's
    /// place. The levels that come back have what the statements set.
    pub(super) fn all(
        unset: Unset<'c>,
        levels: (&'c [Level<'c>], usize),
        facts: &'r F,
        arena: &'c Bump,
    ) -> Ran<'c> {
        Self::new(unset, levels, facts, arena).run()
    }

    /// The same, for what the statements decide.
    pub(super) fn decisions(
        unset: Unset<'c>,
        levels: (&'c [Level<'c>], usize),
        facts: &'r F,
        names: &'r dyn Names,
        arena: &'c Bump,
    ) -> Vec<Decision> {
        let mut run = Self::new(unset, levels, facts, arena);
        run.watched = Some(Watched::new(names));
        run.run();
        run.watched.map_or_else(Vec::new, |watched| watched.decisions)
    }

    fn run(&mut self) -> Ran<'c> {
        for (place, level) in self.levels.iter().enumerate().rev() {
            self.level = place;
            self.block(level.scope.statements());
        }
        let levels = self.layered();
        let now = self.collected.since(Before::default());
        let mut commit = Asked::default();
        if let Some(statements) = self.collected.commit {
            let before = self.collected.here();
            if let Some(watched) = &mut self.watched {
                watched.at_commit = true;
            }
            // To run to its end is all that a block can do.
            let _ended = self.block(statements);
            commit = self.collected.since(before);
        }
        let effects = &*self.arena.alloc(Effects { now, commit, ends: self.collected.ends });
        Ran { levels, effects, late: self.arena.alloc_slice_copy(&self.late) }
    }

    /// Runs the statements of a block, for a lease that has ended.
    pub(super) fn one(
        dhcp: &'c Dhcp,
        block: &'c [Statement],
        facts: &'r F,
        arena: &'c Bump,
    ) -> Asked<'c> {
        let unset = Unset { dhcp, subnet: None, host: None };
        let mut run = Self::new(unset, (&[], 0), facts, arena);
        let _ended = run.block(block);
        run.collected.since(Before::default())
    }

    fn block(&mut self, statements: &'c [Statement]) -> Flow {
        for statement in statements {
            if self.statement(statement) == Flow::Break {
                return Flow::Break;
            }
        }
        Flow::On
    }

    fn statement(&mut self, statement: &'c Statement) -> Flow {
        let line = statement.line;
        match &statement.action {
            Action::Fixed(scope, lines) => self.push(line, Set::Fixed(scope, lines)),
            Action::Assign(mode, key, value) => self.assign(line, *mode, *key, value),
            Action::If(branches, otherwise) => {
                let taken = branches.iter().position(|branch| self.holds(&branch.condition));
                self.note_if(branches, otherwise, taken);
                let branch = taken.and_then(|taken| branches.get(taken));
                // A `break` ends the branch only, as in dhcpd.
                self.block(branch.map_or(otherwise, |branch| &branch.statements));
            }
            Action::Switch(operand, parts) => self.switch(operand, parts),
            Action::Break => return Flow::Break,
            Action::Set(variable, operand) => {
                let value = self.operand(operand);
                self.collected.variables.push((*variable, value));
                let level = self.levels.get(self.level);
                let is_widest = level.is_some_and(|level| level.id == ScopeId::Global);
                if is_widest && is_constant(operand) {
                    self.constants.push((*variable, value));
                }
            }
            Action::Unset(variable) => self.collected.variables.push((*variable, None)),
            Action::Log(level, text) => {
                if let Some(text) = text.evaluate(&*self, self.arena) {
                    self.collected.logs.push((*level, text));
                }
            }
            Action::AddClass(class) => self.add(*class),
            Action::Execute(program, arguments) => self.execute(program, arguments),
            Action::On(events, block) => self.collected.on(*events, block),
        }
        Flow::On
    }

    fn add(&mut self, class: ClassId) {
        let is_member = self.is_member(class);
        if !is_member {
            self.collected.added.push(class);
        }
        if self.level >= self.by_place && (!is_member || self.dhcp.is_as_dhcpd()) {
            self.late.push(class);
        }
    }

    /// Where an argument is null, the program is not run, as in dhcpd.
    fn execute(&mut self, program: &'c [u8], arguments: &'c [Data]) {
        let mut values = BumpVec::with_capacity_in(arguments.len(), self.arena);
        for (place, argument) in arguments.iter().enumerate() {
            let Some(value) = argument.evaluate(&*self, self.arena) else {
                let (name, place) = (program.escape_ascii(), place + 1);
                let text =
                    format_in!(in self.arena, "{} is not run: argument {} is null", name, place);
                let text = text.into_bump_str().as_bytes();
                return self.collected.logs.push((LogLevel::Debug, text));
            };
            values.push(value);
        }
        self.collected.run(program, &values);
    }

    fn assign(&mut self, line: Line, mode: Mode, key: Key, value: &'c Data) {
        let before = match mode {
            Mode::Supersede => None,
            Mode::Default | Mode::Append | Mode::Prepend => self.current(key, self.level),
        };
        let to = match (mode, before) {
            (Mode::Default, Some(_)) => return,
            (Mode::Append, Some(before)) => Some((End::Back, before)),
            (Mode::Prepend, Some(before)) => Some((End::Front, before)),
            _ => None,
        };
        let parts = Parts::new(Part::Expression(value), to);
        self.push(line, Set::Parts(key, self.arena.alloc(parts)));
    }

    fn push(&mut self, line: Line, set: Set<'c>) {
        self.entries.push(Entry { level: self.level, line, set });
    }

    /// Goes on behind the first label that equals the operand; where none does, or the operand is
    /// null, behind `default`.
    fn switch(&mut self, operand: &'c Operand, parts: &'c [SwitchPart]) {
        let value = self.operand(operand);
        let label = parts.iter().position(|part| match part {
            SwitchPart::Case(_, label) => value.is_some() && self.operand(label) == value,
            _ => false,
        });
        let default = || parts.iter().position(|part| matches!(part, SwitchPart::Default(_)));
        let taken = label.or_else(default);
        self.note_switch(operand, parts, taken);
        let Some(start) = taken else { return };
        for part in &parts[start..] {
            if let SwitchPart::Statement(statement) = part
                && self.statement(statement) == Flow::Break
            {
                return;
            }
        }
    }

    fn holds(&self, condition: &'c Boolean) -> bool {
        condition.evaluate(self, self.arena) == Some(true)
    }

    pub(super) fn operand(&self, operand: &'c Operand) -> Option<Value<'c>> {
        match operand {
            Operand::Data(data) => data.evaluate(self, self.arena).map(Value::Data),
            Operand::Numeric(number) => number.evaluate(self, self.arena).map(Value::Numeric),
            Operand::Boolean(condition) => condition.evaluate(self, self.arena).map(Value::Boolean),
            Operand::Variable(variable) => self.variable(*variable),
        }
    }

    /// What a key is set to as far as the statements have run, for a client whose narrowest level
    /// is `narrowest`; `None` where it is not set at all.
    fn current(&self, key: Key, narrowest: usize) -> Option<&'c Parts<'c>> {
        let constant = |bytes| Some(&*self.arena.alloc(Parts::new(Part::Bytes(bytes), None)));
        let mut entries = self.entries.iter().rev().peekable();
        for (place, level) in self.levels.iter().enumerate().skip(narrowest) {
            while let Some(entry) = entries.next_if(|entry| entry.level <= place) {
                match entry.set {
                    Set::Parts(own, parts) if own == key => return Some(parts),
                    Set::Parts(..) => {}
                    Set::Fixed(scope, _) => {
                        if let Some(bytes) = self.fixed(scope, key) {
                            return constant(bytes);
                        }
                    }
                }
            }
            if let Some(bytes) = self.fixed(level.scope, key) {
                return constant(bytes);
            }
        }
        None
    }

    /// What a scope sets a key to without its statements.
    fn fixed(&self, scope: &'c Scope, key: Key) -> Option<&'c [u8]> {
        match key {
            Key::Option(code) => scope.options.get(code),
            Key::InSpace(space, code) => {
                let (_, options) = scope.spaces().iter().find(|(own, _)| *own == space)?;
                let place = options.binary_search_by_key(&code, |&(own, _)| own).ok()?;
                Some(&options[place].1)
            }
            Key::Parameter(parameter) => parameter.write(scope.view().any_settings()?, self.arena),
            Key::Boot(_) | Key::AlwaysSend => None,
        }
    }

    /// What an option is sent with that no level sets, while the values of options are put
    /// together: what statements go by knows nothing of it, as in dhcpd.
    fn unset(&self, key: Key) -> Option<&'c [u8]> {
        let Key::Option(code) = key else { return None };
        if !self.composing.get() {
            return None;
        }
        let address = self.facts.leased_address();
        self.unset.option(code, address, |flag| self.is(flag), self.arena)
    }

    /// Whether a flag is on when all statements have run.
    fn is(&self, flag: Flag) -> bool {
        let parameter = Parameter::Flag(flag);
        let parts = || self.current(Key::Parameter(parameter), 0);
        let set = || parameter.read(self.value(parts()?)?)?.flags.get(flag);
        let same_for_all = self.dhcp.same_for_all(flag);
        same_for_all.unwrap_or_else(|| set().unwrap_or(flag.by_default()))
    }

    /// The value of parts put together; null if one of them is.
    fn value(&self, parts: &Parts<'c>) -> Option<&'c [u8]> {
        let one = |part: Part<'c>| match part {
            Part::Bytes(bytes) => Some(bytes),
            Part::Expression(data) => data.evaluate(self, self.arena),
        };
        if let Some(part) = parts.single() {
            return one(part);
        }
        let mut value = BumpVec::new_in(self.arena);
        for part in parts.in_order(self.arena) {
            value.extend_from_slice(one(part)?);
        }
        Some(value.into_bump_slice())
    }

    /// The levels with what was set, of which what nobody will see is left out.
    fn layered(&mut self) -> &'c [Level<'c>] {
        self.level = 0;
        let mut levels = BumpVec::with_capacity_in(self.levels.len() + 1, self.arena);
        levels.extend_from_slice(self.levels);
        for (place, level) in levels.iter_mut().enumerate() {
            let mut layers = BumpVec::new_in(self.arena);
            for entry in self.entries.iter().rev().filter(|entry| entry.level == place) {
                layers.extend(self.layer(entry));
            }
            level.layers = layers.into_bump_slice();
        }
        // An option that is set as a whole counts before what would travel in it, whatever its
        // level. So what travels in it comes behind the widest level.
        self.carriers(&mut levels);
        levels.into_bump_slice()
    }

    /// Adds levels for the options that others travel in.
    fn carriers(&self, levels: &mut BumpVec<'c, Level<'c>>) {
        if self.dhcp.spaces.is_empty() {
            return;
        }
        let vendor = self.configured(Key::Parameter(Parameter::VendorOptionSpace));
        // A space that travels in an option of its own may be the vendor's as well.
        let travels = |space: &Space, code| {
            let chosen = vendor == Some(space.name.as_bytes());
            let by_name = chosen && code == options::VENDOR_ENCAPSULATED_OPTIONS;
            by_name || space.carrier != Carrier::Vendor && space.carrier.option() == code
        };
        let vendors = vendor.map(|_| options::VENDOR_ENCAPSULATED_OPTIONS);
        let mut done: BumpVec<'c, u8> = BumpVec::new_in(self.arena);
        for code in self.dhcp.spaces.iter().map(|space| space.carrier.option()).chain(vendors) {
            if done.contains(&code) {
                continue;
            }
            done.push(code);
            let mut value = BumpVec::new_in(self.arena);
            let mut narrowest: Option<usize> = None;
            for (id, other) in (0..).map(SpaceId).zip(&self.dhcp.spaces) {
                if !travels(other, code) {
                    continue;
                }
                let carried = self.carried(id);
                if let Some(level) = carried.level() {
                    narrowest = Some(narrowest.map_or(level, |other| other.min(level)));
                    carried.write(other, &mut value);
                }
            }
            let Some(level) = narrowest.and_then(|place| self.levels.get(place)) else { continue };
            let value = value.into_bump_slice();
            let view = ScopeView::of_options(OptionView::one(code, value, self.arena));
            let set = LayerSet::Value(Key::Option(code), Some(value), None);
            let layers = self.arena.alloc_slice_copy(&[Layer { view, set }]);
            levels.push(Level { id: level.id, scope: self.dhcp.hosts.no_scope(), layers });
        }
    }

    /// The options of a space, of each code that of the narrowest level.
    fn carried(&self, space: SpaceId) -> Collected<'c> {
        let mut options = Collected::new(self.arena);
        let mut entries = self.entries.iter().rev().peekable();
        for (place, level) in self.levels.iter().enumerate() {
            let all = |scope: &'c Scope, options: &mut Collected<'c>| {
                let values = scope.spaces().iter().find(|(own, _)| *own == space);
                for (code, value) in values.map_or(&[][..], |(_, values)| values) {
                    let value = Some(&**value).filter(|value| !self.is_left_out(value));
                    options.add(Carried { code: *code, value, level: place });
                }
            };
            while let Some(entry) = entries.next_if(|entry| entry.level <= place) {
                match entry.set {
                    Set::Fixed(scope, _) => all(scope, &mut options),
                    Set::Parts(Key::InSpace(own, code), parts)
                        if own == space && !options.has(code) =>
                    {
                        self.composing.set(true);
                        let value = self.value(parts);
                        self.composing.set(false);
                        let value = value.filter(|value| !self.is_left_out(value));
                        options.add(Carried { code, value, level: place });
                    }
                    Set::Parts(..) => {}
                }
            }
            all(level.scope, &mut options);
        }
        options
    }

    /// dhcpd sends nothing that is empty.
    fn is_left_out(&self, value: &[u8]) -> bool {
        value.is_empty() && self.dhcp.is_as_dhcpd()
    }

    fn layer(&self, entry: &Entry<'c>) -> Option<Layer<'c>> {
        let (key, parts) = match entry.set {
            Set::Fixed(scope, lines) => {
                return Some(Layer { view: scope.view(), set: LayerSet::Fixed(scope, lines) });
            }
            Set::Parts(key, parts) => (key, parts),
        };
        let stands = self.current(key, 0).is_some_and(|current| std::ptr::eq(current, parts));
        if !stands {
            return None;
        }
        self.composing.set(!matches!(key, Key::Parameter(_)));
        let value = self.value(parts);
        self.composing.set(false);
        let view = match key {
            Key::Option(code) => match value {
                Some(value) => ScopeView::of_options(OptionView::one(code, value, self.arena)),
                None => ScopeView::of_nothing(code),
            },
            Key::Parameter(parameter) => {
                ScopeView::of_settings(self.arena.alloc(parameter.read(value.unwrap_or_default())?))
            }
            Key::InSpace(..) | Key::Boot(_) | Key::AlwaysSend => return None,
        };
        Some(Layer { view, set: LayerSet::Value(key, value, Some(entry.line)) })
    }
}

fn is_constant(operand: &Operand) -> bool {
    matches!(
        operand,
        Operand::Data(Data::Constant(_))
            | Operand::Numeric(Numeric::Constant(_))
            | Operand::Boolean(Boolean::Constant(_))
    )
}

/// What the message says, and what the statements have made of it so far.
impl<'c, F: Facts<'c>> Facts<'c> for Run<'_, 'c, F> {
    fn option(&self, path: OptionPath) -> Option<&'c [u8]> {
        self.facts.option(path)
    }

    fn hardware(&self) -> Option<&'c [u8]> {
        self.facts.hardware()
    }

    fn message(&self) -> &'c [u8] {
        self.facts.message()
    }

    fn file(&self) -> &'c [u8] {
        self.facts.file()
    }

    fn server_name(&self) -> &'c [u8] {
        self.facts.server_name()
    }

    fn is_member(&self, class: ClassId) -> bool {
        self.collected.added.contains(&class) || self.facts.is_member(class)
    }

    fn is_known(&self) -> bool {
        self.facts.is_known()
    }

    fn is_static(&self) -> bool {
        self.facts.is_static()
    }

    fn configured(&self, key: Key) -> Option<&'c [u8]> {
        let (look_ups, depth) = (self.look_ups.get(), self.depth.get());
        if look_ups >= MOST_LOOK_UPS || depth >= DEEPEST {
            return None;
        }
        self.look_ups.set(look_ups + 1);
        self.depth.set(depth + 1);
        let value = match self.current(key, self.level) {
            Some(parts) => self.value(parts),
            None => self.unset(key),
        };
        self.depth.set(depth);
        value
    }

    fn leased_address(&self) -> Option<&'c [u8]> {
        self.facts.leased_address()
    }

    fn host_decl_name(&self) -> Option<&'c [u8]> {
        self.facts.host_decl_name()
    }

    fn lease_time(&self) -> Option<u64> {
        self.facts.lease_time()
    }

    fn variable(&self, variable: VariableId) -> Option<Value<'c>> {
        let composing = self.composing.get() && self.dhcp.is_as_dhcpd();
        let set = if composing { &self.constants } else { &self.collected.variables };
        let mut set = set.iter().rev();
        match set.find(|(own, _)| *own == variable) {
            Some(&(_, value)) => value,
            None if composing => None,
            None => self.facts.variable(variable),
        }
    }
}
