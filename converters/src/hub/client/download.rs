//! The content of one file: fetched, resumed, checked, and only then named.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cache::{Repository, create_parent};
use super::http::{ATTEMPTS, Failure, retry, text};
use super::remote::{Content, Remote};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::system::not_through_links;

/// New attempts are not counted against the limit if the last one brought at least so many bytes.
const ENOUGH: u64 = 1 << 20;

/// Makes the file `name` of a commit be in the cache.
///
/// # Errors
/// What the hub refuses; a content that has another size or SHA-256 than announced; a disk that is full.
pub(super) fn fetch(
    remote: &Remote<'_>,
    repository: &Repository,
    commit: &str,
    name: &str,
    progress: &dyn Progress,
) -> Result<()> {
    let content = remote.content(commit, name)?;
    let blob = repository.blob(&content.etag);
    if !is_there(&blob, &content) {
        let _lock = repository.lock(&content.etag, || progress.start("waiting for another process", 0))?;
        // Another process may have fetched it meanwhile.
        if !is_there(&blob, &content) {
            let transfer = Transfer { remote, commit, name, content: &content, progress };
            transfer.run(&blob)?;
        }
    }
    repository.link(commit, name, &content.etag)
}

fn is_there(blob: &Path, content: &Content) -> bool {
    fs::metadata(blob).is_ok_and(|found| found.is_file() && found.len() == content.size)
}

/// One content on its way to the cache.
struct Transfer<'t> {
    remote: &'t Remote<'t>,
    commit: &'t str,
    name: &'t str,
    content: &'t Content,
    progress: &'t dyn Progress,
}

/// The unfinished file, and the hash of what is in it.
struct Partial {
    path: PathBuf,
    file: File,
    len: u64,
    hash: Sha256,
}

impl Transfer<'_> {
    fn run(&self, blob: &Path) -> Result<()> {
        let mut path = blob.as_os_str().to_owned();
        path.push(".incomplete");
        let mut partial = Partial::open(PathBuf::from(path))?;
        // Only a hash tells whether the start of a file belongs to the rest of it.
        if self.content.sha256().is_some() && partial.len <= self.content.size {
            partial.read()?;
        } else {
            partial.clear()?;
        }
        let resumed = partial.len > 0;
        self.receive(&mut partial)?;
        if resumed && !self.is_whole(&partial) {
            partial.clear()?;
            self.receive(&mut partial)?;
        }
        if !self.is_whole(&partial) {
            let (announced, found) = (&self.content.etag, hexadecimal(partial.hash.finalize().as_ref()));
            let _ = fs::remove_file(&partial.path);
            let why =
                format!("the hub announces a content with SHA-256 {announced} and sends one with {found}");
            let error = Error::malformed(why).wanting(announced, found);
            return Err(self.remote.place(error, Some(self.name)));
        }
        let named = partial.file.sync_data().and_then(|()| fs::rename(&partial.path, blob));
        named.map_err(|error| Error::io(blob, "write", error))
    }

    /// Fetches what is missing, in as many attempts as it takes while each brings something.
    fn receive(&self, partial: &mut Partial) -> Result<()> {
        self.announce(partial.len);
        loop {
            let before = partial.len;
            let result = retry(ATTEMPTS, || match self.attempt(partial) {
                // Leave the count of attempts: this one was worth it.
                Err(Failure::Unreachable { passing: true, .. })
                    if partial.len >= before.saturating_add(ENOUGH) =>
                {
                    Ok(())
                }
                result => result,
            });
            result.map_err(|failure| self.remote.explain(failure, Some(self.name)))?;
            if partial.len == self.content.size {
                return Ok(());
            }
        }
    }

    /// One request, for what is missing.
    fn attempt(&self, partial: &mut Partial) -> Result<(), Failure> {
        let size = self.content.size;
        if self.content.sha256().is_none() && partial.len > 0 {
            self.restart(partial)?;
        }
        if partial.len == size {
            return Ok(());
        }
        let url = self.remote.file_url(self.commit, self.name);
        let response = self.remote.client.get(&url, partial.len)?.response;
        match response.status().as_u16() {
            206 => {
                let range = text(response.headers(), "content-range").unwrap_or_default();
                let expected = format!("bytes {}-{}/{size}", partial.len, size.saturating_sub(1));
                if range != expected {
                    let why = format!("the hub sends the range {range:?}, asked for {expected:?}");
                    return Err(Failure::Broken(Error::malformed(why).wanting(expected, range)));
                }
            }
            // What is here is more than the hub has.
            416 => {
                self.restart(partial)?;
                return Err(Failure::Unreachable {
                    why: "the hub has no such range of the file".to_owned(),
                    passing: true,
                });
            }
            // The hub, or a proxy, does not know ranges.
            _ if partial.len > 0 => self.restart(partial)?,
            _ => {}
        }
        let missing = size.saturating_sub(partial.len);
        let announced = text(response.headers(), "content-length").and_then(|len| len.parse::<u64>().ok());
        if let Some(announced) = announced.filter(|&announced| announced != missing) {
            let why = format!("the hub sends {announced} bytes where {missing} are missing");
            return Err(Failure::Broken(Error::malformed(why).wanting(missing, announced)));
        }
        self.store(response.into_body().into_reader(), partial)
    }

    fn store(&self, mut body: impl Read, partial: &mut Partial) -> Result<(), Failure> {
        let size = self.content.size;
        let mut buffer = vec![0; 256 << 10];
        let passing = |why: String| Failure::Unreachable { why, passing: true };
        loop {
            Error::unless_stopped().map_err(Failure::Broken)?;
            let count = match body.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result.map_err(|error| passing(format!("the connection broke off: {error}")))?,
            };
            let received = buffer.get(..count).unwrap_or_default();
            if received.is_empty() {
                return match partial.len {
                    len if len == size => Ok(()),
                    len => Err(passing(format!("the connection ended after {len} of {size} bytes"))),
                };
            }
            if count as u64 > size.saturating_sub(partial.len) {
                let why = format!("the hub sends more than the {size} bytes that it announced");
                return Err(Failure::Broken(Error::malformed(why)));
            }
            partial.append(received).map_err(Failure::Broken)?;
            self.progress.advance(count as u64);
        }
    }

    fn restart(&self, partial: &mut Partial) -> Result<(), Failure> {
        partial.clear().map_err(Failure::Broken)?;
        self.announce(0);
        Ok(())
    }

    fn announce(&self, present: u64) {
        self.progress.start(self.name, self.content.size);
        self.progress.advance(present);
    }

    fn is_whole(&self, partial: &Partial) -> bool {
        let hash = || hexadecimal(partial.hash.clone().finalize().as_ref());
        self.content.sha256().is_none_or(|expected| expected == hash())
    }
}

impl Partial {
    fn open(path: PathBuf) -> Result<Partial> {
        create_parent(&path)?;
        // A link would have its target written.
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let opened = not_through_links(options).open(&path);
        let file = opened.map_err(|error| match fs::symlink_metadata(&path) {
            Ok(there) if there.is_symlink() => {
                Error::refused("a link in the place of a download that was not finished: delete it")
                    .in_file(&path)
            }
            _ => Error::io(&path, "create", error),
        })?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(Error::unsupported("not a regular file").in_file(&path));
        }
        let len = file.metadata().map_err(|error| Error::io(&path, "read", error))?.len();
        Ok(Partial { path, file, len, hash: Sha256::new() })
    }

    /// Hashes what is there.
    fn read(&mut self) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        let mut len = 0;
        loop {
            let count = self.file.read(&mut buffer).map_err(|error| Error::io(&self.path, "read", error))?;
            let read = buffer.get(..count).unwrap_or_default();
            if read.is_empty() {
                self.len = len;
                return Ok(());
            }
            self.hash.update(read);
            len += count as u64;
        }
    }

    fn clear(&mut self) -> Result<()> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        cleared.map_err(|error| Error::io(&self.path, "write", error))?;
        self.len = 0;
        self.hash = Sha256::new();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Error::io(&self.path, "write", error))?;
        self.len = self.len.saturating_add(bytes.len() as u64);
        self.hash.update(bytes);
        Ok(())
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
