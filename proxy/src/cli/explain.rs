//! `explain`: what would happen to a request, asked of a file or of the process that runs.
//!
//! Owns how the question is typed and the answer shown. What is answered is [`waypost::explain`]'s.

use std::net::IpAddr;
use std::path::Path;

use clap::Args;
use form_urlencoded::Serializer;
use http::Method;
use waypost::explain::{self, Explanation, Question};

use super::client::{Remote, Reply};
use super::{File, Verdict, check, failed, print, refused};

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The method, GET if left out, and the URL, or only its path
    #[arg(value_name = "[METHOD] URL", required = true, num_args = 1..=2)]
    request: Vec<String>,
    /// A header field of the request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The other end of the connection; an address that is nobody's if left out
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// The listener; the one that the URL fits if left out
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The host for which the client's HTTP/2 connection was opened, if it is used again for this one
    #[arg(long, value_name = "HOST")]
    sni: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: File,
    #[command(flatten)]
    remote: Remote,
}

fn header(text: &str) -> Result<(String, String), String> {
    explain::header(text).map_err(|unclear| unclear.to_string())
}

/// Answers the question, or says why it cannot.
pub(super) fn explain(arguments: Explain) -> Verdict {
    let Explain { json, file, remote, request, headers, client, listener, sni } = arguments;
    let question = question(request, Question { headers, listener, sni, ..Question::default() }, client);
    let answer = match remote.ask(&Method::GET, &path(&question), "") {
        None => match by_file(&file.path, &question) {
            Ok(answer) => answer,
            Err(verdict) => return verdict,
        },
        Some(reply) => reply.map_err(|error| error.to_string()).and_then(|reply| by_process(&reply)),
    };
    match answer {
        Ok(explanation) => show(&explanation, json),
        Err(error) => failed(&error),
    }
}

fn question(mut request: Vec<String>, question: Question, client: Option<IpAddr>) -> Question {
    let url = request.pop().unwrap_or_default();
    let method = request.pop().unwrap_or_else(|| question.method.clone());
    Question { method, url, client: client.unwrap_or(question.client), ..question }
}

/// The same question to the admin API.
fn path(question: &Question) -> String {
    let mut query = Serializer::new("/api/explain?".to_owned());
    query.append_pair("method", &question.method).append_pair("url", &question.url);
    query.append_pair("client", &question.client.to_string());
    query.extend_pairs(question.headers.iter().map(|(name, value)| ("header", format!("{name}: {value}"))));
    query.extend_pairs(question.listener.iter().map(|name| ("listener", name)));
    query.extend_pairs(question.sni.iter().map(|name| ("sni", name)));
    query.finish()
}

/// By what the file says; its endpoints are as they would be before anybody has checked them.
fn by_file(path: &Path, question: &Question) -> Result<Result<Explanation, String>, Verdict> {
    let config = waypost_config::load(path).map_err(|error| refused(&error))?.config;
    let snapshot = check::compile(config).map_err(|error| failed(&format!("{}: {error}", path.display())))?;
    Ok(explain::explain(&snapshot, question).map_err(|unclear| unclear.to_string()))
}

fn by_process(reply: &Reply) -> Result<Explanation, String> {
    if reply.is_good() {
        serde_json::from_str(&reply.body).map_err(|error| error.to_string())
    } else {
        Err(format!("answered {}: {}", reply.status, reply.body.trim()))
    }
}

fn show(explanation: &Explanation, json: bool) -> Verdict {
    let text = if json { serde_json::to_string_pretty(explanation) } else { Ok(explanation.to_string()) };
    match text {
        Ok(text) => print(&format!("{}\n", text.trim_end())),
        Err(error) => failed(&error),
    }
}
