//! The bodies of answers: whole ones without a box, streamed ones in a box.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Either, Full};

/// An error that ends a body; hyper breaks the transfer off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A whole body, or a stream.
pub(crate) type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, BodyError>>;
