//! What a call consumed.

/// Tokens of one call as the provider counts them. Cached and written tokens are part of `prompt`, reasoning tokens part
/// of `completion` (contract section 17.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// All prompt tokens.
    pub prompt: u64,
    /// Prompt tokens read from a cache.
    pub cached: u64,
    /// Prompt tokens written to a cache.
    pub cache_write: u64,
    /// Prompt tokens of audio.
    pub prompt_audio: u64,
    /// All completion tokens.
    pub completion: u64,
    /// Completion tokens spent on reasoning.
    pub reasoning: u64,
    /// Completion tokens of audio.
    pub completion_audio: u64,
    /// Completion tokens of images.
    pub completion_image: u64,
}

impl TokenUsage {
    /// Prompt and completion together.
    pub fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// Whether the parts can be parts of their wholes, and the whole is no more than a call can come to.
    pub fn plausible(&self, total_max: u64) -> bool {
        let prompt_parts = self.cached.checked_add(self.cache_write);
        prompt_parts.is_some_and(|parts| parts <= self.prompt)
            && self.reasoning <= self.completion
            && self.total() <= total_max
    }
}

/// Where a count of tokens comes from. A bill built on a guess says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metered {
    /// The provider said so.
    Known(TokenUsage),
    /// Worked out from the bytes that were seen, because the provider never said.
    Estimated(TokenUsage),
}

impl Metered {
    /// The tokens, however they became known.
    pub const fn tokens(&self) -> &TokenUsage {
        match self {
            Self::Known(tokens) | Self::Estimated(tokens) => tokens,
        }
    }
}
