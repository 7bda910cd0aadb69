//! `files`: what a scenario's machines ask for, made up.

use std::fs;
use std::io::{BufWriter, Write};

use super::args::FilesArgs;
use super::{Failure, MET};
use crate::scenario::Scenario;
use crate::seed::mix;

pub(super) fn run(args: &FilesArgs) -> Result<u8, Failure> {
    let scenario = Scenario::load(&args.scenario, &args.set)?;
    if scenario.files.is_empty() {
        return Err(format!("scenario `{}` states no files", scenario.name).into());
    }
    fs::create_dir_all(&args.into)
        .map_err(|error| format!("--into {}: {error}", args.into.display()))?;
    for (name, size) in &scenario.files {
        let path = args.into.join(name);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut file = BufWriter::new(fs::File::create(&path).map_err(failed)?);
        write(&mut file, name, size.0).and_then(|()| file.flush()).map_err(failed)?;
        println!("{} {} bytes", path.display(), size.0);
    }
    Ok(MET)
}

/// Bytes that look like nothing, and are the same for the same name: no two blocks are alike.
fn write(file: &mut impl Write, name: &str, size: u64) -> std::io::Result<()> {
    let start = name.bytes().fold(size, |state, byte| mix(state ^ u64::from(byte)));
    for word in 0..size / 8 {
        file.write_all(&mix(start.wrapping_add(word)).to_le_bytes())?;
    }
    file.write_all(&mix(start).to_le_bytes()[..(size % 8) as usize])
}
