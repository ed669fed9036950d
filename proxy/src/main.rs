//! The command line: arguments, exit codes, nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let path = std::env::args().nth(1).map(PathBuf::from).unwrap_or_default();
    let loaded = match waypost_config::load(&path) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let logging = waypost::telemetry::logging::Logging::init(&loaded.config.telemetry.log).ok();
    let options = waypost::server::Options { config: path, inherited: None, logging };
    match waypost::server::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}
