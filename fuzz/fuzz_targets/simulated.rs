#![no_main]

use libfuzzer_sys::fuzz_target;
use testkit::properties::{Memory, SIMULATED};

#[global_allocator]
static MEMORY: Memory = Memory;

fuzz_target!(|data: &[u8]| {
    SIMULATED.check(data);
});
