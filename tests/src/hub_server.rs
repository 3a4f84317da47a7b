//! A server on this machine that speaks the hub's protocol, and breaks it on request.
//!
//! It listens on two ports: the hub, which answers small files itself and redirects to the second one, a content
//! delivery network, for large ones.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// The commit of every repository, unless it says otherwise.
pub const COMMIT: &str = "0d1b43ccf21b5acd9f4e5f7b077fa698f05cf195";
/// The only token that opens a private or gated repository.
pub const TOKEN: &str = "hf_opensesame";

/// A model's repository.
#[derive(Clone, Default)]
pub struct Repository {
    /// What is in it. Files of 10 kB and more are large.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The commit, if it is not [`COMMIT`].
    pub commit: Option<String>,
    /// Further names in the listing.
    pub listed: Vec<String>,
    /// Whether it looks absent without the token.
    pub private: bool,
    /// Whether its files need the token.
    pub gated: bool,
    /// Further headers of the answers about its files.
    pub headers: String,
}

/// What goes wrong with one request.
#[derive(Clone)]
pub enum Fault {
    /// A status, with these header lines.
    Status(u16, String),
    /// The connection ends after so many bytes of the content.
    CutAfter(usize),
    /// The content stops after so many bytes until [`HubServer::release`] is called.
    StallAfter(usize),
    /// The whole content comes, whatever range was asked for.
    IgnoreRange,
    /// The content has one bit changed.
    OtherBytes,
    /// Header lines without end.
    EndlessHeaders,
    /// A content without end, and without an announced length.
    EndlessBody,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whether it came to the content delivery network.
    pub cdn: bool,
    /// Method and target, as in `GET /api/models/a/b/revision/main`.
    pub line: String,
    /// Header names in lower case, and values.
    pub headers: BTreeMap<String, String>,
}

/// The server. It ends with the process.
pub struct HubServer {
    state: Arc<State>,
}

struct State {
    hub: String,
    cdn: String,
    inner: Mutex<Inner>,
    released: Condvar,
}

#[derive(Default)]
struct Inner {
    repositories: BTreeMap<String, Repository>,
    /// The words of the request line that a fault waits for; how often it happens.
    faults: Vec<(String, Fault, usize)>,
    requests: Vec<Request>,
    released: bool,
}

impl HubServer {
    /// Starts a hub with these repositories.
    pub fn start(repositories: impl IntoIterator<Item = (&'static str, Repository)>) -> HubServer {
        let listeners = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [hub, cdn] =
            [0, 1].map(|index: usize| format!("http://{}", listeners[index].local_addr().unwrap()));
        let repositories =
            repositories.into_iter().map(|(id, repository)| (id.to_owned(), repository)).collect();
        let inner = Mutex::new(Inner { repositories, ..Inner::default() });
        let state = Arc::new(State { hub, cdn, inner, released: Condvar::new() });
        for (listener, is_cdn) in listeners.into_iter().zip([false, true]) {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    thread::spawn(move || state.serve(stream, is_cdn));
                }
            });
        }
        HubServer { state }
    }

    /// The value for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> &str {
        &self.state.hub
    }

    /// Lets the next `times` requests go wrong whose line has all the words of `line`.
    pub fn fault(&self, line: &str, fault: Fault, times: usize) {
        self.inner().faults.push((line.to_owned(), fault, times));
    }

    /// Changes a repository.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Repository)) {
        change(self.inner().repositories.get_mut(id).unwrap());
    }

    /// The requests since this was last called.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.inner().requests)
    }

    /// How many requests arrived whose line has all the words of `line`.
    pub fn count(&self, line: &str) -> usize {
        self.inner().requests.iter().filter(|request| has_words(&request.line, line)).count()
    }

    /// Lets contents go on that [`Fault::StallAfter`] stopped.
    pub fn release(&self) {
        self.inner().released = true;
        self.state.released.notify_all();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.state.inner.lock().unwrap()
    }
}

/// The SHA-256 of bytes as the hub writes it.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn has_words(line: &str, words: &str) -> bool {
    words.split_whitespace().all(|word| line.contains(word))
}

fn error(status: u16, code: &str) -> String {
    format!(
        "HTTP/1.1 {status} Error\r\nX-Error-Code: {code}\r\nX-Error-Message: {code} it is\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
}

impl State {
    fn serve(&self, mut stream: TcpStream, cdn: bool) {
        let Some(request) = read_request(&stream, cdn) else { return };
        let fault = {
            let mut inner = self.inner.lock().unwrap();
            inner.requests.push(request.clone());
            let mut waiting = inner.faults.iter_mut();
            let found = waiting.find(|(words, _, times)| *times > 0 && has_words(&request.line, words));
            found.map(|(_, fault, times)| {
                *times -= 1;
                fault.clone()
            })
        };
        // Clients that have seen enough hang up.
        let _ = match (&fault, cdn) {
            (Some(Fault::Status(status, headers)), _) => stream.write_all(
                format!("HTTP/1.1 {status} Fault\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n")
                    .as_bytes(),
            ),
            (Some(Fault::EndlessHeaders), _) => {
                endless(&mut stream, "HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n")
            }
            (Some(Fault::EndlessBody), _) => {
                endless(&mut stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &[b'x'; 4096])
            }
            (_, true) => self.deliver(&mut stream, &request, fault),
            (_, false) => self.answer(&mut stream, &request, fault),
        };
    }

    fn answer(&self, stream: &mut TcpStream, request: &Request, fault: Option<Fault>) -> std::io::Result<()> {
        let (method, target) = request.line.split_once(' ').unwrap();
        let parts: Vec<&str> = target.trim_start_matches('/').split('/').collect();
        let (id, rest) = match parts.as_slice() {
            ["api", "models", owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
            [owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
            _ => return stream.write_all(error(404, "").as_bytes()),
        };
        let repository = self.inner.lock().unwrap().repositories.get(&id).cloned();
        let authorized =
            request.headers.get("authorization").is_some_and(|value| *value == format!("Bearer {TOKEN}"));
        let Some(repository) = repository.filter(|repository| !repository.private || authorized) else {
            return stream.write_all(error(401, "RepoNotFound").as_bytes());
        };
        let commit = repository.commit.as_deref().unwrap_or(COMMIT);
        match rest {
            ["revision", revision] if ["main", commit].contains(revision) => {
                let names = repository.files.keys().chain(&repository.listed);
                let siblings: Vec<String> =
                    names.map(|name| format!("{{\"rfilename\": {name:?}}}")).collect();
                let body = format!(
                    "{{\"id\": {id:?}, \"sha\": {commit:?}, \"siblings\": [{}]}}",
                    siblings.join(", ")
                );
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            ["revision", _] => stream.write_all(error(404, "RevisionNotFound").as_bytes()),
            ["resolve", _, ..] if repository.gated && !authorized => {
                stream.write_all(error(401, "GatedRepo").as_bytes())
            }
            ["resolve", asked, name @ ..] if *asked == commit => {
                let name = name.join("/");
                let Some(content) = repository.files.get(&name) else {
                    return stream.write_all(error(404, "EntryNotFound").as_bytes());
                };
                let (len, further) = (content.len(), &repository.headers);
                // First, since the first of two headers of one name counts.
                let common = format!("{further}X-Repo-Commit: {commit}\r\n");
                if len >= 10_000 {
                    let sha256 = sha256(content);
                    let location = format!("{}/cdn/{id}/{name}?signature=secret", self.cdn);
                    return write!(
                        stream,
                        "HTTP/1.1 302 Found\r\n{common}X-Linked-Etag: \"{sha256}\"\r\nX-Linked-Size: {len}\r\n\
                         Location: {location}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                    );
                }
                let etag = &sha256(content)[..40];
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\n{common}ETag: \"{etag}\"\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n"
                )?;
                if method == "GET" { self.send(stream, content, fault.as_ref()) } else { Ok(()) }
            }
            _ => stream.write_all(error(404, "RevisionNotFound").as_bytes()),
        }
    }

    /// The content delivery network: large files, by range.
    fn deliver(
        &self,
        stream: &mut TcpStream,
        request: &Request,
        fault: Option<Fault>,
    ) -> std::io::Result<()> {
        let path = request.line.trim_start_matches("GET /cdn/").trim_end_matches("?signature=secret");
        let mut parts = path.splitn(3, '/');
        let id = format!("{}/{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let content = {
            let inner = self.inner.lock().unwrap();
            inner.repositories.get(&id).and_then(|repository| repository.files.get(parts.next()?).cloned())
        };
        let Some(mut content) = content else { return stream.write_all(error(404, "").as_bytes()) };
        if let Some(Fault::OtherBytes) = fault {
            content[100] ^= 1;
        }
        let len = content.len();
        let range = request.headers.get("range").filter(|_| !matches!(fault, Some(Fault::IgnoreRange)));
        let from =
            range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match from {
            Some(from) if from < len => write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{len}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                len - 1,
                len - from
            )?,
            Some(_) => return stream.write_all(error(416, "").as_bytes()),
            None => write!(
                stream,
                "HTTP/1.1 200 OK\r\nETag: \"cdn\"\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n"
            )?,
        }
        self.send(stream, &content[from.unwrap_or(0)..], fault.as_ref())
    }

    fn send(&self, stream: &mut TcpStream, content: &[u8], fault: Option<&Fault>) -> std::io::Result<()> {
        match fault {
            Some(Fault::CutAfter(len)) => stream.write_all(&content[..*len]),
            Some(Fault::StallAfter(len)) => {
                stream.write_all(&content[..*len])?;
                stream.flush()?;
                let mut inner = self.inner.lock().unwrap();
                while !inner.released {
                    inner = self.released.wait(inner).unwrap();
                }
                drop(inner);
                stream.write_all(&content[*len..])
            }
            _ => stream.write_all(content),
        }
    }
}

fn read_request(stream: &TcpStream, cdn: bool) -> Option<Request> {
    let mut lines = BufReader::new(stream.take(1 << 16)).lines().map_while(Result::ok);
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some(Request { cdn, line, headers: headers.collect() })
}

/// Writes until the client hangs up.
fn endless(stream: &mut TcpStream, start: &str, more: &[u8]) -> std::io::Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(start.as_bytes())?;
    loop {
        stream.write_all(more)?;
    }
}
