//! One validated model of everything the server is told, encoded to wire bytes when it is loaded.
//!
//! The rest of the server reads [`Config`] and nothing else: no rule parses text, and what the
//! model holds has been checked against itself.
//!
//! A file goes through these hands: `loader` reads it and what it includes, `rows` sets hosts
//! aside, of which there may be a million, `host_file` reads those of CSV files, `tree` gives every
//! value its place, `fields` and `units` take tables and values apart, `scope_reader`,
//! `scope_spaces`, `setting_reader`, `statement_reader`, `dhcp_reader` and `sections` know what the
//! keys mean, `option_types` and `definitions` encode options, `expression` is dhcpd's language of
//! conditions, `dhcpd` reads files in that language, `scope_draft` takes up what a scope says, and
//! `builder` and `assemble` put the model together and look for contradictions. `command_line` is
//! what a file in dhcpd's language has no words for.
//!
//! `chain` says which scopes hold for a client, and `run` what their statements make of a message.

mod address_map;
mod assemble;
mod builder;
mod chain;
mod command_line;
mod decisions;
mod definitions;
mod dhcp_reader;
mod dhcpd;
mod disk;
mod effect_reader;
mod effects;
mod excluded;
mod expression;
mod fields;
mod flags;
mod host_file;
mod host_names;
mod hosts;
mod lease_term;
mod live;
mod loader;
mod lookup;
mod model;
mod option_set;
mod option_text;
mod option_types;
mod parts;
mod places;
mod prefix;
mod problem;
mod quirk_reader;
mod rows;
mod run;
mod schema;
mod scope;
mod scope_draft;
mod scope_reader;
mod scope_spaces;
mod sections;
mod setting_reader;
mod settings;
mod source;
mod spaces;
mod statement;
mod statement_reader;
mod subclasses;
mod tftp;
mod tree;
mod units;
mod unset;

#[cfg(test)]
mod tests;

pub use address_map::{AddressMap, AddressPlace};
pub use bootstorm_net::EngineChoice;
pub use chain::ScopeChain;
pub(crate) use chain::{Boots, LayerSet};
pub use command_line::CommandLine;
pub(crate) use decisions::Decision;
#[cfg(test)]
pub(crate) use dhcpd::tests::corpus;
pub use dhcpd::{Migration, migrate};
pub(crate) use effects::{Asked, Effects};
pub use excluded::Use;
pub(crate) use expression::{Candidate, Facts, Names, Value, option as option_of};
pub use expression::{ClassIndex, ClassTest, OptionPath};
pub use flags::{Flag, Flags};
pub use host_names::HostName;
pub(crate) use host_names::look_up;
pub use hosts::{HostView, Hosts};
pub(crate) use lease_term::{LeaseTerm, LeaseTimeBy};
pub use live::HostChange;
pub use loader::{
    LIVE_HOSTS, check, load, load_beside, load_on_host, load_with_hosts, parse, state_dir,
};
pub use lookup::HostIds;
pub use model::*;
pub use option_set::{OptionSet, OptionView};
pub(crate) use option_text::{bytes_of_text, option_of_text};
pub use places::Places;
pub use prefix::Prefix;
pub use problem::{ConfigError, Problem};
pub use scope::{BootFile, BootRule, ClientMatch, LeaseTime, Scope, ScopeId, ScopeView};
pub use settings::{Date, Parameter, Settings};
pub use statement::{BlockKey, Key, Line};
pub use subclasses::Subclasses;
pub use tftp::{MapRule, Multicast, Tftp, UploadMode};
