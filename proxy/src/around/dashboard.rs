//! A dashboard for a config: of the shipped panels those that can show something, its names to choose from, and a row for
//! each service and each listener, with its limits as lines.
//!
//! A row is made of shipped panels, so that what a panel asks for is decided, and tested, in one place.

use serde_json::{Value, json};
use waypost_config::{Config, Service};

use super::subject::{METRIC, Subject, speaks};

const SHIPPED: &str = include_str!("../../../docs/observability/grafana/waypost.json");

/// The panels of a service's row, by their titles.
const OF_A_SERVICE: [&str; 10] = [
    "Requests by status",
    "Share of failed requests",
    "Requests in flight",
    "p99 by route",
    "Attempts: p99 by endpoint",
    "Requests in flight by endpoint",
    "Up",
    "Ejected or draining",
    "Retries for each request",
    "Sticky clients",
];

/// The panels of a listener's row.
const OF_A_LISTENER: [&str; 6] =
    ["Requests by route", "Open", "Accepted", "Refused or ended", "Time of TLS handshakes", "Time left"];

/// Columns of a dashboard, and of a panel in a row for one service or listener.
const WIDTH: u64 = 24;
const CELL: (u64, u64) = (8, 8);

/// What Grafana takes for the identity of a dashboard may be so long.
const LONGEST_ID: usize = 40;

/// The dashboard, as JSON for Grafana's import. `name` tells it from those of other configs.
pub fn dashboard(config: &Config, name: &str) -> String {
    let shipped: Value = serde_json::from_str(SHIPPED).expect("it is JSON: tests read it");
    let mut sections = sections(&shipped);
    for section in &mut sections {
        section.leave_out_silent(config);
    }
    let rows = rows(config, &sections);
    sections.splice(1..1, rows);
    sections.retain(|section| !section.panels.is_empty());
    let mut dashboard = shipped.clone();
    dashboard["title"] = format!("Waypost: {name}").into();
    dashboard["uid"] = identity(name).into();
    dashboard["panels"] = laid_out(sections).into();
    for variable in dashboard["templating"]["list"].as_array_mut().into_iter().flatten() {
        choose_from_names(config, variable);
    }
    format!("{dashboard:#}\n")
}

fn identity(name: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    format!("waypost-{name}").chars().map(letter).take(LONGEST_ID).collect()
}

/// A row and what is in it.
#[derive(Debug, Clone)]
struct Section {
    row: Value,
    panels: Vec<Value>,
}

fn sections(dashboard: &Value) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        match sections.last_mut() {
            Some(section) if panel["type"] != "row" => section.panels.push(panel.clone()),
            _ => sections.push(Section { row: panel.clone(), panels: Vec::new() }),
        }
    }
    sections
}

impl Section {
    /// Takes out what can never show anything.
    fn leave_out_silent(&mut self, config: &Config) {
        for panel in &mut self.panels {
            keep_queries(panel, |expression| speaks(config, expression));
        }
        self.panels.retain(has_queries);
    }
}

fn keep_queries(panel: &mut Value, keep: impl Fn(&str) -> bool) {
    if let Some(targets) = panel["targets"].as_array_mut() {
        targets.retain(|target| target["expr"].as_str().is_some_and(&keep));
    }
}

fn has_queries(panel: &Value) -> bool {
    panel["targets"].as_array().is_some_and(|targets| !targets.is_empty())
}

/// A row for each service, then one for each listener; closed, so that Grafana asks only for what somebody opens.
fn rows(config: &Config, sections: &[Section]) -> Vec<Section> {
    let find =
        |title: &&str| sections.iter().flat_map(|section| &section.panels).find(|panel| panel["title"] == **title);
    let services = config.services.iter().map(|(name, service)| {
        let panels = OF_A_SERVICE.iter().filter_map(find).filter_map(|panel| of_service(config, panel, name));
        let panels = panels.map(|panel| limited(panel, &limits(config, name, service))).collect();
        Section { row: row(&format!("Service {name}")), panels }
    });
    let listeners = config.listeners.keys().map(|name| {
        let panels = OF_A_LISTENER.iter().filter_map(find).filter_map(|panel| of_listener(config, panel, name));
        Section { row: row(&format!("Listener {name}")), panels: panels.collect() }
    });
    services.chain(listeners).collect()
}

fn row(title: &str) -> Value {
    json!({ "type": "row", "title": title, "collapsed": true })
}

fn of_service(config: &Config, panel: &Value, name: &str) -> Option<Value> {
    let all = "service=~\"$service\"";
    let tells = |metric: &str| Subject::of(config, metric).has_service(name);
    narrowed(panel, (all, &format!("service=\"{name}\"")), tells)
}

fn of_listener(config: &Config, panel: &Value, name: &str) -> Option<Value> {
    let all = "listener=~\"$listener\"";
    let tells = |metric: &str| Subject::of(config, metric).has_listener(name);
    narrowed(panel, (all, &format!("listener=\"{name}\"")), tells)
}

/// The panel for one of those that it shows; `None` if it could tell nothing of them.
fn narrowed(panel: &Value, (all, one): (&str, &str), tells: impl Fn(&str) -> bool) -> Option<Value> {
    let mut panel = panel.clone();
    keep_queries(&mut panel, |expression| METRIC.find_iter(expression).all(|metric| tells(metric.as_str())));
    for target in panel["targets"].as_array_mut()? {
        let expression = target["expr"].as_str()?.replace(all, one);
        target["expr"] = expression.into();
    }
    (panel["gridPos"]["w"], panel["gridPos"]["h"]) = (CELL.0.into(), CELL.1.into());
    has_queries(&panel).then_some(panel)
}

/// A limit of the file: the panel that it belongs to, its key, and its height there.
type Limit = (&'static str, &'static str, f64);

fn limits(config: &Config, name: &str, service: &Service) -> Vec<Limit> {
    let routes = config.routes.values().filter(|route| route.service == name);
    let whole = routes.filter_map(|route| route.timeouts.request).map(|limit| limit.0.as_secs_f64()).reduce(f64::max);
    let each = service.endpoints.iter().filter_map(|endpoint| endpoint.max_in_flight).max();
    [
        whole.map(|limit| ("p99 by route", "the longest `timeouts.request` of its routes", limit)),
        Some(("Attempts: p99 by endpoint", "`timeouts.response`", service.timeouts.response.0.as_secs_f64())),
        service.max_in_flight.map(|limit| ("Requests in flight", "`max_in_flight` of the service", limit as f64)),
        each.map(|limit| {
            ("Requests in flight by endpoint", "the greatest `max_in_flight` of an endpoint", limit as f64)
        }),
        Some(("Retries for each request", "`retry.budget.ratio`", service.retry.budget.ratio.0)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The panel with a line at its limit, if it has one.
fn limited(mut panel: Value, limits: &[Limit]) -> Value {
    let Some((_, key, height)) = limits.iter().find(|(title, ..)| panel["title"] == *title) else { return panel };
    let said = panel["description"].as_str().map(|said| format!("{said} ")).unwrap_or_default();
    panel["description"] = format!("{said}The line is {key}.").into();
    let steps = json!([{ "color": "transparent", "value": null }, { "color": "red", "value": height }]);
    panel["fieldConfig"]["defaults"]["thresholds"] = json!({ "mode": "absolute", "steps": steps });
    panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] = json!({ "mode": "line" });
    panel
}

/// All panels in one list, in places and under numbers of their own.
fn laid_out(sections: Vec<Section>) -> Vec<Value> {
    let (mut all, mut numbers, mut y) = (Vec::new(), 1.., 0);
    let mut number = |panel: &mut Value| panel["id"] = numbers.next().into();
    for Section { mut row, mut panels } in sections {
        number(&mut row);
        row["gridPos"] = json!({ "x": 0, "y": y, "w": WIDTH, "h": 1 });
        let below = place(&mut panels, y + 1);
        panels.iter_mut().for_each(&mut number);
        if row["collapsed"] == true {
            row["panels"] = panels.into();
            all.push(row);
            y += 1;
        } else {
            all.push(row);
            all.extend(panels);
            y = below;
        }
    }
    all
}

/// Puts panels side by side from `y` on; says where the last ones end.
fn place(panels: &mut [Value], mut y: u64) -> u64 {
    let (mut x, mut height) = (0, 0);
    for panel in panels {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap_or(CELL.0);
        let (w, h) = (side("w"), side("h"));
        if x + w > WIDTH {
            (x, y, height) = (0, y + height, 0);
        }
        panel["gridPos"] = json!({ "x": x, "y": y, "w": w, "h": h });
        (x, height) = (x + w, height.max(h));
    }
    y + height
}

/// The variables for listeners, routes and services offer the names of the file.
fn choose_from_names(config: &Config, variable: &mut Value) {
    let names: Vec<&String> = match variable["name"].as_str() {
        Some("listener") => config.listeners.keys().collect(),
        Some("route") => config.routes.keys().collect(),
        Some("service") => config.services.keys().collect(),
        _ => return,
    };
    let option = |text: &str, value: &str| json!({ "text": text, "value": value, "selected": value == "$__all" });
    let mut options = vec![option("All", "$__all")];
    options.extend(names.iter().map(|name| option(name, name)));
    let query = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",");
    *variable = json!({
        "name": variable["name"],
        "label": variable["label"],
        "type": "custom",
        "query": query,
        "options": options,
        "current": variable["current"],
        "multi": true,
        "includeAll": true,
        "allValue": variable["allValue"],
        "hide": 0,
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CONFIG: &str = r#"
        version = 1
        [listeners.web]
        address = "127.0.0.1:8080"
        [routes.shop]
        hosts = ["shop.example"]
        service = "shop"
        timeouts = { request = "5s" }
        [routes.blog]
        service = "blog"
        [services.shop]
        sticky = { cookie = "lb" }
        health_check = { path = "/health" }
        max_in_flight = 40
        timeouts = { response = "750ms" }
        retry = { budget = { ratio = "10%" } }
        endpoints = [{ name = "one", url = "http://127.0.0.1:9001", max_in_flight = 7 }]
        [services.blog]
        endpoints = [{ name = "one", url = "http://127.0.0.1:9002" }]
    "#;

    fn fitted() -> Value {
        let config = waypost_config::parse(CONFIG, "waypost.toml".as_ref(), &|_| None).unwrap().config;
        serde_json::from_str(&dashboard(&config, "edge 1")).unwrap()
    }

    fn panels(of: &Value) -> impl Iterator<Item = &Value> {
        of["panels"].as_array().into_iter().flatten()
    }

    fn titles(of: &Value) -> BTreeSet<&str> {
        panels(of).map(|panel| panel["title"].as_str().unwrap()).collect()
    }

    fn in_row(dashboard: &Value, row: &str) -> Value {
        panels(dashboard).find(|panel| panel["title"] == row).unwrap().clone()
    }

    #[test]
    fn rows_are_made_of_panels_that_are_shipped() {
        let shipped: Value = serde_json::from_str(SHIPPED).unwrap();
        let titles = titles(&shipped);
        for title in OF_A_SERVICE.iter().chain(&OF_A_LISTENER) {
            assert!(titles.contains(title), "{title}");
        }
    }

    #[test]
    fn panels_that_could_show_nothing_are_left_out() {
        let fitted = fitted();
        let titles = titles(&fitted);
        for absent in ["Certificates", "Time left", "TLS handshakes", "Ejections and circuits", "Access log"] {
            assert!(!titles.contains(absent), "{absent}");
        }
        for there in
            ["Sticky clients", "Probes that did not pass", "Retries", "Generation", "Service shop", "Listener web"]
        {
            assert!(titles.contains(there), "{there}");
        }
    }

    #[test]
    fn each_service_has_a_row_of_what_it_has() {
        let fitted = fitted();
        let (shop, blog) = (in_row(&fitted, "Service shop"), in_row(&fitted, "Service blog"));
        assert!(titles(&shop).contains("Sticky clients") && titles(&shop).contains("Up"));
        assert!(!titles(&blog).contains("Sticky clients") && !titles(&blog).contains("Up"));
        for panel in panels(&blog) {
            let expression = panel["targets"][0]["expr"].as_str().unwrap();
            assert!(expression.contains("service=\"blog\"") && !expression.contains("$service"), "{expression}");
        }
    }

    #[test]
    fn lines_stand_at_the_limits_of_the_file() {
        let shop = in_row(&fitted(), "Service shop");
        let height = |title: &str| {
            let panel = panels(&shop).find(|panel| panel["title"] == title).unwrap();
            panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"].as_f64()
        };
        assert_eq!(height("Attempts: p99 by endpoint"), Some(0.75));
        assert_eq!(height("p99 by route"), Some(5.0));
        assert_eq!(height("Requests in flight"), Some(40.0));
        assert_eq!(height("Requests in flight by endpoint"), Some(7.0));
        assert_eq!(height("Retries for each request"), Some(0.1));
    }

    #[test]
    fn names_of_the_file_can_be_chosen() {
        let fitted = fitted();
        let variable = |name: &str| {
            fitted["templating"]["list"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
        };
        assert_eq!(variable("service")["query"], "shop,blog");
        assert_eq!(variable("route")["options"][2]["value"], "blog");
        assert_eq!(variable("datasource")["type"], "datasource");
        assert_eq!((&fitted["title"], &fitted["uid"]), (&json!("Waypost: edge 1"), &json!("waypost-edge-1")));
    }
}
