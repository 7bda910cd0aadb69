//! The reader of TOML.

use std::path::Path;

use bootstorm::config;

use super::{Target, packets};
use crate::mutation::Good;
use crate::random::Random;

pub(crate) struct Toml(Good);

impl Toml {
    pub(crate) fn new() -> Self {
        let mut texts = Good::in_directory("engine/src/config/tests", &[".toml", ".txt"]);
        texts.extend(Good::in_directory("packaging/examples", &[".toml"]));
        Self(Good::of(texts))
    }
}

impl Target for Toml {
    fn input(&self, random: &mut Random) -> Vec<u8> {
        self.0.damaged(random)
    }

    fn feed(&self, input: &[u8]) {
        match config::parse(Path::new("/nonexistent/bootstorm.toml"), input) {
            Ok(config) => packets::answer(&config, input),
            Err(error) => drop(error.render(false)),
        }
    }
}
