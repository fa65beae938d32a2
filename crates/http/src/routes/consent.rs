//! `/auth`: where an app sends a person to ask for a key, and where the person decides (contract section 7).
//!
//! Pages for people, not operations of the API: everything comes from a browser that other sites can send here, so a form is
//! believed only with the token of the session's own pages, and nothing but a decision leads away from here.

use axum::extract::State;
use axum::response::Response;
use http::header::{CONTENT_TYPE, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use tollgate_app::oauth::CodeRequest;
use tollgate_app::sessions::SignedIn;
use tollgate_domain::KeyHash;
use tollgate_domain::session::SessionToken;
use tollgate_domain::web::Site;

use crate::convert::consent::{Ask, LIMIT};
use crate::error::ApiError;
use crate::extract::{Form, Visit, actor, cookie, may_change, workspace_within};
use crate::pages::{Consent, Refused, STYLE, SignIn};
use crate::router::Api;

/// Shows what an app asks for, or the way in.
pub async fn show(State(api): State<Api>, visit: Visit) -> Result<Response, Refused> {
    let shown = async {
        let ask = Ask::read(&visit.pairs)?;
        match visit.signed_in(&api).await? {
            None => Ok(SignIn { site: &visit.site, ask: &ask, problem: None }.page().answer(&visit.site)),
            Some(who) => consent(&api, &visit, &ask, &who, None).await,
        }
    };
    shown.await.map_err(|error: ApiError| visit.refused(error))
}

/// Lets the holder of a management key in. Whoever had a session before gets another one: what was put into a browser
/// before somebody signed in there opens nothing afterwards.
pub async fn sign_in(State(api): State<Api>, Form(visit): Form) -> Result<Response, Refused> {
    let signed_in = async {
        let ask = Ask::read(&visit.pairs)?;
        let secret = visit.pairs.text("management_key").unwrap_or_default().trim();
        let Some(token) = api.app().sign_in(&KeyHash::of(secret)).await? else {
            api.guard().failed(visit.client)?;
            let problem = "This is not a management key that is in force. Keys that call models do not open this page.";
            let page = SignIn { site: &visit.site, ask: &ask, problem: Some(problem) }.page();
            return Ok(page.answer_to(ApiError::not_a_management_key(), &visit.site));
        };
        if let Some(before) = &visit.token {
            api.app().sign_out(before);
        }
        Ok(with_cookie(back(&visit.site, &ask), &visit.site, Some(&token)))
    };
    signed_in.await.map_err(|error: ApiError| visit.refused(error))
}

/// Ends the session, and shows the way in again.
pub async fn sign_out(State(api): State<Api>, Form(visit): Form) -> Result<Response, Refused> {
    let signed_out = async {
        let ask = Ask::read_untyped(&visit.pairs)?;
        if let Some(who) = visit.signed_in(&api).await? {
            own_form(&visit, &who)?;
            visit.token.iter().for_each(|token| api.app().sign_out(token));
        }
        Ok(with_cookie(back(&visit.site, &ask), &visit.site, None))
    };
    signed_out.await.map_err(|error: ApiError| visit.refused(error))
}

/// Sends the browser back to the app, with a code or without.
pub async fn decide(State(api): State<Api>, Form(visit): Form) -> Result<Response, Refused> {
    let decided = async {
        let asked = Ask::read_untyped(&visit.pairs)?;
        let Some(who) = visit.signed_in(&api).await? else {
            let problem = "You are signed out. Sign in again to decide.";
            let page = SignIn { site: &visit.site, ask: &asked, problem: Some(problem) }.page();
            return Ok(page.answer_to(ApiError::not_a_management_key(), &visit.site));
        };
        own_form(&visit, &who)?;
        let callback = &asked.request().callback;
        let back_with = match visit.pairs.text("decision") {
            Some("deny") => callback.with("error", "access_denied"),
            Some("approve") => {
                may_change(&who.key)?;
                let terms = match Ask::read(&visit.pairs) {
                    Ok(terms) => terms,
                    // The rest could be read: it is what the person typed that could not.
                    Err(error) => return consent(&api, &visit, &asked, &who, Some(error)).await,
                };
                let code = code(&api, &who, terms.request()).await?;
                callback.with("code", &code)
            }
            _ => return Err(ApiError::bad_request("`decision` must be approve or deny")),
        };
        let mut response = redirect(&back_with);
        // Cookies do not know ports: another server on our own host would be sent the session with the code.
        if callback.host() == visit.site.origin().host() {
            visit.token.iter().for_each(|token| api.app().sign_out(token));
            response = with_cookie(response, &visit.site, None);
        }
        Ok(response)
    };
    decided.await.map_err(|error: ApiError| visit.refused(error))
}

/// How the pages look.
pub async fn style() -> Response {
    let mut response = Response::new(STYLE.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    response
}

/// The text of a code for `request`, which `who` approved.
async fn code(api: &Api, who: &SignedIn, request: &CodeRequest) -> Result<String, ApiError> {
    let request = reached(api, who, request).await?;
    let (_, code) = api.app().create_code(request, actor(&who.key).into()).await?;
    Ok(code.reveal().to_owned())
}

/// The request, in a workspace that `who` reaches.
async fn reached(api: &Api, who: &SignedIn, request: &CodeRequest) -> Result<CodeRequest, ApiError> {
    let workspace = workspace_within(&who.key, api, request.workspace).await?;
    Ok(CodeRequest { workspace, ..request.clone() })
}

/// The page that asks `who`; with what is wrong with the answer that it got.
async fn consent(
    api: &Api,
    visit: &Visit,
    ask: &Ask,
    who: &SignedIn,
    problem: Option<ApiError>,
) -> Result<Response, ApiError> {
    let (grant, workspace) = api.app().grant(&reached(api, who, ask.request()).await?).await?;
    let page = Consent {
        site: &visit.site,
        ask,
        who,
        grant: &grant,
        workspace: &workspace,
        default_limit: api.app().settings().oauth_default_limit,
        limit: visit.pairs.text(LIMIT).unwrap_or_default(),
        problem: problem.as_ref().map(ApiError::message),
    };
    let page = page.page();
    Ok(match problem {
        None => page.answer(&visit.site),
        Some(error) => page.answer_to(error, &visit.site),
    })
}

/// That a form comes from a page that was shown to `who`.
fn own_form(visit: &Visit, who: &SignedIn) -> Result<(), ApiError> {
    if who.form_token.is(visit.pairs.text("form_token").unwrap_or_default()) {
        return Ok(());
    }
    Err(ApiError::forbidden("This form is not one of your session, or no longer"))
}

/// To the page, as the app asked for it.
fn back(site: &Site, ask: &Ask) -> Response {
    redirect(&format!("{}/auth?{}", site.path(), ask.query()))
}

fn redirect(url: &str) -> Response {
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    // Both are made of what a header can hold.
    if let Ok(url) = HeaderValue::try_from(url) {
        response.headers_mut().insert(LOCATION, url);
    }
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn with_cookie(mut response: Response, site: &Site, token: Option<&SessionToken>) -> Response {
    if let Ok(cookie) = HeaderValue::try_from(cookie(site, token)) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}
