//! The `bootstorm` command line.

fn main() {}
