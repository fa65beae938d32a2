//! Every input that fuzzing begins with, or once found, holds what it must: without a fuzzer, in every run of the tests.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use testkit::properties::{ALL, BODY, MONEY, Memory, Property, STREAM};

#[global_allocator]
static MEMORY: Memory = Memory;

/// What one test takes is not to be counted as another's.
static ALONE: Mutex<()> = Mutex::new(());

fn inputs(property: &Property) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(property.name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_input_holds_what_it_must_within_its_memory() {
    let _alone = ALONE.lock();
    let mut failed = Vec::new();
    for property in ALL {
        let files = inputs(&property);
        assert!(files.len() >= 5, "{}: {} inputs", property.name, files.len());
        for file in files {
            let data = fs::read(&file).unwrap();
            match catch_unwind(|| property.check(&data)) {
                Ok(taken) => println!("{}: {taken} bytes for {}", file.display(), data.len()),
                Err(_) => failed.push(file),
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Work that grows with the square of an input would not come to an end here, nor its memory fit.
#[test]
fn long_inputs_take_time_and_memory_by_their_length() {
    let _alone = ALONE.lock();
    let many = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    let models = many(400_000, &|index| format!("\"m{index}\""));
    let members = many(150_000, &|index| format!("\"k{index}\":0"));
    let texts = many(300_000, &|_| "\"a\"".to_owned());
    let bodies = [
        format!(r#"{{"models":[{models}],"messages":[{{}}]}}"#),
        format!(r#"{{"model":"m","messages":[{{}}],{members}}}"#),
        format!(r#"{{"model":"m","messages":[{{"content":[{texts}]}}]}}"#),
    ];
    for body in &bodies {
        println!("{} bytes for {}", BODY.check(body.as_bytes()), body.len());
    }
    let choices = many(300_000, &|_| "{}".to_owned());
    let reasons = many(100_000, &|_| "\"finish_reason\":\"eos\"".to_owned());
    let answers = [
        format!(r#"document 4{}{{{members},"choices":[{choices}]}}"#, "\n"),
        format!(r#"events 4{}data: {{{members},"choices":[{{{reasons}}}]}}"#, "\n"),
        format!("events 4\n{}", "data: {\"choices\":[{}]}\r\n\r\n: x\n".repeat(20_000)),
    ];
    for answer in &answers {
        println!("{} bytes for {}", STREAM.check(answer.as_bytes()), answer.len());
    }
    MONEY.check(format!("{}1e-1000000", "0".repeat(1_000_000)).as_bytes());
}
