//! Randomness as an argument.

/// The system has no random bytes to give.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes: {0}")]
pub struct RandomError(String);

/// A source of random bytes.
pub trait Random: Send + Sync {
    /// 32 bytes that nobody can guess.
    ///
    /// # Errors
    /// The source is dry.
    fn bytes(&self) -> Result<[u8; 32], RandomError>;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn bytes(&self) -> Result<[u8; 32], RandomError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| RandomError(error.to_string()))?;
        Ok(bytes)
    }
}
