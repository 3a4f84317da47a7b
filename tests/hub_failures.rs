//! Hub ids when the hub, the network or the disk fails, or the hub is hostile.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use deberta_tests::hub_server::{COMMIT, Fault, Repository, sha256};
use deberta_tests::hub_world::{ID, WEIGHTS, World, read_folder, tiny, wait_until};
use deberta_tests::run_command;

use crate::CONVERT;

/// A hub with this repository, and an empty cache.
fn hub_with(repository: Repository) -> World {
    World::new(CONVERT, repository)
}

#[test]
fn a_silent_hub_is_replaced_by_the_cache_with_a_warning() {
    let world = hub_with(tiny());
    world.digest();
    world.hub.fault("GET /api", Fault::Status(503, String::new()), 1);
    for endpoint in [world.hub.endpoint(), "http://127.0.0.1:1"] {
        let run = world.run_with(&[("HF_ENDPOINT", endpoint)], &["digest", ID]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(
            run.stderr.starts_with("warning: ") && run.stderr.contains("taking what the cache has"),
            "{}",
            run.stderr
        );
    }
    let error = hub_with(tiny()).failure(&[("HF_ENDPOINT", "http://127.0.0.1:1")]);
    assert!(
        error.contains("cannot reach http://127.0.0.1:1") && error.contains("no file or folder"),
        "{error}"
    );
}

#[test]
fn a_connection_that_breaks_off_is_resumed() {
    let world = hub_with(tiny());
    world.hub.fault(&format!("GET /cdn {WEIGHTS}"), Fault::CutAfter(70_000), 1);
    world.digest();
    assert!(world.was_asked_from(70_000));
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let world = hub_with(tiny());
    world.hub.fault("GET /cdn", Fault::CutAfter(70_000), 1);
    world.hub.fault("GET /cdn", Fault::IgnoreRange, 1);
    world.digest();
    assert!(world.was_asked_from(70_000));
}

#[test]
fn an_earlier_run_may_have_left_anything() {
    let weights = &tiny().files[WEIGHTS];
    let too_long = [weights.as_slice(), b"more"].concat();
    for left in [&weights[..50_000], weights, &too_long, &[7; 50_000]] {
        let world = hub_with(tiny());
        fs::create_dir_all(world.repository().join("blobs")).unwrap();
        fs::write(world.incomplete(), left).unwrap();
        world.digest();
        assert!(!world.incomplete().exists());
    }
    let world = hub_with(tiny());
    fs::create_dir_all(world.repository().join("blobs")).unwrap();
    fs::write(world.incomplete(), &weights[..50_000]).unwrap();
    world.hub.fault("GET /cdn", Fault::Status(416, String::new()), 1);
    world.digest();
    // A content of the wrong length under the right name is none.
    let blob = world.incomplete().with_extension("");
    fs::write(&blob, &weights[..50_000]).unwrap();
    fs::remove_file(world.repository().join("snapshots").join(COMMIT).join(WEIGHTS)).unwrap();
    world.digest();
}

#[test]
fn a_content_with_another_hash_gets_no_name() {
    let world = hub_with(tiny());
    world.hub.fault("GET /cdn", Fault::OtherBytes, 1);
    let error = world.failure(&[]);
    assert!(error.contains(WEIGHTS) && error.contains(&sha256(&tiny().files[WEIGHTS])), "{error}");
    assert!(world.blobs().iter().all(|name| name.len() == 40), "{:?}", world.blobs());
    assert!(!world.repository().join("refs/main").exists());
    world.digest();
}

#[test]
fn a_busy_hub_is_asked_again() {
    let world = hub_with(tiny());
    let wait = |seconds: u32| format!("Retry-After: {seconds}\r\n");
    world.hub.fault("GET /api", Fault::Status(429, wait(0)), 2);
    world.hub.fault("HEAD config.json", Fault::Status(503, wait(0)), 1);
    world.hub.fault("GET /cdn", Fault::Status(500, wait(0)), 1);
    world.digest();

    let world = hub_with(tiny());
    world.hub.fault("GET /api", Fault::Status(503, wait(0)), 100);
    assert!(world.failure(&[]).contains("status 503"));
    assert_eq!(world.hub.count("GET /api"), 5);

    let world = hub_with(tiny());
    world.hub.fault("GET /api", Fault::Status(429, wait(100_000)), 1);
    assert!(world.failure(&[]).contains("try again in 100000 s"));
    assert_eq!(world.hub.count("GET /api"), 1);
}

#[test]
fn a_hub_that_says_nothing_is_not_waited_for_forever() {
    let world = hub_with(tiny());
    world.hub.fault("GET /cdn", Fault::StallAfter(50_000), 1);
    let run = world.run_with(&[("HF_HUB_DOWNLOAD_TIMEOUT", "1")], &["digest", ID]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(world.was_asked_from(50_000));
}

#[test]
fn refusals_say_what_to_do() {
    let world = hub_with(Repository { private: true, ..tiny() });
    let error = world.failure(&[]);
    assert!(
        error.contains("no such model") && error.contains("HF_TOKEN") && error.contains("no file or folder"),
        "{error}"
    );
    let error = world.failure(&[("HF_TOKEN", "hf_wrong")]);
    assert!(error.contains("the one from HF_TOKEN has not") && !error.contains("hf_wrong"), "{error}");

    let world = hub_with(Repository { gated: true, ..tiny() });
    let error = world.failure(&[]);
    assert!(error.contains("gated") && error.contains(&format!("{}/{ID}", world.hub.endpoint())), "{error}");

    let world = hub_with(tiny());
    let run = world.run(&["digest", ID, "--revision", "v9"]);
    assert!(run.code == 1 && run.stderr.contains("no revision v9"), "{}", run.stderr);
    world.hub.fault("HEAD config.json", Fault::Status(404, "X-Error-Code: EntryNotFound\r\n".to_owned()), 1);
    let error = world.failure(&[]);
    assert!(error.contains("owner/tiny-deberta/config.json: ") && error.contains("no such file"), "{error}");
    world.hub.fault(
        "GET /api",
        Fault::Status(403, "X-Error-Message: Access is\x1b[2J disabled\r\n".to_owned()),
        1,
    );
    let error = world.failure(&[]);
    assert!(!error.contains('\x1b'), "{error:?}");

    let without =
        Repository { files: BTreeMap::from([("README.md".to_owned(), Vec::new())]), ..Repository::default() };
    let error = hub_with(without).failure(&[]);
    assert!(error.contains("no weights") && error.contains("model.safetensors.index.json"), "{error}");
}

#[test]
fn hostile_answers_write_nothing_outside_the_cache() {
    let index = r#"{"weight_map": {"t": "../../../../escaped"}}"#;
    let elsewhere = r#"{"weight_map": {"t": "absent.safetensors"}}"#;
    let sharded = |index: &str| Repository {
        files: BTreeMap::from([("model.safetensors.index.json".to_owned(), index.as_bytes().to_vec())]),
        listed: vec![
            "../../../../escaped".to_owned(),
            "/etc/escaped".to_owned(),
            "a\\..\\escaped".to_owned(),
        ],
        ..Repository::default()
    };
    let with = |headers: &str| Repository { headers: headers.to_owned(), ..tiny() };
    for (repository, expected) in [
        (sharded(index), "not a file name"),
        (sharded(elsewhere), "absent.safetensors"),
        (sharded("{"), "not a shard index"),
        (Repository { commit: Some("../../../../escaped".to_owned()), ..tiny() }, "which is none"),
        (with("X-Linked-Etag: ../../../escaped\r\n"), "cannot be the name"),
        (with("X-Repo-Commit: escaped\r\n"), "commit"),
        (Repository { listed: vec!["x".repeat(17 << 20)], ..tiny() }, "more than"),
    ] {
        let world = hub_with(repository);
        let before = read_folder(world.home.path());
        let error = world.failure(&[]);
        assert!(error.contains(expected), "{expected}: {error}");
        assert_eq!(read_folder(world.home.path()), before);
        let top: Vec<_> =
            fs::read_dir(world.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(top.iter().all(|name| name == "hub"), "{top:?}");
        assert!(!world.home.path().parent().unwrap().join("escaped").exists());
    }
}

#[test]
fn hostile_connections_end() {
    for (line, fault, expected) in [
        ("GET /api", Fault::EndlessHeaders, "proper answer"),
        ("GET /api", Fault::EndlessBody, "more than"),
        ("GET /cdn", Fault::EndlessBody, "more than"),
        (
            "GET /api",
            Fault::Status(302, format!("Location: /api/models/{ID}/revision/main\r\n")),
            "redirects",
        ),
        (
            "GET /cdn",
            Fault::Status(302, "Location: ftp://127.0.0.1/x\r\n".to_owned()),
            "not an http or https",
        ),
        ("GET /cdn", Fault::Status(302, String::new()), "redirects nowhere"),
        ("GET /cdn", Fault::Status(206, "Content-Range: bytes 5-9/10\r\n".to_owned()), "range"),
        ("GET /cdn", Fault::Status(200, String::new()), "sends 0 bytes"),
    ] {
        let world = hub_with(tiny());
        world.hub.fault(line, fault, 100);
        let error = world.failure(&[]);
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!error.contains("signature"), "signed addresses are secrets: {error}");
    }
}

#[test]
fn two_processes_fetch_a_file_once() {
    let world = hub_with(tiny());
    world.hub.fault("GET /cdn", Fault::StallAfter(50_000), 1);
    let start =
        || world.command(&["digest", ID]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let first = start();
    wait_until("the first process fetches", || world.hub.count("GET /cdn") == 1);
    let second = start();
    wait_until("the second process wants the same", || world.hub.count(&format!("HEAD {WEIGHTS}")) == 2);
    world.hub.release();
    for child in [first, second] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(world.hub.count("GET /cdn"), 1);
    world.digest();
}

#[test]
fn a_killed_run_is_resumed_by_the_next() {
    let world = hub_with(tiny());
    world.hub.fault("GET /cdn", Fault::StallAfter(50_000), 1);
    let mut child = world.command(&["digest", ID]).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the start arrives", || {
        fs::metadata(world.incomplete()).is_ok_and(|file| file.len() == 50_000)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!world.repository().join("refs/main").exists());
    world.hub.requests();
    world.digest();
    assert!(world.was_asked_from(50_000));
}

#[test]
fn a_full_disk_leaves_a_cache_that_the_next_run_completes() {
    let world = hub_with(tiny());
    let mut command = world.command(&[]);
    let mut limited = Command::new("sh");
    // Blocks of 512 bytes. Without the signal a write beyond the limit fails as on a full disk.
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 60; exec \"$0\" digest \"$1\"", CONVERT, ID])
        .current_dir(world.home.path());
    for (name, value) in command.current_dir("/").get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let run = run_command(&mut limited);
    assert!(run.code == 1 && run.stderr.contains("cannot write"), "{}", run.stderr);
    let left = fs::metadata(world.incomplete()).unwrap().len();
    assert!(left > 0);
    world.hub.requests();
    world.digest();
    assert!(world.was_asked_from(usize::try_from(left).unwrap()));
}
