//! The scenarios that come with the program.

/// A built-in scenario.
#[derive(Copy, Clone, Debug)]
pub struct Built {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! library {
    ($($name:literal)*) => {
        /// All built-in scenarios.
        pub const LIBRARY: &[Built] =
            &[$(Built { name: $name, text: include_str!(concat!("library/", $name, ".toml")) }),*];
    };
}

library! {
    "dora" "tftp" "rack-42" "row-500" "hall-10k" "renewal" "installed" "flap" "starvation" "decline" "lossy"
}
