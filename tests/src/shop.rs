//! The config that most tests vary: one listener, one route, one service of three endpoints.

/// A check that notices within half a second, and that a busy machine does not mislead.
pub const CHECKED: &str =
    r#"health_check = { path = "/health", interval = "200ms", timeout = "200ms", rise = 1, fall = 2 }"#;

/// Listener `web`, route `all`, and the service `shop` over all three containers with these further keys of it.
pub fn shop(keys: &str) -> String {
    shop_of(["", "", ""], keys)
}

/// The same with further keys of each endpoint, as in `weight = 2`.
pub fn shop_of(endpoints: [&str; 3], keys: &str) -> String {
    let endpoint = |(index, keys): (usize, &str)| {
        let (name, comma) = (format!("web-{}", index + 1), if keys.is_empty() { "" } else { ", " });
        format!("    {{ name = \"{name}\", url = \"http://{{{name}}}\"{comma}{keys} }},\n")
    };
    let endpoints: String = endpoints.into_iter().enumerate().map(endpoint).collect();
    format!(
        "version = 1\n\
         [listeners.web]\naddress = \"127.0.0.1:0\"\n\
         [routes.all]\nservice = \"shop\"\n\
         [services.shop]\n{keys}\nendpoints = [\n{endpoints}]\n"
    )
}

/// A config of [`shop`] whose listener believes the forwarded fields of everybody on this machine.
pub fn trusting(config: &str) -> String {
    config.replace("[routes.all]", "trusted_proxies = [\"127.0.0.0/8\"]\n[routes.all]")
}

/// A config of [`shop`] with further keys of its route.
pub fn routed(config: &str, keys: &str) -> String {
    config.replace("[routes.all]\n", &format!("[routes.all]\n{keys}\n"))
}

/// A config of [`shop`] with so many workers.
pub fn with_workers(workers: usize, config: &str) -> String {
    format!("{config}\n[server]\nworkers = {workers}\n")
}
