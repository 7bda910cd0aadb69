//! Every statement of dhcpd.conf(5), once: what becomes of it here.
//!
//! The parser finds parameters and words in this table, and docs/DHCPD.md is printed from it.

use super::format::{Part, Words};

/// What a word introduces.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A declaration.
    Declaration,
    /// A parameter with one value, which may stand in every scope.
    Parameter(Part),
    /// What `allow`, `deny` and `ignore` say, which is a parameter as well: the name of that.
    Permission(&'static str),
    /// A statement that is carried out for each message.
    Statement,
}

/// What becomes of a statement.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Status {
    /// It does what dhcpd does, but for what the note says.
    Served,
    /// It is read and checked and does nothing; the note says why, or how to do it here.
    Warned,
    /// A file that has it is not taken; the note says what to do instead.
    Refused,
}

/// One statement.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) status: Status,
    pub(super) note: &'static str,
}

const TIME: Kind = Kind::Parameter(Part::Time);
const FLAG: Kind = Kind::Parameter(Part::Flag);
const TEXT: Kind = Kind::Parameter(Part::Text);
const U8: Kind = Kind::Parameter(Part::Number(1));
const U16: Kind = Kind::Parameter(Part::Number(2));
const U32: Kind = Kind::Parameter(Part::Number(4));
const ADDRESS: Kind = Kind::Parameter(Part::Address);
const ADDRESS6: Kind = Kind::Parameter(Part::Address6);

const fn served(name: &'static str, kind: Kind, note: &'static str) -> Row {
    Row { name, kind, status: Status::Served, note }
}

const fn warned(name: &'static str, kind: Kind, note: &'static str) -> Row {
    Row { name, kind, status: Status::Warned, note }
}

const fn refused(name: &'static str, kind: Kind, note: &'static str) -> Row {
    Row { name, kind, status: Status::Refused, note }
}

const STYLES: Words = &[("none", 0), ("ad-hoc", 1), ("interim", 2), ("standard", 3)];

const FACILITIES: Words = &[
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

const PREFIX_MODES: Words =
    &[("ignore", 0), ("prefer", 1), ("exact", 2), ("minimum", 3), ("maximum", 4)];

/// Why dynamic DNS does nothing yet.
const NO_DDNS: &str = "DNS is not updated by this server";
/// Why leases of files are elsewhere.
const STATE: &str = "leases are kept in the state directory";
/// Why what belongs to IPv6 does nothing yet.
const NO_V6: &str = "DHCPv6 is checked and not served";
/// Why these are no words of DHCPv6 either.
const NO_EUI_64: &str = "dhcpd has it only where it was built for it: leave the line out";
/// Why failover does nothing.
const NO_FAILOVER: &str = "the failover protocol is not spoken: this server serves all of the pool";
/// Why leases are not looked for by hardware address.
const DUPLICATES: &str = "in dhcpd it counts with one-lease-per-client alone: write \
                          ignore-client-uids true, and a machine has one identity";

/// In the order of the manual pages.
pub(super) static ROWS: &[Row] = &[
    served("include", Kind::Declaration, "a path begins at the directory of the first file"),
    served("shared-network", Kind::Declaration, ""),
    served(
        "subnet",
        Kind::Declaration,
        "the mask must be contiguous; a subnet may lie in one that stands before it",
    ),
    served("pool", Kind::Declaration, ""),
    served("range", Kind::Declaration, "the first and the last address of a subnet are left out"),
    served("host", Kind::Declaration, ""),
    served("group", Kind::Declaration, ""),
    served("class", Kind::Declaration, ""),
    served("subclass", Kind::Declaration, ""),
    served("hardware", Kind::Declaration, "the type of the card is not compared"),
    served("fixed-address", Kind::Declaration, ""),
    served("host-identifier", Kind::Declaration, ""),
    served("authoritative", Kind::Declaration, ""),
    served("option", Kind::Statement, ""),
    served("allow", Kind::Declaration, "see the words that may follow it"),
    served("deny", Kind::Declaration, "the same"),
    served("ignore", Kind::Declaration, "the same"),
    warned("interface", Kind::Declaration, "name interfaces by --interface"),
    warned("failover", Kind::Declaration, NO_FAILOVER),
    served("key", Kind::Declaration, "for omapi-key"),
    warned("zone", Kind::Declaration, NO_DDNS),
    refused(
        "vendor-class",
        Kind::Declaration,
        "dhcpd has refused it since 3.0: write a class with `match if option \
         vendor-class-identifier = ...`",
    ),
    refused(
        "user-class",
        Kind::Declaration,
        "dhcpd has refused it since 3.0: write a class with `match if option user-class = ...`",
    ),
    warned("subnet6", Kind::Declaration, NO_V6),
    warned("pool6", Kind::Declaration, NO_V6),
    warned("range6", Kind::Declaration, NO_V6),
    warned("prefix6", Kind::Declaration, NO_V6),
    warned("fixed-address6", Kind::Declaration, NO_V6),
    warned("fixed-prefix6", Kind::Declaration, NO_V6),
    warned("server-duid", Kind::Declaration, NO_V6),
    warned("lease-id-format", Kind::Declaration, STATE),
    // allow, deny, ignore
    served("unknown-clients", Kind::Permission("boot-unknown-clients"), ""),
    served("bootp", Kind::Permission("allow-bootp"), ""),
    served("booting", Kind::Permission("allow-booting"), ""),
    warned("duplicates", Kind::Permission("duplicates"), DUPLICATES),
    served("declines", Kind::Permission("declines"), ""),
    warned("client-updates", Kind::Permission("client-updates"), NO_DDNS),
    warned("leasequery", Kind::Permission("leasequery"), "leasequery is not served"),
    warned(
        "dynamic-bootp",
        Kind::Permission("dynamic-bootp"),
        "dhcpd reads it and does nothing, too: BOOTP clients get addresses of `range \
         dynamic-bootp` and of pools",
    ),
    // Parameters
    served("abandon-lease-time", TIME, "of the outermost scope"),
    served("adaptive-lease-time-threshold", U8, ""),
    served("always-broadcast", FLAG, ""),
    served("always-reply-rfc1048", FLAG, ""),
    served("boot-unknown-clients", FLAG, ""),
    warned("check-secs-byte-order", FLAG, "it is for failover"),
    warned("db-time-format", Kind::Declaration, STATE),
    warned("ddns-hostname", TEXT, NO_DDNS),
    warned("ddns-domainname", TEXT, NO_DDNS),
    warned("ddns-dual-stack-mixed-mode", FLAG, NO_DDNS),
    warned("ddns-guard-id-must-match", FLAG, NO_DDNS),
    warned("ddns-local-address4", ADDRESS, NO_DDNS),
    warned("ddns-local-address6", ADDRESS6, NO_DDNS),
    warned("ddns-other-guard-is-dynamic", FLAG, NO_DDNS),
    warned("ddns-rev-domainname", TEXT, NO_DDNS),
    warned("ddns-ttl", TIME, NO_DDNS),
    warned("ddns-updates", FLAG, NO_DDNS),
    warned("ddns-update-style", Kind::Parameter(Part::Word(STYLES)), NO_DDNS),
    served("default-lease-time", TIME, ""),
    warned("delayed-ack", U16, "the disk's batches are as large as they need to be"),
    warned("max-ack-delay", U32, "the disk's batches are as large as they need to be"),
    served("dhcp-cache-threshold", U8, ""),
    warned("do-forward-updates", FLAG, NO_DDNS),
    warned("do-reverse-updates", FLAG, NO_DDNS),
    warned("dont-use-fsync", FLAG, "what is acknowledged is always on disk"),
    served("dynamic-bootp-lease-cutoff", TIME, "seconds since 1970"),
    served("dynamic-bootp-lease-length", U32, ""),
    served("echo-client-id", FLAG, ""),
    served("filename", TEXT, ""),
    warned("fqdn-reply", FLAG, NO_DDNS),
    refused(
        "get-lease-hostnames",
        FLAG,
        "addresses are not looked up in DNS: write `use-host-decl-names true`, or option \
         host-name in the hosts",
    ),
    served("ignore-client-uids", FLAG, ""),
    served("infinite-is-reserved", FLAG, ""),
    warned("lease-file-name", TEXT, STATE),
    warned("dhcpv6-lease-file-name", TEXT, NO_V6),
    warned("dhcpv6-pid-file-name", TEXT, NO_V6),
    warned("dhcpv6-set-tee-times", FLAG, NO_V6),
    warned("limit-addrs-per-ia", U32, NO_V6),
    warned("limit-prefs-per-ia", U32, NO_V6),
    served("limited-broadcast-address", ADDRESS, "of the outermost scope"),
    warned("local-address", ADDRESS, "interfaces are served, not addresses: see --interface"),
    warned("local-address6", ADDRESS6, NO_V6),
    warned("bind-local-address6", FLAG, NO_V6),
    refused("local-port", U16, "the port is 67: leave the line out"),
    warned(
        "log-facility",
        Kind::Parameter(Part::Word(FACILITIES)),
        "the log goes to standard error, and from there to the journal",
    ),
    warned("log-threshold-high", U8, "the metrics say how full pools are"),
    warned("log-threshold-low", U8, "the metrics say how full pools are"),
    served("max-lease-time", TIME, ""),
    served("min-lease-time", TIME, ""),
    served("min-secs", U8, ""),
    served("next-server", ADDRESS, ""),
    served("omapi-key", Kind::Parameter(Part::Name), "of the outermost scope"),
    served("omapi-port", U16, "of the outermost scope; without omapi-key on 127.0.0.1 alone"),
    served("one-lease-per-client", FLAG, ""),
    warned("pid-file-name", TEXT, "the service manager knows the process"),
    served("ping-check", FLAG, ""),
    served("ping-cltt-secs", TIME, ""),
    served("ping-timeout", TIME, ""),
    served("ping-timeout-ms", TIME, ""),
    warned("preferred-lifetime", TIME, NO_V6),
    warned("prefix-length-mode", Kind::Parameter(Part::Word(PREFIX_MODES)), NO_V6),
    warned("release-on-roam", FLAG, NO_V6),
    served("remote-port", U16, "of the outermost scope"),
    warned("server-id-check", FLAG, "a REQUEST for another server is never answered"),
    served("server-identifier", ADDRESS, ""),
    served("server-name", TEXT, ""),
    refused("use-eui-64", FLAG, NO_EUI_64),
    refused("persist-eui-64-leases", FLAG, NO_EUI_64),
    refused(
        "site-option-space",
        Kind::Parameter(Part::Bytes),
        "write the options in space dhcp: option NAME code 224 = ...",
    ),
    served("stash-agent-options", FLAG, ""),
    warned("update-conflict-detection", FLAG, NO_DDNS),
    warned("update-optimization", FLAG, NO_DDNS),
    warned("update-static-leases", FLAG, NO_DDNS),
    served("use-host-decl-names", FLAG, ""),
    served("use-lease-addr-for-default-route", FLAG, ""),
    served("vendor-option-space", Kind::Parameter(Part::Space), ""),
    // What the words of allow and deny stand for may be written as a parameter.
    served("allow-bootp", FLAG, ""),
    served("allow-booting", FLAG, ""),
    warned("client-updates", FLAG, NO_DDNS),
    served("declines", FLAG, ""),
    warned("duplicates", FLAG, DUPLICATES),
    warned("dynamic-bootp", FLAG, "dhcpd does nothing with it, too"),
    warned("leasequery", FLAG, "leasequery is not served"),
    // Statements
    served("if", Kind::Statement, "with elsif and else"),
    served("switch", Kind::Statement, "a case goes on with the next, as in dhcpd"),
    served("break", Kind::Statement, ""),
    served("set", Kind::Statement, "a lease keeps 16 variables, 238 bytes together"),
    served("unset", Kind::Statement, ""),
    refused("define", Kind::Statement, "write the expression where it is wanted"),
    served("eval", Kind::Statement, ""),
    refused("return", Kind::Statement, "it belongs to functions, which cannot be defined"),
    served("log", Kind::Statement, ""),
    served("add", Kind::Statement, "a class that a class or host adds counts, and sets nothing"),
    served("on", Kind::Statement, "at release and expiry the lease is known, and no message"),
    served(
        "execute",
        Kind::Statement,
        "when the reply leaves or the lease is durable, without waiting",
    ),
    served("default", Kind::Statement, ""),
    served("supersede", Kind::Statement, ""),
    served("append", Kind::Statement, ""),
    served("prepend", Kind::Statement, ""),
    served("send", Kind::Statement, ""),
    served("parse-vendor-option", Kind::Statement, ""),
];

/// The row of a parameter.
pub(super) fn parameter(name: &str) -> Option<&'static Row> {
    rows(name).find(|row| matches!(row.kind, Kind::Parameter(_)))
}

/// The row of a word that may follow allow, deny and ignore.
pub(super) fn permission(name: &str) -> Option<&'static Row> {
    rows(name).find(|row| matches!(row.kind, Kind::Permission(_)))
}

/// The row of a declaration or statement.
pub(super) fn statement(name: &str) -> Option<&'static Row> {
    rows(name).find(|row| matches!(row.kind, Kind::Declaration | Kind::Statement))
}

/// The place of a row in the table, from 1.
pub(super) fn number(row: &Row) -> u32 {
    let place = ROWS.iter().position(|other| std::ptr::eq(other, row));
    place.and_then(|place| u32::try_from(place + 1).ok()).unwrap_or(0)
}

fn rows(name: &str) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| row.name.eq_ignore_ascii_case(name))
}
