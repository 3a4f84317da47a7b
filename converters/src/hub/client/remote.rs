//! What the hub says about a repository and its files.

use std::path::Path;

use serde::Deserialize;
use ureq::http::HeaderMap;

use super::file_name::{check_file_name, cut};
use super::http::{ATTEMPTS, Answer, Client, Failure, retry, text};
use super::url::Url;
use crate::error::{Error, Kind, Printable, Result};
use crate::hub::id::{ModelId, Revision, is_commit};

/// The largest description of a repository that is read.
const LARGEST_LISTING: u64 = 16 << 20;

/// A model's repository on the hub.
pub(super) struct Remote<'c> {
    pub(super) client: &'c Client,
    pub(super) id: &'c ModelId,
    pub(super) revision: &'c Revision,
}

/// A commit and the names of its files, unchecked.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// What identifies the content of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// The name of the blob.
    pub(super) etag: String,
    pub(super) size: u64,
}

impl Content {
    /// The SHA-256 that the ETag is, for large files.
    pub(super) fn sha256(&self) -> Option<&str> {
        let is_hash =
            self.etag.len() == 64 && self.etag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hash.then_some(&self.etag)
    }
}

impl Remote<'_> {
    /// The commit that the revision is now, and its files. A hub that cannot be reached is asked `attempts` times.
    pub(super) fn listing(&self, attempts: u32) -> Result<Listing, Failure> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let url = self.url(&["api", "models"], &["revision", self.revision.as_str()]);
        let body = retry(attempts, || {
            let body = self.client.get(&url, 0)?.response.into_body();
            body.into_with_config().limit(LARGEST_LISTING).read_to_vec().map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(_) => {
                    let why =
                        format!("the hub describes the repository in more than {LARGEST_LISTING} bytes");
                    Failure::Broken(Error::malformed(why))
                }
                error => Failure::Unreachable {
                    why: format!("cannot read from {}: {error}", url.origin()),
                    passing: true,
                },
            })
        })?;
        let wrong = |why: String| Failure::Broken(Error::malformed(why));
        let info: Info = serde_json::from_slice(&body).map_err(|error| {
            wrong(format!(
                "{} does not answer as a hub does: {error} (HF_ENDPOINT?)",
                self.client.endpoint().origin()
            ))
        })?;
        if !is_commit(&info.sha) {
            return Err(wrong(format!("the hub names the commit {:?}, which is none", cut(&info.sha))));
        }
        Ok(Listing {
            commit: info.sha,
            files: info.siblings.into_iter().map(|sibling| sibling.rfilename).collect(),
        })
    }

    /// Where the content of a file of a commit is.
    pub(super) fn file_url(&self, commit: &str, name: &str) -> Url {
        let parts: Vec<&str> = ["resolve", commit].into_iter().chain(name.split('/')).collect();
        self.url(&[], &parts)
    }

    /// What the content of a file is.
    ///
    /// # Errors
    /// A name that leaves the folder; a hub that does not say which content the file has and how large it is.
    pub(super) fn content(&self, commit: &str, name: &str) -> Result<Content> {
        check_file_name(name).map_err(|error| self.place(error, None))?;
        let url = self.file_url(commit, name);
        let answer = retry(ATTEMPTS, || self.client.head(&url))
            .map_err(|failure| self.explain(failure, Some(name)))?;
        content(&answer, commit).map_err(|error| self.place(error, Some(name)))
    }

    /// Says what a failure means and what to do about it.
    pub(super) fn explain(&self, failure: Failure, file: Option<&str>) -> Error {
        let endpoint = self.client.endpoint();
        let error = match &failure {
            Failure::Status { status: status @ (401 | 403 | 404), code, message, .. } => {
                let token = self.client.token_origin();
                let page = || endpoint.join(&self.id.as_str().split('/').collect::<Vec<_>>());
                let access = match token {
                    Some(origin) => format!(
                        "a private model needs a token with access, which the one from {origin} has not"
                    ),
                    None => "a private model needs a token in HF_TOKEN".to_owned(),
                };
                match (code.as_str(), token) {
                    ("GatedRepo", None) => format!(
                        "gated: accept its conditions on {} and give a token of that account in HF_TOKEN",
                        page()
                    ),
                    ("GatedRepo", Some(origin)) => format!(
                        "gated: accept its conditions on {} with the account of the token from {origin}",
                        page()
                    ),
                    ("RevisionNotFound", _) => {
                        format!("the hub knows no revision {}", self.revision.as_str())
                    }
                    ("EntryNotFound", _) | ("", _) if *status == 404 && file.is_some() => {
                        "the hub has no such file in this commit".to_owned()
                    }
                    (_, Some(origin)) if *status == 401 && message.to_lowercase().contains("credentials") => {
                        format!("{endpoint} does not accept the token from {origin}")
                    }
                    ("RepoNotFound", _) | ("", _) if *status != 403 => {
                        format!("no such model on {endpoint}: check the name; {access}")
                    }
                    _ => {
                        let said = if message.is_empty() { code } else { message };
                        format!("{endpoint} refuses it with status {status}: {}; {access}", Printable(said))
                    }
                }
            }
            _ => return self.place(failure.message(), file),
        };
        self.place(Error::new(Kind::Hub, error), file)
    }

    /// Adds the model, or a file of it, as the place of an error.
    pub(super) fn place(&self, error: Error, file: Option<&str>) -> Error {
        match file {
            Some(file) => error.in_file(Path::new(&format!("{}/{file}", self.id))),
            None => error.in_file(Path::new(self.id.as_str())),
        }
    }

    fn url(&self, before: &[&str], after: &[&str]) -> Url {
        let id = self.id.as_str().split('/');
        let parts: Vec<&str> = before.iter().copied().chain(id).chain(after.iter().copied()).collect();
        self.client.endpoint().join(&parts)
    }
}

/// Reads the headers that identify a content. Those about a large file stand on the redirect to it.
fn content(answer: &Answer, commit: &str) -> Result<Content> {
    let missing = |what: &str| Error::malformed(format!("the hub does not say {what} (HF_ENDPOINT?)"));
    let linked = answer.headers.iter().find(|headers| headers.contains_key("x-linked-etag"));
    let headers = linked.or(answer.headers.last()).ok_or_else(|| missing("anything"))?;
    if let Some(other) = answer
        .headers
        .iter()
        .find_map(|headers| text(headers, "x-repo-commit"))
        .filter(|&other| other != commit)
    {
        return Err(Error::malformed(format!(
            "the hub answers for commit {:?}, asked for {commit}",
            cut(other)
        )));
    }
    let etag = text(headers, "x-linked-etag")
        .or_else(|| text(headers, "etag"))
        .ok_or_else(|| missing("which content it has"))?;
    let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '=' | ':');
    if etag.is_empty() || etag.len() > 128 || etag.starts_with('.') || !etag.chars().all(known) {
        return Err(Error::refused(format!("the ETag {:?} cannot be the name of a file", cut(etag))));
    }
    let size = size(headers).ok_or_else(|| missing("how large it is"))?;
    Ok(Content { etag: etag.to_owned(), size })
}

fn size(headers: &HeaderMap) -> Option<u64> {
    text(headers, "x-linked-size").or_else(|| text(headers, "content-length"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use ureq::http::Response;

    use super::*;

    const COMMIT: &str = "0d1b43ccf21b5acd9f4e5f7b077fa698f05cf195";

    fn of(answers: &[&[(&'static str, &str)]]) -> Result<Content> {
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let headers = answers.iter().map(|pairs| headers(pairs)).collect();
        let response = Response::new(ureq::Body::builder().data(""));
        content(&Answer { response, headers }, COMMIT)
    }

    #[test]
    fn the_content_of_large_files_stands_on_the_redirect() {
        let content = of(&[
            &[
                ("x-repo-commit", COMMIT),
                ("x-linked-etag", "\"abc\""),
                ("x-linked-size", "7"),
                ("content-length", "1000"),
            ],
            &[("etag", "\"cdn\""), ("content-length", "7")],
        ]);
        assert_eq!(content.unwrap(), Content { etag: "abc".to_owned(), size: 7 });
        let content = of(&[&[("location", "/new-name")], &[("etag", "W/\"0a\""), ("content-length", "3")]]);
        assert_eq!(content.unwrap(), Content { etag: "0a".to_owned(), size: 3 });
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let message = |pairs: &[(&'static str, &str)]| of(&[pairs]).unwrap_err().to_string();
        assert!(message(&[("content-length", "3")]).contains("which content"));
        assert!(message(&[("etag", "\"a\"")]).contains("how large"));
        assert!(message(&[("etag", "a"), ("content-length", "-3")]).contains("how large"));
        assert!(
            message(&[("etag", "a"), ("x-repo-commit", "b"), ("content-length", "3")]).contains("asked for")
        );
        for etag in ["../../x", "a/b", "..", "", ".hidden", "a\\b"] {
            assert!(
                message(&[("etag", etag), ("content-length", "3")]).contains("cannot be the name"),
                "{etag}"
            );
        }
    }
}
