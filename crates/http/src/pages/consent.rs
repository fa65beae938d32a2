//! The two pages of `/auth`: who are you, and may this app have a key.

use std::fmt::Write as _;

use tollgate_app::sessions::SignedIn;
use tollgate_domain::oauth::Grant;
use tollgate_domain::time::LimitReset;
use tollgate_domain::web::{Origin, Site};
use tollgate_domain::workspace::Workspace;
use tollgate_domain::{Timestamp, Usd};

use super::{Page, masthead};
use crate::convert::consent::{Ask, LIMIT, RESET};
use crate::html::Text;

/// What is shown to whoever is not signed in.
pub struct SignIn<'a> {
    /// Where they are.
    pub site: &'a Site,
    /// What brought them.
    pub ask: &'a Ask,
    /// Why they are still here.
    pub problem: Option<&'a str>,
}

impl SignIn<'_> {
    /// The page.
    pub fn page(&self) -> Page {
        let callback = &self.ask.request().callback;
        let body = format!(
            "<main>{}<h1>Sign in to decide about a key</h1>{}\
             <p>This app asks for an LLM API key of its own. What it would get is shown after you sign in; nothing is given \
             away before you approve it there.</p>{}\
             <form method=\"post\" action=\"{}/auth/sign-in\">{}\
             <input type=\"text\" name=\"account\" value=\"management key\" autocomplete=\"username\" hidden readonly>\
             <label for=\"key\">Management key</label>\
             <input class=\"secret\" id=\"key\" name=\"management_key\" type=\"password\" required autofocus maxlength=\"200\" \
             autocomplete=\"current-password\" autocapitalize=\"none\" spellcheck=\"false\" aria-describedby=\"key-hint\">\
             <p class=\"hint\" id=\"key-hint\">It stays with this server; the app never sees it.</p>\
             <button class=\"first\">Sign in</button></form></main>",
            masthead(self.site),
            app(callback.origin()),
            alert(self.problem),
            Text(self.site.path()),
            self.ask.hidden(&[]),
        );
        Page { title: format!("Sign in for {}", callback.host()), body, leads_to: None }
    }
}

/// What is shown to whoever is.
pub struct Consent<'a> {
    /// Where they are.
    pub site: &'a Site,
    /// What the app asks for.
    pub ask: &'a Ask,
    /// Who they are.
    pub who: &'a SignedIn,
    /// The key that the app would get.
    pub grant: &'a Grant,
    /// Where it would spend.
    pub workspace: &'a Workspace,
    /// The limit of a key for which none is asked.
    pub default_limit: Option<Usd>,
    /// What stands in the field of the limit.
    pub limit: &'a str,
    /// What is wrong with it.
    pub problem: Option<&'a str>,
}

impl Consent<'_> {
    /// The page.
    pub fn page(&self) -> Page {
        let callback = &self.ask.request().callback;
        let body = format!(
            "<main>{}<h1>Give this app a key?</h1>{}\
             <p>It can call models with the key, up to the limit below. It cannot see your management key, and manages \
             nothing.</p><dl>{}</dl>{}\
             <form method=\"post\" action=\"{}/auth\">{}{}{}</form></main>{}",
            masthead(self.site),
            app(callback.origin()),
            self.facts(),
            // A person sees a field with a label, and no name on the wire.
            alert(self.problem.map(|problem| problem.replace("`limit`", "The limit")).as_deref()),
            Text(self.site.path()),
            self.form_token(),
            self.ask.hidden(&[LIMIT, RESET]),
            self.choice(),
            self.footer(),
        );
        let title = format!("Give {} a key?", callback.host());
        Page { title, body, leads_to: Some(callback.origin().clone()) }
    }

    fn facts(&self) -> String {
        let Grant { name, expires_at, .. } = self.grant;
        let expires = expires_at.map_or_else(|| "never".to_owned(), instant);
        let facts = [
            ("Name of the key", name.as_str()),
            ("Workspace", &self.workspace.name),
            ("Expires", &expires),
            ("Sent to", self.ask.request().callback.url()),
        ];
        facts.into_iter().fold(String::new(), |mut html, (term, text)| {
            // Writing to a string cannot fail. A name that is written from right to left does not turn the page around.
            let _ = write!(html, "<dt>{term}</dt><dd><bdi>{}</bdi></dd>", Text(text));
            html
        })
    }

    /// The fields and buttons: those who may only look are told so instead of being asked.
    fn choice(&self) -> String {
        if self.who.key.powers.read_only {
            return "<p class=\"note\">You signed in with a read-only management key: it may look, and not approve. Sign \
                    out, and sign in with another one.</p>\
                    <button name=\"decision\" value=\"deny\">Deny</button>"
                .to_owned();
        }
        let invalid = if self.problem.is_some() { " aria-invalid=\"true\"" } else { "" };
        let blank = match self.default_limit {
            Some(limit) => format!("Leave it empty for ${limit}, the default of this server."),
            None => "Leave it empty for a key without a limit.".to_owned(),
        };
        format!(
            "<div class=\"fields\"><div><label for=\"limit\">Limit in USD</label>\
             <input id=\"limit\" name=\"{LIMIT}\" value=\"{}\" inputmode=\"decimal\" autocomplete=\"off\" maxlength=\"40\" \
             aria-describedby=\"limit-hint\"{invalid}></div>\
             <div><label for=\"reset\">Resets</label><select id=\"reset\" name=\"{RESET}\">{}</select></div>\
             <p class=\"hint\" id=\"limit-hint\">The most that the key can spend, such as 5 or 0.50. {blank} \
             It resets at 00:00 UTC, on Mondays or on the 1st.</p></div>\
             <div class=\"acts\"><button class=\"first\" name=\"decision\" value=\"approve\">Approve</button>\
             <button name=\"decision\" value=\"deny\">Deny</button></div>",
            Text(self.limit),
            self.resets(),
        )
    }

    fn resets(&self) -> String {
        let (daily, weekly, monthly) = (LimitReset::Daily, LimitReset::Weekly, LimitReset::Monthly);
        let resets = [(None, "never"), (Some(daily), "daily"), (Some(weekly), "weekly"), (Some(monthly), "monthly")];
        resets.into_iter().fold(String::new(), |mut html, (reset, words)| {
            let word = reset.map_or("", LimitReset::as_str);
            let selected = if reset == self.grant.limit_reset { " selected" } else { "" };
            let _ = write!(html, "<option value=\"{word}\"{selected}>{words}</option>");
            html
        })
    }

    fn footer(&self) -> String {
        format!(
            "<footer>Signed in with <bdi>{}</bdi> ({}). <form method=\"post\" action=\"{}/auth/sign-out\">{}{}\
             <button class=\"plain\">Sign out</button></form></footer>",
            Text(&self.who.key.name),
            Text(&self.who.key.label),
            Text(self.site.path()),
            self.form_token(),
            self.ask.hidden(&[]),
        )
    }

    fn form_token(&self) -> String {
        format!("<input type=\"hidden\" name=\"form_token\" value=\"{}\">", Text(self.who.form_token.reveal()))
    }
}

/// Who asks, as far as it can be known: the host that the code is sent to.
fn app(origin: &Origin) -> String {
    let about = if origin.is_secure() { "" } else { "<small>A program on the computer in front of you</small>" };
    format!("<p class=\"app\">{}{about}</p>", Text(&origin.authority()))
}

fn alert(problem: Option<&str>) -> String {
    problem.map_or_else(String::new, |text| format!("<p class=\"problem\" role=\"alert\">{}</p>", Text(text)))
}

/// An instant as people read it: `2026-11-21 14:03:07 UTC`.
fn instant(at: Timestamp) -> String {
    let text = at.to_string().replace('T', " ");
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{seconds} UTC")
}
