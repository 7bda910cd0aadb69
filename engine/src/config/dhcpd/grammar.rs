//! Statements and declarations of dhcpd.conf, one after the other, as dhcpd's own parser reads
//! them: what an option, a class or a space is counts from where it stands.

use std::rc::Rc;

use super::super::expression::Token;
use super::super::problem::Fault;
use super::super::schema;
use super::super::source::Place;
use super::ast::{Body, Child, Entry, Group, Value, What};
use super::cursor::Cursor;
use super::reader::Reader;
use super::table::{self, Kind, Row, Status};

/// How deep declarations and files may be nested.
const DEEPEST: usize = 50;

/// What is wrong with a statement, and where. Whoever tells it passes over the rest.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) place: Place,
    pub(super) fault: Fault,
}

/// What a statement stands in.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Within {
    Root,
    Group,
    /// A shared network.
    Network,
    /// A subnet; `true` if it is in a shared network.
    Subnet(bool),
    Pool,
    Host,
    Class,
}

pub(super) struct Parser<'t, 'x, 'r> {
    pub(super) cursor: Cursor<'t>,
    pub(super) reader: &'x mut Reader<'r>,
}

impl<'t, 'x, 'r> Parser<'t, 'x, 'r> {
    pub(super) fn new(text: &'t str, file: u32, reader: &'x mut Reader<'r>) -> Self {
        let cursor = Cursor::new(text, file, reader.problems);
        Self { cursor, reader }
    }

    /// All statements of a file.
    pub(super) fn file(&mut self, within: Within, body: &mut Body) {
        while *self.cursor.peek() != Token::End {
            if self.symbol('}') {
                let place = self.cursor.since(self.cursor.place());
                let fault = Fault::new("this `}` closes nothing", "remove it, or look for a `{`");
                self.reader
                    .problems
                    .error(Place { start: place.end.saturating_sub(1), ..place }, fault);
                continue;
            }
            self.statement(within, body);
        }
    }

    /// What stands between braces, up to the closing one. `own` reads what only this declaration
    /// has, and says whether it was that.
    pub(super) fn block(
        &mut self,
        within: Within,
        own: &mut dyn FnMut(&mut Self, &str) -> Result<bool, Mistake>,
    ) -> Result<Body, Mistake> {
        let open = self.cursor.place();
        if !self.symbol('{') {
            return Err(self.expected("a `{`"));
        }
        let mut body = Body { line: Some(self.cursor.line(open)), ..Body::default() };
        self.reader.depth += 1;
        if self.reader.depth > DEEPEST {
            self.reader.depth -= 1;
            let text = format!("declarations are nested more than {DEEPEST} deep");
            return Err(self.wrong_at(open, Fault::plain(text)));
        }
        loop {
            if self.symbol('}') {
                break;
            }
            if *self.cursor.peek() == Token::End {
                let fault = Fault::new("this `{` is not closed", "add a `}`");
                self.reader.problems.error(open, fault);
                break;
            }
            let word = self.cursor.word().map(str::to_ascii_lowercase);
            match word.map(|word| own(self, &word)) {
                Some(Ok(true)) => {}
                Some(Err(mistake)) => {
                    self.tell(mistake);
                    self.skip();
                }
                Some(Ok(false)) | None => self.statement(within, &mut body),
            }
        }
        self.reader.depth -= 1;
        Ok(body)
    }

    /// One statement of any kind. What is wrong is told, and the rest of it passed over.
    pub(super) fn statement(&mut self, within: Within, body: &mut Body) {
        let before = self.cursor.place();
        if let Err(mistake) = self.one(within, body) {
            self.tell(mistake);
            // Something must be taken, whatever it is.
            if self.cursor.place() == before && matches!(self.cursor.peek(), Token::Symbol(';')) {
                self.take();
                return;
            }
            self.skip();
            if self.cursor.place() == before {
                self.take();
            }
        }
    }

    fn one(&mut self, within: Within, body: &mut Body) -> Result<(), Mistake> {
        let start = self.cursor.place();
        let Some(word) = self.cursor.word() else {
            let token = self.cursor.peek().describe();
            let text = format!("there must be a statement, not {token}");
            return Err(self.wrong(Fault::plain(text)));
        };
        let name = word.to_ascii_lowercase();
        let Some(row) = table::statement(&name).or_else(|| table::parameter(&name)) else {
            return self.other(&name, within, body);
        };
        if matches!(row.kind, Kind::Parameter(_)) {
            let what = self.setting()?;
            let place = self.cursor.since(start);
            what.into_iter().for_each(|what| self.push(body, place, what));
            return Ok(());
        }
        self.status(row, start)?;
        if row.kind == Kind::Statement && row.name != "option" {
            return self.executable(start, body);
        }
        match row.name {
            "include" => return self.include(within, body),
            "option" => return self.option(within, body),
            "allow" | "deny" | "ignore" => {
                let what = self.setting()?;
                let place = self.cursor.since(start);
                what.into_iter().for_each(|what| self.push(body, place, what));
            }
            "authoritative" => {
                self.take();
                return self.authoritative(row, true, start, within, body);
            }
            "group" => {
                self.not_in(&name, within, &[Within::Host, Within::Class])?;
                let group = self.group()?;
                body.children.push(Child::Group(group));
            }
            "host" => {
                self.not_in(&name, within, &[Within::Host, Within::Class])?;
                self.take();
                let host = self.host()?;
                body.children.extend(host.map(Child::Host));
            }
            "class" | "subclass" => {
                self.not_in(&name, within, &[Within::Class])?;
                let child = self.class(row.name == "subclass")?;
                body.children.extend(child);
            }
            "shared-network" => {
                let places = [Within::Network, Within::Host, Within::Class];
                let in_subnet = matches!(within, Within::Subnet(_));
                self.not_in(
                    &name,
                    within,
                    if in_subnet {
                        &[Within::Subnet(false), Within::Subnet(true)]
                    } else {
                        &places
                    },
                )?;
                self.take();
                let network = self.network()?;
                body.children.extend(network.map(Child::Network));
            }
            "subnet" => {
                self.not_in(&name, within, &OUTSIDE_OF_SUBNETS)?;
                self.take();
                self.reader.subnets[0].get_or_insert(start);
                let subnet = self.subnet(within == Within::Network)?;
                body.children.push(Child::Subnet(subnet));
            }
            "subnet6" => {
                self.not_in(&name, within, &OUTSIDE_OF_SUBNETS)?;
                self.take();
                self.reader.subnets[1].get_or_insert(start);
                let subnet = self.subnet6(within == Within::Network)?;
                body.children.push(Child::Subnet6(subnet));
            }
            "pool" => {
                if !matches!(within, Within::Subnet(_) | Within::Network) {
                    return Err(self.only_in("a pool", "a subnet or a shared network"));
                }
                self.take();
                let pool = self.pool()?;
                body.children.push(Child::Pool(pool));
            }
            "range" => {
                if !matches!(within, Within::Subnet(_)) {
                    return Err(self.only_in("a range", "a subnet or a pool"));
                }
                self.take();
                let range = self.range()?;
                body.children.push(Child::Range(range));
            }
            "pool6" | "range6" | "prefix6" => {
                if !matches!(within, Within::Subnet(_)) {
                    return Err(self.only_in(&format!("`{}`", row.name), "a subnet6"));
                }
                self.addresses6(row.name)?;
            }
            "key" => self.key()?,
            "zone" => self.zone()?,
            "failover" => self.failover(within)?,
            "lease-id-format" | "db-time-format" | "server-duid" => self.checked(row.name)?,
            "interface" if matches!(within, Within::Subnet(_) | Within::Network) => {
                self.take();
                self.take();
                self.semicolon()?;
            }
            _ => return Err(self.only_in(&format!("`{}`", row.name), place_of(row.name))),
        }
        Ok(())
    }

    /// Words that are no rows of the table.
    fn other(&mut self, name: &str, within: Within, body: &mut Body) -> Result<(), Mistake> {
        if name == "not" {
            let start = self.cursor.place();
            self.take();
            if !self.word("authoritative") {
                return Err(self.expected("`authoritative`"));
            }
            let Some(row) = table::statement("authoritative") else { return Ok(()) };
            return self.authoritative(row, false, start, within, body);
        }
        let known = table::ROWS.iter().map(|row| row.name);
        let help = schema::nearest(name, known).map(|near| format!("did you mean `{near}`?"));
        let message = format!("there is no statement `{name}`");
        Err(self.wrong(Fault { message, help }))
    }

    /// Says what becomes of a statement that is not served, once for each.
    pub(super) fn status(&mut self, row: &'static Row, place: Place) -> Result<(), Mistake> {
        match row.status {
            Status::Served => Ok(()),
            Status::Warned => {
                self.reader.warn_once(row, place);
                Ok(())
            }
            Status::Refused => {
                let text = format!("`{}` is not served", row.name);
                Err(self.wrong_at(place, Fault::new(text, row.note)))
            }
        }
    }

    fn authoritative(
        &mut self,
        row: &'static Row,
        value: bool,
        start: Place,
        within: Within,
        body: &mut Body,
    ) -> Result<(), Mistake> {
        if within == Within::Host {
            return Err(self.wrong_at(start, Fault::plain("a host has no authority")));
        }
        self.semicolon()?;
        let place = self.cursor.since(start);
        let value = Value::Bytes(vec![u8::from(value)]);
        self.push(body, place, What::Parameter { row, value });
        Ok(())
    }

    fn include(&mut self, within: Within, body: &mut Body) -> Result<(), Mistake> {
        self.take();
        let place = self.cursor.place();
        let Token::Text(name) = self.cursor.peek() else {
            return Err(self.expected("the name of a file in quotes"));
        };
        let name = name.to_vec();
        self.take();
        self.semicolon()?;
        self.reader.depth += 1;
        if self.reader.depth > DEEPEST {
            let help = "a file must not include itself, nor one that includes it";
            let text = "files include one another without an end";
            self.reader.depth -= 1;
            self.reader.problems.error(place, Fault::new(text, help));
            return Ok(());
        }
        if let Some((text, file)) = self.reader.open(&name, place) {
            Parser::new(&text, file, self.reader).file(within, body);
        }
        self.reader.depth -= 1;
        Ok(())
    }

    fn group(&mut self) -> Result<Group, Mistake> {
        self.take();
        let place = self.cursor.place();
        let name: Option<Rc<str>> = match self.cursor.peek() {
            Token::Text(text) => Some(String::from_utf8_lossy(text).into()),
            Token::Name(word) | Token::NumberOrName(word) => Some((*word).into()),
            _ => None,
        };
        if name.is_some() {
            self.take();
        }
        let body = self.block(Within::Group, &mut |parser, word| match word {
            "dynamic" | "static" | "deleted" => {
                parser.take();
                parser.semicolon().map(|()| true)
            }
            _ => Ok(false),
        })?;
        if let Some(name) = &name {
            self.reader.groups.insert(name.clone());
        }
        Ok(Group { name: name.map(|name| (name, place)), body })
    }
}

const OUTSIDE_OF_SUBNETS: [Within; 5] =
    [Within::Host, Within::Subnet(false), Within::Subnet(true), Within::Class, Within::Pool];

/// Where a declaration may stand that stands elsewhere.
fn place_of(name: &str) -> &'static str {
    match name {
        "hardware" | "fixed-address" | "host-identifier" | "fixed-address6" | "fixed-prefix6" => {
            "a host"
        }
        _ => "a subnet or a shared network",
    }
}

impl Parser<'_, '_, '_> {
    pub(super) fn push(&mut self, body: &mut Body, place: Place, what: What) {
        let line = self.cursor.line(place);
        body.entries.push(Entry { place, line, what });
    }
}

/// Small steps that every part of the grammar takes.
impl<'t> Parser<'t, '_, '_> {
    pub(super) fn take(&mut self) {
        self.cursor.take(self.reader.problems);
    }

    pub(super) fn word(&mut self, word: &str) -> bool {
        self.cursor.take_word(word, self.reader.problems)
    }

    pub(super) fn symbol(&mut self, symbol: char) -> bool {
        self.cursor.take_symbol(symbol, self.reader.problems)
    }

    pub(super) fn host_name(&mut self) -> Option<String> {
        self.cursor.host_name(self.reader.problems)
    }

    pub(super) fn skip(&mut self) {
        self.cursor.skip_statement(self.reader.problems);
    }

    /// The `;` behind a statement. If it is missing that is told, and the rest is passed over.
    pub(super) fn semicolon(&mut self) -> Result<(), Mistake> {
        self.cursor.semicolon(self.reader.problems);
        Ok(())
    }

    /// Something is wrong with the next token.
    pub(super) fn wrong(&mut self, fault: Fault) -> Mistake {
        let place = self.cursor.place();
        self.wrong_at(place, fault)
    }

    pub(super) fn wrong_at(&mut self, place: Place, fault: Fault) -> Mistake {
        Mistake { place, fault }
    }

    pub(super) fn tell(&mut self, Mistake { place, fault }: Mistake) {
        self.reader.problems.error(place, fault);
    }

    /// Something else must stand here.
    pub(super) fn expected(&mut self, what: &str) -> Mistake {
        let text = format!("there must be {what}, not {}", self.cursor.peek().describe());
        self.wrong(Fault::plain(text))
    }

    fn only_in(&mut self, what: &str, place: &str) -> Mistake {
        let text = format!("{what} stands only in {place}");
        self.wrong(Fault::plain(text))
    }

    fn not_in(&mut self, name: &str, within: Within, places: &[Within]) -> Result<(), Mistake> {
        if !places.contains(&within) {
            return Ok(());
        }
        let place = match within {
            Within::Host => "a host",
            Within::Class => "a class",
            Within::Pool => "a pool",
            Within::Network => "a shared network",
            Within::Subnet(_) => "a subnet",
            Within::Group | Within::Root => "a group",
        };
        Err(self.wrong(Fault::plain(format!("there is no `{name}` in {place}"))))
    }
}
