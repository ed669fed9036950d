//! `loadtest chaos`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use loadtest::chaos::command as chaos;

use crate::display;

/// Sets Waypost amid a failing fleet and audits what comes of it
///
/// Each trial, of a minute, has a seed: from it come a valid config, a script of faults for each container (crashes,
/// freezes, resets, broken and lying answers, lying health), reloads, SIGHUPs and upgrades. One endpoint is always
/// well. Meanwhile clients ask some hundred times a second and check every byte of the answers; at the end all is held
/// against the invariants. The exit code is 0 if all hold, 1 if one does not, 2 if no trial could be held.
#[derive(Args)]
#[command(after_help = "\
Examples:
  loadtest chaos --waypost target/release/waypost --seed 1 --minutes 30
      thirty trials, with the seeds 1 to 30
  loadtest chaos --waypost target/release/waypost --seed 17
      the trial of seed 17 again
  loadtest chaos --seed 17 --script chaos/seed-17/script.toml
      the same config and load with another script

A script:
  [[steps]]
  at = \"1.5s\"
  endpoint = \"web-2\"
  fault = { kind = \"slow\", value = \"500ms\" }
  [[steps]]
  at = \"3s\"
  endpoint = \"web-2\"
  recover = true")]
pub(crate) struct Chaos {
    /// The waypost binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    waypost: Option<PathBuf>,
    /// The first trial's seed; the next one has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long faults come
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// One trial with this script instead of made-up ones
    #[arg(long, value_name = "FILE", conflicts_with = "minutes")]
    script: Option<PathBuf>,
    /// Where config, script and logs of a violation go
    #[arg(long, value_name = "DIR", default_value = "chaos")]
    write: PathBuf,
}

impl Chaos {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let order = self.order()?;
        // Dropping the trial ends its processes.
        let violated = tokio::select! {
            done = chaos::run(&order, |line| drop(writeln!(io::stdout(), "{line}"))) => done?,
            signal = display::told_to_stop() => bail!("stopped by {signal}"),
        };
        Ok(if violated.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    fn order(self) -> Result<chaos::Order> {
        let beside = || -> Result<PathBuf> { Ok(std::env::current_exe()?.with_file_name("waypost")) };
        let read = |file: PathBuf| -> Result<_> {
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            text.parse().with_context(|| file.display().to_string())
        };
        Ok(chaos::Order {
            waypost: self.waypost.map_or_else(beside, Ok)?,
            seed: self.seed,
            length: Duration::try_from_secs_f64(self.minutes * 60.0).context("--minutes")?,
            script: self.script.map(read).transpose()?,
            write: self.write,
        })
    }
}
