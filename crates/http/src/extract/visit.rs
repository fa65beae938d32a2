//! Who visits a page, and what one of its forms says: browsers carry the cookie of a session wherever any site sends them,
//! so what a request says of itself is held against where the page really is.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use tollgate_app::sessions::SignedIn;
use tollgate_domain::session::SessionToken;
use tollgate_domain::web::Site;

use super::read_body;
use crate::client_address::{ClientAddress, peer_of};
use crate::error::ApiError;
use crate::limits::HttpLimits;
use crate::pages::Refused;
use crate::router::Api;

/// Bytes of a form.
const FORM_BYTES_MAX: usize = 32 << 10;
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Names with texts, each name once.
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, text) in form_urlencoded::parse(bytes).into_owned() {
            if pairs.iter().any(|(known, _)| *known == name) {
                // The next reader could take the other one.
                return Err(ApiError::bad_request(format!("`{name}` is there twice")));
            }
            pairs.push((name, text));
        }
        Ok(Self(pairs))
    }

    /// The text of `name`, if there is one that is not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.0.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str());
        text.filter(|text| !text.is_empty())
    }
}

/// A visit to a page of this site.
pub struct Visit {
    /// The site.
    pub site: Site,
    /// The query, or the form.
    pub pairs: Pairs,
    /// The session that the browser shows, open or not.
    pub token: Option<SessionToken>,
    /// Where the browser is.
    pub client: ClientAddress,
}

impl Visit {
    /// Who is signed in.
    pub async fn signed_in(&self, api: &Api) -> Result<Option<SignedIn>, ApiError> {
        match &self.token {
            None => Ok(None),
            Some(token) => Ok(api.app().session(token).await?),
        }
    }

    /// A refusal as a page of this site.
    pub fn refused(&self, error: impl Into<ApiError>) -> Refused {
        Refused::new(error.into(), self.site.clone())
    }

    fn of(head: &Parts, api: &Api, site: Site, pairs: Result<Pairs, ApiError>) -> Result<Self, Refused> {
        let client = api.guard().client(peer_of(head), &head.headers);
        match pairs {
            Ok(pairs) => Ok(Self { token: token(&head.headers, &site), site, pairs, client }),
            Err(error) => Err(Refused::new(error, site)),
        }
    }
}

/// Why there was no visit.
pub enum NoVisit {
    /// There are no pages here.
    Off,
    /// It was refused.
    Refused(Refused),
}

impl From<Refused> for NoVisit {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl IntoResponse for NoVisit {
    fn into_response(self) -> Response {
        match self {
            Self::Off => ApiError::not_found("Resource not found").into_response(),
            Self::Refused(refused) => refused.into_response(),
        }
    }
}

impl FromRequestParts<Api> for Visit {
    type Rejection = NoVisit;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, NoVisit> {
        let site = arrived(parts, api)?;
        let pairs = Pairs::parse(parts.uri.query().unwrap_or_default().as_bytes());
        Ok(Self::of(parts, api, site, pairs)?)
    }
}

/// A visit that brings a form, which a page of this site made.
pub struct Form(pub Visit);

impl FromRequest<Api> for Form {
    type Rejection = NoVisit;

    async fn from_request(request: Request, api: &Api) -> Result<Self, NoVisit> {
        let (head, body) = request.into_parts();
        let site = arrived(&head, api)?;
        let pairs = match from_here(&head.headers, &site) {
            Err(error) => Err(error),
            Ok(()) => {
                let limits = HttpLimits { body_bytes_max: FORM_BYTES_MAX, ..*api.limits() };
                read_body(&head.headers, body, &limits).await.and_then(|bytes| Pairs::parse(&bytes))
            }
        };
        Ok(Self(Visit::of(&head, api, site, pairs)?))
    }
}

/// The site that is visited: this one, and by its own name. Another name could have been made to lead here, and its pages
/// would then be of one origin with ours.
fn arrived(head: &Parts, api: &Api) -> Result<Site, NoVisit> {
    let site = api.site().cloned().ok_or(NoVisit::Off)?;
    let asked = head.uri.authority().map(http::uri::Authority::as_str);
    let told = head.headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut names = asked.into_iter().chain(told).peekable();
    if names.peek().is_some() && names.all(|name| site.is_at(name)) {
        return Ok(site);
    }
    Err(Refused::new(ApiError::misdirected(&format!("{}{}", site.origin(), site.path())), site).into())
}

/// That a form was made by a page of `site`, as far as the browser tells: all of today's do.
fn from_here(headers: &HeaderMap, site: &Site) -> Result<(), ApiError> {
    let own = site.origin().to_string();
    let origins = headers.get_all(ORIGIN).iter().all(|origin| origin == own.as_str());
    // `none` is what a browser says of what nobody sent it to.
    let sites = headers.get_all(FETCH_SITE).iter().all(|site| site == "same-origin" || site == "none");
    if !origins || !sites {
        return Err(ApiError::forbidden("This form was sent by another site"));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(ApiError::bad_request("The body must be a form: application/x-www-form-urlencoded"));
    }
    Ok(())
}

/// The name of the cookie. With the prefix no other host and no page without TLS can set it.
const fn cookie_name(site: &Site) -> &'static str {
    if site.origin().is_secure() { "__Host-tollgate" } else { "tollgate" }
}

/// The cookie of the session. `Lax`, because people come from the app's own site and are to be recognised; what they send
/// from there is not.
pub fn cookie(site: &Site, token: Option<&SessionToken>) -> String {
    let (name, path) = (cookie_name(site), site.path());
    // Cookies do not know ports: without TLS other servers on this host get as few of ours as can be.
    let scope = if site.origin().is_secure() { "/; Secure".to_owned() } else { format!("{path}/auth") };
    match token {
        Some(token) => format!("{name}={}; Path={scope}; HttpOnly; SameSite=Lax", token.reveal()),
        None => format!("{name}=; Path={scope}; HttpOnly; SameSite=Lax; Max-Age=0"),
    }
}

/// The session that a browser shows. Of two, one was put there by somebody else.
fn token(headers: &HeaderMap, site: &Site) -> Option<SessionToken> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let ours = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| {
        let (name, text) = cookie.trim().split_once('=')?;
        (name == cookie_name(site)).then_some(text)
    });
    let ours: Vec<&str> = ours.collect();
    match ours.as_slice() {
        [text] => SessionToken::parse(text),
        _ => None,
    }
}
