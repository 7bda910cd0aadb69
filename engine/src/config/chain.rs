//! The levels of the configuration that hold for one client, and which of them wins.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootstorm_protocols::dhcpv4::options;
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::decisions::Decision;
use super::effects::Effects;
use super::expression::{Facts, Names};
use super::run::{Ran, Run};
use super::settings::Milliseconds;
use super::unset::Unset;
use super::{
    BootRule, ClassId, Dhcp, Flag, GroupId, HostId, Key, Line, NetworkId, Parameter, PoolId, Scope,
    ScopeId, ScopeView, Settings, SubclassId, SubnetId,
};

/// The levels that hold for one client, of which the narrowest that says something wins:
/// global, shared network, subnet, pool, class, group, host. Among classes the first wins. A group
/// around a network, subnet or pool lies between it and the next wider level.
///
/// The scopes that a class or host stands in hold for it wherever the client is; those that hold
/// for the client by its place count only there.
#[derive(Copy, Clone, Debug)]
pub struct ScopeChain<'c> {
    dhcp: &'c Dhcp,
    host: Option<HostId>,
    group: Option<GroupId>,
    host_scope: Option<&'c Scope>,
    classes: &'c [ClassId],
    subclasses: &'c [SubclassId],
    pool: Option<PoolId>,
    subnet: Option<SubnetId>,
    /// The narrowest first. Levels that say nothing are left out.
    levels: &'c [Level<'c>],
    /// How many of them stand before those of the client's place.
    by_place: usize,
    effects: &'c Effects<'c>,
}

/// One level of a chain.
#[derive(Copy, Clone, Debug)]
pub(super) struct Level<'c> {
    pub(super) id: ScopeId,
    pub(super) scope: &'c Scope,
    /// What its statements set, the last first.
    pub(super) layers: &'c [Layer<'c>],
}

/// What a client boots.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Boots<'c> {
    /// What a boot rule says.
    Rule(&'c BootRule),
    /// This file, which is empty for none.
    File(&'c [u8]),
}

/// What a statement set. It counts before what was set earlier.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Layer<'c> {
    pub(super) view: ScopeView<'c>,
    pub(crate) set: LayerSet<'c>,
}

/// What of a layer tells it from others.
#[derive(Copy, Clone, Debug)]
pub(crate) enum LayerSet<'c> {
    /// All values of a scope of the configuration, and the line of each.
    Fixed(&'c Scope, &'c [(Key, Line)]),
    /// One value; `None` where wider levels have it and it is not sent.
    Value(Key, Option<&'c [u8]>, Option<Line>),
}

impl<'c> ScopeChain<'c> {
    /// The chain of a client in `subnet` and `pool`, member of `classes` and `subclasses` of them
    /// in the order of the configuration, known as `host`. The subnet brings its network, the host
    /// its group.
    pub fn new(
        dhcp: &'c Dhcp,
        subnet: Option<SubnetId>,
        pool: Option<PoolId>,
        members: (&'c [ClassId], &'c [SubclassId]),
        host: Option<HostId>,
        arena: &'c Bump,
    ) -> Self {
        Self::with(dhcp, (subnet, pool), members, &[], host, arena)
    }

    /// The same; the levels of `late` stand behind those of the other classes, once more if they
    /// are among these.
    fn with(
        dhcp: &'c Dhcp,
        (subnet, pool): (Option<SubnetId>, Option<PoolId>),
        (classes, subclasses): (&'c [ClassId], &'c [SubclassId]),
        late: &[ClassId],
        host: Option<HostId>,
        arena: &'c Bump,
    ) -> Self {
        let entry = host.map(|id| dhcp.host(id));
        let (group, host_scope) =
            entry.map_or((None, None), |entry| (entry.group(), entry.scope()));
        let mut levels = Levels { dhcp, list: BumpVec::with_capacity_in(8, arena) };
        let by_place = ByPlace::of(dhcp, subnet, pool);
        let ran = by_place.ran_before_classes(dhcp);
        if let Some((id, scope)) = host.zip(host_scope) {
            levels.push(ScopeId::Host(id), scope);
        }
        if let Some(id) = group {
            let around = std::iter::once(ScopeId::Group(id));
            let around = around.chain(dhcp.group(id).within.iter().copied());
            levels.push_around(around, &ran);
        }
        for &id in classes {
            let class = dhcp.class(id);
            for &part in subclasses.iter().filter(|part| dhcp.subclass(**part).class == id) {
                levels.push(ScopeId::Subclass(part), &dhcp.subclass(part).scope);
            }
            levels.push(ScopeId::Class(id), &class.scope);
            levels.push_around(class.within.iter().copied(), &ran);
        }
        for &id in late {
            let class = dhcp.class(id);
            levels.push(ScopeId::Class(id), &class.scope);
            levels.push_around(class.within.iter().copied(), &ran);
        }
        let narrower = levels.list.len();
        by_place.each(dhcp, |id| levels.push(id, dhcp.scope(id)));
        levels.push(ScopeId::Global, &dhcp.global);
        let levels = levels.list.into_bump_slice();
        Self {
            dhcp,
            host,
            group,
            host_scope,
            classes,
            subclasses,
            pool,
            subnet,
            levels,
            by_place: narrower,
            effects: Effects::NONE,
        }
    }

    /// The same chain with what its statements make of a message.
    pub(crate) fn run(self, facts: &impl Facts<'c>, arena: &'c Bump) -> Self {
        if !self.dhcp.has_statements || !self.levels.iter().any(|level| level.scope.is_dynamic()) {
            return self;
        }
        let run =
            |chain: &Self| Run::all(chain.unset(), (chain.levels, chain.by_place), facts, arena);
        let Ran { levels, effects, late } = run(&self);
        let room = self.dhcp.most_classes().saturating_sub(self.classes.len());
        let late = &late[..late.len().min(room)];
        if late.is_empty() {
            return Self { levels, effects, ..self };
        }
        // The last of the classes, in which the first wins.
        let members = (self.classes, self.subclasses);
        let place = (self.subnet, self.pool);
        let whole = Self::with(self.dhcp, place, members, late, self.host, arena);
        let Ran { levels, effects, .. } = run(&whole);
        let mut classes = BumpVec::from_iter_in(self.classes.iter().copied(), arena);
        classes.extend_from_slice(late);
        Self { levels, effects, classes: classes.into_bump_slice(), ..whole }
    }

    /// Which branches its statements take for a message, in the order in which they run.
    pub(crate) fn decisions(
        &self,
        facts: &impl Facts<'c>,
        names: &dyn Names,
        arena: &'c Bump,
    ) -> Vec<Decision> {
        Run::decisions(self.unset(), (self.levels, self.by_place), facts, names, arena)
    }

    /// What its statements do beside setting options and settings.
    pub(crate) fn effects(&self) -> &'c Effects<'c> {
        self.effects
    }

    /// What its statements set: the place of the level and the value, the narrowest first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (usize, LayerSet<'c>)> {
        let levels = self.levels.iter().enumerate();
        levels.flat_map(|(place, level)| level.layers.iter().map(move |layer| (place, layer.set)))
    }

    /// The line that says what `key` is on a level, whether a statement set it or not.
    pub fn line_of(&self, id: ScopeId, key: Key) -> Option<Line> {
        let levels = self.levels.iter().filter(|level| level.id == id);
        let mut layers = levels.flat_map(|level| level.layers);
        let set = layers.find_map(|layer| match layer.set {
            LayerSet::Fixed(_, lines) => {
                let place = lines.binary_search_by_key(&key, |&(own, _)| own).ok()?;
                Some(lines[place].1)
            }
            LayerSet::Value(own, _, line) => line.filter(|_| own == key),
        });
        set.or_else(|| self.dhcp.line_of(id, key))
    }

    /// The configuration that the levels are of.
    pub fn dhcp(&self) -> &'c Dhcp {
        self.dhcp
    }

    /// The subnet.
    pub fn subnet(&self) -> Option<SubnetId> {
        self.subnet
    }

    /// The pool.
    pub fn pool(&self) -> Option<PoolId> {
        self.pool
    }

    /// The classes, in the order of the configuration.
    pub fn classes(&self) -> &'c [ClassId] {
        self.classes
    }

    /// The subclasses of these classes.
    pub fn subclasses(&self) -> &'c [SubclassId] {
        self.subclasses
    }

    /// The group of the host.
    pub fn group(&self) -> Option<GroupId> {
        self.group
    }

    /// What is said of the host and of nobody else.
    pub fn host_scope(&self) -> Option<&'c Scope> {
        self.host_scope
    }

    /// What `found` finds first, from the narrowest level on.
    pub fn find<T>(&self, mut found: impl FnMut(ScopeId, ScopeView<'c>) -> Option<T>) -> Option<T> {
        for level in self.levels {
            for layer in level.layers {
                if let Some(value) = found(level.id, layer.view) {
                    return Some(value);
                }
            }
            if let Some(value) = found(level.id, level.scope.view()) {
                return Some(value);
            }
        }
        None
    }

    /// Calls `each` with every level, the narrowest first.
    pub fn for_each(&self, mut each: impl FnMut(ScopeId, ScopeView<'c>)) {
        self.find(|id, scope| {
            each(id, scope);
            None::<()>
        });
    }

    /// The value of option `code` and the level it comes from.
    pub fn option(&self, code: u8) -> Option<(&'c [u8], ScopeId)> {
        self.decided(code).flatten()
    }

    /// The same; `None` where no level says what it is, `Some(None)` where one says that it is not
    /// sent.
    pub(crate) fn decided(&self, code: u8) -> Option<Option<(&'c [u8], ScopeId)>> {
        let said = self.find(|id, scope| match scope.options.get(code) {
            Some(value) => Some(Some((value, id))),
            None => (scope.without() == Some(code)).then_some(None),
        })?;
        // dhcpd sends nothing that is empty, but what says all by being there.
        Some(said.filter(|(value, _)| {
            !self.dhcp.is_as_dhcpd() || !value.is_empty() || code == options::RAPID_COMMIT
        }))
    }

    /// The TFTP server of the next stage, if the configuration names one.
    pub fn next_server(&self) -> Option<Ipv4Addr> {
        self.setting(|settings| settings.next_server)
    }

    /// The address at which clients reach this server, if the configuration sets one.
    pub fn server_identifier(&self) -> Option<Ipv4Addr> {
        self.setting(|settings| settings.server_identifier)
    }

    /// The text for `sname`, if the configuration has one.
    pub fn server_name(&self) -> Option<&'c [u8]> {
        self.setting(|settings| settings.server_name.as_deref())
    }

    /// What option 12 is sent with, and the level it comes from: where no level says, the name of
    /// the client's `[[dhcp.host]]` if `use-host-decl-names` has it sent.
    pub(crate) fn host_name(&self) -> Option<(&'c [u8], ScopeId)> {
        let unset = || self.unset().host_name(|flag| self.is(flag));
        self.decided(options::HOST_NAME).unwrap_or_else(unset)
    }

    /// What option 1 is sent with where no level says.
    pub(crate) fn subnet_mask(&self) -> Option<Ipv4Addr> {
        self.unset().subnet_mask()
    }

    fn unset(&self) -> Unset<'c> {
        Unset { dhcp: self.dhcp, subnet: self.subnet, host: self.host }
    }

    /// Whether a flag is on.
    pub fn is(&self, flag: Flag) -> bool {
        let set = || self.setting(|settings| settings.flags.get(flag));
        let same_for_all = self.dhcp.same_for_all(flag);
        same_for_all.unwrap_or_else(|| set().unwrap_or(flag.by_default()))
    }

    /// The narrowest value of a setting that hardly any configuration has.
    pub(crate) fn rare<T>(
        &self,
        parameter: Parameter,
        get: impl FnMut(&'c Settings<'c>) -> Option<T>,
    ) -> Option<T> {
        self.dhcp.uses(parameter).then(|| self.setting(get)).flatten()
    }

    /// How long an address is pinged before it is offered; `None` where it is not.
    pub(crate) fn ping(&self) -> Option<Duration> {
        if !self.is(Flag::PingCheck) {
            return None;
        }
        let precise = self.rare(Parameter::PingTimeoutMs, |settings| settings.ping_timeout_ms);
        let precise = precise.map(Milliseconds::duration).filter(|time| !time.is_zero());
        let time = precise.or_else(|| self.rare(Parameter::PingTimeout, |all| all.ping_timeout));
        let usual = match self.dhcp.is_as_dhcpd() {
            true => Duration::from_secs(1),
            false => Dhcp::PING_WAIT,
        };
        Some(time.unwrap_or(usual).min(self.dhcp.offer_time))
    }

    /// The least time between a request and its reply.
    pub fn reply_delay(&self) -> Duration {
        self.setting(|settings| settings.reply_delay).unwrap_or_default()
    }

    /// Whether some level sends option `code` to clients that did not ask for it.
    pub fn always_sends(&self, code: u8) -> bool {
        self.setting(|settings| settings.always_send.contains(&code).then_some(())).is_some()
    }

    /// What the narrowest level that says so has the client boot, and that level: the first of its
    /// boot rules that `matches` says is the client's, else its `filename`.
    pub(crate) fn boot(
        &self,
        mut matches: impl FnMut(&'c BootRule) -> bool,
    ) -> Option<(Boots<'c>, ScopeId)> {
        self.first(|scope| {
            let settings = scope.any_settings()?;
            let rule = settings.boot.iter().find(|rule| matches(rule)).map(Boots::Rule);
            rule.or_else(|| settings.filename.as_deref().map(Boots::File))
        })
    }

    /// What the narrowest level says that says anything.
    fn first<T>(&self, mut get: impl FnMut(ScopeView<'c>) -> Option<T>) -> Option<(T, ScopeId)> {
        self.find(|id, scope| get(scope).map(|value| (value, id)))
    }

    /// The same of what is set beside options, without the level.
    pub(crate) fn setting<T>(
        &self,
        mut get: impl FnMut(&'c Settings<'c>) -> Option<T>,
    ) -> Option<T> {
        self.find(|_, scope| get(scope.any_settings()?))
    }
}

/// The scopes that hold for a client because of the address that it has or may have.
struct ByPlace {
    pool: Option<PoolId>,
    subnet: Option<SubnetId>,
    network: Option<NetworkId>,
    /// The scope of the subnet itself is left out.
    around_subnet: bool,
}

impl ByPlace {
    fn of(dhcp: &Dhcp, subnet: Option<SubnetId>, pool: Option<PoolId>) -> Self {
        let network = subnet.map(|id| dhcp.subnet(id).network);
        Self { pool, subnet, network, around_subnet: false }
    }

    /// Calls `each` with every scope, the narrowest first.
    fn each(&self, dhcp: &Dhcp, mut each: impl FnMut(ScopeId)) {
        if let Some(id) = self.pool {
            each(ScopeId::Pool(id));
            dhcp.pool(id).groups.iter().for_each(|&group| each(ScopeId::Group(group)));
        }
        if let Some(id) = self.subnet {
            if !self.around_subnet {
                each(ScopeId::Subnet(id));
            }
            dhcp.subnet(id).groups.iter().for_each(|&group| each(ScopeId::Group(group)));
        }
        if let Some(id) = self.network {
            each(ScopeId::Network(id));
            dhcp.network(id).groups.iter().for_each(|&group| each(ScopeId::Group(group)));
        }
    }

    /// Of them those that hold only once, though a class or a host stands in them. In dhcpd a pool
    /// stands in its shared network alone: what stands in its subnet brings the subnet's
    /// statements along once more. A subnet without `shared-network` is its network.
    fn ran_before_classes(&self, dhcp: &Dhcp) -> Self {
        let is_declared = |id| dhcp.network(id).name.is_some();
        let again = self.pool.is_some() && self.network.is_some_and(is_declared);
        Self { around_subnet: dhcp.is_as_dhcpd() && again, ..*self }
    }

    fn has(&self, dhcp: &Dhcp, scope: ScopeId) -> bool {
        let mut has = false;
        self.each(dhcp, |own| has |= own == scope);
        has
    }
}

/// Levels while they are collected.
struct Levels<'c> {
    dhcp: &'c Dhcp,
    list: BumpVec<'c, Level<'c>>,
}

impl<'c> Levels<'c> {
    fn push(&mut self, id: ScopeId, scope: &'c Scope) {
        if !scope.is_empty() {
            self.list.push(Level { id, scope, layers: &[] });
        }
    }

    /// Adds the scopes around a class or host, the innermost first, up to one that ran before.
    fn push_around(&mut self, around: impl Iterator<Item = ScopeId>, ran: &ByPlace) {
        let dhcp = self.dhcp;
        for id in around.take_while(|&id| !ran.has(dhcp, id)) {
            self.push(id, dhcp.scope(id));
        }
    }
}
