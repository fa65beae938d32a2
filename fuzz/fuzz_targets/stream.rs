#![no_main]

use libfuzzer_sys::fuzz_target;
use testkit::properties::{Memory, STREAM};

#[global_allocator]
static MEMORY: Memory = Memory;

fuzz_target!(|data: &[u8]| {
    STREAM.check(data);
});
