//! What a run found, as data and as people read it: JSON, plain text, one HTML page, a comparison
//! of two.

pub mod compare;
mod formatting;
mod headline;
pub mod html;
pub mod json;
mod model;
pub mod text;

pub use headline::headline;
pub use model::*;
