//! The configuration as people write it: what it means, and what is said when it is wrong.

use std::path::Path;

use super::{Config, parse};

mod broken;
mod chain;
mod files;
mod host_file;
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
