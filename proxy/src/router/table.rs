//! The routes of one host, found by path: exact paths in a map, prefixes in a tree of segments, the rest in a list.
//!
//! Owns how a search visits few routes: a list is sorted, so its first match is its best; and what can no longer win
//! is not asked at all. Never decides what a route is worth (`precedence`) or whether it holds (`condition`).

use std::collections::HashMap;
use std::sync::Arc;

use super::Lookup;
use super::condition::{Condition, Place, Plan};
use super::precedence::Precedence;

/// All routes under one host pattern.
#[derive(Debug, Default)]
pub(super) struct PathTable {
    exact: HashMap<Box<str>, Ranked>,
    prefixes: Segment,
    /// Routes with a regular expression, or without a word about the path.
    anywhere: Ranked,
    /// The best that can be found here.
    ceiling: Option<Precedence>,
}

impl PathTable {
    pub(super) fn insert(&mut self, plan: &Plan, precedence: Precedence) {
        self.ceiling = self.ceiling.max(Some(precedence));
        let ranked = match &plan.place {
            Place::Exact(path) => self.exact.entry(path.as_str().into()).or_default(),
            Place::Prefix(prefix) => self.prefixes.at(prefix),
            Place::Anywhere => &mut self.anywhere,
        };
        ranked.insert(Entry { precedence, conditions: Arc::clone(&plan.conditions) });
    }

    /// Offers to the search whatever may match here, closest first.
    pub(super) fn visit(&self, search: &mut Search<'_>) {
        if self.ceiling <= search.best {
            return;
        }
        let path = search.request.path;
        if let Some(ranked) = self.exact.get(path) {
            search.offer(ranked);
        }
        if let Some(relative) = path.strip_prefix('/') {
            self.prefixes.visit(Some(relative), search);
        }
        search.offer(&self.anywhere);
    }
}

/// One request's way through the tables, and the best route seen so far.
#[derive(Debug)]
pub(super) struct Search<'a> {
    request: &'a Lookup<'a>,
    best: Option<Precedence>,
}

impl<'a> Search<'a> {
    pub(super) fn new(request: &'a Lookup<'a>) -> Search<'a> {
        Search { request, best: None }
    }

    /// Index of the best route seen.
    pub(super) fn found(&self) -> Option<usize> {
        self.best.map(|best| best.route.0)
    }

    fn offer(&mut self, ranked: &Ranked) {
        let mut better = ranked.0.iter().take_while(|entry| Some(entry.precedence) > self.best);
        if let Some(entry) = better.find(|entry| entry.holds(self.request)) {
            self.best = Some(entry.precedence);
        }
    }
}

/// Routes at one place, the best first.
#[derive(Debug, Default)]
struct Ranked(Vec<Entry>);

impl Ranked {
    fn insert(&mut self, entry: Entry) {
        let at = self.0.partition_point(|other| other.precedence > entry.precedence);
        self.0.insert(at, entry);
    }
}

/// A route under one of its hosts.
#[derive(Debug)]
struct Entry {
    precedence: Precedence,
    conditions: Arc<[Condition]>,
}

impl Entry {
    fn holds(&self, request: &Lookup<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(request))
    }
}

/// A node of the tree of prefixes; the root is the prefix `/`.
#[derive(Debug, Default)]
struct Segment {
    children: HashMap<Box<str>, Segment>,
    here: Ranked,
}

impl Segment {
    fn at(&mut self, prefix: &str) -> &mut Ranked {
        let segments = prefix.split('/').skip(1);
        &mut segments.fold(self, |node, segment| node.children.entry(segment.into()).or_default()).here
    }

    /// Longest prefix first. The depth is that of the configured prefixes, not that of the request's path.
    fn visit(&self, rest: Option<&str>, search: &mut Search<'_>) {
        if let Some(rest) = rest {
            let (segment, below) = rest.split_once('/').map_or((rest, None), |(segment, below)| (segment, Some(below)));
            if let Some(child) = self.children.get(segment) {
                child.visit(below, search);
            }
        }
        search.offer(&self.here);
    }
}
