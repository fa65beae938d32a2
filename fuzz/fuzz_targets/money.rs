#![no_main]

use libfuzzer_sys::fuzz_target;
use testkit::properties::{MONEY, Memory};

#[global_allocator]
static MEMORY: Memory = Memory;

fuzz_target!(|data: &[u8]| {
    MONEY.check(data);
});
