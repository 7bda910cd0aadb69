//! The command line of `bootstorm-load`.

fn main() {}
