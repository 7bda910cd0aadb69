//! What a reply carries, where each value comes from, and what it hides.

use bootstorm_protocols::dhcpv4::Message;

use super::make::Part;
use super::words;
use super::{
    BootPart, Explanation, HiddenPart, LeaseTimePart, OptionPart, ReplyPart, RulePart, Source,
    UnsentPart,
};
use crate::config::{
    BootRule, Boots, Date, Key, LeaseTimeBy, Parameter, ScopeChain, ScopeId, Settings,
};
use crate::dhcp::{BootFound, Delivery, Findings, Origin, Outgoing, PassedOver, Reply, ReplyCache};
use crate::hex;

impl Part<'_> {
    pub(super) fn boot(&self, reply: &Reply<'_>, findings: Findings<'_>) -> BootPart {
        let chain = reply.chain();
        let BootFound { passed, found } = findings.boot(chain);
        let of_rule = |scope, rule: &BootRule| {
            let own = chain.find(|id, level| (id == scope).then_some(level.settings()));
            let place = own.and_then(|own| own.boot.iter().position(|own| std::ptr::eq(own, rule)));
            match place.and_then(|place| u32::try_from(place).ok()) {
                Some(place) => self.words.value(chain, scope, Key::Boot(place)),
                None => self.words.scope(scope),
            }
        };
        let mut rules: Vec<RulePart> = passed
            .into_iter()
            .map(|(scope, rule, why)| {
                let said = match why {
                    PassedOver::Condition(condition) => findings.said(condition),
                    _ => String::new(),
                };
                RulePart {
                    rule: self.words.rule(rule),
                    source: of_rule(scope, rule),
                    passed: Some(self.words.passed_over(why, rule, &said)),
                }
            })
            .collect();
        let server = Some(reply.siaddr).filter(|ip| !ip.is_unspecified());
        let set = setting(chain, |settings| settings.next_server);
        let set = set.filter(|(ip, _)| server == Some(*ip));
        let mut server_from = server.map(|_| match set {
            Some((_, scope)) => self.parameter(chain, scope, Parameter::NextServer),
            None => words::made_by("server"),
        });
        rules.extend(found.map(|(boots, scope)| match boots {
            Boots::Rule(rule) => {
                let source = of_rule(scope, rule);
                if server.is_some() && rule.next_server == server {
                    server_from = Some(source.clone());
                }
                RulePart { rule: self.words.rule(rule), source, passed: None }
            }
            Boots::File(file) => RulePart {
                rule: format!("filename {}", words::quoted(file)),
                source: self.parameter(chain, scope, Parameter::Filename),
                passed: None,
            },
        }));
        BootPart {
            file: String::from_utf8_lossy(reply.boot_file).into_owned(),
            server,
            server_from,
            why: (!reply.boot_reason.is_empty()).then(|| reply.boot_reason.to_owned()),
            rules,
        }
    }

    pub(super) fn reply(&self, reply: &Reply<'_>, explanation: &mut Explanation) {
        let mut buf = [0; 2048];
        let len = reply.write(&mut ReplyCache::default(), &mut buf);
        let bytes = &buf[..len];
        let Ok(written) = Message::parse(bytes) else { return };
        let sent = reply.options();
        let fits = |each: &&Outgoing<'_>| written.option(each.code).is_some();
        explanation.options =
            sent.iter().filter(fits).map(|each| self.sent(each, reply.chain())).collect();
        explanation.unsent = self.unsent(reply, &written);
        explanation.programs = reply.programs().map(words::program).collect();
        explanation.lease_time = reply.lease_by.map(|by| self.lease_time(reply, by));
        explanation.reply = Some(ReplyPart {
            to: to(&reply.delivery),
            source: Some(reply.source),
            server_name: String::from_utf8_lossy(reply.server_name).into_owned(),
            delay_ms: u64::try_from(reply.delay.as_millis()).unwrap_or(u64::MAX),
            bytes: hex::digits(bytes, ""),
        });
    }

    fn parameter(&self, chain: &ScopeChain<'_>, scope: ScopeId, parameter: Parameter) -> Source {
        self.words.value(chain, scope, Key::Parameter(parameter))
    }

    fn origin(&self, each: &Outgoing<'_>, chain: &ScopeChain<'_>) -> Source {
        match each.origin {
            Origin::Protocol => words::made_by("server"),
            Origin::Echo => words::made_by("client"),
            Origin::Scope(scope) => self.words.value(chain, scope, Key::Option(each.code)),
        }
    }

    fn sent(&self, each: &Outgoing<'_>, chain: &ScopeChain<'_>) -> OptionPart {
        let mut hides = Vec::new();
        // The first value of its level is the one that is sent.
        let mut own = false;
        chain.for_each(|scope, values| {
            let Some(value) = values.options.get(each.code) else { return };
            if each.origin == Origin::Scope(scope) && !own {
                own = true;
                return;
            }
            let value = words::option(each.code, value).value;
            let source = self.words.value(chain, scope, Key::Option(each.code));
            hides.push(HiddenPart { value, source });
        });
        OptionPart {
            option: words::option(each.code, each.value),
            source: self.origin(each, chain),
            hides,
        }
    }

    fn unsent(&self, reply: &Reply<'_>, written: &Message<'_>) -> Vec<UnsentPart> {
        let chain = reply.chain();
        let sent = reply.options();
        let mut unsent: Vec<UnsentPart> = Vec::new();
        let mut add = |code: u8, value: &[u8], source: Source, why: String| {
            if unsent.iter().all(|known| known.option.code != code) {
                unsent.push(UnsentPart { option: words::option(code, value), source, why });
            }
        };
        for each in sent.iter().filter(|each| written.option(each.code).is_none()) {
            let why = format!("no room in the {} bytes that the client takes", reply.room());
            add(each.code, each.value, self.origin(each, chain), why);
        }
        let mut without = Vec::new();
        chain.for_each(|scope, values| {
            without.extend(values.without().map(|code| (code, scope)));
            for (code, value) in values.options.iter() {
                if sent.iter().any(|each| each.code == code) {
                    continue;
                }
                let asked = reply.asked().is_empty() || reply.asked().contains(&code);
                let taken = without.iter().find(|(taken, _)| *taken == code);
                let why = match taken {
                    Some((_, scope)) => {
                        format!("a statement of {} has it not sent", self.words.scope(*scope).name)
                    }
                    None if asked || reply.nak.is_some() => {
                        "such a reply does not carry it".to_owned()
                    }
                    None => "the client does not ask for it (option 55), nor is it in always-send"
                        .to_owned(),
                };
                add(code, value, self.words.value(chain, scope, Key::Option(code)), why);
            }
        });
        unsent
    }

    /// What decided the lease time, and what that hides.
    fn lease_time(&self, reply: &Reply<'_>, by: LeaseTimeBy) -> LeaseTimePart {
        let chain = reply.chain();
        let made = |key: &str, who: &str| (key.to_owned(), words::made_by(who), Vec::new());
        let (key, source, hides) = match by {
            LeaseTimeBy::Wish => made("option 51", "client"),
            LeaseTimeBy::Left => made("lease", "server"),
            LeaseTimeBy::Bootp => made("bootp", "server"),
            LeaseTimeBy::Setting(parameter) => self.deciding(parameter, chain),
            LeaseTimeBy::After(_) => {
                let pool = chain.pool().map(|id| self.words.scope(ScopeId::Pool(id)));
                ("after".to_owned(), pool.unwrap_or_default(), Vec::new())
            }
        };
        let asked = self.message.lease_time();
        LeaseTimePart { seconds: reply.lease_seconds, key, source, asked, hides }
    }

    /// The key of a setting of lease times, where its value stands, and what that hides.
    fn deciding(
        &self,
        parameter: Parameter,
        chain: &ScopeChain<'_>,
    ) -> (String, Source, Vec<HiddenPart>) {
        let mut sources = Vec::new();
        chain.for_each(|id, scope| {
            sources.extend(
                lease_setting(scope.settings(), parameter).map(|value| HiddenPart {
                    value,
                    source: self.parameter(chain, id, parameter),
                }),
            );
        });
        let mut sources = sources.into_iter();
        let source = sources.next().map_or(words::made_by("default"), |first| first.source);
        (parameter.key().to_owned(), source, sources.collect())
    }
}

/// What a level says of a setting of lease times, as text.
fn lease_setting(settings: &Settings<'_>, parameter: Parameter) -> Option<String> {
    let time = match parameter {
        Parameter::AdaptiveThreshold => {
            return settings.adaptive_threshold.map(|percent| format!("{percent} %"));
        }
        Parameter::BootpLeaseCutoff => {
            return settings.bootp_lease_cutoff.map(|Date(end)| words::date(end.into()));
        }
        Parameter::LeaseTime => settings.lease_time,
        Parameter::MaxLeaseTime => settings.max_lease_time,
        Parameter::MinLeaseTime => settings.min_lease_time,
        Parameter::BootpLeaseTime => settings.bootp_lease_time,
        _ => None,
    };
    time.map(|time| format!("{} s", time.seconds()))
}

/// What the narrowest level has that sets something, and that level.
fn setting<T>(
    chain: &ScopeChain<'_>,
    mut get: impl FnMut(&Settings) -> Option<T>,
) -> Option<(T, ScopeId)> {
    chain.find(|id, scope| get(scope.settings()).map(|value| (value, id)))
}

fn to(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Relay(address) => format!("relay agent {address}"),
        Delivery::Unicast(address) => format!("{address}"),
        Delivery::Link { ip, mac } => format!("{ip} in a frame to {}", hex::digits(mac, ":")),
        Delivery::Broadcast => "255.255.255.255, broadcast on the client's link".to_owned(),
    }
}
