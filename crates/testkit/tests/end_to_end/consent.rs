//! `/auth`: a person in a browser gives an app a key, and what other sites, apps and visitors try instead.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use testkit::{MANAGEMENT_KEY, MODEL, ServerProcess, TestApp, free_folder, tollgate_binary};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tollgate::config::Config;
use tollgate_client::KeyFilter;
use tollgate_domain::key::{ManagementKey, Powers};
use tollgate_domain::{KeyHash, KeySecret};
use tollgate_gateway::Limits;
use tollgate_store::{Actor, WorkspaceRef};

use crate::contract::{ask, json_of};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// The S256 challenge of [`VERIFIER`] (RFC 7636, appendix B).
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const CALLBACK: &str = "https://app.example.org/back?state=s%261";

/// What an app asks for when it asks for nothing special.
const USUAL: [(&str, &str); 3] =
    [("callback_url", CALLBACK), ("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];

fn on(config: &mut Config) {
    config.oauth.consent_page = true;
}

async fn start() -> TestApp {
    TestApp::with(on, Limits::default()).await
}

/// Pairs as a query or a form. Every byte that could mean something is escaped.
fn encoded(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        let byte =
            |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        text.bytes().map(byte).collect::<String>()
    };
    pairs.iter().map(|(name, text)| format!("{name}={}", escape(text))).collect::<Vec<_>>().join("&")
}

/// Some pairs with others in the place of those with the same name.
fn with<'a>(pairs: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = pairs.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
    kept.chain(more).copied().collect()
}

/// An answer as it came.
#[derive(Debug)]
struct Shown {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Shown {
    fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a header.
    fn header(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name}: {self:?}");
        all[0]
    }

    /// The value of a hidden field.
    fn hidden(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("name=\"{name}\" value=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    }

    /// That it is a page: no script, nothing from elsewhere, in no frame, and leading nowhere.
    fn page(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(self.header("x-frame-options"), "DENY");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        assert_eq!(self.header("referrer-policy"), "same-origin");
        let policy = self.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        assert!(!self.body.contains("<script") && !self.body.contains(" style="), "{}", self.body);
        for absent in ["location", "access-control-allow-origin", "set-cookie"] {
            assert_eq!(self.all(absent), [""; 0], "{absent}");
        }
        self
    }

    /// Where it leads.
    fn leads_to(&self) -> &str {
        assert_eq!(self.status, 303, "{self:?}");
        assert_eq!((self.header("referrer-policy"), self.header("cache-control")), ("no-referrer", "no-store"));
        self.header("location")
    }

    /// The code that it leads to the app with.
    fn code(&self) -> &str {
        let code = self.leads_to().strip_prefix(&format!("{CALLBACK}&code=")).unwrap();
        assert!(code.starts_with("auth_code_"), "{code}");
        code
    }
}

/// The answer to bytes as they are.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A browser: it keeps cookies, and says where its forms come from.
#[derive(Clone)]
struct Browser {
    address: SocketAddr,
    host: String,
    origin: Option<String>,
    fetch_site: Option<&'static str>,
    cookie: Option<String>,
}

impl Browser {
    fn of(app: &TestApp) -> Self {
        let (host, origin) = (app.address.to_string(), format!("http://{}", app.address));
        Self { address: app.address, host, origin: Some(origin), fetch_site: Some("same-origin"), cookie: None }
    }

    async fn send(&self, method: &str, path: &str, form: Option<&str>) -> Shown {
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}"));
        let about_form = form.map(|form| {
            let length = format!("Content-Length: {}", form.len());
            let origin = self.origin.as_ref().map(|origin| format!("Origin: {origin}"));
            let fetch_site = self.fetch_site.map(|site| format!("Sec-Fetch-Site: {site}"));
            let kind = "Content-Type: application/x-www-form-urlencoded".to_owned();
            [Some(kind), Some(length), origin, fetch_site].into_iter().flatten().collect::<Vec<_>>()
        });
        let lines =
            [format!("{method} {path} HTTP/1.1"), format!("Host: {}", self.host), "Connection: close".to_owned()];
        let lines = lines.into_iter().chain(cookie).chain(about_form.unwrap_or_default()).collect::<Vec<_>>();
        let answer = raw(self.address, &format!("{}\r\n\r\n{}", lines.join("\r\n"), form.unwrap_or_default())).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Shown { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
    }

    async fn get(&self, pairs: &[(&str, &str)]) -> Shown {
        self.send("GET", &format!("/auth?{}", encoded(pairs)), None).await
    }

    async fn post(&self, path: &str, pairs: &[(&str, &str)]) -> Shown {
        self.send("POST", path, Some(&encoded(pairs))).await
    }

    /// Signs in, and keeps the cookie.
    async fn sign_in(mut self, key: &str) -> Self {
        let shown = self.post("/auth/sign-in", &with(&USUAL, &[("management_key", key)])).await;
        assert_eq!(shown.leads_to(), format!("/auth?{}", urls(&USUAL)));
        let cookie = shown.header("set-cookie");
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/auth; HttpOnly; SameSite=Lax");
        assert_eq!(pair.len(), "tollgate=".len() + 64, "{pair}");
        self.cookie = Some(pair.to_owned());
        self
    }

    /// The token of the forms that it is shown.
    async fn form_token(&self) -> String {
        self.get(&USUAL).await.page(200).hidden("form_token").unwrap().to_owned()
    }

    /// Decides as a person would, after looking at the page.
    async fn decide(&self, decision: &str, more: &[(&str, &str)]) -> Shown {
        let token = self.form_token().await;
        let pairs = with(&USUAL, &[("form_token", &token), ("decision", decision)]);
        self.post("/auth", &with(&pairs, more)).await
    }
}

/// Pairs as the server writes them into a query.
fn urls(pairs: &[(&str, &str)]) -> String {
    encoded(pairs).replace("%2D", "-").replace("%2E", ".").replace("%5F", "_")
}

async fn exchange(app: &TestApp, code: &str, verifier: &str) -> (u16, Value) {
    let body = json!({"code": code, "code_verifier": verifier});
    let answer = ask(&app.manager.with_key("sk-or-v1-nobody"), Method::POST, "/auth/keys", Some(body)).await;
    (answer.status.as_u16(), json_of(&answer))
}

/// The key behind a code: its secret, and what is shown of it to who manages it.
async fn key_of(app: &TestApp, code: &str) -> (String, Value) {
    let (status, exchanged) = exchange(app, code, VERIFIER).await;
    assert_eq!(status, 200, "{exchanged}");
    let secret = exchanged["key"].as_str().unwrap().to_owned();
    let shown = ask(&app.manager, Method::GET, &format!("/keys/{}", KeyHash::of(&secret)), None).await;
    (secret, json_of(&shown)["data"].take())
}

/// Another management key.
async fn manager(app: &TestApp, name: &str, powers: Powers) -> (ManagementKey, KeySecret) {
    app.app.create_management_key(name, powers, &Actor::Operator).await.unwrap()
}

async fn key_count(app: &TestApp) -> usize {
    app.manager.keys(&KeyFilter { all: true, workspace: None }).await.unwrap().len()
}

#[tokio::test]
async fn without_the_setting_there_is_no_page() {
    let app = TestApp::start().await;
    let browser = Browser::of(&app);
    for (method, path) in [("GET", "/auth"), ("POST", "/auth"), ("POST", "/auth/sign-in"), ("GET", "/auth/style.css")] {
        let shown = browser.send(method, path, (method == "POST").then_some("")).await;
        assert_eq!((shown.status, shown.header("content-type")), (404, "application/json"), "{method} {path}");
        assert_eq!(serde_json::from_str::<Value>(&shown.body).unwrap()["error"]["code"], 404);
    }
}

#[tokio::test]
async fn a_person_signs_in_approves_and_the_app_has_its_key() {
    let app = start().await;
    let lab = json!({"name": "Lab <1>", "slug": "lab"});
    let lab = json_of(&ask(&app.manager, Method::POST, "/workspaces", Some(lab)).await)["data"]["id"].take();
    let asked = with(
        &USUAL,
        &[
            ("key_label", "My app"),
            ("limit", "0.00001"),
            ("usage_limit_type", "weekly"),
            ("expires_at", "2026-02-01T00:00:00Z"),
            ("workspace_id", lab.as_str().unwrap()),
            ("more", "ignored"),
        ],
    );
    let stranger = Browser::of(&app);
    let sign_in = stranger.get(&asked).await.page(200);
    for part in [
        "<p class=\"app\">app.example.org</p>",
        "type=\"password\"",
        "action=\"/auth/sign-in\"",
        &app.address.to_string(),
    ] {
        assert!(sign_in.body.contains(part), "{part}: {}", sign_in.body);
    }
    let style = stranger.send("GET", "/auth/style.css", None).await;
    assert_eq!((style.status, style.header("content-type")), (200, "text/css; charset=utf-8"));

    let person = stranger.sign_in(MANAGEMENT_KEY).await;
    let consent = person.get(&asked).await.page(200);
    for part in [
        "<p class=\"app\">app.example.org</p>",
        "<bdi>My app</bdi>",
        "<bdi>Lab &lt;1&gt;</bdi>",
        "<bdi>2026-02-01 00:00:00 UTC</bdi>",
        "<bdi>https://app.example.org/back?state=s%261</bdi>",
        "name=\"limit\" value=\"0.00001\"",
        "<option value=\"weekly\" selected>",
        "value=\"approve\"",
        "value=\"deny\"",
        "action=\"/auth/sign-out\"",
        "sk-or-v1-012...def",
    ] {
        assert!(consent.body.contains(part), "{part}: {}", consent.body);
    }
    let policy = consent.header("content-security-policy");
    assert!(policy.contains("form-action 'self' https:;"), "{policy}");
    for secret in [MANAGEMENT_KEY, person.cookie.as_deref().unwrap().split_once('=').unwrap().1] {
        assert!(!consent.body.contains(secret), "no page holds a secret");
    }

    let approved = person.decide("approve", &asked).await;
    assert_eq!(approved.all("set-cookie"), [""; 0], "the session goes on");
    let (secret, key) = key_of(&app, approved.code()).await;
    let facts = json!({
        "name": "My app", "limit": 0.000_01, "limit_reset": "weekly", "expires_at": "2026-02-01T00:00:00.000Z",
        "workspace_id": lab,
    });
    for (name, value) in facts.as_object().unwrap() {
        assert_eq!(&key[name], value, "{name}");
    }
    for (max_tokens, status) in [(5, 200), (2_000, 402)] {
        let call = json!({"model": MODEL, "max_tokens": max_tokens, "messages": [{"role": "user", "content": "hi"}]});
        let answer = app.manager.with_key(&secret).chat(call.to_string().into_bytes()).await.unwrap();
        assert_eq!(answer.status, status, "it is held to its limit: {:?}", answer.body);
    }
}

#[tokio::test]
async fn the_person_has_the_last_word_about_the_limit() {
    let default = |config: &mut Config| {
        on(config);
        config.oauth.default_limit_usd = Some("2.50".to_owned());
    };
    let app = TestApp::with(default, Limits::default()).await;
    let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
    let hint = "Leave it empty for $2.5, the default of this server.";
    assert!(person.get(&USUAL).await.body.contains(hint));
    for (typed, limit, reset) in [
        (vec![("limit", "")], json!(2.5), Value::Null),
        (vec![("limit", " $0.75 "), ("usage_limit_type", "daily")], json!(0.75), json!("daily")),
        (vec![("limit", "0"), ("usage_limit_type", "")], json!(0), Value::Null),
    ] {
        let (_, key) = key_of(&app, person.decide("approve", &typed).await.code()).await;
        assert_eq!((&key["limit"], &key["limit_reset"]), (&limit, &reset), "{typed:?}");
    }
    for (typed, told) in [
        ("5,00", "The limit must be a number"),
        ("-1", "The limit must not be negative"),
        ("1e300", "The limit is too large"),
    ] {
        let asked = person
            .decide("approve", &[("limit", typed), ("key_label", "kept"), ("usage_limit_type", "weekly")])
            .await
            .page(400);
        assert!(asked.body.contains(told) && asked.body.contains("<bdi>kept</bdi>"), "{}", asked.body);
        for kept in [format!("value=\"{typed}\""), "<option value=\"weekly\" selected>".to_owned()] {
            assert!(asked.body.contains(&kept), "what was typed is there still: {}", asked.body);
        }
    }
    assert_eq!(key_count(&app).await, 3);
}

#[tokio::test]
async fn a_refusal_goes_back_to_the_app_without_a_code() {
    let app = start().await;
    let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
    assert_eq!(person.decide("deny", &[]).await.leads_to(), format!("{CALLBACK}&error=access_denied"));
    let odd = person.decide("perhaps", &[]).await.page(400);
    assert!(odd.body.contains("`decision` must be approve or deny"));
    assert_eq!(key_count(&app).await, 0);
}

#[tokio::test]
async fn what_an_app_asks_for_wrongly_is_told_here_and_never_there() {
    let app = start().await;
    let (stranger, person) = (Browser::of(&app), Browser::of(&app).sign_in(MANAGEMENT_KEY).await);
    let long = "x".repeat(101);
    for (more, told) in [
        (("callback_url", "http://evil.example/"), "`callback_url` must be https"),
        (("callback_url", "javascript:alert(1)"), "`callback_url` must be an absolute URL"),
        (("callback_url", "javascript://localhost/%0aalert(1)"), "`callback_url` must be https"),
        (("callback_url", "//evil.example"), "`callback_url` must be an absolute URL"),
        (("callback_url", "https://app.example.org@evil.example/"), "`callback_url` must not hold a user name"),
        (("callback_url", "https://evil.example/\r\nSet-Cookie: tollgate=x"), "`callback_url` must be an absolute URL"),
        (("callback_url", "https://\"><script>alert(1)</script>/"), "`callback_url` must be an absolute URL"),
        (("callback_url", "https://app.example.org/?code=mine"), "must not hold the parameter `code`"),
        (("callback_url", "https://app.example.org/?%65rror=x"), "must not hold the parameter `error`"),
        (("callback_url", ""), "`callback_url` must be an absolute URL"),
        (("code_challenge", ""), "`code_challenge` is required"),
        (("code_challenge", "short"), "`code_challenge` must be the base64url"),
        (("code_challenge_method", "S512"), "`code_challenge_method` must be S256 or plain"),
        (("limit", "-1"), "`limit` must not be negative"),
        (("limit", "{}"), "`limit` must be a number"),
        (("usage_limit_type", "yearly"), "`usage_limit_type` must be"),
        (("expires_at", "tomorrow"), "`expires_at` is not"),
        (("workspace_id", "lab"), "`workspace_id` must be a UUID"),
    ] {
        let asked = with(&USUAL, &[more]);
        for browser in [&stranger, &person] {
            let shown = browser.get(&asked).await.page(400);
            assert!(shown.body.contains(told), "{more:?}: {}", shown.body);
        }
        // What a person could have typed is told beside the field, and leads nowhere either.
        let token = person.form_token().await;
        for decision in ["approve", "deny"] {
            let pairs = with(&asked, &[("form_token", &token), ("decision", decision)]);
            let shown = person.post("/auth", &pairs).await;
            if more.0 == "limit" && decision == "deny" {
                assert_eq!(shown.leads_to(), format!("{CALLBACK}&error=access_denied"));
                continue;
            }
            let shown = shown.page(400);
            assert!(shown.body.replace("The limit", "`limit`").contains(told), "{more:?}: {}", shown.body);
        }
        let refused = stranger.post("/auth/sign-in", &with(&asked, &[("management_key", MANAGEMENT_KEY)])).await;
        assert!(refused.page(400).body.contains(told), "{more:?}");
    }
    for (more, told) in [
        (("key_label", long.as_str()), "`key_label` must have 100 characters"),
        (("expires_at", "2026-01-15T12:00:00Z"), "`expires_at` must be in the future"),
        (("workspace_id", "00000000-0000-4000-8000-000000000000"), "Workspace not found"),
    ] {
        assert!(person.get(&with(&USUAL, &[more])).await.page(400).body.contains(told), "{more:?}");
        assert!(person.decide("approve", &[more]).await.page(400).body.contains(told), "{more:?}");
    }
    let twice = format!("/auth?{}&callback_url=https://evil.example/", encoded(&USUAL));
    assert!(person.send("GET", &twice, None).await.page(400).body.contains("`callback_url` is there twice"));
    assert_eq!(key_count(&app).await, 0);
}

#[tokio::test]
async fn texts_of_an_app_stay_texts() {
    let app = start().await;
    let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
    let label = "\"><img src=x onerror='alert(1)'></bdi>\u{202e}&amp;";
    let asked = with(&USUAL, &[("key_label", label), ("callback_url", "https://app.example.org/'-alert(1)-'?a=&b;")]);
    for shown in [Browser::of(&app).get(&asked).await.page(200), person.get(&asked).await.page(200)] {
        assert!(!shown.body.contains("<img") && !shown.body.contains("onerror='"), "{}", shown.body);
        assert!(!shown.body.contains("'-alert"), "{}", shown.body);
        assert!(
            shown.body.contains("&quot;&gt;&lt;img src=x onerror=&#39;alert(1)&#39;&gt;&lt;/bdi&gt;\u{202e}&amp;amp;")
        );
    }
    let asked = with(&USUAL, &[("limit", "\"><i>")]);
    assert!(!person.get(&asked).await.page(400).body.contains("<i>"));
    let token = person.form_token().await;
    let pairs = with(&asked, &[("form_token", &token), ("decision", "approve")]);
    assert!(!person.post("/auth", &pairs).await.page(400).body.contains("<i>"));
}

#[tokio::test]
async fn a_page_is_served_under_its_own_name_alone() {
    let app = start().await;
    let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
    let token = person.form_token().await;
    let form = with(&USUAL, &[("form_token", &token), ("decision", "approve"), ("management_key", MANAGEMENT_KEY)]);
    let port = app.address.port();
    for host in [
        format!("evil.example:{port}"),
        format!("localhost:{port}"),
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{port}.evil.example"),
    ] {
        let rebound = Browser { host: host.clone(), ..person.clone() };
        let shown = rebound.get(&USUAL).await.page(421);
        assert!(shown.body.contains(&format!("served at http://127.0.0.1:{port}")), "{}", shown.body);
        for path in ["/auth", "/auth/sign-in", "/auth/sign-out"] {
            // Its own origin matches its own host: only the name gives it away.
            let rebound = Browser { origin: Some(format!("http://{host}")), ..rebound.clone() };
            rebound.post(path, &form).await.page(421);
            Browser { origin: person.origin.clone(), ..rebound }.post(path, &form).await.page(421);
        }
    }
    let forwarded = format!(
        "GET /auth?{} HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: {}\r\n",
        encoded(&USUAL),
        app.address
    );
    let absolute = format!("GET http://evil.example/auth?{} HTTP/1.1\r\nHost: {}\r\n", encoded(&USUAL), app.address);
    for request in [forwarded, absolute] {
        let answer = raw(app.address, &format!("{request}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    }
    for (authority, status) in [(app.address.to_string(), 200), ("evil.example".to_owned(), 421)] {
        assert_eq!(http2(&app, &authority).await, status, "{authority}");
    }
    assert_eq!(person.get(&USUAL).await.page(200).hidden("form_token"), Some(token.as_str()), "still signed in");
}

/// The status of the page over HTTP/2, asked for under this authority.
async fn http2(app: &TestApp, authority: &str) -> StatusCode {
    let io = TokioIo::new(TcpStream::connect(app.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let uri = format!("http://{authority}/auth?{}", encoded(&USUAL));
    sender.send_request(Request::get(uri).body(Full::new(Bytes::new())).unwrap()).await.unwrap().status()
}

#[tokio::test]
async fn forms_of_other_sites_do_nothing() {
    let app = start().await;
    let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
    let token = person.form_token().await;
    let form = with(&USUAL, &[("form_token", &token), ("decision", "approve"), ("management_key", MANAGEMENT_KEY)]);
    let own = person.origin.clone();
    let foreign = |origin: &str, fetch_site| Browser { origin: Some(origin.to_owned()), fetch_site, ..person.clone() };
    for browser in [
        foreign("https://evil.example", Some("cross-site")),
        foreign("https://evil.example", None),
        foreign("null", None),
        foreign("http://127.0.0.1", None),
        foreign(&format!("{}0", own.clone().unwrap()), None),
        foreign(&own.clone().unwrap().replace("http:", "https:"), None),
        foreign(own.as_ref().unwrap(), Some("cross-site")),
        foreign(own.as_ref().unwrap(), Some("same-site")),
        Browser { origin: None, fetch_site: Some("cross-site"), ..person.clone() },
    ] {
        for path in ["/auth", "/auth/sign-in", "/auth/sign-out"] {
            let shown = browser.post(path, &form).await.page(403);
            assert!(shown.body.contains("This form was sent by another site"), "{}", shown.body);
        }
    }
    for wrong in [
        "",
        "x",
        &token[1..],
        &format!("{token}0"),
        &Browser::of(&app).sign_in(MANAGEMENT_KEY).await.form_token().await,
    ] {
        for decision in ["approve", "deny"] {
            let form = with(&USUAL, &[("form_token", wrong), ("decision", decision)]);
            person.post("/auth", &form).await.page(403);
        }
        person.post("/auth/sign-out", &with(&USUAL, &[("form_token", wrong)])).await.page(403);
    }
    let form = encoded(&form);
    for kind in ["text/plain", "application/json", "multipart/form-data; boundary=x"] {
        let cookie = person.cookie.as_deref().unwrap();
        let request = format!(
            "POST /auth HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nCookie: {cookie}\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{form}",
            app.address,
            form.len(),
        );
        let answer = raw(app.address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(person.form_token().await, token, "nobody was signed in or out by any of it");
    // An old browser says nothing of where a form comes from; the token of the form does.
    Browser { origin: None, fetch_site: None, ..person.clone() }.decide("approve", &[]).await.code();
}

#[tokio::test]
async fn a_code_of_the_page_is_as_hard_to_steal_as_any() {
    let app = start().await;
    let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
    let approved = person.decide("approve", &[]).await;
    key_of(&app, approved.code()).await;
    assert_eq!(exchange(&app, approved.code(), VERIFIER).await.0, 403, "a second time");
    let guessed = person.decide("approve", &[]).await;
    for guess in ["", CHALLENGE, "guess", "another", "and another", "the last"] {
        assert_eq!(exchange(&app, guessed.code(), guess).await.0, 403, "{guess}");
    }
    assert_eq!(exchange(&app, guessed.code(), VERIFIER).await.0, 403, "it died of five guesses");
    assert_eq!(key_count(&app).await, 1);
}

#[tokio::test]
async fn only_management_keys_open_the_page_and_readers_do_not_approve() {
    let app = start().await;
    let inference = app.key().create().await;
    let stranger = Browser::of(&app);
    for secret in [inference.secret.as_str(), "sk-or-v1-nobody", "", "\" onfocus=\"alert(1)"] {
        let shown = stranger.post("/auth/sign-in", &with(&USUAL, &[("management_key", secret)])).await.page(401);
        assert!(shown.body.contains("This is not a management key that is in force."), "{}", shown.body);
        assert!(shown.body.contains("type=\"password\"") && shown.hidden("callback_url").is_some(), "another try");
        assert!(secret.is_empty() || !shown.body.contains(secret), "a secret is not shown back");
    }
    let (_, reader) = manager(&app, "reader", Powers { read_only: true, ..Powers::default() }).await;
    let reader = stranger.sign_in(reader.reveal()).await;
    let shown = reader.get(&USUAL).await.page(200);
    assert!(shown.body.contains("read-only") && !shown.body.contains("value=\"approve\""), "{}", shown.body);
    let refused = reader.decide("approve", &[]).await.page(403);
    assert!(refused.body.contains("This management key is read-only"));
    assert_eq!(reader.decide("deny", &[]).await.leads_to(), format!("{CALLBACK}&error=access_denied"));
    assert_eq!(key_count(&app).await, 1);
}

#[tokio::test]
async fn a_key_of_one_workspace_gives_keys_of_that_one_and_its_name_is_written_down() {
    let app = start().await;
    let lab = json!({"name": "Lab", "slug": "lab"});
    let lab = json_of(&ask(&app.manager, Method::POST, "/workspaces", Some(lab)).await)["data"]["id"].take();
    let found = app.app.store().workspace(&WorkspaceRef::Slug("lab".to_owned())).await.unwrap().unwrap();
    let powers = Powers { workspace: Some(found.id), ..Powers::default() };
    let (key_of_lab, secret) = manager(&app, "of the lab", powers).await;
    let person = Browser::of(&app).sign_in(secret.reveal()).await;
    assert!(person.get(&USUAL).await.page(200).body.contains("<bdi>Lab</bdi>"));
    let (_, key) = key_of(&app, person.decide("approve", &[]).await.code()).await;
    assert_eq!(key["workspace_id"], lab);
    let workspaces = json_of(&ask(&app.manager, Method::GET, "/workspaces/default", None).await);
    let elsewhere = [("workspace_id", workspaces["data"]["id"].as_str().unwrap())];
    person.get(&with(&USUAL, &elsewhere)).await.page(403);
    let refused = person.decide("approve", &elsewhere).await.page(403);
    assert!(refused.body.contains("This management key is limited to another workspace"));
    let log = json_of(&ask(&app.manager, Method::GET, "/audit?action=oauth_code.create", None).await);
    assert_eq!(log["data"].as_array().unwrap().len(), 1, "{log}");
    assert_eq!(log["data"][0]["actor"], json!({"type": "management_key", "id": key_of_lab.id.0, "name": "of the lab"}));
}

/// That the browser is not signed in, whatever it shows.
async fn stranger_now(browser: &Browser, token: &str) {
    let shown = browser.get(&USUAL).await.page(200);
    assert!(shown.body.contains("type=\"password\"") && shown.hidden("form_token").is_none(), "{}", shown.body);
    let form = with(&USUAL, &[("form_token", token), ("decision", "approve"), ("limit", "3")]);
    let shown = browser.post("/auth", &form).await.page(401);
    assert!(shown.body.contains("You are signed out."), "{}", shown.body);
    assert_eq!(shown.hidden("limit"), Some("3"), "what was asked is not lost on the way");
}

#[tokio::test]
async fn a_session_ends_with_its_key() {
    let app = start().await;
    let expires_at = Some(app.app.started_at().plus_micros(600_000_000));
    let (revoked, secret) = manager(&app, "revoked", Powers::default()).await;
    let (_, late) = manager(&app, "late", Powers { expires_at, ..Powers::default() }).await;
    let first = Browser::of(&app).sign_in(secret.reveal()).await;
    let second = Browser::of(&app).sign_in(late.reveal()).await;
    let tokens = (first.form_token().await, second.form_token().await);
    assert!(app.app.revoke_management_key(revoked.id, &Actor::Operator).await.unwrap());
    stranger_now(&first, &tokens.0).await;
    assert_eq!(second.form_token().await, tokens.1);
    app.clock.advance(Duration::from_mins(10));
    stranger_now(&second, &tokens.1).await;
    assert_eq!(key_count(&app).await, 0);
}

#[tokio::test]
async fn a_session_ends_unused_or_old_or_when_its_holder_or_the_server_says_so() {
    let app = start().await;
    let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
    let token = person.form_token().await;
    app.clock.advance(Duration::from_secs(30 * 60 - 1));
    assert_eq!(person.form_token().await, token);
    app.clock.advance(Duration::from_mins(30));
    stranger_now(&person, &token).await;

    let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
    let token = person.form_token().await;
    for _ in 0..23 {
        app.clock.advance(Duration::from_mins(20));
        assert_eq!(person.form_token().await, token);
    }
    app.clock.advance(Duration::from_mins(20));
    stranger_now(&person, &token).await;

    let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
    let token = person.form_token().await;
    let out = person.post("/auth/sign-out", &with(&USUAL, &[("form_token", &token)])).await;
    assert_eq!(out.leads_to(), format!("/auth?{}", urls(&USUAL)));
    assert_eq!(out.header("set-cookie"), "tollgate=; Path=/auth; HttpOnly; SameSite=Lax; Max-Age=0");
    stranger_now(&person, &token).await;

    let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
    let token = person.form_token().await;
    let app = app.restart_with(on).await;
    let (address, host, origin) = (app.address, app.address.to_string(), Some(format!("http://{}", app.address)));
    stranger_now(&Browser { address, host, origin, ..person }, &token).await;
    assert_eq!(key_count(&app).await, 0);
}

#[tokio::test]
async fn a_cookie_from_before_signing_in_opens_nothing_afterwards() {
    let app = start().await;
    let planted = format!("tollgate={}", "a".repeat(64));
    let victim = Browser { cookie: Some(planted.clone()), ..Browser::of(&app) };
    let signed_in = victim.clone().sign_in(MANAGEMENT_KEY).await;
    assert_ne!(signed_in.cookie.as_ref(), Some(&planted));
    stranger_now(&victim, &signed_in.form_token().await).await;
    // Signing in again ends the session before it.
    let token = signed_in.form_token().await;
    let again = signed_in.clone().sign_in(MANAGEMENT_KEY).await;
    stranger_now(&signed_in, &token).await;
    let cookie = again.cookie.clone().unwrap();
    for odd in [
        format!("{cookie}; {planted}"),
        format!("{planted}; {cookie}"),
        cookie.replace("tollgate=", "__Host-tollgate="),
        cookie.replace("tollgate=", "Tollgate="),
        format!("{cookie}0"),
        "tollgate=".to_owned(),
    ] {
        let shown = Browser { cookie: Some(odd), ..again.clone() }.get(&USUAL).await.page(200);
        assert!(shown.hidden("form_token").is_none(), "{}", shown.body);
    }
    let among = Browser { cookie: Some(format!("a=b; {cookie};c")), ..again.clone() };
    assert_eq!(among.form_token().await, again.form_token().await);
}

#[tokio::test]
async fn the_session_does_not_go_to_another_server_on_our_own_host() {
    let app = start().await;
    let host = [("callback_url", "http://127.0.0.1:3000/auth/callback")];
    for (decision, parameter) in [("approve", "code=auth_code_"), ("deny", "error=access_denied")] {
        let person = Browser::of(&app).sign_in(MANAGEMENT_KEY).await;
        let token = person.form_token().await;
        let shown = person.get(&with(&USUAL, &host)).await.page(200);
        assert!(
            shown.body.contains("127.0.0.1:3000<small>A program on the computer in front of you"),
            "{}",
            shown.body
        );
        let decided = person.decide(decision, &host).await;
        assert!(decided.leads_to().starts_with(&format!("http://127.0.0.1:3000/auth/callback?{parameter}")));
        assert_eq!(decided.header("set-cookie"), "tollgate=; Path=/auth; HttpOnly; SameSite=Lax; Max-Age=0");
        stranger_now(&person, &token).await;
    }
}

#[tokio::test]
async fn behind_tls_the_cookie_is_bound_to_the_host() {
    let public = |config: &mut Config| {
        on(config);
        config.server.public_url = Some("https://LLM.example.org/gate/".to_owned());
    };
    let app = TestApp::with(public, Limits::default()).await;
    let origin = Some("https://llm.example.org".to_owned());
    let browser = Browser { host: "llm.example.org".to_owned(), origin, ..Browser::of(&app) };
    Browser::of(&app).get(&USUAL).await.page(421);
    let sign_in = browser.get(&USUAL).await.page(200);
    assert!(
        sign_in.body.contains("action=\"/gate/auth/sign-in\"")
            && sign_in.body.contains("href=\"/gate/auth/style.css\"")
    );
    let shown = browser.post("/auth/sign-in", &with(&USUAL, &[("management_key", MANAGEMENT_KEY)])).await;
    assert!(shown.leads_to().starts_with("/gate/auth?callback_url="));
    let (pair, attributes) = shown.header("set-cookie").split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax");
    assert!(pair.starts_with("__Host-tollgate="));
    let person = Browser { cookie: Some(pair.to_owned()), host: "llm.example.org:443".to_owned(), ..browser };
    key_of(&app, person.decide("approve", &[]).await.code()).await;
}

#[tokio::test]
async fn nothing_that_is_asked_of_the_page_is_logged() {
    let folder = free_folder();
    let log = folder.path().join("log");
    let config = folder.path().join("tollgate.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"sqlite://{}\"\ndurability = \"process\"\n\
         [oauth]\nconsent_page = true\n[log]\nlevel = \"debug\"\n",
        folder.path().join("tollgate.db").display(),
    );
    std::fs::write(&config, text).unwrap();
    let environment = [("TOLLGATE_BOOTSTRAP_MANAGEMENT_KEY", MANAGEMENT_KEY)];
    let stderr = std::fs::File::create(&log).unwrap();
    let server = ServerProcess::start_logging(&tollgate_binary(), &config, &environment, stderr.into());
    let address = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    let (host, origin) = (format!("{address}"), Some(server.url.clone()));
    let browser = Browser { address, host, origin, fetch_site: None, cookie: None };
    // Of a plain challenge the query is the verifier itself.
    let asked = with(
        &USUAL,
        &[("code_challenge", "a-plain-secret"), ("code_challenge_method", "plain"), ("key_label", "label-9")],
    );
    browser.get(&asked).await.page(200);
    browser.get(&with(&asked, &[("limit", "limit-9")])).await.page(400);
    let person = browser.sign_in(MANAGEMENT_KEY).await;
    let token = person.form_token().await;
    let decided = person.post("/auth", &with(&asked, &[("form_token", &token), ("decision", "approve")])).await;
    let (code, cookie) = (decided.code().to_owned(), person.cookie.unwrap());
    server.kill();
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("path=\"/auth/sign-in\"") && log.contains("signed in") && log.contains("status=303"), "{log}");
    let secrets = ["a-plain-secret", "label-9", "limit-9", "callback_url", MANAGEMENT_KEY, &token, &code, &cookie[9..]];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
}

#[tokio::test]
async fn guesses_at_the_sign_in_count_among_those_of_their_address_and_the_right_key_gets_in_all_the_same() {
    let few = |config: &mut tollgate::config::Config| {
        config.oauth.consent_page = true;
        config.limits.failed_authentications_per_minute = 3;
    };
    let app = TestApp::with(few, Limits::default()).await;
    let browser = Browser::of(&app);
    let mut guesses = Vec::new();
    for guess in 0..5 {
        let key = format!("sk-or-v1-{guess}");
        guesses.push(browser.post("/auth/sign-in", &with(&USUAL, &[("management_key", &key)])).await);
    }
    let statuses: Vec<u16> = guesses.iter().map(|shown| shown.status).collect();
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    assert!(guesses[4].header("retry-after").parse::<u64>().unwrap() > 0);
    assert!(guesses[4].header("content-type").starts_with("text/html"), "told on a page");
    browser.sign_in(MANAGEMENT_KEY).await;
}
