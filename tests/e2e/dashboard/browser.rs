//! A real Chromium that a test has to itself, driven by the standard's protocol and by its own.
//!
//! Owns the driver's process, which owns the browser's, and the folder of its profile. No name can be resolved but those of
//! the tests, so that nothing leaves the machine, and everything that the browser asks for or complains of is on record.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use waypost_tests::{client, eventually, installed};

/// Two browsers at once are slow on a small machine, and slow is not what is tested.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A name that leads to this machine and is no name of it.
pub(super) const ELSEWHERE: &str = "proxy.example";

/// What an element is called (W3C `WebDriver` section 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The Tab key (section 17.4.2).
const TAB: &str = "\u{e004}";

/// A running one, with one tab.
pub(super) struct Browser {
    driver: Driver,
    session: String,
    _folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// Ends with whoever owns it, and the browser with it.
struct Driver {
    process: Child,
    address: SocketAddr,
    session: Option<String>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The browser is the driver's child, and only the driver ends it. If it does not, the processes are left to
        // whoever started the tests.
        if let Some(session) = &self.session {
            let _ = end_session(self.address, session);
        }
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn end_session(address: SocketAddr, session: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "DELETE /session/{session} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    stream.read(&mut [0; 1024]).map(drop)
}

/// What the tests need of this machine.
pub(super) fn is_installed() -> bool {
    installed(&["chromedriver"]).is_some() && installed(&["chromium"]).is_some()
}

impl Browser {
    /// Starts one with a window of a desk's size.
    pub(super) async fn start() -> Browser {
        let alone = ONE_AT_A_TIME.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let mut driver = start_driver(folder.path()).await;
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities(folder.path()) } });
        let told = driver.ask("POST", "/session", &wanted).await.unwrap();
        let session = told["sessionId"].as_str().unwrap().to_owned();
        driver.session = Some(session.clone());
        let browser = Browser { driver, session, _folder: folder, _alone: alone };
        browser.is_sized(1280, 900).await;
        let watch = "window.violations = []; addEventListener('securitypolicyviolation', \
                     (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));";
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": watch })).await;
        browser
    }

    async fn order(&self, method: &str, path: &str, body: Value) -> Result<Value, Value> {
        self.driver.ask(method, &format!("/session/{}{path}", self.session), &body).await
    }

    /// A command of Chromium's own protocol.
    pub(super) async fn cdp(&self, command: &str, params: Value) -> Value {
        self.order("POST", "/goog/cdp/execute", json!({ "cmd": command, "params": params })).await.unwrap()
    }

    /// Opens a page.
    pub(super) async fn open(&self, url: &str) {
        self.order("POST", "/url", json!({ "url": url })).await.unwrap();
    }

    /// What an expression comes to in the page, a promise's value if it is one.
    pub(super) async fn eval(&self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let told = self.cdp("Runtime.evaluate", params).await;
        assert!(told["exceptionDetails"].is_null(), "{expression}: {told:#}");
        told["result"]["value"].clone()
    }

    /// The text that a reader sees of what the selector finds first; empty if there is none, or it is hidden.
    pub(super) async fn text(&self, selector: &str) -> String {
        let found = format!("document.querySelector({})", json!(selector));
        let seen = format!("((found) => found?.checkVisibility() ? found.innerText : '')({found})");
        // A blank that does not break is a blank to the reader.
        self.eval(&seen).await.as_str().unwrap().replace('\u{a0}', " ")
    }

    async fn element(&self, selector: &str) -> Option<String> {
        let found = self.order("POST", "/element", json!({ "using": "css selector", "value": selector })).await;
        Some(found.ok()?[ELEMENT].as_str()?.to_owned())
    }

    /// Clicks as a mouse does, on what the selector finds first; waits for it to be there.
    pub(super) async fn click(&self, selector: &str) {
        eventually!(self.clicks(selector).await);
    }

    async fn clicks(&self, selector: &str) -> bool {
        let Some(element) = self.element(selector).await else { return false };
        self.order("POST", &format!("/element/{element}/click"), json!({})).await.is_ok()
    }

    /// Writes into a field as a keyboard does.
    pub(super) async fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector).await.unwrap_or_else(|| panic!("there is no {selector}"));
        self.order("POST", &format!("/element/{element}/value"), json!({ "text": text })).await.unwrap();
    }

    /// Presses Tab; what has the focus then: its role and its name as a screen reader is told them, and its outline.
    pub(super) async fn tab(&self) -> Focused {
        let keys = json!([{ "type": "keyDown", "value": TAB }, { "type": "keyUp", "value": TAB }]);
        let actions = json!({ "actions": [{ "type": "key", "id": "keys", "actions": keys }] });
        self.order("POST", "/actions", actions).await.unwrap();
        let found = self.order("GET", "/element/active", Value::Null).await.unwrap();
        let element = found[ELEMENT].as_str().unwrap().to_owned();
        let ask = async |what: &str| {
            let told = self.order("GET", &format!("/element/{element}/{what}"), Value::Null).await.unwrap();
            told.as_str().unwrap_or_default().to_owned()
        };
        Focused {
            role: ask("computedrole").await,
            name: ask("computedlabel").await,
            outline: ask("css/outline-style").await,
        }
    }

    /// The window's size; a narrow one is a phone's.
    pub(super) async fn is_sized(&self, width: u32, height: u32) {
        let phone = width < 500;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.cdp("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// What the reader prefers: `light` or `dark`.
    pub(super) async fn prefers(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.cdp("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Everything in the browser's log, since the last call.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let log = self.order("POST", "/se/log", json!({ "type": "browser" })).await.unwrap();
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// The URL of every request that it made since the last call, whether or not that went anywhere.
    pub(super) async fn requests(&self) -> Vec<String> {
        let log = self.order("POST", "/se/log", json!({ "type": "performance" })).await.unwrap();
        let messages = log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap());
        let messages = messages.map(|message| serde_json::from_str::<Value>(message).unwrap()["message"].clone());
        let asked = messages.filter(|message| message["method"] == "Network.requestWillBeSent");
        let urls = asked.map(|message| message["params"]["request"]["url"].as_str().unwrap().to_owned());
        // A new tab shows a page that is part of the browser, with pictures that are part of the page.
        urls.filter(|url| !url.starts_with("chrome://") && !url.starts_with("data:")).collect()
    }

    /// What the page wanted to do and its own rules forbade.
    pub(super) async fn violations(&self) -> Value {
        self.eval("window.violations").await
    }

    /// A picture of what the window shows, as PNG.
    pub(super) async fn picture(&self) -> Vec<u8> {
        let told = self.cdp("Page.captureScreenshot", json!({ "format": "png" })).await;
        STANDARD.decode(told["data"].as_str().unwrap()).unwrap()
    }
}

/// Where the keyboard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Focused {
    pub(super) role: String,
    pub(super) name: String,
    /// `none` if nothing shows it.
    pub(super) outline: String,
}

impl Driver {
    /// The value of an answer, or what went wrong.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = client::request(method, path, body);
        let headers = request.headers_mut();
        // To a name of its own the driver does not answer.
        headers.insert("host", self.address.to_string().parse().unwrap());
        headers.insert("content-type", "application/json".parse().unwrap());
        let reply = client::send(self.address, request).await.map_err(|error| Value::from(error.to_string()))?;
        let value = reply.json()["value"].clone();
        if reply.status.is_success() { Ok(value) } else { Err(value) }
    }
}

async fn start_driver(folder: &Path) -> Driver {
    // The port that it was given for one kind of address may be taken for the other.
    for _ in 0..5 {
        if let Ok(driver) = try_driver(folder).await {
            return driver;
        }
    }
    try_driver(folder).await.unwrap_or_else(|said| panic!("the driver has ended: {said}"))
}

/// What it has said, if it has ended.
async fn try_driver(folder: &Path) -> Result<Driver, String> {
    let log = folder.join("driver.log");
    let program = installed(&["chromedriver"]).unwrap();
    let mut command = Command::new(program);
    // Port 0: which one it was given is what it says.
    let command = command.arg("--port=0").stdin(Stdio::null()).stderr(Stdio::null());
    let mut process = command.stdout(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    eventually!(within 30, listening(&said()).is_some() || process.try_wait().unwrap().is_some());
    let port = listening(&said()).ok_or_else(said)?;
    Ok(Driver { process, address: SocketAddr::from(([127, 0, 0, 1], port)), session: None })
}

/// The port, once the driver has said it.
fn listening(said: &str) -> Option<u16> {
    said.lines().find_map(|line| line.split(" successfully on port ").nth(1)?.trim_end_matches('.').parse().ok())
}

fn capabilities(folder: &Path) -> Value {
    let browser = installed(&["chromium"]).unwrap();
    let profile = format!("--user-data-dir={}", folder.join("profile").display());
    let names = format!("--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1");
    let arguments = [
        "--headless=new",
        // Containers have neither users of their own for it nor a large /dev/shm, and nothing is opened but our own page.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--hide-scrollbars",
        "--force-prefers-reduced-motion",
        "--lang=en",
        &profile,
        &names,
    ];
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": { "binary": browser, "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    })
}
