//! The reader of dhcpd's language, and what is made of it as TOML.

use std::path::Path;

use bootstorm::config;

use super::{Target, packets};
use crate::mutation::Good;
use crate::random::Random;

pub(crate) struct DhcpdConf {
    good: Good,
    file: tempfile::NamedTempFile,
}

impl DhcpdConf {
    pub(crate) fn new() -> Self {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        Self { good: Good::of(Good::in_directory("tests/dhcpd", &[".conf"])), file }
    }
}

impl Target for DhcpdConf {
    fn input(&self, random: &mut Random) -> Vec<u8> {
        // Said first, it is no TOML.
        [b"authoritative;\n".to_vec(), self.good.damaged(random)].concat()
    }

    fn feed(&self, input: &[u8]) {
        match config::parse(Path::new("/nonexistent/dhcpd.conf"), input) {
            Ok(config) => {
                packets::answer(&config, input);
                std::fs::write(self.file.path(), input).expect("a temporary file");
                if let Ok(migration) = config::migrate(self.file.path()) {
                    drop(config::parse(Path::new("new.toml"), migration.toml.as_bytes()));
                }
            }
            Err(error) => drop(error.render(false)),
        }
    }
}
