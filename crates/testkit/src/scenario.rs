//! Budget stories in plain text, told to every layer: the pure book, the engine, and the server over HTTP.
//!
//! A line is a command and, behind `->`, what must come of it. `#` starts a comment. Amounts are dollars.

use std::path::Path;

use tollgate_domain::money::Excess;
use tollgate_domain::time::LimitReset;
use tollgate_domain::{Timestamp, Usd};

/// What a layer must be able to do to live through a story. Answers are the story's own words.
pub trait Subject {
    /// A layer whose clock stands at `at`.
    fn new(at: Timestamp) -> impl Future<Output = Self>;
    /// Creates a key.
    fn key(&mut self, name: &str, limit: Option<Usd>, reset: Option<LimitReset>) -> impl Future<Output = ()>;
    /// Tries to hold an amount: `granted`, `spent`, `never`, `in-flight` or `rejected`.
    fn reserve(&mut self, name: &str, key: &str, amount: Usd) -> impl Future<Output = &'static str>;
    /// Settles at a cost: `ok`, or `repeat`; `None` where a layer has no way to settle twice.
    fn settle(&mut self, name: &str, amount: Usd) -> impl Future<Output = Option<&'static str>>;
    /// Ends at no cost.
    fn release(&mut self, name: &str) -> impl Future<Output = ()>;
    /// Sets or clears the limit.
    fn limit(&mut self, key: &str, limit: Option<Usd>) -> impl Future<Output = ()>;
    /// Changes the window.
    fn reset(&mut self, key: &str, reset: Option<LimitReset>) -> impl Future<Output = ()>;
    /// Disables or enables.
    fn disable(&mut self, key: &str, disabled: bool) -> impl Future<Output = ()>;
    /// Lets time pass.
    fn tick(&mut self, seconds: u64) -> impl Future<Output = ()>;
    /// Spent and held in the key's window; held is `None` where it is not shown.
    fn balance(&mut self, key: &str) -> impl Future<Output = (Usd, Option<Usd>)>;
}

/// Tells every story in `folder` to a layer.
pub async fn tell_all<S: Subject>(folder: &Path) {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "the stories are gone from {}", folder.display());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut subject = None::<S>;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let place = format!("{}:{}: `{line}`", file.display(), number + 1);
            let (command, expected) = match line.split_once("->") {
                Some((command, expected)) => (command, Some(expected.trim())),
                None => (line, None),
            };
            let words: Vec<&str> = command.split_whitespace().collect();
            if words.first() == Some(&"at") {
                subject = Some(S::new(Timestamp::parse_utc(words[1]).unwrap()).await);
                continue;
            }
            let subject = subject.as_mut().unwrap_or_else(|| panic!("{place}: a story starts with `at`"));
            if let Some((came, expected)) = act(subject, &words, &place).await.zip(expected) {
                assert_eq!(came, expected, "{place}");
            }
        }
    }
}

async fn act<S: Subject>(subject: &mut S, words: &[&str], place: &str) -> Option<String> {
    match words {
        ["key", key, options @ ..] => {
            let option = |name: &str| options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
            let reset = option("reset").map(|word| LimitReset::from_word(word).unwrap_or_else(|| panic!("{place}")));
            subject.key(key, option("limit").map(|text| usd(text, place)), reset).await;
            None
        }
        ["reserve", name, key, amount] => Some(subject.reserve(name, key, usd(amount, place)).await.to_owned()),
        ["settle", name, amount] => subject.settle(name, usd(amount, place)).await.map(str::to_owned),
        ["release", name] => {
            subject.release(name).await;
            Some("ok".to_owned())
        }
        ["limit", key, "none"] => {
            subject.limit(key, None).await;
            None
        }
        ["limit", key, amount] => {
            subject.limit(key, Some(usd(amount, place))).await;
            None
        }
        ["reset", key, word] => {
            subject.reset(key, LimitReset::from_word(word)).await;
            None
        }
        [switch @ ("disable" | "enable"), key] => {
            subject.disable(key, *switch == "disable").await;
            None
        }
        ["tick", span] => {
            let (count, unit) = span.split_at(span.len() - 1);
            let seconds = match unit {
                "d" => 86_400,
                "h" => 3_600,
                "m" => 60,
                _ => panic!("{place}: no such unit"),
            };
            subject.tick(count.parse::<u64>().unwrap_or_else(|_| panic!("{place}")) * seconds).await;
            None
        }
        ["balance", key] => {
            let (spent, held) = subject.balance(key).await;
            // A layer that does not show what is held says so by agreeing.
            Some(format!("spent={spent} held={}", held.unwrap_or_default()))
        }
        _ => panic!("{place}: no such command"),
    }
}

fn usd(text: &str, place: &str) -> Usd {
    Usd::parse(text, Excess::Refuse).unwrap_or_else(|error| panic!("{place}: {error}"))
}
