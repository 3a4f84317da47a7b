//! What the programs make of a terminal: completions, colours, narrow lines, silence.

use deberta_tests::{run, succeed};

use crate::{CONVERT, VERIFY};

/// What bash offers at the end of a line, by the completions of the program that the line begins with.
fn offered_by_bash(script: &str, line: &[&str]) -> Vec<String> {
    let name = line[0];
    let function = name.replace('-', "__");
    let asked = format!(
        r#"COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _{function} "$1" "${{@: -1}}" "${{@: -2:1}}"; printf '%s\n' "${{COMPREPLY[@]}}""#
    );
    let offered = run("bash", &[&["-c", &format!("{script}\n{asked}"), "bash"], line].concat());
    assert_eq!((offered.code, offered.stderr.as_str()), (0, ""));
    offered.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_subcommands_and_what_follows_them() {
    let scripts = [CONVERT, VERIFY].map(|program| succeed(program, &["completions", "bash"]));
    for (script, line, wanted) in [
        (&scripts[0], &["deberta-convert", "au"][..], "audit"),
        (&scripts[0], &["deberta-convert", "st2pt", "--fo"], "--force"),
        (&scripts[0], &["deberta-convert", "convert", "--to", ""], "safetensors"),
        (&scripts[0], &["deberta-convert", "help", "st2"], "st2pt"),
        (&scripts[1], &["deberta-verify", "--is"], "--isolate"),
        (&scripts[1], &["deberta-verify", "merge", "--rep"], "--report"),
        (&scripts[1], &["deberta-verify", "task", "zero-shot", "--thr"], "--threads"),
    ] {
        let offered = offered_by_bash(script, line);
        assert!(offered.iter().any(|offered| offered == wanted), "{line:?}: {offered:?}");
    }
}

#[test]
fn quiet_programs_say_what_is_wrong_alone() {
    let golden = "../golden/data/model";
    let told = succeed(VERIFY, &["-q", "--golden", golden]);
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with("pass: 1 file"), "{told}");
    assert_eq!(succeed(VERIFY, &["-q", "list", golden]), succeed(VERIFY, &["list", golden, "--quiet"]));
    let output = tempfile::tempdir().unwrap();
    let file = output.path().join("model.bin").to_str().unwrap().to_owned();
    assert_eq!(succeed(CONVERT, &["-q", "st2pt", "../golden/data/model", "-o", &file]), "");
    let ledger = succeed(
        CONVERT,
        &["st2pt", "../golden/data/model", "-o", &file, "--force", "-q", "--format", "json"],
    );
    assert!(ledger.starts_with('{'), "{ledger}");
}

#[test]
fn colours_are_as_asked_for() {
    let report = |color: &[&str]| succeed(VERIFY, &[color, &["--golden", "../golden/data/model"]].concat());
    assert!(report(&["--color", "always"]).contains("\x1b[1;32mpass\x1b[0m"));
    for plain in [report(&[]), report(&["--color=auto"]), report(&["--color", "never"])] {
        assert!(!plain.contains('\x1b'), "{plain}");
    }
}

/// On a terminal of 60 columns nothing is wider, but for single words.
#[cfg(target_os = "linux")]
#[test]
fn a_narrow_terminal_is_enough() {
    if std::process::Command::new("script").arg("--version").output().is_err() {
        println!("skipped: nothing here makes a terminal: util-linux has the program `script`");
        return;
    }
    for command in [
        format!("{VERIFY} --golden ../golden/data/model --all-points"),
        format!("{VERIFY} --model ../golden/data/model --golden ../golden/data/model-absolute"),
        format!("{VERIFY} list ../golden/data"),
        format!("{CONVERT} inspect ../golden/data/model"),
        format!("{CONVERT} diff ../golden/data/model ../golden/data/model-absolute"),
        format!("{CONVERT} --help"),
    ] {
        let on_terminal = format!("stty cols 60 rows 24; NO_COLOR=1 {command} 2>/dev/null; true");
        let shown = succeed("script", &["-qec", &on_terminal, "/dev/null"]);
        for line in shown.lines().map(|line| line.trim_end_matches('\r')) {
            let words = line.split_whitespace().map(|word| word.chars().count());
            let unbreakable = words.max().unwrap_or(0) > 60 - 16;
            assert!(line.chars().count() <= 60 || unbreakable, "{command}: {line}");
        }
    }
}
