//! The operator's log: what is written to standard error, how, and from which level on.
//!
//! Owns the process's tracing subscriber, with the events beside the lines. Never writes requests: that is the access log's work.

use std::io::{self, IsTerminal};
use std::{env, fmt};

use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};
use waypost_config::telemetry::{Log, LogFormat, LogLevel};

use super::events::Events;

/// Set in the environment, this wins over the file, at start and at every reload.
const OVERRIDE: &str = "RUST_LOG";

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` is no list of directives.
    #[error("{OVERRIDE} cannot be read: {0}")]
    Override(#[from] ParseError),
    /// The process has a subscriber already.
    #[error("the log is set up twice: {0}")]
    Taken(#[from] TryInitError),
}

/// The log of the process, to change its level while it runs. The format stays as it was at the start.
#[derive(Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    overridden: bool,
    events: Events,
}

impl fmt::Debug for Logging {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Logging").field("overridden", &self.overridden).finish_non_exhaustive()
    }
}

impl Logging {
    /// Makes standard error the log of this process. Once per process.
    pub fn init(config: &Log) -> Result<Logging, LogError> {
        Logging::init_to(config, io::stderr)
    }

    /// The same, written to somewhere else.
    pub fn init_to<W>(config: &Log, writer: W) -> Result<Logging, LogError>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let directives = env::var(OVERRIDE).ok().filter(|text| !text.is_empty());
        let (subscriber, logging) = build(config, directives.as_deref(), writer)?;
        subscriber.try_init()?;
        Ok(logging)
    }

    /// What an operator hears of, whatever the level is.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Sets the level of a reloaded config.
    pub fn apply(&self, config: &Log) {
        if !self.overridden {
            // It fails only when the subscriber is gone, and then there is no log to set a level for.
            let _ = self.filter.reload(filter(config.level));
        }
    }
}

fn build<W>(
    config: &Log,
    directives: Option<&str>,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync, Logging), ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let first = directives.map_or_else(|| Ok(filter(config.level)), EnvFilter::try_new)?;
    let (wanted, handle) = reload::Layer::new(first);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(colours()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let events = Events::default();
    let ours = Targets::new().with_target("waypost", Level::INFO);
    let subscriber = Registry::default().with(lines.with_filter(wanted)).with(events.clone().with_filter(ours));
    Ok((subscriber, Logging { filter: handle, overridden: directives.is_some(), events }))
}

/// The level is ours; libraries speak from `warn` on, because at `debug` they would drown it, and at `trace` fully.
fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "warn,waypost=info",
        LogLevel::Debug => "warn,waypost=debug",
        LogLevel::Trace => "trace",
    })
}

/// For people only; <https://no-color.org>.
fn colours() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Buffer {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    /// The levels that get through, of ours and of a library.
    fn levels(buffer: &Buffer) -> String {
        tracing::error!("ours_error");
        tracing::warn!("ours_warn");
        tracing::info!("ours_info");
        tracing::debug!("ours_debug");
        tracing::trace!("ours_trace");
        tracing::warn!(target: "hyper", "library_warn");
        tracing::info!(target: "hyper", "library_info");
        let text = buffer.take();
        let word = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
        text.lines().map(word).collect::<Vec<_>>().join(" ")
    }

    fn config(level: LogLevel) -> Log {
        Log { level, format: LogFormat::Text }
    }

    #[track_caller]
    fn check(level: LogLevel, directives: Option<&str>, expected: &str) {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let (subscriber, _logging) = build(&config(level), directives, move || writer.clone()).unwrap();
        with_default(subscriber, || assert_eq!(levels(&buffer), expected));
    }

    #[test]
    fn level_is_ours_and_libraries_only_warn() {
        check(LogLevel::Error, None, "ours_error");
        check(LogLevel::Warn, None, "ours_error ours_warn library_warn");
        check(LogLevel::Info, None, "ours_error ours_warn ours_info library_warn");
        check(LogLevel::Debug, None, "ours_error ours_warn ours_info ours_debug library_warn");
        let all = "ours_error ours_warn ours_info ours_debug ours_trace library_warn library_info";
        check(LogLevel::Trace, None, all);
        check(LogLevel::Error, Some("waypost=warn"), "ours_error ours_warn");
    }

    #[test]
    fn reload_changes_the_level() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let (subscriber, logging) = build(&config(LogLevel::Error), None, move || writer.clone()).unwrap();
        with_default(subscriber, || {
            assert_eq!(levels(&buffer), "ours_error");
            logging.apply(&config(LogLevel::Info));
            assert_eq!(levels(&buffer), "ours_error ours_warn ours_info library_warn");
        });
    }

    #[test]
    fn reload_leaves_an_override_alone() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let (subscriber, logging) = build(&config(LogLevel::Info), Some("error"), move || writer.clone()).unwrap();
        with_default(subscriber, || {
            logging.apply(&config(LogLevel::Trace));
            assert_eq!(levels(&buffer), "ours_error");
        });
    }

    #[test]
    fn json_lines_have_their_fields_at_the_top() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let config = Log { level: LogLevel::Info, format: LogFormat::Json };
        let (subscriber, _logging) = build(&config, None, move || writer.clone()).unwrap();
        with_default(subscriber, || tracing::info!(generation = 42, "config \"applied\"\n"));
        let line = buffer.take();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert_eq!((&event["level"], &event["generation"]), (&"INFO".into(), &42.into()));
        assert_eq!(event["message"], "config \"applied\"\n");
    }

    #[test]
    fn override_that_cannot_be_read_is_an_error() {
        assert!(build(&config(LogLevel::Info), Some("waypost=loud"), io::sink).is_err());
    }
}
