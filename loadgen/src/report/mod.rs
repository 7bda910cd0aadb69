//! What a run found, as data and as people read it: JSON, plain text, one HTML page, a comparison of two.

mod model;

pub use model::*;
