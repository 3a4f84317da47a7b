//! Lies about tensors and the storages that they are in.

use super::{arguments, checkpoint, pickled};
use crate::error::Kind;
use crate::format::TensorFile;
use crate::format::torch::testing::{
    int, ints, one_tensor, one_tensor_of, open_bytes, records, refusal, zip,
};

#[test]
fn the_honest_checkpoint_opens() {
    let file = open_bytes(checkpoint(6, &arguments(0, &[2, 3], &[3, 1]), 24)).unwrap();
    assert_eq!(file.tensors()[0].shape, [2, 3]);
    assert_eq!(file.read(0).unwrap().as_ref(), [1; 24]);
    assert_eq!(file.read(1).unwrap_err().kind(), Kind::Request);
}

#[test]
fn a_tensor_larger_than_its_storage() {
    assert_eq!(
        refusal(checkpoint(6, &arguments(0, &[2, 4], &[4, 1]), 24)),
        "model.bin: tensor \"w\": shape [2, 4] as f32 needs 32 bytes, storage has 24"
    );
}

#[test]
fn an_offset_outside_the_storage() {
    assert_eq!(
        refusal(checkpoint(6, &arguments(1, &[2, 3], &[3, 1]), 24)),
        "model.bin: tensor \"w\": shape [2, 3] as f32 from element 1 on needs 28 bytes, storage has 24"
    );
    assert!(
        refusal(checkpoint(6, &arguments(i64::MAX, &[2, 3], &[3, 1]), 24))
            .contains("more bytes than can be counted")
    );
}

#[test]
fn strides_that_leave_the_storage() {
    assert!(
        refusal(checkpoint(6, &arguments(0, &[2, 3], &[4, 1]), 24))
            .contains("with strides [4, 1] as f32 needs 28")
    );
    assert!(
        refusal(checkpoint(6, &arguments(0, &[2, 3], &[i64::MAX, 1]), 24))
            .contains("more bytes than can be counted")
    );
}

#[test]
fn negative_numbers() {
    for (arguments, what) in [
        (arguments(-1, &[2, 3], &[3, 1]), "offset"),
        (arguments(0, &[2, -3], &[3, 1]), "shape"),
        (arguments(0, &[2, 3], &[3, -1]), "strides"),
    ] {
        let message = refusal(checkpoint(6, &arguments, 24));
        assert!(message.contains(&format!("tensor \"w\": its {what} has the negative number")), "{message}");
    }
    assert!(refusal(checkpoint(-6, &arguments(0, &[2], &[1]), 24)).contains("describes no storage"));
}

#[test]
fn a_shape_that_overflows() {
    let huge = arguments(0, &[i64::MAX, i64::MAX], &[1, 1]);
    assert!(
        refusal(checkpoint(6, &huge, 24))
            .contains("tensor \"w\": shape [9223372036854775807, 9223372036854775807] as f32 overflows")
    );
}

#[test]
fn more_strides_than_dimensions_and_more_dimensions_than_possible() {
    assert!(
        refusal(checkpoint(6, &arguments(0, &[2, 3], &[1]), 24))
            .contains("has 2 dimensions, strides [1] have 1")
    );
    let many = arguments(0, &[1; 65], &[1; 65]);
    assert!(refusal(checkpoint(6, &many, 24)).contains("its shape has 65 dimensions, at most 64"));
}

#[test]
fn arguments_of_the_wrong_type() {
    let message = refusal(checkpoint(6, &["Vx\n", &ints(&[2]), &ints(&[1])].concat(), 24));
    assert!(message.contains("tensor \"w\": its offset has a string instead of a number"), "{message}");
    let message = refusal(checkpoint(6, &[&int(0), "Vx\n", ints(&[1]).as_str()].concat(), 24));
    assert!(message.contains("tensor \"w\": its shape should be a tuple and is a string"), "{message}");
    assert!(refusal(checkpoint(6, &int(0), 24)).contains("wrong arguments"));
}

#[test]
fn a_storage_of_another_size_than_declared() {
    for (elements, bytes) in [(6, 20), (6, 28), (i64::MAX, 24)] {
        let message = refusal(checkpoint(elements, &arguments(0, &[2], &[1]), bytes));
        let words = format!("is declared as {elements} elements of 4 bytes, the archive has {bytes} bytes");
        assert!(
            message.contains("tensor \"w\": its storage \"m/data/0\"") && message.contains(&words),
            "{message}"
        );
    }
}

#[test]
fn a_storage_that_is_not_there() {
    let file = zip(&records(&one_tensor(&int(6), &arguments(0, &[2], &[1])), &[]));
    assert!(refusal(file).contains("tensor \"w\": its storage \"m/data/0\" is not in the archive"));
}

#[test]
fn a_storage_declared_twice_in_different_ways() {
    let storage = |class| format!("(Vstorage\nctorch\n{class}\nV0\nVcpu\nI6\ntQ");
    let pickle = [&storage("FloatStorage"), "0", storage("LongStorage").as_str(), "."].concat();
    assert!(refusal(pickled(pickle)).contains("storage \"0\" is declared as 6 int64 and as 6 float32"));
}

#[test]
fn an_expanded_tensor_that_outgrows_the_file() {
    let message = refusal(checkpoint(6, &arguments(0, &[1 << 40], &[0]), 24));
    assert!(
        message.contains("tensor \"w\"") && message.contains("expands 4 stored bytes to 4398046511104"),
        "{message}"
    );
}

/// A thousand tensors of a megabyte each, all the same megabyte.
#[test]
fn more_tensors_than_their_storages_make_sense_of() {
    let tensor = "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI262144\ntQI0\n(I262144\nt(I1\ntI00\n}tR";
    let entries: String = (0..1000).map(|index| format!("V{index}\n{tensor}")).collect();
    let file = zip(&records(format!("}}({entries}u.").as_bytes(), &[("0", &vec![0; 1 << 20])]));
    assert!(refusal(file).contains("its 1000 tensors claim 1048576000 bytes out of 1048576 stored ones"));
}

#[test]
fn storage_classes_and_views_of_old_files() {
    let strange = one_tensor_of("StrangeStorage", &int(6), &arguments(0, &[2], &[1]));
    assert!(refusal(pickled(strange)).contains("refuses to call torch.StrangeStorage"));
    let view = |start: i64, len: i64| {
        let view = format!("I6\n(Vview\n{}{}t", int(start), int(len));
        pickled(one_tensor(&view, &arguments(1, &[2], &[1])))
    };
    let file = open_bytes(view(2, 3)).unwrap();
    assert_eq!(file.read(0).unwrap().len(), 8);
    assert!(refusal(view(4, 3)).contains("a view of 3 elements at 4, the storage has 6"));
    assert!(refusal(view(4, 2)).contains("from element 1 on needs 12 bytes, storage has 8"));
}

#[test]
fn names_are_safe_to_print() {
    let pickle = String::from_utf8(one_tensor(&int(6), &arguments(0, &[99], &[1]))).unwrap().replacen(
        "Vw\n",
        "V\u{1b}[2Jw\n",
        1,
    );
    assert!(refusal(pickled(pickle)).contains("tensor \"\\u{1b}[2Jw\""));
}
