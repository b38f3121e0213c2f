//! The files that nodes need to find these images here, to be looked at and fetched.

use std::sync::Arc;

use askama::Template;
use hyper::StatusCode;

use crate::causes;
use crate::escape::in_line;
use crate::serve::answer::{Answer, Refusal};
use crate::serve::nodes::files;
use crate::serve::page::{Frame, Page, blocking, html, page as plain};
use crate::serve::request::Request;

#[derive(Template)]
#[template(path = "nodes.html")]
struct Shown<'a> {
    frame: Frame<'a>,
    readme: String,
    files: Vec<String>,
}

pub(super) async fn list(page: &Arc<Page>, request: &Request) -> Result<Answer, Refusal> {
    let found = written(page, request).await?;
    let readme = found.iter().find(|(name, _)| name == "README.txt").map(|(_, text)| text.clone());
    let files = found.into_iter().map(|(name, _)| name).collect();
    html(&Shown { frame: page.frame(request), readme: readme.unwrap_or_default(), files })
}

pub(super) async fn file(page: &Arc<Page>, request: &Request, wanted: &str) -> Result<Answer, Refusal> {
    let found = written(page, request).await?.into_iter().find(|(name, _)| name == wanted);
    let unknown =
        || Refusal::new(StatusCode::NOT_FOUND, "UNSUPPORTED", format!("no file is called {}", in_line(wanted)));
    found.map(|(_, text)| plain(text, "text/plain; charset=utf-8")).ok_or_else(unknown)
}

/// For the name of this server, or the one that the request calls it by.
async fn written(page: &Arc<Page>, request: &Request) -> Result<Vec<(String, String)>, Refusal> {
    let view = request.view(&page.store).await?;
    let (name, speaking) = (page.frame(request).host.to_owned(), page.speaking.clone());
    // A request may say anything, and these files are taken to other machines.
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b)) {
        return Err(Refusal::bad("UNSUPPORTED", format!("{} is not a name of a host", in_line(&name))));
    }
    let files = blocking(move || files(&view, &name, &speaking)).await?;
    files.map_err(|error| Refusal::internal(causes::line(&error)))
}
