//! Changing a running Waypost: its file, and what its admin API says of that.

use std::sync::Arc;

use waypost::reload::Refusal;

use crate::Stack;
use crate::client::{self, Reply};

impl Stack {
    /// A config with its placeholders replaced, as [`Stack::write`] writes it.
    pub fn filled(&self, config: &str) -> String {
        let dir = self.folder().display().to_string();
        let containers = self.fleet.containers().iter();
        let named = containers.map(|container| (format!("{{{}}}", container.name()), container.address().to_string()));
        named.fold(config.replace("{dir}", &dir), |text, (name, address)| text.replace(&name, &address))
    }

    /// Writes another config, which must be refused.
    pub async fn refusal(&self, config: &str) -> Arc<Refusal> {
        self.write(config);
        self.waypost.reload().await.expect_err("this config is refused")
    }

    /// The sum of all series of this name that have all of these labels.
    pub fn figure(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let fits =
            |line: &&str| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label));
        self.metrics().lines().filter(fits).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Asks the admin API.
    pub async fn admin(&self, method: &str, path: &str) -> Reply {
        let address = self.waypost.admin_address().expect("the config has an admin address");
        let mut request = client::request(method, path, "");
        // A name of its own would look like DNS rebinding to the API.
        let host = address.to_string().parse().expect("an address fits into a header");
        request.headers_mut().insert(http::header::HOST, host);
        client::send(address, request).await.unwrap_or_else(|error| panic!("{error}"))
    }
}
