//! `man`: the manual, made of what the commands say about themselves.
//!
//! Owns the form of a page, and what is said of no single command: environment and files. Names, options, signals and exit
//! codes are those of the help, so that the two cannot differ.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Arguments, Verdict, failed, print};

/// Writes every page into the folder, or prints the first.
pub(super) fn show(folder: Option<&Path>) -> Verdict {
    match folder {
        None => first_page().map_or_else(|error| failed(&error), |page| print(&String::from_utf8_lossy(&page))),
        Some(folder) => match write(folder) {
            Ok(()) => Verdict::Fine,
            Err(error) => failed(&format!("{}: {error}", folder.display())),
        },
    }
}

fn write(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("waypost.1"), first_page()?)?;
    for command in whole().get_subcommands().filter(|command| !command.is_hide_set()) {
        std::fs::write(folder.join(format!("waypost-{}.1", command.get_name())), page(command, &[])?)?;
    }
    Ok(())
}

/// The command line with everything filled in that a page shows.
fn whole() -> Command {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    command
}

/// Of the whole; the signals and exit codes are those of what runs.
fn first_page() -> io::Result<Vec<u8>> {
    let command = whole();
    let run = command.find_subcommand("run").map(help).unwrap_or_default();
    let of_run = sections(&run).filter(|(heading, _)| ["Signals", "Exit codes"].contains(heading));
    let of_run: Vec<_> = of_run.map(|(heading, text)| (heading, text.to_owned())).collect();
    let own = [("Environment", list(&ENVIRONMENT)), ("Files", list(&FILES))];
    page(&command, &[of_run, own.into()].concat())
}

/// Each name with its meaning below it.
fn list(entries: &[(&str, &str)]) -> String {
    let lines: Vec<_> = entries.iter().map(|(name, meaning)| format!("  {name}\n      {meaning}")).collect();
    lines.join("\n")
}

const ENVIRONMENT: [(&str, &str); 8] = [
    ("WAYPOST_CONFIG", "the config file, where --config names none"),
    (
        "WAYPOST_ADMIN",
        "the admin address of the process that explain, diff, rollback and top ask, where --admin names none",
    ),
    ("WAYPOST_ADMIN_TOKEN", "the token that it wants"),
    ("RUST_LOG", "what is logged, for example waypost=debug; wins over telemetry.log.level"),
    ("NO_COLOR", "if it is not empty, mistakes in a config are drawn without colours"),
    ("NOTIFY_SOCKET", "set by systemd: who is told that the process serves, reloads, stops and lives"),
    ("WATCHDOG_USEC", "set by systemd (WatchdogSec=): how often it wants a sign of life"),
    ("NAME", "whatever a string of the config refers to as ${NAME}"),
];

const FILES: [(&str, &str); 3] = [
    ("waypost.toml", "the config of this folder"),
    ("/etc/waypost/waypost.toml", "the config of the service"),
    ("/usr/share/doc/waypost", "guides, every key of the config, every metric, every reason"),
];

/// A section: its heading, and its text as it is shown.
type Section<'a> = (&'a str, String);

fn page(command: &Command, more: &[Section<'_>]) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).source(concat!("waypost ", env!("CARGO_PKG_VERSION")));
    let (help, mut page) = (help(command), Vec::new());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let mut words = Roff::new();
    for paragraph in prose(&help) {
        words.control("PP", []).text([roman(paragraph.replace('\n', " "))]);
    }
    words.to_writer(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    let own = sections(&help).map(|(heading, text)| (heading, text.to_owned()));
    for (heading, text) in more.iter().cloned().chain(own) {
        section(&mut rest, heading, &text);
    }
    if !command.has_subcommands() {
        rest.control("SH", ["SEE ALSO"]).text([bold("waypost"), roman("(1)")]);
    }
    rest.to_writer(&mut page)?;
    Ok(page)
}

/// Lines and columns stay as they are in the help.
fn section(page: &mut Roff, heading: &str, text: &str) {
    page.control("SH", [heading.to_uppercase().as_str()]).control("nf", []);
    for line in text.lines() {
        page.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    page.control("fi", []);
}

/// What a command says below its options.
fn help(command: &Command) -> String {
    command.get_after_help().map(ToString::to_string).unwrap_or_default()
}

/// The paragraphs under a heading, such as `Exit codes:`.
fn sections(help: &str) -> impl Iterator<Item = (&str, &str)> {
    help.split("\n\n").filter_map(|paragraph| paragraph.split_once(":\n"))
}

/// The others, but for those that only send the reader on.
fn prose(help: &str) -> impl Iterator<Item = &str> {
    let headed = |paragraph: &&str| paragraph.contains(":\n") || paragraph.starts_with("See ");
    help.split("\n\n").filter(move |paragraph| !headed(paragraph))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_page_has_what_an_operator_looks_for() {
        let page = String::from_utf8(first_page().unwrap()).unwrap();
        for said in
            ["SIGNALS", "SIGHUP", "EXIT CODES", "ENVIRONMENT", "WAYPOST_CONFIG", "FILES", "waypost\\-upgrade(1)"]
        {
            assert!(page.contains(said), "{said} in\n{page}");
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_options_and_examples() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for command in whole().get_subcommands() {
            let name = command.get_name();
            let page = std::fs::read_to_string(folder.path().join(format!("waypost-{name}.1"))).unwrap();
            assert!(page.contains(".SH EXAMPLES"), "{page}");
            assert!(page.contains(&format!("waypost\\-{name}")), "{page}");
        }
    }
}
