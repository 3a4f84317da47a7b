use std::path::Path;

use super::*;
use crate::format::torch::testing::{deflated, stored, zip};

fn audited(bytes: &[u8]) -> Audit {
    audit(&Mapped::from_bytes(bytes.to_vec(), Path::new("model.bin"))).unwrap()
}

/// The events as lines: `+` for those that are allowed.
fn lines(audit: &Audit) -> Vec<String> {
    let line = |pickle: &AuditedPickle, event: &Event| {
        let sign = if event.allowed { '+' } else { '-' };
        let kind = format!("{:?}", event.kind);
        format!("{sign} {}:{} {kind} {} {}", pickle.entry, event.offset, event.target, event.arguments)
            .trim_end()
            .to_owned()
    };
    audit.pickles.iter().flat_map(|pickle| pickle.events.iter().map(|event| line(pickle, event))).collect()
}

#[test]
fn every_kind_of_call_is_listed() {
    let pickle = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R\
        cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vsubprocess\ntRVrun\ntR(](Vls\nV-la\netR\
        (Vx\niposix\nsystem\n(cbuiltins\neval\nV1\no\
        ccollections\ndeque\n)\x81(I1\nI2\ne}Va\nNsb\
        ccollections\nOrderedDict\n)R}V_metadata\nI1\nsb\x82\x07.";
    let audit = audited(pickle);
    assert_eq!(audit.container, Container::Pickle);
    assert_eq!(
        lines(&audit),
        [
            "- pickle 1:14 Import os.system",
            "- pickle 1:22 Call os.system ('true')",
            "- pickle 1:23 Import builtins.getattr",
            "- pickle 1:42 Import builtins.__import__",
            "- pickle 1:77 Call builtins.__import__ ('subprocess')",
            "- pickle 1:84 Call builtins.getattr (builtins.__import__(…), 'run')",
            "- pickle 1:99 Call builtins.getattr(…) (['ls', '-la'])",
            "- pickle 1:104 Import posix.system (os.system)",
            "- pickle 1:104 Call posix.system (os.system) ('x')",
            "- pickle 1:119 Import builtins.eval",
            "- pickle 1:137 Call builtins.eval ('1')",
            "- pickle 1:138 Import collections.deque",
            "- pickle 1:158 New collections.deque ()",
            "- pickle 1:166 AddItems collections.deque(…)",
            "- pickle 1:173 SetState collections.deque(…) {'a': None}",
            "+ pickle 1:174 Import collections.OrderedDict",
            "+ pickle 1:200 Call collections.OrderedDict ()",
            "+ pickle 1:217 SetState collections.OrderedDict(…) {'_metadata': 1}",
            "- pickle 1:218 Extension extension 7",
        ]
    );
    assert!(audit.pickles[0].stopped.is_none() && !audit.is_clean());
    assert_eq!(audit.refused().count(), 16);
}

#[test]
fn every_pickle_of_an_archive_is_looked_at() {
    let file = zip(&[
        stored("m/data.pkl", b"cos\nsystem\n."),
        deflated("m/other.pkl", b"cos\nabort\n."),
        stored("m/hidden", b"\x80\x02cos\n_exit\n."),
        deflated("m/hidden too", b"\x80\x02cos\nkill\n."),
        stored("m/data/0", b"\x80\x02cos\nchance\n."),
        stored("m/code/a.py", b"import os"),
    ]);
    let audit = audited(&file);
    assert_eq!(audit.container, Container::Zip);
    let targets: Vec<_> = audit.refused().map(|(_, event)| event.target.as_str()).collect();
    assert_eq!(targets, ["os.system", "os.abort", "os._exit", "os.kill"]);
}

#[test]
fn damaged_archives_are_searched() {
    let file = zip(&[stored("m/data.pkl", b"cos\nsystem\n."), deflated("m/b.pkl", b"cos\nabort\n.")]);
    let cut = audited(&file[..file.len() - 30]);
    assert!(cut.problems[0].contains("without its end record"));
    assert_eq!(lines(&cut), ["- m/data.pkl:0 Import os.system", "- m/b.pkl:0 Import os.abort"]);
    assert!(audited(&zip(&[stored("a", b"")])).problems[0].contains("no entry of the archive is a pickle"));
}

#[test]
fn truncated_pickles_are_followed_as_far_as_they_go() {
    let audit = audited(b"cos\nsystem\n(Vtrue\ntRX\xff\xff");
    assert_eq!(lines(&audit), ["- pickle 1:0 Import os.system", "- pickle 1:19 Call os.system ('true')"]);
    assert_eq!(
        audit.pickles[0].stopped.as_deref(),
        Some("pickle 1 at byte 20: truncated: needs 4 more bytes, 2 are left")
    );
}

#[test]
fn pickles_one_after_the_other() {
    let audit = audited(b"I1\n.cos\nsystem\n.garbage");
    assert_eq!(lines(&audit), ["- pickle 2:4 Import os.system"]);
    assert_eq!(audit.problems, ["7 bytes behind the last pickle, at byte 16"]);
}

#[test]
fn files_without_pickles_are_errors() {
    for bytes in [&b""[..], b"<html>", b"hello", b"\xff\xff\xff"] {
        assert!(audit(&Mapped::from_bytes(bytes.to_vec(), Path::new("model.bin"))).is_err(), "{bytes:?}");
    }
}

#[test]
fn very_many_events_are_counted() {
    let calls = [b"cos\nsystem\np0\n(".to_vec(), b"g0\n)R".repeat(60_000), b"t.".to_vec()].concat();
    let audit = audited(&calls);
    assert_eq!((audit.pickles[0].events.len(), audit.pickles[0].omitted_refused), (50_000, 10_001));
    assert!(!audit.is_clean());
}

#[test]
fn very_many_pickles_are_counted() {
    let many: Vec<_> = (0..1010).map(|index| stored(&format!("m/{index}.pkl"), b"cos\nsystem\n.")).collect();
    let audit = audited(&zip(&many));
    assert_eq!(
        (audit.pickles.len(), audit.problems),
        (1000, vec!["10 pickles were not looked at".to_owned()])
    );
}

/// What another format starts with does not hide a pickle.
#[test]
fn disguised_pickles_are_looked_at() {
    let disguised = b"Vxxxxxx\n{\"\n0cos\nsystem\n.";
    let disguised = [b"Vxxxxxxx{\"\n0".as_slice(), &disguised[12..]].concat();
    assert_eq!(&disguised[8..10], b"{\"");
    assert_eq!(lines(&audited(&disguised)), ["- pickle 1:12 Import os.system"]);
}

/// The result of the result of the result …, and arguments that contain themselves.
#[test]
fn renderings_stay_short() {
    let chain = [b"cos\nsystem\n".to_vec(), b")R".repeat(10_000), b".".to_vec()].concat();
    let longest = audited(&chain).pickles[0].events.iter().map(|event| event.target.len()).max();
    assert!(longest < Some(250), "{longest:?}");
    let cycle = b"cos\nsystem\n(]p0\ng0\natR.";
    assert_eq!(audited(cycle).pickles[0].events[1].arguments, "([[[[…]]]])");
    let wide = [
        b"cos\nsystem\n(".to_vec(),
        [b"V", [b'x'; 90].as_slice(), b"\n"].concat().repeat(100),
        b"tR.".to_vec(),
    ];
    assert!(audited(&wide.concat()).pickles[0].events[1].arguments.len() < 400);
}

#[test]
fn an_audit_is_data() {
    let json = serde_json::to_value(audited(b"cos\nsystem\n(Vtrue\ntR.")).unwrap();
    assert_eq!(json["container"], "pickle");
    assert_eq!(json["pickles"][0]["events"][1]["kind"], "call");
    assert_eq!(json["pickles"][0]["events"][1]["arguments"], "('true')");
    assert_eq!(json["pickles"][0]["events"][1]["allowed"], false);
}
