//! `diff`: what a reload would change, asked of the process that runs or of the file as it was.
//!
//! Owns how the question is typed and the answer shown. What would change is [`waypost::reload`]'s to say.

use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use serde_json::Value;
use waypost::reload::{self, Preview};
use waypost_config::LoadError;

use super::client::{Remote, Reply};
use super::{File, Verdict, counted, failed, print, refused};

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The config as it would be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    old: File,
    #[command(flatten)]
    remote: Remote,
}

/// Says what is different; the verdict is "failed" if anything is, as diff(1) has it.
pub(super) fn diff(arguments: &Diff) -> Verdict {
    let Diff { new, json, old, remote } = arguments;
    let text = match std::fs::read_to_string(new) {
        Ok(text) => text,
        Err(error) => return trouble(&format!("can't read {}: {error}", new.display())),
    };
    let preview = match remote.ask(&Method::POST, "/api/diff", &text) {
        None => of_files(&old.path, new),
        Some(reply) => reply.map_err(|error| trouble(&error.to_string())).and_then(|reply| of_process(&reply)),
    };
    match preview {
        Err(_) => Verdict::Unreadable,
        Ok(preview) => show(&preview, *json),
    }
}

fn of_files(old: &Path, new: &Path) -> Result<Preview, Verdict> {
    let config = |path: &Path| waypost_config::load(path).map(|loaded| loaded.config).map_err(|error| refusal(&error));
    let (old, new) = (config(old)?, config(new)?);
    Ok(Preview { changes: reload::changes(&old, &new), touched: Vec::new(), tests: new.tests.len() })
}

fn of_process(reply: &Reply) -> Result<Preview, Verdict> {
    if reply.is_good() {
        return serde_json::from_str(&reply.body).map_err(|error| trouble(&error.to_string()));
    }
    let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let problems = answer["problems"].as_array().into_iter().flatten();
    problems.for_each(|problem| eprintln!("{}", told(problem)));
    Err(trouble(answer["detail"].as_str().unwrap_or(reply.body.trim())))
}

/// `waypost.toml:3:1: routes.shop.service: there is no service …`
fn told(problem: &Value) -> String {
    let text = |key: &str| problem[key].as_str().map(|text| format!("{text}: ")).unwrap_or_default();
    let place = problem["file"].as_str().map(|file| format!("{file}:{}:{}: ", problem["line"], problem["column"]));
    format!("{}{}{}", place.unwrap_or_default(), text("path"), problem["message"].as_str().unwrap_or_default())
}

fn show(preview: &Preview, json: bool) -> Verdict {
    let text = if json { serde_json::to_string_pretty(preview).map(|text| text + "\n") } else { Ok(page(preview)) };
    match text.map_err(|error| trouble(&error.to_string())).map(|text| print(&text)) {
        Ok(Verdict::Fine) if preview.changes.is_empty() => Verdict::Fine,
        Ok(Verdict::Fine) => Verdict::Failed,
        _ => Verdict::Unreadable,
    }
}

fn page(preview: &Preview) -> String {
    if preview.changes.is_empty() {
        return "nothing would change\n".to_owned();
    }
    let indented = |line: &String| format!("  {line}");
    let mut lines: Vec<String> = preview.changes.iter().map(indented).collect();
    if !preview.touched.is_empty() {
        lines.push("and so".to_owned());
        lines.extend(preview.touched.iter().map(indented));
    }
    if preview.tests > 0 {
        lines.push(format!("{} passed", counted(preview.tests, "test")));
    }
    lines.join("\n") + "\n"
}

fn refusal(error: &LoadError) -> Verdict {
    refused(error);
    Verdict::Unreadable
}

fn trouble(error: &str) -> Verdict {
    failed(&error);
    Verdict::Unreadable
}
