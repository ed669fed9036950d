//! `router`: one route, a thousand, ten thousand; found by host and by path, the last of them, and none.

use std::hint::black_box;

use criterion::Criterion;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use waypost::router::{Lookup, Router};

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("router");
    let by_host: fn(usize) -> Value = |index| json!({ "hosts": [format!("shop-{index}.example")] });
    let by_path: fn(usize) -> Value = |index| json!({ "path_prefix": format!("/shop-{index}/api") });
    for count in [1, 1_000, 10_000] {
        let last = count - 1;
        for (name, conditions, host, path) in [
            ("last by host", by_host, format!("shop-{last}.example"), "/api/items".to_owned()),
            ("none by host", by_host, "blog.example".to_owned(), "/api/items".to_owned()),
            ("last by path", by_path, "shop.example".to_owned(), format!("/shop-{last}/api/items")),
            ("none by path", by_path, "shop.example".to_owned(), "/blog/api/items".to_owned()),
        ] {
            let router = router((0..count).map(conditions));
            let lookup = Lookup {
                host: &host,
                path: &path,
                query: None,
                method: &Method::GET,
                headers: &HeaderMap::new(),
                client_ip: "192.0.2.7".parse().expect("an address"),
            };
            group.bench_function(format!("{name}, {count} routes"), |bencher| {
                bencher.iter(|| router.find(black_box(&lookup)));
            });
        }
    }
    let router = router([json!({})]);
    let lookup = Lookup {
        host: "shop.example",
        path: "/catalogue/shoes",
        query: None,
        method: &Method::GET,
        headers: &HeaderMap::new(),
        client_ip: "192.0.2.7".parse().expect("an address"),
    };
    group.bench_function("one route without conditions", |bencher| bencher.iter(|| router.find(black_box(&lookup))));
}

fn router(conditions: impl IntoIterator<Item = Value>) -> Router {
    let route = |mut conditions: Value| {
        conditions["service"] = json!("app");
        serde_json::from_value(conditions).expect("the benches' routes are valid")
    };
    let routes: Vec<waypost_config::Route> = conditions.into_iter().map(route).collect();
    Router::new(routes.iter().enumerate()).expect("what is valid compiles")
}
