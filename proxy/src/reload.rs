//! The one way in for change: read, check, compile, bind, publish, or keep the old generation and say why.
//!
//! Owns what is known of the last reload. Never half applies: everything that can fail comes before the one store
//! that publishes.

mod history;
mod preview;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use indexmap::IndexMap;
use parking_lot::Mutex;
use waypost_config::load::{LoadError, Loaded};
use waypost_config::problem::{Problem, Problems};
use waypost_config::{Config, Lint, Listener, Route, Service};

use crate::aside;
use crate::drain::Phase;
use crate::edge::{BindError, Edge, Inherited, Shared};
use crate::explain::expect;
use crate::lint;
use crate::snapshot::{Before, CompileError, Ground, Snapshot, compile};
use crate::telemetry::metrics::{Metrics, ReloadResult};
use crate::upstream::sticky::ProcessKey;

use self::history::History;
pub use self::history::{Generation, Origin};
pub use self::preview::Preview;

/// Turns the file into generations.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    shared: Shared,
    ground: Ground,
    edge: Arc<Edge>,
    status: Mutex<Status>,
    history: Mutex<History>,
    /// Files that have changed since what serves was built: what a refused reload was told of is not forgotten.
    stale: Mutex<BTreeSet<PathBuf>>,
}

/// What is known of the generation that serves and of the last one that was refused.
#[derive(Debug, Clone)]
pub struct Status {
    /// What was read of the file last; it serves, but after a rollback.
    pub text: String,
    /// What is doubtful in what serves.
    pub warnings: Arc<Problems>,
    /// Since when it serves.
    pub published: SystemTime,
    /// When the warnings were found.
    pub checked: SystemTime,
    /// The last refusal, if nothing was published since.
    pub refused: Option<(SystemTime, Arc<Refusal>)>,
}

/// What a reload has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The generation that serves.
    pub generation: u64,
    /// What is different from the one before, one phrase each; empty when nothing is.
    pub changes: Vec<String>,
    /// Every file that the config is made of or points at, for the watcher.
    pub files: Vec<PathBuf>,
}

/// Why a config does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read, or has mistakes.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It reads well and cannot be run.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It can be run, and does not do what its own tests expect.
    #[error("{0}")]
    Unexpected(Problems),
    /// A socket cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// It changes what is fixed when the process starts.
    #[error("`{0}` cannot change while the process runs: restart it, or hand over to a new one with `waypost upgrade`")]
    Fixed(&'static str),
    /// There is no such generation to return to.
    #[error("generation {} is not kept", .0.map_or("before this one".to_owned(), |number| number.to_string()))]
    NotKept(Option<u64>),
    /// The process is on its way out.
    #[error("the process is stopping")]
    Stopping,
}

impl Status {
    /// Of a file that serves from now on.
    pub fn serving(text: String, warnings: Problems) -> Status {
        let now = SystemTime::now();
        Status { text, warnings: Arc::new(warnings), published: now, checked: now, refused: None }
    }
}

impl Refusal {
    /// The mistakes with their places, if it was the file's text that was wrong.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let problems = match self {
            Refusal::Load(LoadError::Refused(problems)) | Refusal::Unexpected(problems) => Some(problems.iter()),
            _ => None,
        };
        problems.into_iter().flatten()
    }
}

/// The first generation: read and compiled, not yet served.
pub fn first(path: &Path, metrics: &Arc<Metrics>) -> Result<(Ground, Snapshot, Loaded), Refusal> {
    let loaded = waypost_config::load::load(path)?;
    let workers = loaded.config.server.workers.count();
    let ground = Ground { metrics: Arc::clone(metrics), process_key: ProcessKey::generate(), workers };
    let snapshot = compile(loaded.config.clone(), Before::default(), &ground)?;
    expected(&snapshot, &loaded.text, path)?;
    Ok((ground, snapshot, loaded))
}

impl Reloader {
    /// Takes over from [`first`]: `shared` has its snapshot already, and no listener is open.
    pub fn new(path: PathBuf, status: Status, shared: Shared, ground: Ground, edge: Arc<Edge>) -> Reloader {
        let history = Mutex::new(History::new(&status.text));
        Reloader { path, shared, ground, edge, status: Mutex::new(status), history, stale: Mutex::default() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is known.
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// What is doubtful in what serves: by its file, and by its certificates as they are now.
    pub fn warnings(&self) -> Problems {
        let warnings = Arc::clone(&self.status.lock().warnings);
        warnings.and(lint::remarks(&self.shared.snapshot.load(), SystemTime::now()))
    }

    /// Opens the first generation's listeners, with sockets inherited from another process where there are some.
    pub fn open(&self, inherited: &mut Inherited<'_>) -> Result<(), BindError> {
        let snapshot = self.shared.snapshot.load_full();
        let prepared = self.edge.prepare(&snapshot, inherited)?;
        snapshot.settle(Instant::now());
        self.edge.apply(prepared);
        self.shared.metrics.config_generation.set(1);
        self.shared.metrics.reloaded(ReloadResult::Applied);
        self.warn();
        Ok(())
    }

    /// Reads the file again and publishes what it says, or keeps what serves. `stale` are files it points at whose
    /// content has changed. Blocks on the file system; calls must not overlap.
    pub fn reload(&self, stale: &[PathBuf]) -> Result<Report, Arc<Refusal>> {
        self.stale.lock().extend(stale.iter().cloned());
        let outcome = self.attempt(Origin::Reload);
        self.conclude(outcome, ReloadResult::Applied)
    }

    /// Builds what serves anew, because files that it points at have changed. Unlike [`Reloader::reload`] it leaves a
    /// rollback in force, for nobody has said anything of the file.
    pub fn renew(&self, stale: &[PathBuf]) -> Result<Report, Arc<Refusal>> {
        let serving = self.serving();
        if !matches!(serving.origin, Origin::Rollback(_)) {
            return self.reload(stale);
        }
        self.stale.lock().extend(stale.iter().cloned());
        let outcome = self.attempt(Origin::Rollback(serving.number));
        self.conclude(outcome, ReloadResult::Applied)
    }

    /// The last generations, the newest first.
    pub fn generations(&self) -> Vec<Arc<Generation>> {
        self.history.lock().list()
    }

    /// The generation that serves.
    pub fn serving(&self) -> Arc<Generation> {
        self.history.lock().newest()
    }

    /// Publishes once more what the file said in an earlier generation, by default in the one before; it serves until the
    /// file changes or a reload is asked for. Like [`Reloader::reload`] in everything else.
    pub fn rollback(&self, to: Option<u64>) -> Result<Report, Arc<Refusal>> {
        let number = self.history.lock().find(to).map(|generation| generation.number);
        let outcome = number.ok_or(Refusal::NotKept(to)).and_then(|number| self.attempt(Origin::Rollback(number)));
        match outcome {
            // To ask for what is not there is nothing that the file is to blame for.
            Err(refusal @ Refusal::NotKept(_)) => Err(Arc::new(refusal)),
            outcome => self.conclude(outcome, ReloadResult::RolledBack),
        }
    }

    /// Whether what was refused may be in order later although no file that is watched has changed: a port is free
    /// again, or a file is there that was not.
    pub fn may_mend(&self) -> bool {
        let hopeless = |refusal: &Refusal| matches!(refusal, Refusal::Fixed(_) | Refusal::Stopping);
        self.status.lock().refused.as_ref().is_some_and(|(_, refusal)| !hopeless(refusal))
    }

    /// Tries again what was refused. To be refused for the same reasons is no news.
    pub fn retry(&self) -> Result<Report, Arc<Refusal>> {
        let known = self.status.lock().refused.clone();
        match (self.attempt(Origin::Reload), known) {
            (Err(refusal), Some((_, known))) if refusal.to_string() == known.to_string() => Err(known),
            (outcome, _) => self.conclude(outcome, ReloadResult::Applied),
        }
    }

    /// What a reload would do if this were the text of the file. Blocks on the file system.
    pub fn preview(&self, text: &str) -> Result<Preview, Refusal> {
        let mut config = self.read(text)?.config;
        let previous = self.shared.snapshot.load_full();
        let changes = changes(&previous.config, &config);
        fixed(&previous.config, &config)?;
        // Opening one makes its file.
        config.telemetry.access_log.clone_from(&previous.config.telemetry.access_log);
        let next = compile(config, Before { snapshot: Some(&previous), stale: &[] }, &self.ground)?;
        expected(&next, text, &self.path)?;
        let now = preview::Now { snapshot: &previous, inside: self.edge.inside() };
        Ok(Preview { changes, touched: now.touched(&next), tests: next.config.tests.len() })
    }

    /// What a rollback to this generation would do. Blocks on the file system.
    pub fn preview_rollback(&self, number: u64) -> Result<Preview, Refusal> {
        let generation = self.history.lock().find(Some(number)).ok_or(Refusal::NotKept(Some(number)))?;
        self.preview(&generation.text)
    }

    fn conclude(&self, outcome: Result<Report, Refusal>, done: ReloadResult) -> Result<Report, Arc<Refusal>> {
        let result = match &outcome {
            Ok(report) if report.changes.is_empty() => ReloadResult::Unchanged,
            Ok(_) => done,
            Err(_) => ReloadResult::Refused,
        };
        self.shared.metrics.reloaded(result);
        outcome.map_err(|refusal| self.refused(refusal))
    }

    /// A text as if it were the file's.
    fn read(&self, text: &str) -> Result<Loaded, LoadError> {
        let environment = |name: &str| std::env::var(name).ok();
        waypost_config::parse(text, &self.path, &environment).map_err(LoadError::Refused)
    }

    fn load(&self, origin: Origin) -> Result<Loaded, Refusal> {
        let Origin::Rollback(number) = origin else { return Ok(waypost_config::load::load(&self.path)?) };
        let generation = self.history.lock().find(Some(number)).ok_or(Refusal::NotKept(Some(number)))?;
        Ok(self.read(&generation.text)?)
    }

    fn attempt(&self, origin: Origin) -> Result<Report, Refusal> {
        if matches!(self.shared.lifecycle.phase(), Phase::Draining | Phase::Stopped) {
            return Err(Refusal::Stopping);
        }
        let previous = self.shared.snapshot.load_full();
        let (loaded, mut changes) = aside::run(|| {
            let loaded = self.load(origin)?;
            let changes = changes(&previous.config, &loaded.config);
            Ok::<_, Refusal>((loaded, changes))
        })?;
        let stale: Vec<PathBuf> = self.stale.lock().iter().cloned().collect();
        let inputs = stale.iter().filter(|path| is_tls_input(&loaded.config, path));
        changes.extend(inputs.map(|path| format!("~file {}", path.display())));
        if changes.is_empty() {
            self.unchanged(previous.generation, (self.last_read(origin, &loaded.text), loaded.warnings));
            return Ok(Report { generation: previous.generation, changes, files: loaded.files });
        }
        fixed(&previous.config, &loaded.config)?;
        let routes = aside::run(|| changed_routes(&previous.config, &loaded.config));
        let snapshot = compile(loaded.config, Before { snapshot: Some(&previous), stale: &stale }, &self.ground)?;
        aside::run(|| expected(&snapshot, &loaded.text, &self.path))?;
        let prepared = self.edge.prepare(&snapshot, &mut |_| None)?;
        let generation = snapshot.generation;
        aside::run(|| snapshot.settle(Instant::now()));
        self.edge.retire(&previous, &snapshot);
        self.shared.snapshot.store(Arc::new(snapshot));
        self.edge.apply(prepared);
        // What a probe or an operator has changed since it settled, they have told the generation before.
        self.shared.snapshot.load().services.values().for_each(|service| service.refresh());
        let status = Status::serving(self.last_read(origin, &loaded.text), loaded.warnings);
        let (published, text) = (status.published, loaded.text.into());
        let told = Generation { number: generation, published, origin, changes: changes.clone(), routes, text };
        self.published(status, told);
        Ok(Report { generation, changes, files: loaded.files })
    }

    /// The file may be written otherwise and say the same.
    fn unchanged(&self, generation: u64, (text, warnings): (String, Problems)) {
        let mut status = self.status.lock();
        status.text = text;
        (status.warnings, status.checked) = (Arc::new(warnings), SystemTime::now());
        if status.refused.take().is_some() {
            tracing::info!(generation, "config in order again, nothing has changed");
        }
        self.stale.lock().clear();
    }

    fn published(&self, status: Status, told: Generation) {
        let Generation { number: generation, origin, .. } = told;
        self.shared.metrics.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.stale.lock().clear();
        *self.status.lock() = status;
        tracing::info!(generation, %origin, changes = told.changes.join(", "), "config published");
        self.history.lock().push(told);
        self.warn();
    }

    /// What the watcher is to compare the file with: a rollback has not read it.
    fn last_read(&self, origin: Origin, text: &str) -> String {
        if matches!(origin, Origin::Rollback(_)) { self.status.lock().text.clone() } else { text.to_owned() }
    }

    /// One line for all that is doubtful; the drawings are for who asks.
    fn warn(&self) {
        let warnings = self.warnings();
        let mut lints: Vec<&str> = warnings.iter().filter_map(|warning| warning.lint).map(Lint::name).collect();
        lints.sort_unstable();
        lints.dedup();
        if !lints.is_empty() {
            tracing::warn!(count = warnings.len(), lints = lints.join(", "), "config has warnings, `check` draws them");
        }
    }

    fn refused(&self, refusal: Refusal) -> Arc<Refusal> {
        // Not a field: after a drawing of many lines it would look like the end of the file.
        let path = self.path.display();
        tracing::error!("config refused, the old one goes on serving: {path}\n{refusal}");
        let refusal = Arc::new(refusal);
        self.status.lock().refused = Some((SystemTime::now(), Arc::clone(&refusal)));
        refusal
    }
}

/// Whether TLS settings are made of this file. Certificate pairs of listeners are not among them: they are swapped
/// within their store.
fn is_tls_input(config: &Config, path: &Path) -> bool {
    let client_auth = |listener: &Listener| listener.tls.as_ref().and_then(|tls| tls.client_auth.clone());
    let authorities = config.listeners.values().filter_map(client_auth).any(|auth| auth.ca == path);
    let collector = config.telemetry.tracing.iter().flat_map(|tracing| tracing.tls.files());
    let mut files = config.services.values().flat_map(|service| service.tls.files()).chain(collector);
    authorities || files.any(|file| file == path)
}

/// Whether it does what the file's own tests expect.
fn expected(snapshot: &Snapshot, text: &str, path: &Path) -> Result<(), Refusal> {
    let problems = waypost_config::test::problems(text, path, expect::broken(snapshot));
    problems.map_or(Ok(()), |problems| Err(Refusal::Unexpected(problems)))
}

/// What is made once per process.
fn fixed(old: &Config, new: &Config) -> Result<(), Refusal> {
    if old.server.workers != new.server.workers {
        return Err(Refusal::Fixed("server.workers"));
    }
    if old.server.upgrade_socket != new.server.upgrade_socket {
        return Err(Refusal::Fixed("server.upgrade_socket"));
    }
    if old.admin != new.admin {
        return Err(Refusal::Fixed("admin"));
    }
    if old.telemetry.log.format != new.telemetry.log.format {
        return Err(Refusal::Fixed("telemetry.log.format"));
    }
    Ok(())
}

/// What is different, in the operator's words: `+route shop`, `~service api: +endpoint web-4`, `-listener web`.
pub fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    if old.server != new.server {
        changes.push("~server".to_owned());
    }
    if old.admin != new.admin {
        changes.push("~admin".to_owned());
    }
    if old.telemetry != new.telemetry {
        changes.push("~telemetry".to_owned());
    }
    named(&mut changes, "listener", &old.listeners, &new.listeners, |_, _| String::new());
    named(&mut changes, "route", &old.routes, &new.routes, |_, _| String::new());
    named(&mut changes, "middleware", &old.middlewares, &new.middlewares, |_, _| String::new());
    named(&mut changes, "service", &old.services, &new.services, endpoint_changes);
    if old.tests != new.tests {
        changes.push("~tests".to_owned());
    }
    if changes.is_empty() && order(old) != order(new) {
        changes.push("~order".to_owned());
    }
    changes
}

/// Routes that are new or different, or lead through something that is.
fn changed_routes(old: &Config, new: &Config) -> Vec<String> {
    let changed = |name: &str, route: &Route| {
        let other = |name: &String| old.middlewares.get(name) != new.middlewares.get(name);
        old.routes.get(name) != Some(route)
            || old.services.get(&route.service) != new.services.get(&route.service)
            || route.middlewares.iter().any(other)
    };
    new.routes.iter().filter(|(name, route)| changed(name, route)).map(|(name, _)| name.clone()).collect()
}

/// The order of routes decides between equals, and that of listeners which one `redirect_https` sends to.
fn order(config: &Config) -> Vec<&String> {
    config.routes.keys().chain(config.listeners.keys()).collect()
}

fn named<T: PartialEq>(
    changes: &mut Vec<String>,
    kind: &str,
    old: &IndexMap<String, T>,
    new: &IndexMap<String, T>,
    detail: impl Fn(&T, &T) -> String,
) {
    for (name, value) in new {
        match old.get(name) {
            None => changes.push(format!("+{kind} {name}")),
            Some(before) if before != value => changes.push(format!("~{kind} {name}{}", detail(before, value))),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    changes.extend(gone.map(|name| format!("-{kind} {name}")));
}

fn endpoint_changes(old: &Service, new: &Service) -> String {
    let by_name = |service: &Service| -> IndexMap<String, waypost_config::service::Endpoint> {
        service.endpoints.iter().map(|endpoint| (endpoint.name.clone(), endpoint.clone())).collect()
    };
    let mut changes = Vec::new();
    named(&mut changes, "endpoint", &by_name(old), &by_name(new), |_, _| String::new());
    if changes.is_empty() { String::new() } else { format!(" ({})", changes.join(" ")) }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return write!(formatter, "generation {}: nothing has changed", self.generation);
        }
        write!(formatter, "generation {}: {}", self.generation, self.changes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        waypost_config::load::parse(text, Path::new("waypost.toml"), &|_| None).unwrap().config
    }

    const BEFORE: &str = r#"
        version = 1
        [listeners.web]
        address = "127.0.0.1:8080"
        [routes.shop]
        service = "shop"
        [routes.old]
        path = "/old"
        service = "shop"
        [services.shop]
        endpoints = [{ name = "web-1", url = "http://10.0.0.1" }, { name = "web-2", url = "http://10.0.0.2" }]
    "#;

    #[track_caller]
    fn check(replace: &str, by: &str, expected: &[&str]) {
        assert!(BEFORE.contains(replace), "{replace}");
        assert_eq!(changes(&config(BEFORE), &config(&BEFORE.replace(replace, by))), expected);
    }

    #[test]
    fn changes_are_told_in_the_operators_words() {
        check("shop", "shop", &[]);
        check("[routes.old]", "[routes.new]", &["+route new", "-route old"]);
        check("8080", "8081", &["~listener web"]);
        check("10.0.0.2", "10.0.0.3", &["~service shop (~endpoint web-2)"]);
        check("web-2", "web-3", &["~service shop (+endpoint web-3 -endpoint web-2)"]);
        check("version = 1", "version = 1\n[server]\ngrace_period = \"5s\"", &["~server"]);
    }

    #[test]
    fn order_counts() {
        let mut turned = config(BEFORE);
        turned.routes.reverse();
        assert_eq!(changes(&config(BEFORE), &turned), ["~order"]);
    }

    #[test]
    fn what_is_made_once_is_refused() {
        let with = |server: &str| config(&BEFORE.replace("version = 1", &format!("version = 1\n[server]\n{server}")));
        assert!(fixed(&config(BEFORE), &with("workers = 3")).is_err());
        assert!(fixed(&config(BEFORE), &with("grace_period = \"3s\"")).is_ok());
    }
}
