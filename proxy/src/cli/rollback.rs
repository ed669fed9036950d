//! `rollback`: an earlier generation serves again, until the file changes or a reload is asked for.

use clap::Args;
use http::Method;
use serde_json::Value;

use super::client::{Remote, Reply};
use super::{Verdict, failed, print};

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The generation that is to serve again; the one before if left out
    #[arg(long, value_name = "GENERATION")]
    to: Option<u64>,
    /// Show the last generations and change nothing
    #[arg(long, conflicts_with = "to")]
    list: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Has it done, and says what came of it.
pub(super) fn rollback(arguments: &Rollback) -> Verdict {
    let Rollback { to, list, remote } = arguments;
    let to = to.map(|number| format!("?to={number}")).unwrap_or_default();
    let answer = if *list {
        remote.ask(&Method::GET, "/api/generations", "")
    } else {
        remote.ask(&Method::POST, &format!("/api/rollback{to}"), "")
    };
    match answer {
        None => failed(&"which process? Name its admin address with --admin http://HOST:PORT"),
        Some(Err(error)) => failed(&error),
        Some(Ok(reply)) if reply.is_good() => print(&told(&reply)),
        Some(Ok(reply)) => failed(&reasons(&reply)),
    }
}

/// A line for each generation.
fn told(reply: &Reply) -> String {
    let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let generations = answer.as_array().cloned().unwrap_or_else(|| vec![answer]);
    generations.iter().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

fn line(generation: &Value) -> String {
    let changes: Vec<_> = generation["changes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let changes = if changes.is_empty() { "nothing has changed".to_owned() } else { changes.join(", ") };
    let words = ["published", "origin"].into_iter().filter_map(|key| generation[key].as_str());
    let words: Vec<_> = words.chain([changes.as_str()]).collect();
    format!("generation {}  {}", generation["generation"], words.join("  "))
}

fn reasons(reply: &Reply) -> String {
    let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let problems = answer["problems"].as_array().into_iter().flatten();
    let messages: Vec<_> = problems.filter_map(|problem| problem["message"].as_str()).collect();
    if messages.is_empty() { reply.body.trim().to_owned() } else { messages.join("; ") }
}
