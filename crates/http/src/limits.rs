//! Every limit of the HTTP surface, by name.

use std::time::Duration;

/// What the server reads, waits for and keeps at the most.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Bytes of a call's body.
    pub body_bytes_max: usize,
    /// Bytes of the body of any other request.
    pub management_body_bytes_max: usize,
    /// Headers of a request. From 101 on hyper itself ends the connection, with a bare 431: room for more would be
    /// cleared for every request.
    pub headers_max: usize,
    /// Bytes of a request's headers.
    pub header_bytes_max: usize,
    /// Until a client has sent its headers.
    pub header_timeout: Duration,
    /// Until a client has sent its body.
    pub body_timeout: Duration,
    /// Until a client that reads nothing, while there is something to send, loses its connection.
    pub write_timeout: Duration,
    /// Connections at a time; more wait to be accepted.
    pub connections_max: usize,
}

impl HttpLimits {
    /// These, for anything but a call.
    #[must_use]
    pub fn of_management(&self) -> Self {
        Self { body_bytes_max: self.body_bytes_max.min(self.management_body_bytes_max), ..*self }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 << 20,
            management_body_bytes_max: 1 << 20,
            headers_max: 64,
            header_bytes_max: 32 << 10,
            header_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_mins(1),
            connections_max: 16_384,
        }
    }
}
