//! The environment variables of the hub, as huggingface_hub understands them.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::url::Url;
use crate::error::{Error, Kind, Result};
use crate::opening;

/// The longest file of a token, in bytes.
const LONGEST_TOKEN: u64 = 1 << 16;
/// The longest patience, in seconds: a day.
const MOST_PATIENCE: u64 = 24 * 60 * 60;

/// What the environment says about the hub.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The folder of the cache.
    pub(super) cache: PathBuf,
    /// Where the hub is.
    pub(super) endpoint: Url,
    /// What shows who asks.
    pub(super) token: Option<Token>,
    /// Whether no request may be made, and the variable that says so.
    pub(super) offline: Option<&'static str>,
    /// How long to wait for the next bytes.
    pub(super) patience: Duration,
}

/// A secret, which no message shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) secret: String,
    /// Where it comes from, for messages.
    pub(super) origin: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token from {}", self.origin)
    }
}

impl Settings {
    /// Reads the variables through `variable`.
    ///
    /// # Errors
    /// An endpoint that is no URL; a token that cannot be sent; no home folder to find the cache in.
    pub(super) fn read(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Settings> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| variable(name).map(|value| value.to_string_lossy().trim().to_owned());
        let on = |name: &str| text(name).is_some_and(|value| is_true(&value));

        let user = variable("HOME").map(PathBuf::from);
        let expand = |value: OsString| expand_home(PathBuf::from(value), user.as_deref());
        let home = variable("HF_HOME").map(expand).or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(expand);
            cache
                .or_else(|| user.as_ref().map(|user| user.join(".cache")))
                .map(|cache| cache.join("huggingface"))
        });
        let cache = variable("HF_HUB_CACHE")
            .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
            .map(expand)
            .or_else(|| home.as_ref().map(|home| home.join("hub")))
            .ok_or_else(|| {
                Error::new(
                    Kind::Request,
                    "no place for the hub's cache: HF_HUB_CACHE, HF_HOME and HOME are not set",
                )
            })?;

        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let endpoint = Url::parse(endpoint.trim_end_matches('/')).map_err(|why| {
            Error::new(
                Kind::Request,
                format!("HF_ENDPOINT: {why}, expected the address of a hub like https://huggingface.co"),
            )
        })?;

        let token = match on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            true => None,
            false => {
                let file =
                    variable("HF_TOKEN_PATH").map(expand).or_else(|| home.map(|home| home.join("token")));
                let of = |name: &str| Some((text(name)?, name.to_owned()));
                let found = of("HF_TOKEN").or_else(|| of("HUGGING_FACE_HUB_TOKEN")).or_else(|| {
                    let path = file?;
                    Some((opening::read_text(&path, LONGEST_TOKEN).ok()?, path.display().to_string()))
                });
                found.map(|(secret, origin)| Token::new(&secret, origin)).transpose()?.flatten()
            }
        };

        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| on(name));
        let patience = match text("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => 30,
            Some(value) => value.parse().ok().filter(|&seconds| seconds > 0).ok_or_else(|| {
                let why = format!("HF_HUB_DOWNLOAD_TIMEOUT is {value:?}, expected a number of seconds");
                Error::new(Kind::Request, why)
            })?,
        };
        Ok(Settings {
            cache,
            endpoint,
            token,
            offline,
            patience: Duration::from_secs(patience.min(MOST_PATIENCE)),
        })
    }
}

impl Token {
    fn new(secret: &str, origin: String) -> Result<Option<Token>> {
        let secret = secret.trim();
        if secret.is_empty() {
            return Ok(None);
        }
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = format!("the token from {origin} has characters that no token has");
            return Err(Error::new(Kind::Request, why));
        }
        Ok(Some(Token { secret: secret.to_owned(), origin }))
    }
}

/// What huggingface_hub takes for true.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

/// Replaces a leading `~`.
fn expand_home(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(&|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_cache_is_found_in_the_order_of_huggingface_hub() {
        let mut variables = vec![
            ("HOME", "/u"),
            ("XDG_CACHE_HOME", "/x"),
            ("HF_HOME", "~/hf"),
            ("HUGGINGFACE_HUB_CACHE", "/old"),
            ("HF_HUB_CACHE", "/new"),
        ];
        for expected in ["/new", "/old", "/u/hf/hub", "/x/huggingface/hub", "/u/.cache/huggingface/hub"] {
            assert_eq!(settings(&variables).unwrap().cache, Path::new(expected));
            variables.pop();
        }
        assert!(settings(&[]).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn offline_in_every_spelling() {
        for value in ["1", "true", "YES", "On"] {
            assert_eq!(
                settings(&[("HOME", "/"), ("HF_HUB_OFFLINE", value)]).unwrap().offline,
                Some("HF_HUB_OFFLINE")
            );
        }
        let other =
            settings(&[("HOME", "/"), ("TRANSFORMERS_OFFLINE", "1"), ("HF_HUB_OFFLINE", "0")]).unwrap();
        assert_eq!(other.offline, Some("TRANSFORMERS_OFFLINE"));
        assert_eq!(settings(&[("HOME", "/"), ("HF_HUB_OFFLINE", "")]).unwrap().offline, None);
    }

    #[test]
    fn tokens_come_from_the_environment_or_a_file_and_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let secret = |variables: &[(&str, &str)]| {
            settings(&[&[("HF_HOME", home)], variables].concat()).unwrap().token.map(|token| token.secret)
        };
        assert_eq!(secret(&[]).as_deref(), Some("hf_file"));
        assert_eq!(secret(&[("HF_TOKEN", " hf_env ")]).as_deref(), Some("hf_env"));
        assert_eq!(secret(&[("HF_TOKEN_PATH", "/nowhere")]), None);
        assert_eq!(secret(&[("HF_TOKEN", "hf_env"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let shown = format!("{:?}", settings(&[("HF_HOME", home)]).unwrap());
        assert!(!shown.contains("hf_file"), "{shown}");
        let error = settings(&[("HF_HOME", home), ("HF_TOKEN", "se\ncret")]).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("cret"), "{error}");
    }

    #[test]
    fn an_endpoint_must_be_a_url() {
        for wrong in ["huggingface.co", "ftp://a", "https://user:hunter2@host", "https://"] {
            let error = settings(&[("HOME", "/"), ("HF_ENDPOINT", wrong)]).unwrap_err().to_string();
            assert!(error.contains("HF_ENDPOINT") && !error.contains("hunter2"), "{error}");
        }
        let mirror = settings(&[("HOME", "/"), ("HF_ENDPOINT", "http://127.0.0.1:8080/mirror/")]).unwrap();
        assert_eq!(mirror.endpoint.to_string(), "http://127.0.0.1:8080/mirror");
    }
}
