//! The server, but it aborts when a call reaches the step named by the first argument. For crash tests.
#![expect(clippy::print_stdout, reason = "the test waits for the address")]

use std::process::ExitCode;
use std::sync::Arc;

use tollgate::boot::{Parts, boot};
use tollgate::cli::variable;
use tollgate::config::Config;
use tollgate_gateway::{Step, Steps};

struct StopAt(Step);

impl Steps for StopAt {
    fn reached(&self, step: Step) {
        if step == self.0 {
            std::process::abort();
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let name = variable("STOP_AT_STEP").unwrap_or_default();
    let Some(step) = Step::ALL.into_iter().find(|step| step.as_str() == name) else { return ExitCode::from(2) };
    let Some(file) = std::env::args_os().nth(3) else { return ExitCode::from(2) };
    let Ok(config) = Config::load(Some(file.as_ref()), std::iter::empty()) else { return ExitCode::from(2) };
    let parts = Parts { steps: Arc::new(StopAt(step)), ..Parts::default() };
    let Ok(booted) = boot(&config, parts, variable).await else { return ExitCode::FAILURE };
    println!("listening on http://{}", booted.address);
    match booted.run(std::future::pending()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
