//! One validated model of everything the server is told, encoded to wire bytes when it is loaded.
//!
//! The rest of the server reads [`Config`] and nothing else: no rule parses text, and what the
//! model holds has been checked against itself.

mod lookup;
mod model;
mod option_set;
mod prefix;
mod scope;

pub use lookup::HostIds;
pub use model::*;
pub use option_set::OptionSet;
pub use prefix::Prefix;
pub use scope::{BootFile, BootRule, ClientMatch, LeaseTime, Scope, ScopeChain, ScopeId};
