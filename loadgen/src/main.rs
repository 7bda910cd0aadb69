//! The command line of `bootstorm-load`.

fn main() -> std::process::ExitCode {
    bootstorm_loadgen::cli::run(std::env::args_os())
}
