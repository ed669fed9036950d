//! The ratios of a comparison as a picture: one line for each, least to greatest, a dot at the median.
//!
//! Plain SVG, readable on light and dark grounds, without anything from elsewhere. Pure. Every ratio is drawn with
//! its spread and written out beside it.

use std::fmt::{self, Write};

use super::{
    figures::{Comparison, FLOOR, Figure, Quotient, in_order},
    scenario::Kind,
};

const WIDTH: f64 = 920.0;
/// Height of a ratio's line.
const LINE: f64 = 18.0;
/// Height of what stands above the first line.
const TOP: f64 = 66.0;
/// Where the axis begins and ends; left of it are names, right of it numbers.
const AXIS: (f64, f64) = (340.0, 730.0);
/// Ratios at its ends. What lies beyond is drawn at the end, and written out all the same.
const ENDS: (f64, f64) = (0.25, 4.0);
const TICKS: [f64; 7] = [0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0];

const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 }
  .quiet { fill: #59636e }
  .kind { font-weight: 600 }
  .number { font-variant-numeric: tabular-nums }
  .grid { stroke: #d1d9e0 }
  .one { stroke: #59636e; stroke-width: 1.5 }
  .good { stroke: #1a7f37; fill: #1a7f37 }
  .bad { stroke: #cf222e; fill: #cf222e }
  .even { stroke: #59636e; fill: #59636e }
  .spread { stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .one { stroke: #9198a1 }
    .good { stroke: #3fb950; fill: #3fb950 }
    .bad { stroke: #f85149; fill: #f85149 }
    .even { stroke: #9198a1; fill: #9198a1 }
  }
";

impl Comparison {
    /// The picture: for each scenario the figure that matters most, one line for each peer.
    pub fn picture(&self) -> String {
        let lines: Vec<_> = self.ratios.iter().filter(|one| one.kind.figures().first() == Some(&one.figure)).collect();
        let mut svg = String::new();
        self.draw(&mut svg, &lines).expect("a string takes all");
        svg
    }

    fn draw(&self, svg: &mut String, lines: &[&Quotient]) -> fmt::Result {
        let kinds = in_order(lines.iter().map(|one| one.kind));
        let height = TOP + LINE * lines.len() as f64 + 8.0 * kinds.len() as f64 + 30.0;
        writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">"#
        )?;
        let of = lines.first().map_or("", |one| one.of);
        let title = format!("{of} beside its peers: ratios, least – median – greatest of the rounds");
        writeln!(svg, "<title>{}</title><style>{STYLE}</style>", escaped(&title))?;
        text(svg, (16.0, 26.0), "title", &title)?;
        text(svg, (16.0, 46.0), "quiet", &self.proxies.join(", "))?;
        axis(svg, height)?;
        let mut y = TOP;
        for kind in kinds {
            y = group(svg, y, kind, lines)?;
        }
        writeln!(svg, "</svg>")
    }
}

/// A scenario's lines from `y` on; returns where the next one begins.
fn group(svg: &mut String, mut y: f64, kind: Kind, lines: &[&Quotient]) -> Result<f64, fmt::Error> {
    let mine = lines.iter().filter(|one| one.kind == kind);
    for (n, one) in mine.enumerate() {
        if n == 0 {
            let more = if one.figure == Figure::Rate { ": more is better" } else { "" };
            text(svg, (16.0, y + 14.0), "kind", kind.name())?;
            text(svg, (16.0, y + 14.0 + LINE), "quiet", &format!("{}{more}", one.figure.words()))?;
        }
        line(svg, y, one)?;
        y += LINE;
    }
    Ok(y + 8.0)
}

fn line(svg: &mut String, y: f64, one: &Quotient) -> fmt::Result {
    let [least, median, greatest] = one.ratio.on(place);
    let (middle, class) = (y + 9.0, class(one));
    writeln!(
        svg,
        r#"<text x="{}" y="{}" class="quiet" text-anchor="end">{}</text>"#,
        AXIS.0 - 12.0,
        y + 14.0,
        escaped(one.to)
    )?;
    writeln!(
        svg,
        r#"<path d="M{least:.1} {middle}H{greatest:.1}M{least:.1} {}v8M{greatest:.1} {}v8" class="spread {class}"/>"#,
        middle - 4.0,
        middle - 4.0
    )?;
    writeln!(svg, r#"<circle cx="{median:.1}" cy="{middle}" r="4.5" class="{class}"/>"#)?;
    text(svg, (AXIS.1 + 16.0, y + 14.0), "number", &one.ratio.to_string())
}

/// Better or worse only if every round says so; the floor is neither, for nobody gets below it.
fn class(one: &Quotient) -> &'static str {
    let [least, _, greatest] = one.ratio.on(|ratio| if one.figure == Figure::Rate { 1.0 / ratio } else { ratio });
    let (least, greatest) = (least.min(greatest), least.max(greatest));
    if one.to == FLOOR {
        "even"
    } else if greatest < 1.0 {
        "good"
    } else if least > 1.0 {
        "bad"
    } else {
        "even"
    }
}

/// A ratio's place on the axis: halves and doubles are equally far from 1.
fn place(ratio: f64) -> f64 {
    let share = (ratio.clamp(ENDS.0, ENDS.1) / ENDS.0).ln() / (ENDS.1 / ENDS.0).ln();
    AXIS.0 + share * (AXIS.1 - AXIS.0)
}

fn axis(svg: &mut String, height: f64) -> fmt::Result {
    for tick in TICKS {
        let (x, bottom) = (place(tick), height - 26.0);
        let class = if (tick - 1.0).abs() < f64::EPSILON { "one" } else { "grid" };
        writeln!(svg, r#"<path d="M{x:.1} {}V{bottom}" class="{class}"/>"#, TOP - 8.0)?;
        writeln!(
            svg,
            r#"<text x="{x:.1}" y="{}" class="quiet number" text-anchor="middle">{tick}</text>"#,
            height - 8.0
        )?;
    }
    Ok(())
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, words: &str) -> fmt::Result {
    writeln!(svg, r#"<text x="{x}" y="{y}" class="{class}">{}</text>"#, escaped(words))
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::figures::tests::{comparison, round};

    fn drawn() -> String {
        let cost = |proxy, cpu: [f64; 2]| {
            [(1, cpu[0]), (2, cpu[1])].map(|(number, cpu)| round(Kind::H1Small, proxy, number, cpu))
        };
        let rounds = [cost("waypost", [9.0, 9.5]), cost("nginx", [10.0, 10.0]), cost("haproxy", [1.0, 1.0])];
        comparison(rounds.into_iter().flatten().collect()).picture()
    }

    /// Whether every element that begins ends, in order, and no stray `<` or `&` is in a text.
    fn check_well_formed(svg: &str) {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, words) = tag.split_once('>').expect("a tag ends");
            assert!(!words.contains('&') || words.contains(';'), "{words}");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn a_picture_is_well_formed_and_shows_every_ratio_with_its_spread() {
        let svg = drawn();
        check_well_formed(&svg);
        for told in
            ["0.93 (0.90 – 0.95)", "9.25 (9.00 – 9.50)", ">h1_small<", ">nginx<", ">best peer<", ">CPU per request<"]
        {
            assert!(svg.contains(told), "{told}\n{svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn one_is_in_the_middle_and_what_is_beyond_the_axis_at_its_end() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(place(1.0), f64::midpoint(AXIS.0, AXIS.1));
        near(place(2.0) - place(1.0), place(1.0) - place(0.5));
        near(place(100.0), AXIS.1);
        near(place(0.0), AXIS.0);
    }

    #[test]
    fn nothing_compared_is_an_empty_picture() {
        check_well_formed(&comparison(Vec::new()).picture());
    }
}
