//! `forwarding`: what becomes of a head on its way through, there and back.

use std::hint::black_box;

use criterion::Criterion;
use http::{HeaderMap, Response, request};
use waypost::forwarding;

use crate::fixture::{self, FEW};

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forwarding");
    let downstream = fixture::downstream();
    for (name, head) in [("tiny", fixture::tiny()), ("browser", fixture::browser())] {
        let context = fixture::context(&head);
        group.bench_function(format!("request, {name}"), |bencher| {
            let rewrite = |mut head| {
                forwarding::distrust(&mut head, &context);
                forwarding::strip(&mut head);
                head
            };
            bencher.iter_batched(
                || roomy(&head),
                |mut head| {
                    head.headers = rewrite(head.headers);
                    forwarding::prepare(&mut head, &context, &downstream);
                    head
                },
                FEW,
            );
        });
    }
    let fields = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "612"),
        ("date", "Sat, 21 Nov 2026 07:00:00 GMT"),
        ("server", "app"),
        ("cache-control", "max-age=60"),
        ("connection", "keep-alive"),
    ];
    for (name, count) in [("tiny", 2), ("usual", 6)] {
        let builder =
            fields[..count].iter().fold(Response::builder(), |builder, (key, value)| builder.header(*key, *value));
        let head = builder.body(()).expect("the benches' heads are valid").into_parts().0;
        group.bench_function(format!("response, {name}"), |bencher| {
            bencher.iter_batched(
                || head.clone(),
                |mut head| {
                    forwarding::prepare_response(black_box(&mut head));
                    head
                },
                FEW,
            );
        });
    }
}

/// A copy as hyper makes it: in a map that has been in use, and need not grow any more.
fn roomy(head: &request::Parts) -> request::Parts {
    let mut copy = head.clone();
    copy.headers = HeaderMap::with_capacity(48);
    copy.headers.extend(head.headers.clone());
    copy
}
