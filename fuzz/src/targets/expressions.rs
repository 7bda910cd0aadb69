//! dhcpd's expressions: read, worked out for some messages, and printed.

use std::path::Path;

use bootstorm::config;

use super::{Target, packets};
use crate::random::Random;

pub(crate) struct Expressions;

/// Operands without operands.
const DATA: [&str; 14] = [
    "option host-name",
    "option vendor-class-identifier",
    "option agent.circuit-id",
    "option user-class",
    "hardware",
    "\"text\"",
    "\"\"",
    "01:02:ff",
    "leased-address",
    "host-decl-name",
    "packet(28, 16)",
    "config-option domain-name",
    "v",
    "option x",
];

const NUMBERS: [&str; 9] =
    ["0", "1", "7", "255", "4294967295", "lease-time", "-1", "65536", "2147483647"];

/// Patterns on which an engine that backtracks takes for ever, and others.
const PATTERNS: [&str; 6] =
    ["^(a+)+$", "(x*)*y", "[a-", "(a|aa)+$", ".*.*.*=.*", "a{1,100}{1,100}"];

/// Operands nest so deep.
const DEPTH: usize = 7;

struct Maker<'r> {
    random: &'r mut Random,
}

impl Maker<'_> {
    fn word(&mut self, of: &[&str]) -> String {
        self.random.one(of).copied().unwrap_or_default().to_owned()
    }

    fn data(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.percent(25) {
            return self.word(&DATA);
        }
        let depth = depth - 1;
        match self.random.below(11) {
            0 => format!(
                "substring({}, {}, {})",
                self.data(depth),
                self.number(depth),
                self.number(depth)
            ),
            1 => format!("suffix({}, {})", self.data(depth), self.number(depth)),
            2 | 3 => {
                let count = 2 + self.random.below(4);
                let parts: Vec<String> = (0..count).map(|_| self.data(depth)).collect();
                format!("concat({})", parts.join(", "))
            }
            4 => format!("reverse({}, {})", self.number(depth), self.data(depth)),
            5 => {
                let (base, width) =
                    (self.word(&["2", "8", "10", "16"]), self.word(&["8", "16", "32"]));
                format!(
                    "binary-to-ascii({base}, {width}, {}, {})",
                    self.data(depth),
                    self.data(depth)
                )
            }
            6 => {
                let width = self.word(&["8", "16", "32"]);
                format!("encode-int({}, {width})", self.number(depth))
            }
            7 => format!("lcase({})", self.data(depth)),
            8 => format!("ucase({})", self.data(depth)),
            9 => format!("pick-first-value({}, {})", self.data(depth), self.data(depth)),
            _ => format!("packet({}, {})", self.number(depth), self.number(depth)),
        }
    }

    fn number(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.percent(40) {
            return self.word(&NUMBERS);
        }
        let depth = depth - 1;
        match self.random.below(3) {
            0 => {
                let width = self.word(&["8", "16", "32"]);
                format!("extract-int({}, {width})", self.data(depth))
            }
            _ => {
                let operator = self.word(&["+", "-", "*", "/", "%", "&", "|", "^"]);
                format!("({} {operator} {})", self.number(depth), self.number(depth))
            }
        }
    }

    fn boolean(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.percent(15) {
            return self.word(&["known", "static", "exists host-name", "exists agent.circuit-id"]);
        }
        let depth = depth - 1;
        match self.random.below(7) {
            0 => format!("({} and {})", self.boolean(depth), self.boolean(depth)),
            1 => format!("({} or {})", self.boolean(depth), self.boolean(depth)),
            2 => format!("not {}", self.boolean(depth)),
            3 => format!("{} = {}", self.data(depth), self.data(depth)),
            4 => format!("{} != {}", self.number(depth), self.number(depth)),
            5 => {
                let operator = self.word(&["~=", "~~"]);
                format!("{} {operator} \"{}\"", self.data(depth), self.word(&PATTERNS))
            }
            _ => format!("defined(v) and {}", self.boolean(depth)),
        }
    }

    fn statement(&mut self) -> String {
        let depth = 1 + self.random.below(DEPTH);
        match self.random.below(6) {
            0 => format!("option x = {};\n", self.data(depth)),
            1 => format!("append x = {};\n", self.data(depth)),
            // Over and over it would grow without end.
            2 => format!("set v = concat({}, v, v);\n", self.data(depth))
                .repeat(1 << self.random.below(7)),
            3 => format!("filename = {};\n", self.data(depth)),
            4 => format!("max-lease-time = {};\n", self.number(depth)),
            _ => format!(
                "if {} {{ option x = {}; }} elsif {} {{ log(info, {}); }} else {{ set v = {}; }}\n",
                self.boolean(depth),
                self.data(depth),
                self.boolean(depth),
                self.data(depth),
                self.data(depth),
            ),
        }
    }
}

impl Target for Expressions {
    fn input(&self, random: &mut Random) -> Vec<u8> {
        let mut maker = Maker { random };
        let mut text = "option x code 230 = string;\nset v = \"v\";\n".to_owned();
        for _ in 0..1 + maker.random.below(6) {
            text += &maker.statement();
        }
        for number in 0..maker.random.below(4) {
            let test = maker.boolean(DEPTH);
            text += &format!("class \"c{number}\" {{ match if {test}; {} }}\n", maker.statement());
        }
        let inside = maker.statement();
        text += &format!(
            "subnet 10.0.0.0 netmask 255.255.255.0 {{ range 10.0.0.10 10.0.0.20; {inside} }}\n"
        );
        text.into_bytes()
    }

    fn feed(&self, input: &[u8]) {
        match config::parse(Path::new("/nonexistent/dhcpd.conf"), input) {
            Ok(config) => packets::answer(&config, input),
            Err(error) => drop(error.render(false)),
        }
    }
}
