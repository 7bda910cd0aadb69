//! What a reader of a report is told.

mod fixture;
