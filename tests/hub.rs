//! Hub ids: what is asked for, what is kept, who gets the token.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use deberta_tests::hub_server::{COMMIT, Fault, Repository, TOKEN, sha256};
use deberta_tests::hub_world::{ID, WEIGHTS, World, read_folder, text, tiny};
use deberta_tests::{fixture, succeed};

use crate::{CONVERT, VERIFY};

/// A hub with this repository, and an empty cache.
fn hub_with(repository: Repository) -> World {
    World::new(CONVERT, repository)
}

#[test]
fn downloads_once_in_the_layout_of_huggingface_hub() {
    let world = hub_with(tiny());
    world.digest();
    let first: Vec<String> = world.hub.requests().into_iter().map(|request| request.line).collect();
    assert!(first.iter().any(|line| line.contains("vocab.json")), "{first:?}");
    let unwanted = ["pytorch_model", "tf_model", "training_args"];
    assert!(!first.iter().any(|line| unwanted.iter().any(|name| line.contains(name))), "{first:?}");

    let folder = world.repository();
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    let weights = &tiny().files[WEIGHTS];
    let link = folder.join("snapshots").join(COMMIT).join(WEIGHTS);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("../../blobs").join(sha256(weights)));
    assert_eq!(&fs::read(&link).unwrap(), weights);
    assert_eq!(world.blobs().len(), 3, "config, vocabulary, weights: {:?}", world.blobs());

    world.digest();
    let second: Vec<String> = world.hub.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(second, [format!("GET /api/models/{ID}/revision/main")]);
}

#[test]
fn every_command_takes_a_hub_id() {
    let world = hub_with(tiny());
    let folder = text(&fixture("transformers/mlm"));
    for (args, code) in [
        (vec!["inspect", ID], 0),
        (vec!["diff", ID, &folder], 0),
        (vec!["diff", "--revision", COMMIT, &folder, ID], 0),
        (vec!["audit", ID], 0),
        (vec!["tf2st", ID], 0),
        (vec!["tf2st", ID], 1),
        (vec!["convert", ID, "--to", "tf", "-o", "out/"], 0),
        (vec!["digest", ID, &folder, "--revision", "main"], 0),
        (vec!["digest", &folder, "--revision", "main"], 1),
        (vec!["digest", ID, "--revision", "../main"], 1),
    ] {
        let run = world.run(&args);
        assert_eq!(run.code, code, "{args:?}: {}", run.stderr);
    }
    for made in ["tiny-deberta/model.safetensors", "tiny-deberta/config.json", "out/tf_model.h5"] {
        assert!(world.home.path().join(made).is_file(), "{made}");
    }
    let snapshot = world.repository().join("snapshots").join(COMMIT);
    let links = fs::read_dir(snapshot).unwrap().map(Result::unwrap);
    assert!(
        links.into_iter().all(|entry| entry.path().is_symlink()),
        "only what the hub has is in its cache"
    );
}

#[test]
fn shards_are_found_through_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let out = format!("{}/", folder.path().display());
    let input = text(&fixture("transformers/mlm/model.safetensors"));
    succeed(CONVERT, &["st2pt", &input, "-o", &out, "--max-shard-size", "30KB"]);
    let files = read_folder(folder.path());
    let shards = files.keys().filter(|name| name.contains("-of-")).count();
    assert!(shards > 1);
    let world = hub_with(Repository { files, ..Repository::default() });
    world.digest();
    assert_eq!(world.hub.count("GET /resolve/ -of-"), shards);

    fs::remove_file(
        world
            .repository()
            .join("snapshots")
            .join(COMMIT)
            .join(format!("pytorch_model-00001-of-{shards:05}.bin")),
    )
    .unwrap();
    assert!(world.failure(&[("HF_HUB_OFFLINE", "1")]).contains("pytorch_model-00001"));
    world.digest();
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let world = hub_with(Repository { private: true, gated: true, ..tiny() });
    let run = world.run_with(&[("HF_TOKEN", TOKEN)], &["digest", ID]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let requests = world.hub.requests();
    assert!(requests.iter().any(|request| request.cdn) && requests.iter().any(|request| !request.cdn));
    for request in requests {
        assert_eq!(request.headers.contains_key("authorization"), !request.cdn, "{request:?}");
        assert!(request.cdn || request.headers["authorization"] == format!("Bearer {TOKEN}"));
    }
    fs::write(world.home.path().join("token"), TOKEN).unwrap();
    world.digest();
}

#[test]
fn proxies_are_asked_except_for_hosts_that_need_none() {
    let world = hub_with(tiny());
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").unwrap();
        line
    });
    let error = world.failure(&[("http_proxy", &address)]);
    assert!(error.contains("cannot reach"), "{error}");
    let line = asked.join().unwrap();
    assert!(line.starts_with("CONNECT 127.0.0.1:"), "{line}");
    let run =
        world.run_with(&[("http_proxy", &address), ("NO_PROXY", "localhost, 127.0.0.1")], &["digest", ID]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}

#[test]
fn renamed_models_are_followed() {
    let world = hub_with(tiny());
    let moved = |target: &str| Fault::Status(307, format!("Location: {target}\r\n"));
    world.hub.fault("GET /api/models/old/name", moved(&format!("/api/models/{ID}/revision/main")), 1);
    for name in ["config.json", "vocab.json", WEIGHTS] {
        world.hub.fault(
            &format!("/old/name/resolve {name}"),
            moved(&format!("/{ID}/resolve/{COMMIT}/{name}")),
            2,
        );
    }
    let run = world.run(&["digest", "old/name"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn offline_makes_no_request() {
    let world = hub_with(tiny());
    let error = world.failure(&[("HF_HUB_OFFLINE", "1")]);
    assert!(error.contains("HF_HUB_OFFLINE") && error.contains("not in the cache"), "{error}");
    assert!(world.hub.requests().is_empty());
    world.digest();
    world.hub.requests();
    for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let run = world.run_with(&[(variable, "true")], &["digest", ID]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        let run = world.run_with(&[(variable, "true")], &["tf2st", ID]);
        assert!(run.code == 1 && run.stderr.contains("tf_model.h5"), "{}", run.stderr);
    }
    assert!(world.hub.requests().is_empty());
}

#[test]
fn a_new_commit_is_fetched_and_the_old_one_stays() {
    let world = hub_with(tiny());
    world.digest();
    let new = COMMIT.replace('0', "f");
    world.hub.change(ID, |repository| repository.commit = Some(new.clone()));
    world.hub.requests();
    world.digest();
    // The contents are the same: only their names are asked for.
    let lines: Vec<String> = world.hub.requests().into_iter().map(|request| request.line).collect();
    assert!(lines.iter().skip(1).all(|line| line.starts_with("HEAD ")), "{lines:?}");
    assert_eq!(fs::read_to_string(world.repository().join("refs/main")).unwrap(), new);
    let run = world.run_with(&[("HF_HUB_OFFLINE", "1")], &["digest", ID, "--revision", COMMIT]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn links_in_the_cache_lead_to_its_own_contents() {
    let world = hub_with(tiny());
    world.digest();
    let link = world.repository().join("snapshots").join(COMMIT).join(WEIGHTS);
    let secret = world.home.path().join("secret");
    fs::copy(&link, &secret).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&secret, &link).unwrap();
    assert!(world.failure(&[]).contains("leads out"));
}

#[test]
fn a_link_is_neither_written_through_nor_read_for_a_reference() {
    let world = hub_with(tiny());
    let secret = world.home.path().join("secret");
    fs::write(&secret, "hunter2").unwrap();
    let blobs = world.repository().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let unfinished = blobs.join(sha256(&tiny().files[WEIGHTS]) + ".incomplete");
    symlink(&secret, &unfinished).unwrap();
    assert!(world.failure(&[]).contains("a link in the place of a download"));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "hunter2");
    fs::remove_file(&unfinished).unwrap();
    world.digest();

    let reference = world.repository().join("refs/main");
    fs::remove_file(&reference).unwrap();
    symlink(&secret, &reference).unwrap();
    let error = world.failure(&[("HF_HUB_OFFLINE", "1")]);
    assert!(error.contains("leads out") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_model_of_the_hub_is_verified_in_every_format() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data/masked-lm");
    let mut files = read_folder(&data);
    files.retain(|name, _| ["config.json", WEIGHTS].contains(&name.as_str()));
    let folder = tempfile::tempdir().unwrap();
    succeed(CONVERT, &["st2tf", &text(&data), "-o", &format!("{}/", text(folder.path()))]);
    files.insert("tf_model.h5".to_owned(), fs::read(folder.path().join("tf_model.h5")).unwrap());
    let world = World::new(VERIFY, Repository { files, ..Repository::default() });

    let golden = text(&data.canonicalize().unwrap());
    let verified = world.run(&["--model", ID, "--golden", &golden]);
    assert_eq!(verified.code, 0, "{}{}", verified.stdout, verified.stderr);
    assert!(verified.stdout.contains("pass: 2 files"), "{}", verified.stdout);
    let offline = world.run_with(&[("HF_HUB_OFFLINE", "1")], &["--model", ID, "--golden", &golden, "--json"]);
    assert_eq!(offline.code, 0, "{}", offline.stderr);
    let bench = world.run(&["bench", "--model", ID, "--seq", "8", "--runs", "1"]);
    assert_eq!(bench.code, 0, "{}", bench.stderr);

    // Nothing to compare with is no success.
    let alone = world.run(&["--model", ID]);
    assert!(alone.code == 2 && alone.stderr.contains("no golden for this model"), "{}", alone.stderr);
}

#[test]
fn published_values_judge_the_model_that_they_are_of() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data/model");
    let world = World::new(VERIFY, Repository::default());
    let judged =
        world.run(&["--model", &text(&data.canonicalize().unwrap()), "--golden", "microsoft/deberta-base"]);
    assert_eq!(judged.code, 2, "{}", judged.stdout);
    // Token 46078 is none of this small model's.
    assert!(judged.stdout.contains("46078") || judged.stdout.contains("31414"), "{}", judged.stdout);
}
