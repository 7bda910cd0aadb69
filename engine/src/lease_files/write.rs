//! Writing leases in one of the formats.

use std::io;

use super::{Entry, csv, dhcpd, kea};

/// How a file of leases looks.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Format {
    /// dhcpd.leases(5).
    Dhcpd,
    /// The memfile of Kea's DHCPv4 server.
    Kea,
    /// CSV with a line of names.
    Csv,
}

impl Format {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dhcpd => "dhcpd.leases",
            Self::Kea => "Kea memfile",
            Self::Csv => "CSV",
        }
    }
}

/// Writes leases one at a time.
pub struct Writer<'o> {
    format: Format,
    out: &'o mut dyn io::Write,
    text: String,
}

impl<'o> Writer<'o> {
    /// Writes what stands before all leases.
    ///
    /// # Errors
    /// What the output says.
    pub fn new(format: Format, out: &'o mut dyn io::Write) -> io::Result<Self> {
        let mut text = String::new();
        match format {
            Format::Dhcpd => dhcpd::start(&mut text),
            Format::Kea => text.push_str(kea::HEADER),
            Format::Csv => csv::start(&mut text),
        }
        out.write_all(text.as_bytes())?;
        Ok(Self { format, out, text })
    }

    /// Writes a lease. `subnet` is the number of its subnet, of which only Kea's format speaks.
    ///
    /// # Errors
    /// What the output says.
    pub fn lease(&mut self, entry: &Entry, subnet: u32) -> io::Result<()> {
        self.text.clear();
        match self.format {
            Format::Dhcpd => dhcpd::lease(entry, &mut self.text),
            Format::Kea => kea::lease(entry, subnet, &mut self.text),
            Format::Csv => csv::lease(entry, &mut self.text),
        }
        self.out.write_all(self.text.as_bytes())
    }
}
