//! Every committed case says the truth about its folder. What is recorded in it is compared in `reference/tests/goldens.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::source::Source;
use deberta_golden::case::{Case, CaseModel, Framework, TraceEntry};
use deberta_golden::goldens::Golden;
use deberta_golden::trace::Class;
use deberta_golden::trace::file::{FORMAT, Trace};
use deberta_golden::trace::folder;
use deberta_reference::{Family, Head, MaskedRows};
use deberta_tests::cases::each;

fn folders() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data");
    let mut folders: Vec<PathBuf> = data.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 48, "{} cases", folders.len());
    folders
}

/// The cases whose model is in the folder.
fn recorded() -> BTreeMap<PathBuf, Case> {
    let read = |folder: PathBuf| (Case::read(&folder).map(|case| (folder, case))).unwrap();
    folders().into_iter().map(read).filter(|(_, case)| matches!(case.model, CaseModel::Folder(_))).collect()
}

#[test]
fn every_folder_has_something_to_compare() {
    let published: Vec<String> = folders()
        .iter()
        .filter(|folder| matches!(Case::read(folder).unwrap().model, CaseModel::Hub(_)))
        .map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let ids = Golden::shipped_ids().map(|id| id.replace('/', "--"));
    assert_eq!(published, ids.collect::<Vec<_>>());
    for (folder, case) in recorded() {
        assert!(!case.traces.is_empty(), "{}", folder.display());
        assert!(case.slices.is_empty(), "{}", folder.display());
    }
}

#[test]
fn the_traces_are_those_of_the_folder() {
    let cases = recorded();
    let counts = each(cases.keys(), |folder| {
        let case = &cases[*folder];
        let listed: BTreeSet<PathBuf> =
            case.traces.iter().map(|entry| folder.join(entry.file.as_str())).collect();
        let found: BTreeSet<PathBuf> = folder::find(folder).unwrap().into_iter().collect();
        assert_eq!(listed, found);
        for entry in &case.traces {
            let path = entry.path(folder).unwrap();
            check_metadata(entry, &Trace::read(&path).unwrap(), case, &path);
        }
        listed.len()
    });
    println!("{} traces", counts.into_iter().sum::<usize>());
}

fn check_metadata(entry: &TraceEntry, trace: &Trace, case: &Case, path: &Path) {
    let at = path.display();
    let framework = match entry.framework {
        Framework::Pytorch => "pytorch",
        Framework::Tensorflow => "tensorflow",
        Framework::Microsoft => "microsoft",
        other => panic!("{at}: {other:?} does not record goldens"),
    };
    let rows = entry.masked_rows;
    assert_eq!(trace.metadata("format"), Some(FORMAT), "{at}");
    assert_eq!(trace.metadata("framework"), Some(framework), "{at}");
    assert_eq!(trace.metadata("class"), Some(entry.class.as_str()), "{at}");
    assert_eq!(trace.metadata("masked_rows"), Some(rows.word()), "{at}");
    assert_eq!(entry.class.trim_start_matches("TF"), case.class, "{at}");
    assert!(case.producer.contains(trace.metadata("producer").unwrap()), "{at}");
    assert_eq!(entry.masked_rows == MaskedRows::Uniform, entry.framework == Framework::Pytorch, "{at}");
    assert!(trace.tensors.iter().any(|tensor| tensor.name.starts_with("outputs.")), "{at}");
}

#[test]
fn the_digest_is_that_of_the_weights() {
    let cases = recorded();
    each(cases.keys(), |folder| {
        let case = &cases[*folder];
        let model = case.model_folder(folder).unwrap().unwrap();
        let (_, checkpoint) =
            Checkpoint::open(Source::locate(&model, None, None).unwrap(), None, None).unwrap();
        checkpoint.require_complete().unwrap();
        assert_eq!(checkpoint.class_name(), case.class);
        let digest = checkpoint.digest(&checkpoint.tensor_digests(&()).unwrap());
        assert_eq!(Some(digest.to_string()), case.digest);
    });
}

#[test]
fn every_class_has_traces_of_both_frameworks() {
    let classes: BTreeSet<String> = recorded()
        .into_values()
        .flat_map(|case| case.traces)
        .map(|entry| entry.class().unwrap().to_string())
        .collect();
    let of_head = |family: Family, head: Head| {
        let class = Class::of_head(family, head);
        [Some(class), class.in_tensorflow()].into_iter().flatten().map(|class| class.to_string())
    };
    let of_family = |family| Head::of(family).flat_map(move |head| of_head(family, head));
    assert_eq!(classes, Family::ALL.into_iter().flat_map(of_family).collect());
}
