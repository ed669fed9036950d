//! What can be typed, and what each command says about itself.
//!
//! Owns the words, the help and the exit codes. What a command does is in its own file, or in the library.

mod check;
mod client;
mod diff;
mod explain;
mod generate;
mod healthcheck;
mod man;
mod rollback;
mod run;
mod top;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use check::Warnings;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use waypost::demo::{self, Tour};
use waypost::server::Succession;
use waypost_config::{LoadError, Problems};

/// Waypost: one binary, one file, a fleet behind it.
#[derive(Debug, Parser)]
#[command(version, about, after_help = START, disable_help_subcommand = false, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const START: &str = "\
Begin here:
  waypost demo                            a fleet, a proxy and a short tour, with no file at all
  waypost check -c waypost.toml           is the file right?
  waypost run -c waypost.toml             serve it; a change of the file is taken up while it runs
  waypost help run                        signals and exit codes

See docs/guides/quickstart.md, docs/configuration.md (every key), docs/guides/reload-and-upgrade.md";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a config until a signal ends it
    #[command(after_help = RUN)]
    Run {
        #[command(flatten)]
        file: File,
        /// Take the listening sockets over from the process that runs, if there is one
        #[arg(long)]
        upgrade: bool,
    },
    /// Say everything that is wrong with a config or doubtful in it, and serve nothing
    #[command(after_help = CHECK, visible_alias = "validate")]
    Check {
        #[command(flatten)]
        file: File,
        /// Fail if there is anything to warn of, too
        #[arg(long)]
        strict: bool,
    },
    /// Say what would happen to a request, and why, without sending anything
    #[command(after_help = EXPLAIN)]
    Explain(explain::Explain),
    /// Say what a reload would change, in the process that runs or beside another file
    #[command(after_help = DIFF)]
    Diff(diff::Diff),
    /// Show what the running process does, route by route and endpoint by endpoint, every second
    #[command(after_help = TOP)]
    Top(top::Top),
    /// Let an earlier generation of the running process serve again
    #[command(after_help = ROLLBACK)]
    Rollback(rollback::Rollback),
    /// Start a fleet and a proxy before it, show the main job, then let you try
    #[command(after_help = DEMO)]
    Demo(Demo),
    /// Take over from the running process without refusing a connection
    #[command(after_help = UPGRADE)]
    Upgrade {
        #[command(flatten)]
        file: File,
    },
    /// Ask a running Waypost whether it is ready, for a container's HEALTHCHECK
    #[command(after_help = HEALTHCHECK)]
    Healthcheck {
        #[command(flatten)]
        file: File,
        /// What to ask instead of the config's admin address
        #[arg(long, value_name = "http://HOST:PORT/PATH")]
        url: Option<String>,
        /// How long the answer may take
        #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Print what stands around a Waypost: rules, a dashboard, a unit, a Compose service
    #[command(after_help = GENERATE)]
    Generate {
        /// What to print
        what: generate::What,
        #[command(flatten)]
        file: File,
    },
    /// Print the JSON schema of the config, for editors
    #[command(after_help = SCHEMA)]
    Schema,
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual, or write its pages into a folder
    #[command(after_help = MAN)]
    Man {
        /// Where waypost.1 and a page for each command are written; without it waypost(1) is printed
        folder: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct File {
    /// The config file
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "WAYPOST_CONFIG", default_value = "waypost.toml")]
    path: PathBuf,
}

#[derive(Debug, Args)]
struct Demo {
    /// Start everything and show nothing
    #[arg(long)]
    no_tour: bool,
    /// End after the tour, with status 1 if a promise was broken
    #[arg(long, hide = true, conflicts_with = "no_tour")]
    exit_after_tour: bool,
}

const RUN: &str = "\
Signals:
  SIGTERM, SIGINT   drain: the process ends when nothing is in flight; a second one ends it at once
  SIGHUP            reload the config (saving the file is enough)
  SIGUSR1           open the access log again, after it was rotated
  SIGUSR2           start the binary again, as `waypost upgrade`: it takes over from this process

Exit codes:
  0   ended in order
  1   the config has mistakes, or something in it cannot be started
  2   the config cannot be read, or the command line is wrong

Examples:
  waypost run                             serve waypost.toml of this folder
  waypost run -c /etc/waypost/edge.toml
  waypost run -c edge.toml --upgrade      take over from the process that runs, or start cold
  RUST_LOG=waypost=debug waypost run      why single attempts, handshakes and connections fail, too

See docs/guides/quickstart.md and docs/guides/reload-and-upgrade.md";

const CHECK: &str = "\
Checked are the syntax, every name and value, the files it points at, and all that the proxy makes
of it: certificates with their keys, TLS settings, middlewares, routes. No socket is opened and no
log is written.

Warnings are of what can be served and is hardly meant so: a route that is never taken, a
certificate that ends. Each is drawn in its place, with the name of its lint.

Exit codes:
  0   nothing is wrong; there may be warnings
  1   it has mistakes, or with --strict warnings; each is drawn in its place
  2   it cannot be read, or the command line is wrong

Examples:
  waypost check                           waypost.toml of this folder
  waypost check -c edge.toml && systemctl reload waypost
  waypost check --strict -c edge.toml     in a pipeline: nothing doubtful gets through

See docs/guides/checking.md for every warning, docs/configuration.md for every key";

const EXPLAIN: &str = "\
Told are the listener, the route and for each other route the first condition that fails, what each
middleware does, each endpoint's chance and why, what is repeated, and the head that goes upstream.
Of a file, endpoints are as nobody has checked them; of a process, as they are now.

Exit codes:
  0   answered
  1   the question cannot be answered, or the config has mistakes
  2   the config cannot be read, or the command line is wrong

Examples:
  waypost explain https://shop.example/cart
  waypost explain POST /api/orders -H 'host: shop.example' -H 'x-tenant: blue' --client 10.0.0.7
  waypost explain https://shop.example/cart -H 'cookie: lb=…' --admin http://127.0.0.1:9900
  waypost explain /cart --client 10.0.0.7 -H 'x-forwarded-for: 203.0.113.9'       whose address counts?
  waypost explain https://b.example/ --sni a.example                              why 421?
  waypost explain /cart --json | jq .reply

See docs/guides/explain.md";

const DIFF: &str = "\
NEW is read as a reload would read it. With --admin the process that runs compares it with what it
serves, runs its [[tests]], and says what the change would mean to the connections and WebSockets
that are open; without, it is compared with the file of -c. Nothing is changed.

Exit codes, as those of diff:
  0   nothing would change
  1   something would
  2   NEW would be refused, or cannot be read, or nobody answers

Examples:
  waypost diff next.toml
  waypost diff next.toml --admin http://127.0.0.1:9900

See docs/guides/reload-and-upgrade.md";

const TOP: &str = "\
For each route: requests a second, the share of answers of 500 and above, requests in flight, and
latencies. For each endpoint: its state and why, its share of the attempts. Ctrl-C ends it.

Exit codes:
  0   ended
  1   nobody answers
  2   the command line is wrong

Examples:
  waypost top --admin http://127.0.0.1:9900
  waypost top --admin http://127.0.0.1:9900 --once --interval 10s

See docs/guides/observability.md";

const ROLLBACK: &str = "\
The process keeps what its file said in the last ten generations. What is brought back serves until
the file changes or a reload is asked for; the file itself is left alone, so put it right next.
State is kept as at any reload.

Exit codes:
  0   it serves (or: this is the list)
  1   it is not kept, it would be refused today, or nobody answers
  2   the command line is wrong

Examples:
  waypost rollback --admin http://127.0.0.1:9900
  waypost rollback --admin http://127.0.0.1:9900 --list
  waypost rollback --admin http://127.0.0.1:9900 --to 41

See docs/guides/reload-and-upgrade.md";

const DEMO: &str = "\
Everything is on 127.0.0.1 and in a temporary folder, which goes with Ctrl-C.

Examples:
  waypost demo
  waypost demo --no-tour                  straight to the commands to try

See docs/guides/quickstart.md for what comes after";

const UPGRADE: &str = "\
Start the new binary with this. It takes the listening sockets over through `server.upgrade_socket`,
loads the config, and only when it serves does the running process drain and end. If anything fails
before, the running one goes on as if nothing had happened, and the exit code says so. Afterwards
this is the process that runs, as with `waypost run`.

Exit codes:
  0   took over, served, and ended in order
  1   nobody to take over from, or the config has mistakes, or something in it cannot be started
  2   the config cannot be read, or the command line is wrong

Examples:
  waypost upgrade -c /etc/waypost/waypost.toml
  waypost run --upgrade -c FILE           the same, but start cold when nobody runs

See docs/guides/reload-and-upgrade.md";

const HEALTHCHECK: &str = "\
Asks `/ready` on the config's admin address; 0.0.0.0 and [::] become loopback. The config need not
be free of mistakes: a file in the middle of an edit does not make the running process ill.

Exit codes:
  0   ready
  1   not ready, no answer, or no admin address
  2   the command line is wrong

Examples:
  HEALTHCHECK CMD [\"/waypost\", \"healthcheck\", \"-c\", \"/etc/waypost.toml\"]   in a Dockerfile
  waypost healthcheck --url http://127.0.0.1:9900/ready --timeout 1s

See docs/guides/observability.md";

const GENERATE: &str = "\
Rules and routes are the same for every config; all others are fitted to the file: alerts and dashboard
have what can happen with it, by its names, with its times and limits.

Exit codes:
  0   printed
  1   the config has mistakes
  2   the config cannot be read, or the command line is wrong

Examples:
  waypost generate rules > /etc/prometheus/rules/recording.yml
  waypost generate alerts -c waypost.toml > /etc/prometheus/rules/alerts.yml
  waypost generate dashboard -c waypost.toml > grafana.json
  waypost generate systemd -c /etc/waypost/edge.toml > /etc/systemd/system/waypost.service
  waypost generate compose -c waypost.toml

See docs/observability and docs/guides/operating.md";

const SCHEMA: &str = "\
Examples:
  waypost schema > waypost.schema.json
  #:schema ./waypost.schema.json          as the first line of the config: editors that know TOML
                                          then complete keys and mark mistakes

See docs/configuration.md for the same in prose";

const COMPLETIONS: &str = "\
Examples:
  waypost completions bash > ~/.local/share/bash-completion/completions/waypost
  waypost completions zsh > ~/.zfunc/_waypost
  waypost completions fish > ~/.config/fish/completions/waypost.fish";

const MAN: &str = "\
Examples:
  waypost man | man -l -                  read it
  waypost man ~/.local/share/man/man1     waypost(1), waypost-run(1) and all the others";

/// What a command came to, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// The config has mistakes, or what was asked for cannot be done.
    Failed,
    /// There is nothing to judge.
    Unreadable,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> ExitCode {
        ExitCode::from(match verdict {
            Verdict::Fine => 0,
            Verdict::Failed => 1,
            Verdict::Unreadable => 2,
        })
    }
}

impl Arguments {
    /// Does what was asked for; blocks until it is done.
    pub(crate) fn execute(self) -> ExitCode {
        let verdict = match self.command {
            Command::Run { file, upgrade } => {
                run::run(file.path, if upgrade { Succession::IfAny } else { Succession::Cold })
            }
            Command::Upgrade { file } => run::run(file.path, Succession::Required),
            Command::Check { file, strict: true } => check::check(&file.path, Warnings::Fail),
            Command::Check { file, strict: false } => check::check(&file.path, Warnings::Pass),
            Command::Explain(arguments) => explain::explain(arguments),
            Command::Diff(arguments) => diff::diff(&arguments),
            Command::Top(arguments) => top::top(&arguments),
            Command::Rollback(arguments) => rollback::rollback(&arguments),
            Command::Demo(demo) => demo.run(),
            Command::Healthcheck { file, url, timeout } => healthcheck::ask(url, &file.path, timeout),
            Command::Generate { what, file } => generate::generate(what, &file.path),
            Command::Schema => print(&waypost_config::schema()),
            Command::Completions { shell } => complete(shell),
            Command::Man { folder } => man::show(folder.as_deref()),
        };
        verdict.into()
    }
}

impl Demo {
    fn run(&self) -> Verdict {
        match demo::run(self.tour()) {
            Ok(()) => Verdict::Fine,
            Err(error) => failed(&error),
        }
    }

    fn tour(&self) -> Tour {
        match (self.no_tour, self.exit_after_tour) {
            (true, _) => Tour::Skip,
            (_, true) => Tour::Only,
            _ => Tour::Show,
        }
    }
}

fn complete(shell: Shell) -> Verdict {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "waypost", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Whoever reads may stop early: `waypost schema | head` is fine.
fn print(text: &str) -> Verdict {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => failed(&error),
        _ => Verdict::Fine,
    }
}

fn failed(error: &dyn std::fmt::Display) -> Verdict {
    eprintln!("waypost: {error}");
    Verdict::Failed
}

/// Draws the mistakes on standard error.
fn refused(error: &LoadError) -> Verdict {
    match error {
        LoadError::Read { .. } => {
            eprintln!("waypost: {error}");
            Verdict::Unreadable
        }
        LoadError::Refused(problems) => {
            eprintln!("{}\n\n{}", drawn(problems), counted(problems.len(), "mistake"));
            Verdict::Failed
        }
    }
}

/// In colours if a person looks at it (<https://no-color.org>).
fn drawn(problems: &Problems) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stderr().is_terminal() && !plain { problems.coloured() } else { problems.to_string() }
}

/// `1 route`, `2 routes`.
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_shows_how_it_is_used() {
        for command in Arguments::command().get_subcommands() {
            let help = command.get_after_help().unwrap().to_string();
            assert!(help.contains("Examples:"), "{}", command.get_name());
        }
    }
}
