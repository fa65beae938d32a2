//! Every limit of the data path, by name.

use std::time::Duration;

/// What the data path waits for, keeps and reads at the most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Fewest completion tokens that an open cap may be lowered to.
    pub min_output_tokens: u64,
    /// Bytes of a provider's answer that is not streamed.
    pub answer_bytes_max: usize,
    /// Bytes of one event of a provider's stream.
    pub event_bytes_max: usize,
    /// Bytes kept of a provider's error, for the caller to see.
    pub error_bytes_max: usize,
    /// Until a connection to a provider stands.
    pub connect_timeout: Duration,
    /// Until a provider answers at all.
    pub head_timeout: Duration,
    /// Between two reads from a provider.
    pub idle_timeout: Duration,
    /// Silence after which a stream's caller gets a comment.
    pub keep_alive: Duration,
    /// Until an answer goes out without usage because its settlement cannot be written.
    pub settle_wait: Duration,
    /// How long a call goes on after its caller left.
    pub drain_timeout: Duration,
    /// Idle connections kept per provider.
    pub idle_connections_max: usize,
    /// How long an idle connection is trusted.
    pub idle_connection_age_max: Duration,
    /// Providers tried for one call.
    pub attempts_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_output_tokens: 256,
            answer_bytes_max: 64 << 20,
            event_bytes_max: 16 << 20,
            error_bytes_max: 16 << 10,
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_mins(10),
            idle_timeout: Duration::from_mins(5),
            keep_alive: Duration::from_secs(15),
            settle_wait: Duration::from_secs(5),
            drain_timeout: Duration::from_mins(10),
            idle_connections_max: 512,
            idle_connection_age_max: Duration::from_secs(45),
            attempts_max: 4,
        }
    }
}
