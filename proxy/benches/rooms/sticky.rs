//! `upstream::sticky` and `cookies`: a client's pin sealed, found, opened and taken out.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::SystemTime;

use criterion::Criterion;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use waypost::cookies;
use waypost::upstream::sticky::{ClientConnection, CookiePins, ProcessKey};
use waypost_config::service::Sticky;

use crate::fixture::{self, FEW};

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sticky");
    let now = SystemTime::now();
    let pins = pins();
    let seal = || pins.set_cookie(None, "app-1", ClientConnection::Plain, now);
    group.bench_function("seal", |bencher| bencher.iter(seal));

    let sealed = seal();
    let ours = sealed.to_str().expect("a cookie is ASCII").split(';').next().unwrap_or_default();
    let mut headers = fixture::browser().headers;
    group.bench_function("open, no cookie of ours", |bencher| bencher.iter(|| pins.open(black_box(&headers), now)));
    group.bench_function("find a cookie", |bencher| {
        bencher.iter(|| cookies::find(black_box(&headers), "consent").is_some());
    });
    let all = format!("session=6f1c0f2b9a; theme=dark; {ours}; consent=1");
    headers.insert(COOKIE, HeaderValue::try_from(all).expect("a cookie is ASCII"));
    group.bench_function("open", |bencher| bencher.iter(|| pins.open(black_box(&headers), now)));
    group.bench_function("strip", |bencher| {
        let strip = |mut headers: HeaderMap| {
            pins.strip(&mut headers);
            headers
        };
        bencher.iter_batched(|| headers.clone(), strip, FEW);
    });

    let snapshot = fixture::snapshot(&fixture::endpoints(3));
    let client: IpAddr = "192.0.2.7".parse().expect("an address");
    group.bench_function("affinity of a service that pins nobody", |bencher| {
        bencher.iter(|| snapshot.services["app"].affinity(black_box(&mut headers), client));
    });
}

fn pins() -> CookiePins {
    let snapshot = fixture::snapshot(&format!("{}\nsticky = {{ cookie = \"wp\" }}", fixture::endpoints(3)));
    let service = &snapshot.services["app"];
    let Some(Sticky::Cookie(config)) = &service.config.sticky else { unreachable!("the config says `cookie`") };
    CookiePins::new("app", config, &ProcessKey::generate())
}
