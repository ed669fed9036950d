//! What comes in: uploads weighed without being kept, and answers that do not wait for them.

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;

use super::query::Query;
use super::{Body, BrokenOff, Visit, book, text};

/// FNV-1a over 64 bits: nothing secret, one multiplication a byte.
#[derive(Clone, Copy, Debug)]
struct Checksum(u64);

impl Checksum {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The checksum that `/upload` answers for this body: FNV-1a, 64 bits, as 16 hexadecimal digits.
pub fn checksum(body: &[u8]) -> String {
    let mut checksum = Checksum::EMPTY;
    checksum.add(body);
    written(checksum)
}

fn written(checksum: Checksum) -> String {
    format!("{:016x}", checksum.0)
}

/// `/upload`: reads all and says how much it was.
pub(super) async fn upload(visit: &Visit, request: Request<Incoming>) -> Result<Response<Body>, BrokenOff> {
    let (head, mut body) = request.into_parts();
    let (mut length, mut checksum) = (0, Checksum::EMPTY);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| BrokenOff)?.into_data() {
            length += data.len();
            checksum.add(&data);
        }
    }
    book(visit, &head.headers);
    let weighed = json!({ "container": visit.container.name(), "length": length, "checksum": written(checksum) });
    Ok(super::json(StatusCode::OK, &weighed))
}

/// `/early?status=413`: answers at once and takes the rest of the upload in meanwhile. Never counts as executed.
pub(super) fn early(visit: &Visit, mut request: Request<Incoming>) -> Response<Body> {
    let status = Query::of(request.uri()).parsed("status").unwrap_or(StatusCode::OK);
    // An unread body would make hyper close the connection, and an RST could overtake the answer.
    visit.connections.spawn(async move { while let Some(Ok(_)) = request.body_mut().frame().await {} });
    text(status, visit.container.greeting())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_fnv_1a() {
        assert_eq!(checksum(b""), "cbf29ce484222325");
        assert_eq!(checksum(b"foobar"), "85944171f73967e8");
    }
}
