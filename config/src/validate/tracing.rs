//! `[telemetry.tracing]`.

use super::Checker;
use super::middlewares::own_field;
use crate::place::Place;
use crate::problem::Complaint;
use crate::service::UpstreamTls;
use crate::telemetry::{OtlpProtocol, Tracing};
use crate::value::HeaderName;

impl Checker<'_> {
    pub(super) fn tracing(&mut self) {
        let config = self.config;
        let Some(tracing) = &config.telemetry.tracing else { return };
        let place = Place::root().keys(&["telemetry", "tracing"]);
        self.collector(&place, tracing);
        self.not_zero(&place.key("timeout"), tracing.timeout);
        self.export_headers(&place.key("headers"), tracing);
        self.resource(&place, tracing);
    }

    fn collector(&mut self, place: &Place, tracing: &Tracing) {
        if tracing.protocol == OtlpProtocol::Grpc && tracing.otlp.path.is_some() {
            let complaint = Complaint::new("OTLP over gRPC has no path");
            self.value(&place.key("otlp"), complaint.hint("leave it out, or add protocol = \"http\""));
        }
        if !tracing.otlp.tls && tracing.tls != UpstreamTls::default() {
            let complaint = Complaint::new("the collector's url is http, so there is no TLS");
            self.key(&place.key("tls"), complaint.hint("write otlp = \"https://…\", or leave it out"));
        }
        self.upstream_tls(&place.key("tls"), &tracing.tls);
    }

    fn export_headers(&mut self, place: &Place, tracing: &Tracing) {
        for (name, value) in &tracing.headers {
            let place = place.key(name.as_str());
            match own_field(name).or_else(|| field_of_otlp(name)) {
                Some(complaint) => self.key(&place, complaint),
                None => self.header_value(&place, value.reveal()),
            }
        }
    }

    fn resource(&mut self, place: &Place, tracing: &Tracing) {
        if tracing.service_name.is_empty() {
            let complaint = Complaint::new("a service needs a name");
            self.value(&place.key("service_name"), complaint.hint("leave it out to be called \"waypost\""));
        }
        let place = place.key("resource");
        if tracing.resource.contains_key("service.name") {
            let complaint = Complaint::new("`service.name` has a key of its own");
            self.key(&place.key("service.name"), complaint.hint("write service_name beside `otlp`"));
        }
        if tracing.resource.contains_key("") {
            self.key(&place.key(""), Complaint::new("an attribute needs a name"));
        }
    }
}

/// What says how an export is to be read.
fn field_of_otlp(name: &HeaderName) -> Option<Complaint> {
    let name = name.as_str();
    let own = matches!(name, "host" | "content-type" | "content-encoding") || name.starts_with("grpc-");
    own.then(|| Complaint::new(format!("`{name}` is set by Waypost")).hint("leave it out"))
}
