//! `[[tests]]`.

use super::Checker;
use crate::place::Place;
use crate::problem::Complaint;

impl Checker<'_> {
    pub(super) fn tests(&mut self) {
        let config = self.config;
        for (index, test) in config.tests.iter().enumerate() {
            let place = Place::root().key("tests").index(index);
            self.request(&place.key("request"), &test.request);
            if let Some(listener) = &test.listener {
                self.reference(&place.key("listener"), listener, ("listeners", &config.listeners));
            }
            for (name, value) in &test.headers {
                self.header_value(&place.keys(&["headers", name.as_str()]), value);
            }
            if test.expect.is_empty() {
                let empty = Complaint::new("a test that expects nothing can't fail");
                self.value(&place.key("expect"), empty.hint("write what must be so, for example { route = \"shop\" }"));
            }
            self.expected_names(&place.key("expect"), index);
        }
    }

    /// Names that no request could ever lead to.
    fn expected_names(&mut self, place: &Place, index: usize) {
        let config = self.config;
        let expect = &config.tests[index].expect;
        if let Some(route) = expect.route.as_ref().filter(|name| !name.is_empty()) {
            self.reference(&place.key("route"), route, ("routes", &config.routes));
        }
        if let Some(service) = expect.service.as_ref().filter(|name| !name.is_empty()) {
            self.reference(&place.key("service"), service, ("services", &config.services));
        }
    }

    fn request(&mut self, place: &Place, request: &str) {
        let words: Vec<&str> = request.split_whitespace().collect();
        let ([url] | [_, url]) = words[..] else {
            let complaint = Complaint::new("not a method and a URL");
            return self.value(place, complaint.hint("write \"GET https://shop.example/cart\""));
        };
        if !url.starts_with('/') && !url.contains("://") {
            let complaint = Complaint::new(format!("`{url}` is neither a URL nor a path"));
            self.value(place, complaint.hint("write \"GET https://shop.example/cart\", or \"GET /cart\""));
        }
    }
}
