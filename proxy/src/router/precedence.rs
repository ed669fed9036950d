//! Which of several matching routes wins: one order over routes, and nothing else.
//!
//! Decides by priority, then host, then path, then number of conditions, then order in the file. Never looks at a
//! request: what a route is worth is known when the router is built.

use std::cmp::Reverse;

/// What one route, under one of its hosts, is worth. Greater wins; no two routes are equal.
///
/// The order of the fields is the documented order of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Precedence {
    pub(super) priority: i64,
    pub(super) host: HostRank,
    pub(super) path: PathRank,
    /// Methods and client networks count once each; every header, query parameter and cookie counts.
    pub(super) conditions: usize,
    /// The earlier one wins.
    pub(super) route: Reverse<usize>,
}

/// How closely a route names its host; the closest is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostRank {
    Any,
    Wildcard,
    Exact,
}

/// How closely a route names its path; the closest is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathRank {
    Any,
    Regex,
    /// Its length in bytes: of two prefixes of one path, the longer one lies within the shorter.
    Prefix(usize),
    Exact,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Precedence =
        Precedence { priority: 0, host: HostRank::Any, path: PathRank::Any, conditions: 0, route: Reverse(5) };

    #[track_caller]
    fn check(winner: Precedence, loser: Precedence) {
        assert!(winner > loser, "{winner:?} must go before {loser:?}");
    }

    #[test]
    fn each_rule_outweighs_all_rules_after_it() {
        let order = Precedence { route: Reverse(4), ..PLAIN };
        let conditions = Precedence { conditions: 1, ..PLAIN };
        let path = Precedence { path: PathRank::Regex, ..PLAIN };
        let host = Precedence { host: HostRank::Wildcard, ..PLAIN };
        let priority = Precedence { priority: 1, ..PLAIN };
        check(order, PLAIN);
        check(conditions, order);
        check(path, Precedence { conditions: 9, ..order });
        check(host, Precedence { path: PathRank::Exact, conditions: 9, ..order });
        check(priority, Precedence { host: HostRank::Exact, path: PathRank::Exact, conditions: 9, ..order });
    }

    #[test]
    fn the_closer_name_of_a_host_or_a_path_wins() {
        check(Precedence { host: HostRank::Exact, ..PLAIN }, Precedence { host: HostRank::Wildcard, ..PLAIN });
        let paths = [PathRank::Any, PathRank::Regex, PathRank::Prefix(0), PathRank::Prefix(4), PathRank::Exact];
        for pair in paths.windows(2) {
            check(Precedence { path: pair[1], ..PLAIN }, Precedence { path: pair[0], ..PLAIN });
        }
    }

    #[test]
    fn a_negative_priority_is_a_last_resort() {
        check(PLAIN, Precedence { priority: -1, host: HostRank::Exact, path: PathRank::Exact, ..PLAIN });
    }
}
