//! The floor: this program's own relay, which speaks no HTTP. What a proxy costs above it is the proxy's.

use super::{FLOOR, Kind, Recipe, Setting};

/// `loadtest relay`.
pub(super) struct Floor;

impl Recipe for Floor {
    fn name(&self) -> &'static str {
        FLOOR
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn files(&self, _setting: &Setting<'_>) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn arguments(&self, setting: &Setting<'_>) -> Vec<String> {
        let words = ["relay".to_owned(), format!("127.0.0.1:{}", setting.plain)];
        words.into_iter().chain(setting.upstreams.iter().map(ToString::to_string)).collect()
    }

    fn ports(&self, setting: &Setting<'_>) -> Vec<u16> {
        vec![setting.plain]
    }

    fn excuse(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            Kind::H1Small
            | Kind::Conns10k
            | Kind::Download1m
            | Kind::Post64k
            | Kind::WebSocket
            | Kind::SaturationH1 => None,
            _ => Some("a relay without HTTP says nothing about it"),
        }
    }

    fn descriptors_per_connection(&self) -> usize {
        2
    }

    fn competes(&self) -> bool {
        false
    }
}
