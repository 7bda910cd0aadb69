//! Writes the pages of made-up runs into a directory, to look at: `cargo run --example report-pages
//! -- DIR`.

use std::error::Error;
use std::path::PathBuf;

use bootstorm_loadgen::report::{compare, html, json, text};

#[path = "../tests/report/fixture.rs"]
mod fixture;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("name a directory")?);
    std::fs::create_dir_all(&directory)?;
    let (good, bad) = (fixture::good(), fixture::bad());
    println!("{}", compare::compare(&good, &bad).render(false));
    for (name, report) in [
        ("good", good),
        ("bad", bad),
        ("invalid", fixture::invalid()),
        ("empty", fixture::empty()),
        ("tiny", fixture::tiny()),
        ("hostile", fixture::hostile()),
    ] {
        std::fs::write(directory.join(format!("{name}.html")), html::render(&report))?;
        json::write(&directory.join(format!("{name}.json")), &report)?;
        println!("{name}\n{}", text::render(&report, false));
    }
    Ok(())
}
