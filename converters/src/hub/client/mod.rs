//! The client of the hub: the feature `hub`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Listed, Located, ModelId, Revision, Wanted};
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::source::Source;

mod cache;
mod download;
mod file_name;
mod http;
mod remote;
mod selection;
mod settings;
mod tls;
mod url;

use cache::Repository;
use http::{ATTEMPTS, Client};
use remote::{Listing, Remote};
use settings::Settings;

/// The hub, as the environment describes it.
pub struct Hub {
    settings: Settings,
}

impl Hub {
    /// Reads the environment variables. Makes no request.
    ///
    /// # Errors
    /// A variable that cannot be followed.
    pub fn from_env() -> Result<Hub> {
        Ok(Hub { settings: Settings::read(&|name| std::env::var_os(name))? })
    }

    /// The folder with the configuration, the tokenizer and the `wanted` weights of a model, which it downloads
    /// unless they are in the cache, and the names of all files of its repository, unless the hub did not answer.
    ///
    /// The hub is asked which commit the revision is; when it does not answer, the one in the cache is taken, with
    /// a warning. Offline no request is made.
    ///
    /// # Errors
    /// A model, revision or file that does not exist or is not accessible; a connection that fails again and again; a
    /// content that is not the announced one; offline, a model that is not in the cache.
    pub fn model(
        &self,
        id: &ModelId,
        revision: &Revision,
        wanted: &Wanted,
        progress: &dyn Progress,
    ) -> Result<Located> {
        let repository = Repository::new(&self.settings.cache, id);
        let cached = || -> Result<Located> {
            let path = self.cached(&repository, id, revision, wanted)?;
            Ok(Located { path, listed: Listed::Unknown })
        };
        if let Some(variable) = self.settings.offline {
            return cached()
                .map_err(|error| error.followed_by(&format!("; {variable} forbids to download it")));
        }
        let client = Client::new(&self.settings)?;
        let remote = Remote { client: &client, id, revision };
        let fallback = cached().ok();
        let attempts = if fallback.is_some() { 1 } else { ATTEMPTS };
        let listing = match (remote.listing(attempts), fallback) {
            (Ok(listing), _) => listing,
            (Err(failure), Some(located)) if failure.is_silence() => {
                let why = remote.explain(failure, None);
                progress.warn(&format!("{why}; taking what the cache has: {}", located.path.display()));
                return Ok(located);
            }
            (Err(failure), _) => return Err(remote.explain(failure, None)),
        };
        fetch_all(&remote, &repository, listing, wanted, progress)
    }

    /// What the cache has of a model.
    fn cached(
        &self,
        repository: &Repository,
        id: &ModelId,
        revision: &Revision,
        wanted: &Wanted,
    ) -> Result<PathBuf> {
        let absent = |what: &str| {
            let why = format!("{what} in the cache {}", self.settings.cache.display());
            Error::new(Kind::Hub, why).in_file(id.as_str().as_ref())
        };
        let Some(commit) = repository.commit(revision)? else {
            return Err(absent(&format!("revision {} is not", revision.as_str())));
        };
        let files = repository.files(&commit);
        let weights = selection::weights(&files, wanted)
            .map_err(|error| absent(&format!("{error}: not there for commit {commit}")))?;
        let folder = repository.snapshot(&commit);
        for name in &weights {
            repository.has(&commit, name)?;
            let shards = Source::locate(&folder.join(name), None, None)?.files;
            if let Some(shard) = shards.iter().find(|shard| !shard.is_file()) {
                return Err(absent(&format!("{} is not", shard.display())));
            }
        }
        Ok(folder)
    }
}

fn fetch_all(
    remote: &Remote<'_>,
    repository: &Repository,
    listing: Listing,
    wanted: &Wanted,
    progress: &dyn Progress,
) -> Result<Located> {
    let commit = listing.commit;
    let files: BTreeSet<String> = listing.files.into_iter().collect();
    let fetch = |name: &str| match repository.has(&commit, name)? {
        true => Ok(()),
        false => download::fetch(remote, repository, &commit, name, progress),
    };
    let here = |error| remote.place(error, None);
    let weights = selection::weights(&files, wanted).map_err(here)?;
    for name in selection::accompanying(&files) {
        fetch(name)?;
    }
    let folder = repository.snapshot(&commit);
    for name in &weights {
        fetch(name)?;
        for data in selection::external_data(&files, name).map_err(here)? {
            fetch(data)?;
        }
        let source = Source::locate(&folder.join(name), None, None)?;
        for shard in source.weight_map.iter().flatten().map(|(_, shard)| shard).collect::<BTreeSet<_>>() {
            if !files.contains(shard) {
                let why = format!("names the shard {shard:?}, which the repository has not");
                return Err(remote.place(Error::malformed(why), Some(name)));
            }
            fetch(shard)?;
        }
    }
    // Last, so that the name of a revision leads to all that was wanted.
    repository.set_commit(remote.revision, &commit)?;
    Ok(Located { path: folder, listed: Listed::Repository(files) })
}
