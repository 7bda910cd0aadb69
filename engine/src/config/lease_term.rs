//! How long the levels of a client let it have an address, and which setting decides.

use super::{Dhcp, LeaseTime, Parameter, ScopeChain};

/// A lease time, and what decided it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct LeaseTerm {
    pub(crate) time: LeaseTime,
    pub(crate) by: LeaseTimeBy,
}

impl LeaseTerm {
    /// The shorter one; of the same length the first.
    pub(crate) fn min(self, other: Self) -> Self {
        if other.time < self.time { other } else { self }
    }

    /// The longer one; of the same length the first.
    pub(crate) fn max(self, other: Self) -> Self {
        if other.time > self.time { other } else { self }
    }
}

/// What decided a lease time.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum LeaseTimeBy {
    /// The client asks for it.
    Wish,
    /// A setting, or what it is where it is not set.
    Setting(Parameter),
    /// The pool gives no lease beyond a date: seconds since 1970.
    After(u64),
    /// It is what is left of a lease that is not renewed yet.
    Left,
    /// A BOOTP client keeps its address for ever.
    Bootp,
}

impl From<Parameter> for LeaseTimeBy {
    fn from(parameter: Parameter) -> Self {
        Self::Setting(parameter)
    }
}

impl ScopeChain<'_> {
    /// The lease time for a client that asks for `wish` (option 51), or for nothing, and what
    /// decided it. `cap` is the longest that its pool gives now.
    ///
    /// Its wish is within `min-lease-time` and `max-lease-time`, which both are `lease-time` unless
    /// they are set. In ISC dhcpd that is 12 hours, its limits are 5 minutes and a day unless they
    /// are set, and hold for a client without a wish as well.
    pub(crate) fn lease_time_for(
        &self,
        wish: Option<LeaseTime>,
        cap: Option<LeaseTerm>,
    ) -> LeaseTerm {
        let by = |time, by| LeaseTerm { time, by };
        let wish = wish.map(|wish| by(wish, LeaseTimeBy::Wish));
        let cap = cap.unwrap_or(by(LeaseTime::INFINITE, LeaseTimeBy::Wish));
        let most = self.setting(|settings| settings.max_lease_time);
        let usual = self.usual_lease_time();
        if !self.dhcp().is_as_dhcpd() {
            let Some(wish) = wish else { return usual.min(cap) };
            let most = most.map_or(usual, |most| by(most, Parameter::MaxLeaseTime.into()));
            return wish.max(self.least_lease_time()).min(most).min(cap);
        }
        let most = by(most.unwrap_or(Dhcp::DHCPD_MAX_LEASE_TIME), Parameter::MaxLeaseTime.into());
        wish.unwrap_or(usual).min(most).min(cap).max(self.least_lease_time())
    }

    /// The lease time of a client that asks for none.
    fn usual_lease_time(&self) -> LeaseTerm {
        let built_in = match self.dhcp().is_as_dhcpd() {
            true => Dhcp::DHCPD_LEASE_TIME,
            false => Dhcp::DEFAULT_LEASE_TIME,
        };
        let time = self.setting(|settings| settings.lease_time).unwrap_or(built_in);
        LeaseTerm { time, by: Parameter::LeaseTime.into() }
    }

    /// The shortest lease.
    pub(crate) fn least_lease_time(&self) -> LeaseTerm {
        let by = |time, parameter: Parameter| LeaseTerm { time, by: parameter.into() };
        if let Some(least) = self.setting(|settings| settings.min_lease_time) {
            return by(least, Parameter::MinLeaseTime);
        }
        if !self.dhcp().is_as_dhcpd() {
            return self.usual_lease_time();
        }
        let least = by(Dhcp::DHCPD_MIN_LEASE_TIME, Parameter::MinLeaseTime);
        match self.setting(|settings| settings.max_lease_time) {
            Some(most) => by(most, Parameter::MaxLeaseTime).min(least),
            None => least,
        }
    }
}
