//! The hidden folder that files pass through which appear together.
//!
//! No file system names several files in one step. So the new files are first named `new-0`, `new-1`, … in a hidden folder beside
//! their places, and a journal says what is to be done. Then, by renaming alone, old files go from their places to `old-0`, …,
//! the one that makes the others readable first (the weights, the index of shards, the graph), and new files come, that one last.
//! Thus there is no moment at which old and new files make a model together. Whoever finds the hidden folder and holds the lock on
//! its parent sees by the names in it how far a run came that was killed:
//!
//! ```text
//! .deberta-unfinished/
//!   journal      complete: what is there is carried on to the end; absent: nothing has been done yet, and nothing will be
//!   undo         the journal of a run that failed: what was done is undone
//!   new-0, …     files that are not in their places yet
//!   old-0, …     files that were in the places of new ones
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use crate::system;

/// The name of the hidden folder.
pub(super) const NAME: &str = ".deberta-unfinished";
const JOURNAL: &str = "journal";
const UNDO: &str = "undo";
/// A journal that is being written.
const DRAFT: &str = "draft";
/// More than the names of any output take.
const LONGEST_JOURNAL: u64 = 16 << 20;

/// What is done with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A file comes where none is.
    Add,
    /// A file comes in place of another one.
    Replace,
    /// A file goes.
    Remove,
}

#[derive(Debug)]
struct Step {
    name: OsString,
    change: Change,
}

/// The hidden folder of a run, which holds the lock on its parent.
#[derive(Debug)]
pub(super) struct Unfinished {
    folder: PathBuf,
    hidden: PathBuf,
    steps: Vec<Step>,
}

impl Unfinished {
    /// Makes the hidden folder.
    pub(super) fn create(folder: &Path) -> io::Result<Unfinished> {
        let hidden = folder.join(NAME);
        fs::create_dir(&hidden)?;
        Ok(Unfinished { folder: folder.to_owned(), hidden, steps: Vec::new() })
    }

    /// Adds a name, and returns where its new file is to be put now. The name that makes the others readable is added last.
    pub(super) fn add(&mut self, name: &OsStr, change: Change) -> PathBuf {
        self.steps.push(Step { name: name.to_owned(), change });
        self.new_at(self.steps.len() - 1)
    }

    /// Gives everything its name, or leaves everything as it was.
    pub(super) fn finish(self) -> io::Result<()> {
        let done = self.write_journal().and_then(|()| {
            self.forward().inspect_err(|_| {
                // Not every undoing is possible; what is left is undone by the next run.
                let _ = rename(&self.hidden.join(JOURNAL), &self.hidden.join(UNDO));
                let _ = self.back();
            })
        });
        match done {
            Ok(()) => self.clear(),
            Err(error) => {
                if self.is_undone() {
                    self.clear();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts a single file into its place, in one step, in which it replaces another one.
    pub(super) fn finish_alone(self) -> io::Result<()> {
        let renamed = match self.steps.as_slice() {
            [step] => rename(&self.new_at(0), &self.folder.join(&step.name)),
            _ => Err(ErrorKind::InvalidInput.into()),
        };
        self.clear();
        renamed
    }

    /// Removes the hidden folder. What cannot be removed is removed by the next run.
    pub(super) fn clear(&self) {
        // As long as the journal is there, it is carried on.
        for name in [JOURNAL, UNDO, DRAFT] {
            let _ = remove_file(&self.hidden.join(name));
        }
        let entries = fs::read_dir(&self.hidden).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir());
            let _ = if is_folder { fs::remove_dir_all(&path) } else { remove_file(&path) };
        }
        let _ = remove_dir(&self.hidden);
    }

    /// Carries on or undoes what a run in `folder` left that was killed. The caller holds the lock on the folder.
    pub(super) fn recover(folder: &Path) -> io::Result<()> {
        let hidden = folder.join(NAME);
        // Never through a link: what is in there is removed.
        if !fs::symlink_metadata(&hidden).is_ok_and(|there| there.is_dir()) {
            return Ok(());
        }
        let mut left = Unfinished { folder: folder.to_owned(), hidden, steps: Vec::new() };
        let undo = read_journal(&left.hidden.join(UNDO))?;
        let is_failed = undo.is_some();
        left.steps = match undo {
            Some(steps) => steps,
            None => read_journal(&left.hidden.join(JOURNAL))?.unwrap_or_default(),
        };
        if is_failed || left.forward().is_err() {
            left.back()?;
        }
        left.clear();
        Ok(())
    }

    fn write_journal(&self) -> io::Result<()> {
        let mut bytes = Vec::new();
        for step in &self.steps {
            bytes.push(match step.change {
                Change::Add => b'a',
                Change::Replace => b'r',
                Change::Remove => b'd',
            });
            bytes.extend(system::bytes_of_name(&step.name));
            bytes.push(0);
        }
        let draft = self.hidden.join(DRAFT);
        let mut file = File::create_new(&draft)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        sync_folder(&self.hidden);
        rename(&draft, &self.hidden.join(JOURNAL))?;
        sync_folder(&self.hidden);
        Ok(())
    }

    /// Does what is to be done and has not been done.
    fn forward(&self) -> io::Result<()> {
        for (at, step) in self.steps.iter().enumerate().rev() {
            let is_to_go = match step.change {
                Change::Add => false,
                Change::Replace => exists(&self.new_at(at)),
                Change::Remove => true,
            };
            if is_to_go && !exists(&self.old_at(at)) {
                match rename(&self.folder.join(&step.name), &self.old_at(at)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        for (at, step) in self.steps.iter().enumerate() {
            if step.change != Change::Remove && exists(&self.new_at(at)) {
                rename_to_absent(&self.new_at(at), &self.folder.join(&step.name))?;
            }
        }
        sync_folder(&self.folder);
        Ok(())
    }

    /// Undoes what was done. A file that somebody else put into one of the places stays.
    fn back(&self) -> io::Result<()> {
        for (at, step) in self.steps.iter().enumerate().rev() {
            let place = self.folder.join(&step.name);
            if step.change != Change::Remove && !exists(&self.new_at(at)) && exists(&place) {
                rename(&place, &self.new_at(at))?;
            }
        }
        for (at, step) in self.steps.iter().enumerate() {
            let place = self.folder.join(&step.name);
            if exists(&self.old_at(at)) && !exists(&place) {
                rename_to_absent(&self.old_at(at), &place)?;
            }
        }
        sync_folder(&self.folder);
        Ok(())
    }

    /// Whether no old file is left in the hidden folder whose place is empty.
    fn is_undone(&self) -> bool {
        let mut steps = self.steps.iter().enumerate();
        steps.all(|(at, step)| !exists(&self.old_at(at)) || exists(&self.folder.join(&step.name)))
    }

    fn new_at(&self, step: usize) -> PathBuf {
        self.hidden.join(format!("new-{step}"))
    }

    fn old_at(&self, step: usize) -> PathBuf {
        self.hidden.join(format!("old-{step}"))
    }
}

/// Reads a journal; nothing if there is none. One that no run can have written says that nothing is to be done.
fn read_journal(path: &Path) -> io::Result<Option<Vec<Step>>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(there) if !there.is_file() || there.len() > LONGEST_JOURNAL => return Ok(Some(Vec::new())),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_JOURNAL).read_to_end(&mut bytes)?;
    let lines = bytes.split_inclusive(|&byte| byte == 0);
    Ok(Some(lines.map(step).collect::<Option<_>>().unwrap_or_default()))
}

fn step(line: &[u8]) -> Option<Step> {
    let (&change, name) = line.strip_suffix(&[0])?.split_first()?;
    let change = match change {
        b'a' => Change::Add,
        b'r' => Change::Replace,
        b'd' => Change::Remove,
        _ => return None,
    };
    let name = system::name_of_bytes(name)?;
    // A journal may have come with the folder, from a stranger: it names files of the folder alone.
    let mut components = Path::new(&name).components();
    let is_name = matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name);
    (is_name && name != NAME).then_some(Step { name, change })
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Waits until the names in a folder are on the disk, where a file system can do that for folders.
pub(super) fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    killed::maybe();
    fs::rename(from, to)
}

fn remove_file(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    killed::maybe();
    fs::remove_file(path)
}

fn remove_dir(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    killed::maybe();
    fs::remove_dir(path)
}

/// Renames a file to a name that nothing has.
pub(super) fn rename_to_absent(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    killed::maybe();
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // The file system does not know how, and is asked first.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            renamed => return Ok(renamed?),
        }
    }
    if exists(to) { Err(ErrorKind::AlreadyExists.into()) } else { fs::rename(from, to) }
}

/// Deaths at the names, for tests.
#[cfg(test)]
pub(super) mod killed {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Ends the run at its n-th change of a name; whether it was ended.
    pub(in crate::output) fn at(n: usize, run: impl FnOnce()) -> bool {
        LEFT.set(Some(n));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err();
        LEFT.set(None);
        ended
    }

    pub(in crate::output) fn maybe() {
        match LEFT.get() {
            Some(0) => std::panic::resume_unwind(Box::new("killed")),
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a folder with what is in them.
    fn files(folder: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name() != NAME)
            .map(|entry| {
                let text = fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        files.sort();
        files
    }

    fn named(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    const OLD: [(&str, &str); 4] = [("config", "1"), ("shard-1", "1"), ("shard-2", "1"), ("the index", "1")];
    const NEW: [(&str, &str); 4] = [("config", "2"), ("shard-1", "2"), ("the index", "2"), ("vocab", "2")];

    /// Replaces the old files by the new ones. Without the index the shards are nothing.
    fn replace(folder: &Path) -> io::Result<()> {
        let mut unfinished = Unfinished::create(folder)?;
        for (name, change) in [
            ("config", Change::Replace),
            ("vocab", Change::Add),
            ("shard-1", Change::Replace),
            ("shard-2", Change::Remove),
            ("the index", Change::Replace),
        ] {
            let new = unfinished.add(OsStr::new(name), change);
            if change != Change::Remove {
                fs::write(new, "2")?;
            }
        }
        unfinished.finish()
    }

    fn with_old() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        OLD.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
        folder
    }

    #[test]
    fn a_run_that_dies_at_any_name_is_carried_on_or_undone() {
        let (mut undone, mut carried_on) = (0, 0);
        for n in 0.. {
            let folder = with_old();
            let ended = killed::at(n, || replace(folder.path()).unwrap());
            let between = files(folder.path());
            let index = between.iter().find(|(name, _)| name == "the index");
            match index.map(|(_, text)| text.as_str()) {
                None => {}
                Some("1") => assert_eq!(between, named(&OLD), "{n}"),
                Some(_) => assert_eq!(between, named(&NEW), "{n}"),
            }
            if !ended {
                assert_eq!((between, folder.path().join(NAME).exists()), (named(&NEW), false));
                break;
            }
            // The next run may die, too, at each of its steps.
            for again in (0..).take_while(|&again| again < 50) {
                if !killed::at(again, || Unfinished::recover(folder.path()).unwrap()) {
                    break;
                }
            }
            let after = files(folder.path());
            assert!(after == named(&OLD) || after == named(&NEW), "{n}: {after:?}");
            if after == named(&OLD) {
                undone += 1
            } else {
                carried_on += 1
            }
            assert!(!folder.path().join(NAME).exists());
        }
        assert!(undone > 0 && carried_on > 5, "{undone}, {carried_on}");
    }

    #[test]
    fn a_run_that_fails_leaves_everything_as_it_was() {
        let folder = with_old();
        // In the way of a file that is to come.
        fs::write(folder.path().join("vocab"), "mine").unwrap();
        let before = files(folder.path());
        assert_eq!(replace(folder.path()).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!((files(folder.path()), folder.path().join(NAME).exists()), (before, false));
    }

    #[test]
    fn what_was_written_after_a_death_stays() {
        let folder = with_old();
        // Everything old is gone, and nothing new has come.
        assert!(killed::at(5, || replace(folder.path()).unwrap()));
        assert_eq!(files(folder.path()), []);
        fs::write(folder.path().join("the index"), "restored").unwrap();
        Unfinished::recover(folder.path()).unwrap();
        let mut want = named(&OLD);
        want[3].1 = "restored".to_owned();
        assert_eq!((files(folder.path()), folder.path().join(NAME).exists()), (want, false));
    }

    #[test]
    fn a_journal_of_a_stranger_reaches_nothing_outside() {
        for line in
            ["a../x\0", "a/x\0", "ax/y\0", "r..\0", "a.\0", "x\0", "aname", "a\0", "a.deberta-unfinished\0"]
        {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join("folder");
            let hidden = folder.join(NAME);
            fs::create_dir_all(&hidden).unwrap();
            fs::write(hidden.join(JOURNAL), line).unwrap();
            fs::write(hidden.join("new-0"), "bad").unwrap();
            Unfinished::recover(&folder).unwrap();
            assert_eq!((files(&folder), fs::read_dir(root.path()).unwrap().count()), (vec![], 1), "{line:?}");
        }
        let root = tempfile::tempdir().unwrap();
        let precious = root.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("file"), "x").unwrap();
        std::os::unix::fs::symlink("precious", root.path().join(NAME)).unwrap();
        Unfinished::recover(root.path()).unwrap();
        assert!(precious.join("file").exists());
    }
}
