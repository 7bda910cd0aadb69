//! Every table of the configuration and the keys it may have. The readers take keys by these
//! tables, unknown keys are told by them, and the manual is tested against them.

use super::{Flag, Parameter};

/// One kind of table.
#[derive(Debug)]
pub(super) struct Schema {
    /// As a person writes it.
    pub(super) name: &'static str,
    pub(super) keys: &'static [&'static str],
    /// Whether the keys of [`scope_keys`] may stand in it, too.
    pub(super) scope: bool,
    /// Whether the keys of [`MATCH`] may stand in it, too.
    pub(super) conditions: bool,
}

impl Schema {
    const fn new(name: &'static str, keys: &'static [&'static str]) -> Self {
        Self { name, keys, scope: false, conditions: false }
    }

    const fn scope(name: &'static str, keys: &'static [&'static str]) -> Self {
        Self { name, keys, scope: true, conditions: false }
    }

    /// Every key that may stand in the table.
    pub(super) fn all_keys(&self) -> impl Iterator<Item = &'static str> + use<> {
        let scope = self.scope.then(scope_keys).into_iter().flatten();
        let conditions: &[&str] = if self.conditions { MATCH } else { &[] };
        self.keys.iter().chain(conditions).copied().chain(scope)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.all_keys().any(|known| known == key)
    }

    /// The known key that `key` is most like, if it is like any.
    pub(super) fn nearest(&self, key: &str) -> Option<&'static str> {
        nearest(key, self.all_keys())
    }
}

/// The name that `wanted` was probably meant to be: one with few other letters, or one that holds
/// it or is held by it.
pub(super) fn nearest<'n>(
    wanted: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    let wanted = wanted.to_lowercase().replace('_', "-");
    let distance = |name: &str| {
        let name = name.to_lowercase();
        let shorter = wanted.len().min(name.len());
        let held = shorter >= 4 && (wanted.contains(&name) || name.contains(&wanted));
        // No two texts are nearer than their lengths. Where a whole file stands in the place of a
        // name, to compare letters takes minutes.
        let least = wanted.chars().count().abs_diff(name.chars().count());
        match (held, least > allowed(&name)) {
            (true, _) => 1,
            (false, true) => least,
            (false, false) => strsim::damerau_levenshtein(&wanted, &name),
        }
    };
    names
        .into_iter()
        .map(|name| (distance(name), name))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, name)| distance <= allowed(name))
        .map(|(_, name)| name)
}

/// How many letters may be wrong in a name.
fn allowed(name: &str) -> usize {
    name.len().max(3) / 3
}

/// What every scope may set: its settings, and what has more than one value.
pub(super) fn scope_keys() -> impl Iterator<Item = &'static str> {
    // What a host or a class has no say in, and what is a key of another setting.
    let others = [Parameter::Flag(Flag::Authoritative), Parameter::PingTimeout];
    let settings = Parameter::all().filter(move |one| !others.contains(one));
    let others = ["options", "always-send", "boot", "set", "add-class", "switch", "if", "on"];
    others.into_iter().chain(settings.map(Parameter::key))
}

/// Conditions on a client.
pub(super) const MATCH: &[&str] =
    &["user-class", "vendor-class", "arch", "mac-prefix", "uuid", "circuit-id", "remote-id"];

pub(super) const ROOT: Schema =
    Schema::new("the top level", &["include", "server", "dhcp", "tftp", "control", "log"]);

pub(super) const SERVER: Schema = Schema::new(
    "[server]",
    &[
        "interfaces",
        "state-dir",
        "shards",
        "engine",
        "busy-poll",
        "user",
        "group",
        "allow-other-servers",
    ],
);

pub(super) const DHCP: Schema = Schema::scope(
    "[dhcp]",
    &[
        "authoritative",
        "compatibility",
        "identity",
        "unknown-clients",
        "offer-time",
        "decline-time",
        "rapid-commit",
        "remote-port",
        "limited-broadcast-address",
        "subnet",
        "shared-network",
        "class",
        "group",
        "host",
        "host-file",
        "option-definition",
        "option-space",
    ],
);

pub(super) const SHARED_NETWORK: Schema =
    Schema::scope("[[dhcp.shared-network]]", &["name", "authoritative"]);

pub(super) const SUBNET: Schema =
    Schema::scope("[[dhcp.subnet]]", &["subnet", "shared-network", "pools", "authoritative"]);

pub(super) const POOL: Schema = Schema::scope("a pool", &["range", "allow", "deny", "class"]);

pub(super) const CLASS: Schema = Schema {
    name: "[[dhcp.class]]",
    keys: &["name", "test", "match", "spawn", "subclass", "lease-limit"],
    scope: true,
    conditions: true,
};

pub(super) const GROUP: Schema = Schema::scope("[[dhcp.group]]", &["name", "group", "host"]);

pub(super) const HOST: Schema = Schema::scope(
    "[[dhcp.host]]",
    &[
        "name",
        "hardware",
        "uuid",
        "client-id",
        "circuit-id",
        "remote-id",
        "host-identifier",
        "ip",
        "group",
    ],
);

/// The file of hosts that were added while the server ran.
pub(super) const LIVE_HOSTS: Schema = Schema::new("the file of live hosts", &["dhcp"]);

/// The table in it.
pub(super) const LIVE_DHCP: Schema = Schema::new("[dhcp] of the file of live hosts", &["host"]);

/// The columns of a `host-file`.
pub(super) const HOST_FILE: Schema = Schema::new(
    "a host file",
    &[
        "name",
        "hardware",
        "uuid",
        "client-id",
        "circuit-id",
        "remote-id",
        "ip",
        "group",
        "host-name",
        "boot-file",
        "next-server",
        "server-name",
        "lease-time",
    ],
);

pub(super) const OPTION_DEFINITION: Schema =
    Schema::new("[[dhcp.option-definition]]", &["code", "name", "type", "space"]);

pub(super) const BOOT_RULE: Schema = Schema {
    name: "a boot rule",
    keys: &["class", "file", "url", "next-server"],
    scope: false,
    conditions: true,
};

/// `if` of a scope.
pub(super) const IF: Schema = Schema::scope("an `if`", &["test", "elsif", "else"]);

pub(super) const ELSIF: Schema = Schema::scope("an `elsif`", &["test"]);

pub(super) const ELSE: Schema = Schema::scope("an `else`", &[]);

/// `switch` of a scope.
pub(super) const SWITCH: Schema = Schema::new("a `switch`", &["value", "case", "default"]);

pub(super) const CASE: Schema = Schema::scope("a `case`", &["is", "fall-through"]);

pub(super) const DEFAULT: Schema = Schema::scope("a `default`", &[]);

/// `on` of a scope.
pub(super) const ON: Schema = Schema::new("an `on`", &["event", "set", "log", "execute"]);

pub(super) const SUBCLASS: Schema =
    Schema::scope("[[dhcp.class.subclass]]", &["value", "lease-limit"]);

pub(super) const TFTP: Schema = Schema::new(
    "[tftp]",
    &[
        "root",
        "upload",
        "max-blksize",
        "max-windowsize",
        "adaptive-windowsize",
        "multicast",
        "multicast-port",
        "multicast-ttl",
        "clamp-to-mtu",
        "max-transfers",
        "max-transfers-per-client",
        "port-range",
        "single-port",
        "map",
        "map-file",
        "case-insensitive",
        "image-budget",
        "client-rate",
        "interface-rate",
        "timeout",
        "min-retry",
        "retries",
        "quirks-on",
        "quirks-off",
        "quirk",
    ],
);

pub(super) const MAP_RULE: Schema =
    Schema::new("a map rule", &["operation", "pattern", "replacement"]);

pub(super) const QUIRK: Schema = Schema::new(
    "[[tftp.quirk]]",
    &[
        "name",
        "vendor-class",
        "mac-prefix",
        "max-blksize",
        "max-windowsize",
        "ignore-options",
        "min-retry",
        "reply-delay",
    ],
);

pub(super) const CONTROL: Schema = Schema::new("[control]", &["metrics", "omapi", "omapi-key"]);

pub(super) const OMAPI_KEY: Schema =
    Schema::new("[control.omapi-key]", &["name", "algorithm", "secret"]);

pub(super) const LOG: Schema = Schema::new("[log]", &["level", "format"]);

/// Every table of TOML.
pub(super) const ALL: &[&Schema] = &[
    &ROOT,
    &SERVER,
    &DHCP,
    &SHARED_NETWORK,
    &SUBNET,
    &POOL,
    &CLASS,
    &GROUP,
    &HOST,
    &OPTION_DEFINITION,
    &BOOT_RULE,
    &IF,
    &SWITCH,
    &CASE,
    &ON,
    &SUBCLASS,
    &TFTP,
    &MAP_RULE,
    &QUIRK,
    &CONTROL,
    &OMAPI_KEY,
    &LOG,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_has_few_other_letters_or_is_part_of_the_other() {
        let names = ["router", "domain-name", "domain-name-servers"];
        for (wanted, near) in [
            ("Router", Some("router")),
            ("ruoter", Some("router")),
            ("routers", Some("router")),
            ("domain_name_server", Some("domain-name")),
            ("domain-nmae-servres", Some("domain-name-servers")),
            ("rt", None),
            ("dns", None),
        ] {
            assert_eq!(nearest(wanted, names), near, "{wanted}");
        }
    }

    // Memory and time for every letter would be a gigabyte and minutes.
    #[test]
    fn a_whole_file_in_the_place_of_a_name_is_near_to_none() {
        assert_eq!(nearest(&"x".repeat(20_000_000), ["domain-name-servers"]), None);
    }
}
