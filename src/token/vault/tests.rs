use super::*;
use crate::base::Timestamp;
use crate::token::state::Refresh;

fn account() -> Account {
    let refresh = Some(Refresh {
        token: Zeroizing::new("very-secret".to_owned()),
        since: Timestamp(7),
        is_proven: true,
    });
    Account {
        refresh,
        ..Account::default()
    }
}

fn has_it(vault: &Vault, name: &str) -> bool {
    let loaded = vault.load(name).unwrap();
    loaded.refresh == account().refresh
}

#[test]
fn keeps_accounts_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::open(folder.path().into(), None).unwrap();
    let name = "o/jane@example.com";
    assert!(vault.load(name).unwrap().refresh.is_none());
    vault.store(name, &account()).unwrap();
    assert!(matches!(
        Vault::open(folder.path().into(), None),
        Err(VaultError::InUse { .. })
    ));
    drop(vault);
    assert!(has_it(
        &Vault::open(folder.path().into(), None).unwrap(),
        name
    ));
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("very-secret"));
        if !text.is_empty() {
            assert!(files::is_private(&path), "{}", path.display());
        }
    }
}

#[test]
fn a_wrong_key_or_a_strange_file_is_an_error_and_destroys_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let open = |key: Option<&Secret>| Vault::open(folder.path().into(), key);
    let vault = open(None).unwrap();
    vault.store("a", &account()).unwrap();
    std::fs::copy(folder.path().join("a.token"), folder.path().join("b.token")).unwrap();
    assert!(matches!(vault.load("b"), Err(VaultError::WrongKey(_))));
    drop(vault);
    let other = open(Some(&new_key().as_str().to_owned().into())).unwrap();
    assert!(matches!(other.load("a"), Err(VaultError::WrongKey(_))));
    assert!(other.rotate(None).is_err());
    drop(other);
    let bad = open(Some(&"short".to_owned().into()));
    assert!(matches!(bad, Err(VaultError::BadKey(_))));
    assert!(has_it(&open(None).unwrap(), "a"));
}

#[test]
fn a_rotation_seals_all_anew_and_the_old_key_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let open = |key: Option<&Secret>| Vault::open(folder.path().into(), key);
    let vault = open(None).unwrap();
    let old: Secret = std::fs::read_to_string(folder.path().join(KEY_FILE))
        .unwrap()
        .into();
    vault.store("a", &account()).unwrap();
    vault.store("b", &account()).unwrap();
    assert_eq!(vault.rotate(None).unwrap(), 2);
    assert!(has_it(&vault, "a") && has_it(&vault, "b"));
    drop(vault);
    let with_old = open(Some(&old)).unwrap();
    assert!(matches!(with_old.load("a"), Err(VaultError::WrongKey(_))));
    drop(with_old);
    let elsewhere: Secret = new_key().as_str().to_owned().into();
    open(None).unwrap().rotate(Some(&elsewhere)).unwrap();
    assert!(has_it(&open(Some(&elsewhere)).unwrap(), "b"));
}

#[test]
fn a_crash_at_any_step_of_a_rotation_leaves_every_account_readable() {
    let begun = tempfile::tempdir().unwrap();
    let done = tempfile::tempdir().unwrap();
    let files = ["a.token", "b.token", KEY_FILE];
    let vault = Vault::open(begun.path().into(), None).unwrap();
    vault.store("a", &account()).unwrap();
    vault.store("b", &account()).unwrap();
    for file in files {
        std::fs::copy(begun.path().join(file), done.path().join(file)).unwrap();
    }
    let rotated = Vault::open(done.path().into(), None).unwrap();
    rotated.rotate(None).unwrap();
    // Steps: a is sealed, b is sealed, the key is replaced, a is moved, b is moved.
    for step in 0..=5 {
        let crashed = tempfile::tempdir().unwrap();
        let place = |from: &Path, file: &str, to: &str| {
            std::fs::copy(from.join(file), crashed.path().join(to)).unwrap();
        };
        for file in files {
            place(begun.path(), file, file);
        }
        for (at, account) in ["a", "b"].iter().enumerate() {
            let file = format!("{account}.token");
            match step {
                _ if step >= at + 4 => place(done.path(), &file, &file),
                _ if step > at => place(done.path(), &file, &format!("{account}.{ROTATED}")),
                _ => {}
            }
        }
        if step >= 3 {
            place(done.path(), KEY_FILE, KEY_FILE);
        }
        let vault = Vault::open(crashed.path().into(), None).unwrap();
        assert!(
            has_it(&vault, "a") && has_it(&vault, "b"),
            "after step {step}"
        );
    }
}

#[test]
fn a_key_that_is_gone_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Vault::open(folder.path().into(), None);
    open().unwrap().store("a", &account()).unwrap();
    let key = folder.path().join(KEY_FILE);
    let text = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(open(), Err(VaultError::NoKey { .. })));
    std::fs::write(&key, text).unwrap();
    let vault = open().unwrap();
    assert!(has_it(&vault, "a") && vault.unreadable().is_empty());
    std::fs::write(folder.path().join("b.token"), "damaged").unwrap();
    assert_eq!(vault.unreadable().len(), 1);
}

#[test]
fn visitors_leave_it_to_others_between_their_visits() {
    let folder = tempfile::tempdir().unwrap();
    let visit = || Vault::visit(folder.path().into(), None).unwrap();
    let (waiting, other) = (visit(), visit());
    waiting.store("a", &account()).unwrap();
    assert_eq!(other.rotate(None).unwrap(), 1);
    assert!(has_it(&waiting, "a"), "by the new key");
    let owner = Vault::open(folder.path().into(), None).unwrap();
    let refused = waiting.load("a").err().map(|error| error.to_string());
    assert!(
        refused
            .unwrap()
            .contains(&format!("(pid {})", std::process::id()))
    );
    drop(owner);
    assert!(has_it(&waiting, "a"));
}

#[test]
fn rotations_and_readers_at_once_meet_no_wrong_key() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::open(folder.path().into(), None).unwrap();
    vault.store("a", &account()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..5).for_each(|_| assert_eq!(vault.rotate(None).unwrap(), 1)));
            scope.spawn(|| (0..50).for_each(|_| assert!(has_it(&vault, "a"))));
        }
    });
}
