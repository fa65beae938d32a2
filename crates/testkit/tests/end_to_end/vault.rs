//! The key that secrets are sealed with: where it comes from, and what happens when it is another or none.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testkit::free_folder;
use tollgate::boot::{Parts, boot};
use tollgate::config::Config;
use tollgate::failure::{Failure, Kind};

const FIRST: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";
const OTHER: &str = "1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e";

/// Starts a server on the database in `folder`, and stops it again.
async fn start(folder: &Path, key: Option<&str>) -> Result<(), Failure> {
    let mut config = Config::default();
    "127.0.0.1:0".clone_into(&mut config.server.listen);
    config.database.url = format!("sqlite://{}", folder.join("tollgate.db").display());
    let environment = |name: &str| (name == "TOLLGATE_ENCRYPTION_KEY").then(|| key.map(str::to_owned)).flatten();
    boot(&config, Parts::default(), environment).await?.run(async {}).await
}

#[tokio::test]
async fn a_key_is_made_once_for_its_owner_alone_and_must_not_be_lost() {
    let folder = free_folder();
    let file = folder.path().join("tollgate.db.key");
    start(folder.path(), None).await.unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.trim().len() == 64 && text.trim().bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    start(folder.path(), None).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "it stays what it is");
    // The same key may as well be given.
    start(folder.path(), Some(&text)).await.unwrap();

    std::fs::rename(&file, folder.path().join("elsewhere")).unwrap();
    let lost = start(folder.path(), None).await.unwrap_err();
    assert!(lost.kind == Kind::Failed && lost.fact.contains("tollgate.db.key"), "{}", lost.fact);
    assert!(lost.next.unwrap().contains("TOLLGATE_ENCRYPTION_KEY"));
    assert!(!file.exists(), "no other key is made in its place");
    std::fs::write(&file, "not a key").unwrap();
    assert!(start(folder.path(), None).await.unwrap_err().fact.contains("64 hex digits"));
    std::fs::write(&file, OTHER).unwrap();
    assert!(start(folder.path(), None).await.unwrap_err().fact.contains("another encryption key"));
    start(folder.path(), Some(text.trim())).await.unwrap();
}

#[tokio::test]
async fn a_server_with_another_key_refuses_to_start_and_changes_nothing() {
    let folder = free_folder();
    start(folder.path(), Some(FIRST)).await.unwrap();
    assert!(!folder.path().join("tollgate.db.key").exists(), "a key that is given is not written down");
    let other = start(folder.path(), Some(OTHER)).await.unwrap_err();
    assert!(other.kind == Kind::Failed && other.fact.contains("another encryption key"), "{}", other.fact);
    assert!(!other.fact.contains(OTHER));
    for wrong in ["", "0f", &"0g".repeat(32)] {
        let failure = start(folder.path(), Some(wrong)).await.unwrap_err();
        assert!(failure.kind == Kind::Usage && failure.fact.starts_with("TOLLGATE_ENCRYPTION_KEY"), "{}", failure.fact);
        assert!(wrong.is_empty() || !failure.fact.contains(wrong), "what was given is not repeated");
    }
    start(folder.path(), Some(FIRST)).await.unwrap();
}
