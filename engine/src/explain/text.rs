//! An explanation as a person reads it, in lines of at most 100 characters.

use std::fmt::{self, Write};

use super::{BranchPart, Explanation, LeasesFrom, LivePart, Source};
use crate::terminal::escaped;

/// Characters of a line.
const WIDTH: usize = 100;
/// Where the text stands, behind the heading.
const INDENT: usize = 10;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut page = Page { out: f, heading: "" };
        self.answer(&mut page)?;
        self.asked(&mut page)?;
        self.who(&mut page)?;
        self.where_from(&mut page)?;
        self.what(&mut page)
    }
}

impl Explanation {
    fn answer(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let Self { request, answer, .. } = self;
        let ip = self.address.as_ref().and_then(|address| address.ip);
        let ip = ip.map_or(String::new(), |ip| format!(" {ip}"));
        let what = match &*answer.kind {
            "offer" => format!("OFFER{ip}"),
            "ack" => format!("ACK{ip}"),
            "nak" => "NAK".to_owned(),
            "boot-reply" => format!("BOOTREPLY{ip}"),
            "silence" => "no answer".to_owned(),
            _ => "no answer is wanted".to_owned(),
        };
        let why = answer.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        page.line("answer", &format!("{} from {}: {what}{why}", request.message, request.mac))?;
        if let Some(remedy) = &answer.remedy {
            page.more(&format!("-> {remedy}"))?;
        }
        if let Some(after) = &answer.after {
            page.more(&format!("sent when {after}"))?;
        }
        if let Some(reply) = &self.reply {
            let source = reply.source.map_or(String::new(), |ip| format!(" from {ip}"));
            page.more(&format!("sent to {}{source}, {} bytes", reply.to, reply.bytes.len() / 2))?;
            if reply.delay_ms > 0 {
                page.more(&format!("sent after reply-delay, {} ms", reply.delay_ms))?;
            }
        }
        let leases = match self.leases {
            LeasesFrom::Server => "the leases of the running server",
            LeasesFrom::Store => "the leases of the state directory; no server runs",
            LeasesFrom::None => "no leases, for there is no lease store",
        };
        page.line("by", &format!("{}, {leases}", self.config))
    }

    fn asked(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let request = &self.request;
        let mut text = match &request.received {
            Some(at) => format!("received {at}"),
            None => "as described".to_owned(),
        };
        if let Some(interface) = &request.interface {
            let _ = write!(text, " on {interface}");
        }
        if let Some(relay) = request.relay {
            let _ = write!(text, " from relay agent {relay}");
        }
        if let Some(ciaddr) = request.ciaddr {
            let _ = write!(text, ", ciaddr {ciaddr}");
        }
        if let Some(firmware) = &request.firmware {
            let _ = write!(text, ", {firmware}");
        }
        page.line("message", &text)?;
        // What the message is stands above.
        for option in request.options.iter().filter(|option| option.code != 53) {
            page.item(&format!("{:>3} {} {}", option.code, option.name, option.value))?;
        }
        Ok(())
    }

    fn who(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        if let Some(link) = &self.link {
            let by = match &*link.by {
                "interface" => "the interface's address",
                "relay" => "the relay agent's address",
                "link-selection" => "the relay agent's link selection",
                "subnet-selection" => "the client's subnet selection",
                _ => "the client's address",
            };
            let address = link.address.map_or(String::new(), |ip| format!(" {ip}"));
            let network = link.network.as_ref();
            let network = network.map_or(String::new(), |each| format!(" of {}", named(each)));
            let subnet = named(&link.subnet);
            page.line("link", &format!("{by}{address} is of {subnet}{network}"))?;
        }
        let of = |member| self.classes.iter().filter(move |class| class.member == member);
        for class in of(true) {
            let limit = class.limit.as_ref().map_or(String::new(), |limit| {
                let full = if limit.full { ", full" } else { "" };
                format!("; its members have {} of {} leases{full}", limit.used, limit.most)
            });
            page.line("classes", &format!("{}: {}{limit}", named(&class.class), class.why))?;
        }
        for class in of(false) {
            page.line("classes", &format!("not {}: {}", named(&class.class), class.why))?;
        }
        if self.more_classes > 0 {
            page.more(&format!("nor any of {} more", self.more_classes))?;
        }
        for BranchPart { branch, source, taken, why } in &self.branches {
            let not = if *taken { "" } else { "not " };
            page.line("branches", &format!("{not}{branch}, {}: {why}", named(source)))?;
        }
        if self.more_branches > 0 {
            page.more(&format!("and {} more", self.more_branches))?;
        }
        for host in &self.hosts {
            let address = host.address.map_or(String::new(), |ip| format!(", reserves {ip}"));
            let why = host.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            let not = if host.counts { "" } else { "not " };
            let option =
                host.option.as_ref().map_or(String::new(), |name| format!(" option {name}"));
            let by = format!("{}{option}", host.by);
            page.line("host", &format!("{not}{} by {by}{address}{why}", named(&host.host)))?;
            if let Some(LivePart { changed, through }) = &host.live {
                let when = changed.as_ref().map_or(String::new(), |at| format!(", at {at}"));
                let whom = through.as_ref().map_or(String::new(), |who| format!(" through {who}"));
                page.more(&format!("a live host, added while the server ran{when}{whom}"))?;
            }
        }
        if self.hosts.is_empty() && self.link.is_some() {
            page.line("host", "none: the machine is unknown")?;
        }
        for held in &self.held {
            let refused = if held.refused { ", refused by a NAK" } else { "" };
            let (ip, state, until) = (&held.ip, &held.state, &held.until);
            page.line("leases", &format!("{ip} {state}, until {until}{refused}"))?;
            for variable in &held.variables {
                page.more(&format!("set {variable}"))?;
            }
        }
        Ok(())
    }

    fn where_from(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        if let Some(address) = &self.address {
            let why = match &*address.through {
                "reservation" => "reserved for it",
                "lease" => "its lease",
                "offer" => "offered to it before",
                "previous" => "it had it before, and nobody took it since",
                "wish" => "it asks for it, and it is free",
                _ => "free",
            };
            let ip = address.ip.map_or(String::new(), |ip| ip.to_string());
            page.line("address", &format!("{ip}: {why}; by {}", named(&address.source)))?;
        }
        for pool in &self.pools {
            let not = if pool.state == "chosen" { "" } else { "not " };
            page.line("pools", &format!("{not}{}: {}", named(&pool.pool), pool.why))?;
        }
        match self.pools_elsewhere {
            0 => Ok(()),
            1 => page.line("pools", "not the one of another network"),
            more => page.line("pools", &format!("nor the {more} of other networks")),
        }
    }

    fn what(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        if let Some(lease) = &self.lease_time {
            let seconds = match lease.seconds {
                u32::MAX => "for ever".to_owned(),
                seconds => format!("{seconds} s"),
            };
            let asked = match lease.asked {
                Some(asked) => format!(" (the client asks for {asked} s)"),
                None => String::new(),
            };
            page.line("lease", &format!("{seconds}: {}{asked}", key(&lease.key, &lease.source)))?;
            for hidden in &lease.hides {
                page.item(&format!("    hides {} of {}", hidden.value, named(&hidden.source)))?;
            }
        }
        if let Some(boot) = &self.boot {
            let file = match &*boot.file {
                "" => "no boot file",
                file => file,
            };
            let why = boot.why.as_ref().map_or(String::new(), |why| format!(" ({why})"));
            page.line("boot", &format!("{file}{why}"))?;
            if let Some(server) = boot.server {
                let from = boot.server_from.as_ref().map(|from| match &*from.name {
                    "server" => ", this one, for no next-server is set".to_owned(),
                    _ => format!(", next-server of {}", named(from)),
                });
                page.more(&format!("from {server}{}", from.unwrap_or_default()))?;
            }
            for rule in &boot.rules {
                let why = rule.passed.as_ref().map_or(String::new(), |why| format!(": {why}"));
                let not = if rule.passed.is_some() { "not " } else { "" };
                page.item(&format!("{not}{}, {}{why}", rule.rule, named(&rule.source)))?;
            }
        }
        for option in &self.options {
            let each = &option.option;
            let from = named(&option.source);
            page.line(
                "options",
                &format!("{:>3} {} {}  {from}", each.code, each.name, each.value),
            )?;
            for hidden in &option.hides {
                page.item(&format!("    hides {} of {}", hidden.value, named(&hidden.source)))?;
            }
        }
        for program in &self.programs {
            page.line("runs", program)?;
        }
        for unsent in &self.unsent {
            let each = &unsent.option;
            let from = named(&unsent.source);
            let (code, name, value) = (each.code, &each.name, &each.value);
            page.line("not sent", &format!("{code:>3} {name} {value}  {from}: {}", unsent.why))?;
        }
        Ok(())
    }
}

/// A level with its place.
fn named(source: &Source) -> String {
    match (&*source.name, &source.at) {
        ("server", _) => "the server".to_owned(),
        ("client", _) => "the client".to_owned(),
        (name, None) => name.to_owned(),
        // The second line says where the files are.
        (name, Some(at)) => {
            let at = at.rsplit('/').next().unwrap_or(at);
            format!("{name} ({at})")
        }
    }
}

/// A key of a level.
fn key(key: &str, source: &Source) -> String {
    match &*source.name {
        "default" => format!("default of {key}"),
        "client" => format!("what the client asks for, {key}"),
        "server" if key == "bootp" => "what a BOOTP client gets it keeps".to_owned(),
        _ if key == "after" => format!("the end of what {} permits, {key}", named(source)),
        "server" => {
            "what is left of its lease, which is not renewed yet (dhcp-cache-threshold)".to_owned()
        }
        _ => format!("{key} of {}", named(source)),
    }
}

/// Text under headings.
struct Page<'f, 'o> {
    out: &'f mut fmt::Formatter<'o>,
    /// The last one, which is not written again.
    heading: &'static str,
}

impl Page<'_, '_> {
    /// Text under a heading, which stands beside the first one under it.
    fn line(&mut self, heading: &'static str, text: &str) -> fmt::Result {
        let shown = if self.heading == heading { "" } else { heading };
        self.heading = heading;
        self.wrapped(shown, text, INDENT)
    }

    /// More of the line before.
    fn more(&mut self, text: &str) -> fmt::Result {
        self.wrapped("", text, INDENT + 2)
    }

    /// One of a list under the line before.
    fn item(&mut self, text: &str) -> fmt::Result {
        self.wrapped("", text, INDENT)
    }

    /// Lines that are broken at blanks, all but the first two columns further to the right. What
    /// has no blank for a whole line is broken anywhere.
    fn wrapped(&mut self, heading: &str, text: &str, indent: usize) -> fmt::Result {
        let text = escaped(text).replace('\n', "\\n");
        let heading_width = INDENT;
        write!(self.out, "{heading:<heading_width$}{:1$}", "", indent - INDENT)?;
        let mut rest = &*text;
        let mut room = WIDTH - indent;
        loop {
            let Some((end, _)) = rest.char_indices().nth(room) else {
                return writeln!(self.out, "{rest}");
            };
            let head = &rest[..end];
            let at_blank = head.rfind(' ').filter(|at| !head[..*at].trim().is_empty());
            let (line, tail) = match at_blank {
                Some(at) => (&rest[..at], &rest[at + 1..]),
                None => rest.split_at(end),
            };
            writeln!(self.out, "{}", line.trim_end())?;
            rest = tail.trim_start();
            write!(self.out, "{:1$}", "", indent + 2)?;
            room = WIDTH - indent - 2;
        }
    }
}
