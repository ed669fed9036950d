//! A comparison as Markdown: ratios first, then what they were made of.
//!
//! Pure. A ratio is never printed without its spread.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use super::figures::{Comparison, Figure, Round, Seen, Traffic, in_order};
use super::scenario::{Kind, Work};
use crate::report::Latency;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rounds.iter().map(|round| round.round).max().unwrap_or(0);
        writeln!(f, "{}; {rounds} rounds of {} s; median (least – greatest)", self.proxies.join(", "), self.seconds)?;
        self.ratios(f)?;
        self.related(f)?;
        self.traffic(f)?;
        self.saturation(f)?;
        self.idle(f)?;
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))
    }
}

impl Comparison {
    fn ratios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(of) = self.ratios.first().map(|one| one.of) else { return Ok(()) };
        let columns = in_order(self.ratios.iter().map(|one| one.to));
        let heads = columns.iter().map(|to| format!("{of} / {to}"));
        head(f, ["scenario", "ratio of"].map(str::to_owned).into_iter().chain(heads))?;
        for (kind, figure) in in_order(self.ratios.iter().map(|one| (one.kind, one.figure))) {
            let find = |to: &&str| self.ratios.iter().find(|one| (one.kind, one.figure, one.to) == (kind, figure, *to));
            let cells = columns.iter().map(|to| find(to).map(|one| one.ratio.to_string()).unwrap_or_default());
            row(f, [kind.name().to_owned(), figure.words().to_owned()].into_iter().chain(cells))?;
        }
        Ok(())
    }

    fn related(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.related.is_empty() {
            return Ok(());
        }
        let columns = in_order(self.related.iter().map(|one| one.proxy));
        let heads = columns.iter().map(ToString::to_string);
        head(f, ["scenario beside another".to_owned()].into_iter().chain(heads))?;
        for what in in_order(self.related.iter().map(|one| &one.what)) {
            let find = |proxy: &&str| self.related.iter().find(|one| (&one.what, one.proxy) == (what, *proxy));
            let cells = columns.iter().map(|proxy| find(proxy).map(|one| one.ratio.to_string()).unwrap_or_default());
            row(f, [what.clone()].into_iter().chain(cells))?;
        }
        Ok(())
    }

    fn traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = "scenario|proxy|CPU per request, µs|p50, ms|p99, ms|p99.9, ms|p99.9 of all turns, ms|memory, MiB|connections|\
                     answers/s of offered|core busy, %|resumed, %|failed";
        self.section(f, heads, |kind| matches!(kind.work(), Work::Offered(_)))
    }

    fn saturation(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = "scenario|proxy|answers/s|core busy, %|CPU per request, µs|p50, ms|p99, ms|memory, MiB|failed";
        self.section(f, heads, |kind| kind.work() == Work::Full)
    }

    fn idle(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = "scenario|proxy|KiB per idle connection|connections|memory, MiB";
        self.section(f, heads, |kind| matches!(kind.work(), Work::Idle(_)))
    }

    /// One table of the scenarios that are `chosen`, with a row for each proxy.
    fn section(&self, f: &mut fmt::Formatter<'_>, heads: &str, chosen: impl Fn(Kind) -> bool) -> fmt::Result {
        let kinds: Vec<_> = self.kinds().into_iter().filter(|&kind| chosen(kind)).collect();
        if kinds.is_empty() {
            return Ok(());
        }
        head(f, heads.split('|').map(str::to_owned))?;
        for kind in kinds {
            for proxy in self.names() {
                let rounds: Vec<_> = self.rounds.iter().filter(|one| one.kind == kind && one.proxy == proxy).collect();
                if let Some(first) = rounds.first() {
                    let cells = heads.split('|').map(|head| self.cell(head, first, &rounds));
                    row(f, cells)?;
                }
            }
        }
        Ok(())
    }

    fn cell(&self, head: &str, &Round { kind, proxy, connections, .. }: &Round, rounds: &[&Round]) -> String {
        let spread = |figure| self.spread(kind, proxy, |round| round.figure(figure)).map(|it| it.to_string());
        let ms = |pick: fn(&Latency) -> Duration| of_traffic(rounds, |it| pick(&it.latency).as_secs_f64() * 1e3, 2);
        match head {
            "scenario" => kind.name().to_owned(),
            "proxy" => proxy.to_owned(),
            "CPU per request, µs" => spread(Figure::Cpu).unwrap_or_default(),
            "KiB per idle connection" => spread(Figure::Memory).unwrap_or_default(),
            "p50, ms" => ms(|latency| latency.p50),
            "p99, ms" => ms(|latency| latency.p99),
            "p99.9, ms" => ms(|latency| latency.p99_9),
            "p99.9 of all turns, ms" => of_traffic(rounds, |it| it.all_latency.p99_9.as_secs_f64() * 1e3, 2),
            "memory, MiB" => median(rounds.iter().map(|one| one.rss_kib as f64 / 1024.0), 1),
            "connections" => connections.to_string(),
            "answers/s" => of_traffic(rounds, |it| it.rate, 0),
            "answers/s of offered" => {
                format!(
                    "{} of {}",
                    of_traffic(rounds, |it| it.rate, 0),
                    of_traffic(rounds, |it| it.offered.unwrap_or(0.0), 0)
                )
            }
            "core busy, %" => of_traffic(rounds, |it| it.busy_percent, 0),
            "resumed, %" => median(rounds.iter().filter_map(|one| one.traffic()?.resumed_percent), 0),
            "failed" => rounds.iter().filter_map(|one| one.traffic()).map(|it| it.failed).sum::<u64>().to_string(),
            _ => String::new(),
        }
    }
}

fn of_traffic(rounds: &[&Round], figure: impl Fn(&Traffic) -> f64, digits: usize) -> String {
    let traffic = rounds.iter().filter_map(|one| if let Seen::Traffic(it) = &one.seen { Some(it) } else { None });
    median(traffic.map(figure), digits)
}

/// Empty of nothing.
fn median(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let spread = super::figures::Spread::of(values.collect());
    spread.map(|spread| format!("{:.digits$}", spread.median)).unwrap_or_default()
}

fn head(f: &mut fmt::Formatter<'_>, cells: impl Iterator<Item = String>) -> fmt::Result {
    let cells: Vec<_> = cells.collect();
    let rule = "|---".repeat(cells.len());
    f.write_char('\n')?;
    row(f, cells.into_iter())?;
    writeln!(f, "{rule}|")
}

fn row(f: &mut fmt::Formatter<'_>, cells: impl Iterator<Item = String>) -> fmt::Result {
    for cell in cells {
        write!(f, "| {cell} ")?;
    }
    writeln!(f, "|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::figures::tests::{comparison, round};

    #[test]
    fn ratios_stand_beside_their_peers_and_figures_below() {
        let rounds = [("waypost", 9.0), ("nginx", 10.0), ("haproxy", 12.0)]
            .into_iter()
            .flat_map(|(proxy, cpu)| [1, 2].map(|n| round(Kind::H1Small, proxy, n, cpu)));
        let text = comparison(rounds.collect()).to_string();
        for line in [
            "| scenario | ratio of | waypost / nginx | waypost / haproxy | waypost / best peer |",
            "| h1_small | CPU per request | 0.90 (0.90 – 0.90) | 0.75 (0.75 – 0.75) | 0.90 (0.90 – 0.90) |",
            "| h1_small | haproxy | 12.00 (12.00 – 12.00) | 0.00 | 2.00 | 0.00 | 0.00 | 2.0 | 64 | 83333 of 100 | 95 |  | 2 |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_column_of_every_table_is_filled() {
        let idle = |proxy, number| Round {
            seen: Seen::Idle { kib_per_connection: 4.25, closed: 0 },
            ..round(Kind::Idle, proxy, number, 1.0)
        };
        let rounds = vec![
            idle("waypost", 1),
            idle("nginx", 1),
            idle("waypost", 2),
            idle("nginx", 2),
            round(Kind::SaturationH1, "nginx", 1, 10.0),
        ];
        let text = comparison(rounds).to_string();
        assert!(text.contains("| idle | nginx | 4.25 (4.25 – 4.25) | 64 | 2.0 |"), "{text}");
        assert!(text.contains("| idle | memory per connection | 1.00 (1.00 – 1.00) |"), "{text}");
        let full = "| saturation_h1 | nginx | 100000 | 95 | 10.00 (10.00 – 10.00) | 0.00 | 2.00 | 2.0 | 1 |";
        assert!(text.contains(full), "{text}");
    }
}
