use super::*;
use crate::format::onnx::encoded;

fn trained() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/trained/nli")
}

fn model() -> Checkpoint {
    Checkpoint::open(Source::locate(&trained().join("model.safetensors"), None, None).unwrap(), None, None)
        .unwrap()
        .1
}

#[test]
fn what_is_in_f32_is_equal_to_the_bit() {
    let model = model();
    let compare = |path: &Path| {
        let graph = Dequantized::open(path, &model.config, model.head, &model).unwrap();
        graph.compare(&model).unwrap()
    };
    let fidelity = compare(&trained().join("model.onnx"));
    assert_eq!(
        (fidelity.tensors.len(), fidelity.rounded().count(), fidelity.broken().count()),
        (model.bound.len(), 0, 0)
    );
    assert!(fidelity.missing.is_empty() && fidelity.unknown.is_empty());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let graph = Dequantized::open(&trained().join("model.onnx"), &model.config, model.head, &model).unwrap();
    let mut changed = graph.lowered.model;
    let tensors = changed.graph.as_mut().map(|graph| &mut graph.initializer).unwrap();
    let tensor = tensors.iter_mut().find(|tensor| tensor.name().ends_with("classifier.weight")).unwrap();
    let mut bytes = tensor.raw_data.as_ref().unwrap().to_vec();
    bytes[0] ^= 1;
    tensor.raw_data = Some(bytes.into());
    std::fs::write(&path, encoded(&changed)).unwrap();
    let fidelity = compare(&path);
    let broken: Vec<&TensorFidelity> = fidelity.broken().collect();
    assert_eq!((broken.len(), broken[0].tensor.as_str(), broken[0].beyond), (1, "classifier.weight", 1));
    assert!(broken[0].said().contains("1 of its"), "{}", broken[0].said());
}
