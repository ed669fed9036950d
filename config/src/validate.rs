//! What a configuration must be beyond its types.

use crate::Config;
use crate::document::Document;
use crate::problem::Find;

pub(crate) fn check(_config: &Config, _document: &Document<'_>) -> Vec<Find> {
    Vec::new()
}
