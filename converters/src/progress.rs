//! Progress of long work, for whoever wants to show it.

/// Is told how far the work is. Called from several threads.
pub trait Progress: Sync {
    /// A step starts that will handle `bytes` bytes.
    fn start(&self, step: &str, bytes: u64);

    /// A step starts of which no bytes are counted.
    fn step(&self, step: &str) {
        self.start(step, 0);
    }

    /// `bytes` more bytes are done.
    fn advance(&self, bytes: u64);

    /// Something happened that whoever waits should know, and that is no error.
    fn warn(&self, _message: &str) {}
}

/// Shows nothing.
impl Progress for () {
    fn start(&self, _step: &str, _bytes: u64) {}

    fn advance(&self, _bytes: u64) {}
}
