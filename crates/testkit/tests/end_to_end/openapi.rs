//! The description of the API against the server that it describes.

use http::Method;
use http::header::ALLOW;
use serde_json::Value;
use testkit::TestApp;

use crate::contract::json_of;

#[tokio::test]
async fn every_documented_operation_is_routed_and_no_other() {
    let app = TestApp::start().await;
    let key = app.key().create().await;
    let stranger = app.manager.with_key("sk-or-v1-stranger");
    let document = json_of(&stranger.raw(Method::GET, "/openapi.json", None).await.unwrap());
    let known = [
        ("{hash}", key.hash.as_str()),
        ("{id}", "default"),
        ("{interval}", "daily"),
        ("{user_id}", "user_x"),
        ("{author}/{slug}", "test/priced"),
    ];
    for (path, item) in document["paths"].as_object().unwrap() {
        let url = known.iter().fold(path.clone(), |url, (name, value)| url.replace(name, value));
        let documented: Vec<String> =
            item.as_object().unwrap().keys().map(|method| method.to_ascii_uppercase()).collect();
        for method in &documented {
            // An empty object says too little for any operation to do something.
            let body = (method != "GET" && method != "DELETE").then(|| b"{}".to_vec());
            let answer = app.manager.raw(method.parse().unwrap(), &url, body).await.unwrap();
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(answer.status != 405 && !text.contains("Resource not found"), "{method} {path}: {text}");
            let declared = &item[method.to_ascii_lowercase()]["responses"][answer.status.as_str()];
            assert!(declared.is_object(), "{method} {path}: {}", answer.status);
        }
        let refused = app.manager.raw(Method::TRACE, &url, None).await.unwrap();
        assert_eq!(refused.status, 405, "{path}");
        assert_eq!(json_of(&refused)["error"]["code"], 405);
        let allowed = refused.headers[ALLOW].to_str().unwrap();
        let mut allowed: Vec<&str> = allowed.split(',').map(str::trim).filter(|method| *method != "HEAD").collect();
        let mut documented: Vec<&str> = documented.iter().map(String::as_str).collect();
        allowed.sort_unstable();
        documented.sort_unstable();
        assert_eq!(allowed, documented, "{path}");
    }
}

#[tokio::test]
async fn anyone_may_read_what_can_be_asked() {
    let app = TestApp::start().await;
    let stranger = app.manager.with_key("sk-or-v1-stranger");
    let page = stranger.raw(Method::GET, "/docs", None).await.unwrap();
    assert_eq!(
        (page.status.as_u16(), page.headers["content-type"].to_str().unwrap()),
        (200, "text/html; charset=utf-8")
    );
    assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let guide = stranger.raw(Method::GET, "/llms.txt", None).await.unwrap();
    let text = String::from_utf8(guide.body.to_vec()).unwrap();
    assert!(text.contains(&format!("Base URL: {}/api/v1 ", app.url())), "{text}");
    let document: Value = json_of(&stranger.raw(Method::GET, "/openapi.json", None).await.unwrap());
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}
