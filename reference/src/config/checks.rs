//! What a configuration may not be, and what it is probably not meant to be.

use super::keys::{ConfigError, LARGEST_DIMENSION, Result};
use super::{ConvConfig, DebertaConfig};

impl DebertaConfig {
    /// What is allowed but probably not meant, in words.
    pub fn warnings(&self) -> Vec<String> {
        let counts = self.scale_terms() == 1 + self.pos_att_type.len();
        let unknown = self.pos_att_type.iter().filter(|term| *term != "c2p" && *term != "p2c");
        let mut warnings: Vec<String> = unknown
            .map(|term| {
                let yet = if counts { ", yet it counts in the attention's scale" } else { "" };
                format!("pos_att_type: \"{term}\" is no position term{yet}")
            })
            .collect();
        if !self.relative_attention && self.scale_terms() > 1 {
            warnings.push(format!(
                "pos_att_type {:?} without relative_attention: no position term is computed, yet the scale counts them",
                self.pos_att_type
            ));
        }
        warnings
    }

    /// Checks what single keys do not show.
    pub(super) fn check(&self) -> Result<()> {
        let fail = |message: String| Err(ConfigError(message));
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return fail(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return fail(format!("layer_norm_eps: {} is not a small positive number", self.layer_norm_eps));
        }
        if self.max_relative_positions > LARGEST_DIMENSION as i64 {
            return fail(format!(
                "max_relative_positions: {} is more than {LARGEST_DIMENSION}",
                self.max_relative_positions
            ));
        }
        if let Some(pad) = self.pad_token_id.filter(|&pad| pad >= self.vocab_size) {
            return fail(format!("pad_token_id: {pad} is outside the vocabulary of {}", self.vocab_size));
        }
        if let Some(ConvConfig { kernel, groups, .. }) = self.convolution {
            if kernel.is_multiple_of(2) {
                return fail(format!(
                    "conv_kernel_size {kernel} is even: the convolution would change the number of tokens"
                ));
            }
            if !self.hidden_size.is_multiple_of(groups) {
                return fail(format!(
                    "hidden_size {} is not a multiple of conv_groups {groups}",
                    self.hidden_size
                ));
            }
        }
        if let Some(buckets) = self.position_buckets.filter(|_| !self.has_sound_buckets()) {
            return fail(format!(
                "position_buckets {buckets}: half of them, {}, must be above 0 and below {}, which is \
                 max_relative_positions {} less 1",
                buckets / 2,
                self.max_relative().saturating_sub(1),
                self.max_relative()
            ));
        }
        Ok(())
    }

    /// Whether buckets, if distances are sorted into any, grow with the distance: 0 < ⌊B/2⌋ < M - 1, so that the logarithm
    /// of (M - 1) / ⌊B/2⌋ is above 0. [`DebertaConfig::from_json`] refuses others. Without `relative_attention` there are no
    /// distances, and any number of buckets is sound.
    pub fn has_sound_buckets(&self) -> bool {
        let far = self.max_relative().saturating_sub(1);
        let sound = |buckets: usize| (1..far).contains(&(buckets / 2));
        !self.relative_attention || self.position_buckets.is_none_or(sound)
    }

    /// Checks what the file says that a head is wide.
    pub(super) fn check_head_size(&self, size: usize) -> Result<()> {
        if size == self.head_size() {
            return Ok(());
        }
        Err(ConfigError(format!(
            "attention_head_size {size} is not {}, hidden_size {} / num_attention_heads {}: the attention's output would \
             have another width than its dense layer takes",
            self.head_size(),
            self.hidden_size,
            self.num_attention_heads
        )))
    }
}
