//! What holds for every text that others wrote, however odd: for fuzzing, and for its corpus in every run of the tests.
//!
//! A property takes bytes and panics where it does not hold. Its memory is counted by the allocator that the program
//! which runs it installs: [`Memory`].

mod body;
mod config;
mod json;
mod money;
mod simulated;
mod stream;

pub use peak_alloc::PeakAlloc as Memory;

/// A property, by the name of its fuzz target and of its folder in `fuzz/corpus`.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// The name.
    pub name: &'static str,
    /// What holds.
    holds: fn(&[u8]),
    /// Bytes of memory that each byte of an input may take at once, the reading of the answer by the property included.
    bytes_per_byte: usize,
    /// Bytes of memory that are taken however short an input is.
    bytes_at_least: usize,
}

/// Bodies of calls: the scanner, the bound, the rewriting, and the text that filters read.
pub const BODY: Property = Property { name: "body", holds: body::holds, bytes_per_byte: 96, bytes_at_least: 8 << 20 };
/// Answers of providers, cut anywhere.
pub const STREAM: Property =
    Property { name: "stream", holds: stream::holds, bytes_per_byte: 96, bytes_at_least: 64 << 10 };
/// Answers of the built-in provider, which makes them in memory.
pub const SIMULATED: Property =
    Property { name: "simulated", holds: simulated::holds, bytes_per_byte: 96, bytes_at_least: 192 << 20 };
/// Amounts and prices.
pub const MONEY: Property = Property { name: "money", holds: money::holds, bytes_per_byte: 8, bytes_at_least: 4 << 10 };
/// The configuration: a file, and variables.
pub const CONFIG: Property =
    Property { name: "config", holds: config::holds, bytes_per_byte: 256, bytes_at_least: 256 << 10 };

/// All of them.
pub const ALL: [Property; 5] = [BODY, STREAM, SIMULATED, MONEY, CONFIG];

impl Property {
    /// Checks that it holds for `data`, within its memory. Returns the bytes that were taken at once.
    pub fn check(&self, data: &[u8]) -> usize {
        let before = Memory.current_usage();
        assert!(before > 0, "memory is not counted: install `Memory` as the global allocator");
        Memory.reset_peak_usage();
        (self.holds)(data);
        let taken = Memory.peak_usage().saturating_sub(before);
        let most = self.bytes_at_least.saturating_add(self.bytes_per_byte.saturating_mul(data.len()));
        assert!(taken <= most, "{}: {taken} bytes for an input of {}, the most is {most}", self.name, data.len());
        taken
    }
}
