//! Pages for people: one column, no script, nothing from elsewhere.

mod consent;

pub use consent::{Consent, SignIn};

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS};
use tollgate_domain::web::{Origin, Site};

use crate::error::ApiError;
use crate::html::Text;

/// How all of them look.
pub const STYLE: &str = include_str!("style.css");

/// A page.
pub struct Page {
    /// What a tab is called.
    pub title: String,
    /// What stands in it, as HTML.
    pub body: String,
    /// Where its forms may lead besides this server.
    pub leads_to: Option<Origin>,
}

impl Page {
    /// The page of `site` as an answer.
    pub fn answer(self, site: &Site) -> Response {
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{} · tollgate</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\">\
             <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"{}/auth/style.css\"></head><body>{}</body></html>",
            Text(&self.title),
            Text(site.path()),
            self.body,
        );
        let mut response = Response::new(html.into());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        if let Ok(policy) = HeaderValue::try_from(policy(self.leads_to.as_ref())) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        // `no-referrer` would make browsers write `Origin: null` in what our own forms send.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        response
    }

    /// The page as the answer to what `error` is about: its status, its cause for the log, and when to try again.
    pub fn answer_to(self, error: ApiError, site: &Site) -> Response {
        let (mut head, page) = (error.into_response().into_parts().0, self.answer(site));
        let (page_head, body) = page.into_parts();
        head.headers.extend(page_head.headers);
        Response::from_parts(head, body)
    }

    /// The page that says what is wrong and nothing else.
    pub fn problem(error: ApiError, site: &Site) -> Response {
        let (headline, message) = (error.headline(), error.message());
        let body = format!(
            "<main>{}<h1>{}</h1><p class=\"problem\" role=\"alert\">{}</p>\
             <p>Nothing was given away. Go back to the app, and start again from there.</p></main>",
            masthead(site),
            Text(headline),
            Text(message),
        );
        Self { title: headline.to_owned(), body, leads_to: None }.answer_to(error, site)
    }
}

/// A refusal that is shown as a page.
pub struct Refused(Box<(ApiError, Site)>);

impl Refused {
    /// The refusal of `site`.
    pub fn new(error: ApiError, site: Site) -> Self {
        Self(Box::new((error, site)))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (error, site) = *self.0;
        Page::problem(error, &site)
    }
}

/// The page loads its style and a blank icon. Forms lead to this server, and browsers hold every redirect that follows
/// against the same list: an app that sends its visitors on from the callback, often to another host, must not strand them
/// here, so the schemes are named that it can use.
fn policy(leads_to: Option<&Origin>) -> String {
    let beyond = match leads_to {
        None => "",
        Some(app) if app.is_secure() => " https:",
        Some(_) => " http: https:",
    };
    format!(
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'{beyond}; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

/// Which server this is.
fn masthead(site: &Site) -> String {
    format!("<p class=\"site\"><b>tollgate</b> at {}</p>", Text(&site.origin().authority()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_lead_away_only_where_a_person_decides() {
        let actions = |app: Option<&Origin>| {
            let policy = policy(app);
            policy.split("; ").find_map(|part| part.strip_prefix("form-action ")).unwrap().to_owned()
        };
        assert_eq!(actions(None), "'self'");
        assert_eq!(actions(Origin::of(true, "app.example.org").as_ref()), "'self' https:");
        assert_eq!(actions(Origin::of(false, "[::1]:3000").as_ref()), "'self' http: https:");
    }
}
