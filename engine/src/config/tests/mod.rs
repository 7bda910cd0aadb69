//! The configuration as people write it: what it means, and what is said when it is wrong.

use std::path::Path;

use super::{Config, Facts, OptionPath, parse};

mod broken;
mod chain;
mod effects;
mod files;
mod host_file;
mod live;
mod model;
mod omapi;
mod options;
mod rows;
mod run;
mod statements;

fn good(text: &str) -> Config {
    parse(Path::new("bootstorm.toml"), text.as_bytes())
        .unwrap_or_else(|error| panic!("{}", error.render(false)))
}

/// What a client says and is. Of the message nothing else is known.
struct Client {
    /// Option 12.
    name: &'static [u8],
    /// Empty where it is not known.
    hardware: &'static [u8],
    known: bool,
}

impl<'a> Facts<'a> for Client {
    fn option(&self, path: OptionPath) -> Option<&'a [u8]> {
        (path.code == 12).then_some(self.name)
    }

    fn hardware(&self) -> Option<&'a [u8]> {
        Some(self.hardware).filter(|hardware| !hardware.is_empty())
    }

    fn is_known(&self) -> bool {
        self.known
    }
}
