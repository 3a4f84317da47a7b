//! Ratios of signal to noise over several tensors.

use crate::trace::file::Trace;
use crate::trace::padding::Padding;

/// Energies of what is expected and of what is off, summed over tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Noise {
    signal: f64,
    noise: f64,
}

impl Noise {
    /// Adds the outputs of two runs on the same inputs. Nothing if they have none in common.
    pub(super) fn add(&mut self, want: &Trace, got: &Trace, padding: &Padding) -> Option<()> {
        let mut found = None;
        for want in want.tensors.iter().filter(|tensor| tensor.name.starts_with("outputs.")) {
            let Some(got) = got.get(&want.name).filter(|got| got.shape == want.shape) else { continue };
            let (Some(wanted), Some(gotten)) = (want.data.floats(), got.data.floats()) else { continue };
            let flags = padding.of_tensor(&want.name, &want.shape);
            for (at, (want, got)) in wanted.iter().zip(gotten.iter()).enumerate() {
                if flags.as_ref().is_some_and(|flags| flags.get(at) == Some(&false)) {
                    continue;
                }
                let (want, got) = (f64::from(*want), f64::from(*got));
                self.signal += want * want;
                self.noise += if got.is_finite() { (want - got) * (want - got) } else { f64::INFINITY };
            }
            found = Some(());
        }
        found
    }

    /// The energy of what is off, as a share of that of the signal.
    pub(super) fn share(self) -> f64 {
        self.noise / self.signal
    }

    /// The ratio in decibels; infinite if nothing is off.
    pub(super) fn decibels(self) -> f64 {
        10.0 * (self.signal / self.noise).log10()
    }
}
