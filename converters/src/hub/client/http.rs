//! Requests to the hub: redirects, the token, failures and new attempts.

use std::thread::sleep;
use std::time::Duration;

use ureq::http::{Method, Request, Response, header};
use ureq::{Agent, Body, Proxy, ProxyProtocol};

use super::file_name::cut;
use super::settings::{Settings, Token};
use super::tls;
use super::url::Url;
use crate::error::{Error, Kind, Printable, Result};

/// How many redirects are followed.
const REDIRECTS: usize = 5;
/// How often a request is made that fails for a reason that may pass.
pub(super) const ATTEMPTS: u32 = 5;
/// The longest that a server may ask to wait.
const LONGEST_WAIT: u64 = 300;

/// Makes requests.
pub(super) struct Client {
    agent: Agent,
    endpoint: Url,
    token: Option<Token>,
}

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// No answer: `passing` says whether another attempt may help.
    Unreachable { why: String, passing: bool },
    /// An answer that is not what was asked for.
    Status { status: u16, code: String, message: String, retry_after: Option<u64> },
    /// An answer that breaks the rules, or an error of this side.
    Broken(Error),
}

/// An answer, and what the redirects to it said.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    /// The headers of every answer, the last one's last.
    pub(super) headers: Vec<header::HeaderMap>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Client> {
        let config = Agent::config_builder()
            .tls_config(tls::config()?)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(64 << 10)
            .timeout_connect(Some(settings.patience))
            .timeout_per_read(Some(settings.patience))
            .timeout_recv_response(Some(settings.patience.saturating_mul(2)))
            .proxy(None)
            .build();
        Ok(Client {
            agent: config.new_agent(),
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
        })
    }

    /// Where the hub is.
    pub(super) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Where the token comes from that requests carry.
    pub(super) fn token_origin(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.origin.as_str())
    }

    /// Asks for the content of `url` from byte `from` on, wherever redirects lead.
    pub(super) fn get(&self, url: &Url, from: u64) -> Result<Answer, Failure> {
        self.follow(Method::GET, url, from, |_, _| true)
    }

    /// Asks what the hub itself says about `url`: a redirect to another host is an answer.
    pub(super) fn head(&self, url: &Url) -> Result<Answer, Failure> {
        self.follow(Method::HEAD, url, 0, |here, there| here.same_origin(there))
    }

    fn follow(
        &self,
        method: Method,
        url: &Url,
        from: u64,
        further: impl Fn(&Url, &Url) -> bool,
    ) -> Result<Answer, Failure> {
        let mut url = url.clone();
        let mut headers = Vec::new();
        for _ in 0..=REDIRECTS {
            let response = self.send(&method, &url, from)?;
            headers.push(response.headers().clone());
            let status = response.status();
            if status.is_redirection() {
                let location = text(response.headers(), "location").unwrap_or_default();
                let target = url.redirect(location).map_err(|why| {
                    Failure::Broken(Error::refused(format!("{} redirects nowhere: {why}", url.origin())))
                })?;
                if !further(&url, &target) {
                    return Ok(Answer { response, headers });
                }
                url = target;
                continue;
            }
            if !status.is_success() && status.as_u16() != 416 {
                let header = |name| cut(text(response.headers(), name).unwrap_or_default());
                return Err(Failure::Status {
                    status: status.as_u16(),
                    code: header("x-error-code"),
                    message: header("x-error-message"),
                    retry_after: text(response.headers(), "retry-after")
                        .and_then(|value| value.trim().parse().ok()),
                });
            }
            return Ok(Answer { response, headers });
        }
        Err(Failure::Broken(Error::refused(format!(
            "more than {REDIRECTS} redirects, the last from {}",
            url.origin()
        ))))
    }

    /// One request. The token goes to the hub's own origin and nowhere else.
    fn send(&self, method: &Method, url: &Url, from: u64) -> Result<Response<Body>, Failure> {
        if url.is_https() {
            tls::require().map_err(Failure::Broken)?;
        }
        let mut request = Request::builder().method(method).uri(url.to_string());
        if let Some(token) = self.token.as_ref().filter(|_| url.same_origin(&self.endpoint)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.secret));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let request = request.body(()).map_err(|_| {
            Failure::Broken(Error::malformed(format!(
                "an address on {} that cannot be asked for",
                url.origin()
            )))
        })?;
        let proxy = proxy(url).map_err(Failure::Broken)?;
        let request = self.agent.configure_request(request).proxy(proxy).build();
        self.agent.run(request).map_err(|error| Failure::of(error, url))
    }
}

impl Failure {
    fn of(error: ureq::Error, url: &Url) -> Failure {
        use std::io::ErrorKind;
        let passing = match &error {
            ureq::Error::Io(error) => error.kind() != ErrorKind::ConnectionRefused,
            ureq::Error::Timeout(_) => true,
            ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_) => false,
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => false,
            _ => {
                let why = format!("{} gives no proper answer: {error}", url.origin());
                return Failure::Broken(Error::new(Kind::Hub, why));
            }
        };
        let hint = match &error {
            ureq::Error::Rustls(rustls::Error::InvalidCertificate(_)) => {
                " (REQUESTS_CA_BUNDLE or SSL_CERT_FILE names a file of certificates to trust)"
            }
            _ => "",
        };
        Failure::Unreachable { why: format!("cannot reach {}: {error}{hint}", url.origin()), passing }
    }

    /// How long to wait before the attempt after number `attempt`, if there should be one.
    fn pause(&self, attempt: u32) -> Option<Duration> {
        let backoff = Duration::from_millis(500 << attempt.min(6));
        match self {
            Failure::Unreachable { passing, .. } => passing.then_some(backoff),
            Failure::Status { status: 408 | 429 | 500 | 502 | 503 | 504, retry_after, .. } => {
                match retry_after {
                    Some(seconds) => (*seconds <= LONGEST_WAIT).then(|| Duration::from_secs(*seconds)),
                    None => Some(backoff),
                }
            }
            _ => None,
        }
    }

    /// Whether the hub said nothing about what was asked: what is in the cache may serve instead.
    pub(super) fn is_silence(&self) -> bool {
        match self {
            Failure::Unreachable { .. } => true,
            Failure::Status { status, .. } => *status == 429 || *status >= 500,
            Failure::Broken(_) => false,
        }
    }

    /// What is wrong, without the place.
    pub(super) fn message(self) -> Error {
        match self {
            Failure::Unreachable { why, .. } => Error::new(Kind::Hub, why),
            Failure::Status { status, message, retry_after, .. } => {
                let said =
                    if message.is_empty() { String::new() } else { format!(": {}", Printable(&message)) };
                let wait =
                    retry_after.map_or(String::new(), |seconds| format!(" (try again in {seconds} s)"));
                Error::new(Kind::Hub, format!("the hub answers with status {status}{said}{wait}"))
            }
            Failure::Broken(error) => error,
        }
    }
}

/// Does `work` until it succeeds or fails for good, at most `attempts` times.
pub(super) fn retry<T>(attempts: u32, mut work: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut attempt = 1;
    loop {
        let failure = match work() {
            Err(failure) if attempt < attempts => failure,
            result => return result,
        };
        match failure.pause(attempt - 1) {
            Some(pause) => sleep(pause),
            None => return Err(failure),
        }
        attempt += 1;
    }
}

/// A header as text.
pub(super) fn text<'h>(headers: &'h header::HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The proxy for an address by the usual variables.
fn proxy(url: &Url) -> Result<Option<Proxy>> {
    // HTTP_PROXY in capitals may be a header of a request to a CGI program: it is not read, as in curl.
    let names: &[&str] = match url.is_https() {
        true => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        false => &["http_proxy", "all_proxy", "ALL_PROXY"],
    };
    let variable = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some((name, value)) = names.iter().find_map(|name| Some((name, variable(name)?))) else {
        return Ok(None);
    };
    let wrong = |error| Error::new(Kind::Request, format!("{name} names no proxy that can be used: {error}"));
    let given = Proxy::new(&value).map_err(wrong)?;
    if !matches!(given.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
        let why =
            format!("{name} names a SOCKS proxy, which this program does not speak to: name one for http");
        return Err(Error::new(Kind::Request, why));
    }
    let mut proxy = Proxy::builder(given.protocol()).host(given.host()).port(given.port());
    if let Some(user) = given.username() {
        proxy = proxy.username(user);
    }
    if let Some(password) = given.password() {
        proxy = proxy.password(password);
    }
    for host in ["no_proxy", "NO_PROXY"].iter().find_map(variable).unwrap_or_default().split(',') {
        proxy = proxy.no_proxy(host.trim());
    }
    proxy.build().map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> Failure {
        Failure::Status { status, code: String::new(), message: String::new(), retry_after }
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let mut calls = 0;
        let mut fails = |times: u32, status_code: u16| {
            calls = 0;
            let result = retry(ATTEMPTS, || {
                calls += 1;
                if calls > times { Ok(()) } else { Err(status(status_code, Some(0))) }
            });
            (result.is_ok(), calls)
        };
        assert_eq!(fails(2, 503), (true, 3));
        assert_eq!(fails(9, 429), (false, ATTEMPTS));
        assert_eq!(fails(1, 404), (false, 1));
    }

    #[test]
    fn pauses_grow_and_end() {
        let pause = |attempt| status(500, None).pause(attempt).unwrap();
        assert!(pause(0) < pause(1) && pause(1) < pause(2));
        assert_eq!(status(429, Some(7)).pause(0), Some(Duration::from_secs(7)));
        assert_eq!(status(429, Some(LONGEST_WAIT + 1)).pause(0), None);
        assert_eq!(Failure::Unreachable { why: String::new(), passing: false }.pause(0), None);
    }
}
