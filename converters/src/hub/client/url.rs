//! Addresses, as far as redirects need them.

use std::fmt;

use ureq::http::Uri;

/// An absolute http or https address without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    https: bool,
    host: String,
    port: u16,
    /// From the slash on; empty when there is none.
    path: String,
}

impl Url {
    /// Takes an address apart.
    ///
    /// # Errors
    /// What is wrong with it, without showing it: it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Url, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "not an address")?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("not an http or https address"),
        };
        let authority = uri.authority().ok_or("an address without a host")?;
        if authority.as_str().contains('@') {
            return Err("an address with a user name or password in it");
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err("an address without a host");
        }
        let port = match authority.as_str().get(authority.host().len()..) {
            Some("") => {
                if https {
                    443
                } else {
                    80
                }
            }
            _ => authority.port_u16().ok_or("an address with a wrong port")?,
        };
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        let path = if path == "/" { "" } else { path };
        Ok(Url { https, host, port, path: path.to_owned() })
    }

    /// The address below this one whose path is made of `parts`, each of which may hold any characters.
    pub(super) fn join(&self, parts: &[&str]) -> Url {
        let mut path = self.path.clone();
        for part in parts {
            path.push('/');
            for byte in part.bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                        path.push(char::from(byte))
                    }
                    _ => path.push_str(&format!("%{byte:02X}")),
                }
            }
        }
        Url { path, ..self.clone() }
    }

    /// Where a redirect from this address to `location` leads.
    ///
    /// # Errors
    /// What is wrong with it: not an address, or from https to http.
    pub(super) fn redirect(&self, location: &str) -> Result<Url, &'static str> {
        let scheme = if self.https { "https" } else { "http" };
        let target = if location.starts_with("//") {
            Url::parse(&format!("{scheme}:{location}"))?
        } else if location.starts_with('/') {
            Url::parse(&format!("{}{location}", self.origin()))?
        } else {
            Url::parse(location)?
        };
        if self.https && !target.https { Err("an address without encryption") } else { Ok(target) }
    }

    /// Whether both have the same scheme, host and port: a secret for one is a secret for the other.
    pub(super) fn same_origin(&self, other: &Url) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }

    /// Whether the connection is encrypted.
    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    /// Scheme, host and port: what messages show of an address, since the rest may be signed.
    pub(super) fn origin(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        match (self.https, self.port) {
            (true, 443) | (false, 80) => format!("{scheme}://{}", self.host),
            (_, port) => format!("{scheme}://{}:{port}", self.host),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_as_browsers_follow_them() {
        let url = Url::parse("https://hub.example/a/b?c").unwrap();
        let to = |location: &str| url.redirect(location).map(|url| url.to_string());
        assert_eq!(to("/d?e=f").as_deref(), Ok("https://hub.example/d?e=f"));
        assert_eq!(to("https://CDN.example/x%20y").as_deref(), Ok("https://cdn.example/x%20y"));
        assert_eq!(to("//cdn.example/x").as_deref(), Ok("https://cdn.example/x"));
        for wrong in
            ["http://hub.example/d", "file:///etc/passwd", "relative", "", "https://a@b/", "https://b:0x/"]
        {
            assert!(to(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let url = |text| Url::parse(text).unwrap();
        assert!(url("https://Hub.example/a").same_origin(&url("https://hub.example:443/b")));
        for other in [
            "http://hub.example",
            "https://hub.example:444",
            "https://hub.example.evil",
            "https://cdn.hub.example",
        ] {
            assert!(!url("https://hub.example").same_origin(&url(other)), "{other}");
        }
    }

    #[test]
    fn parts_are_escaped() {
        let url = Url::parse("http://h/p").unwrap().join(&["api", "refs/pr/1", "a b"]);
        assert_eq!(url.to_string(), "http://h/p/api/refs%2Fpr%2F1/a%20b");
    }
}
