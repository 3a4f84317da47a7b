//! What it takes to confirm a cause: numbers that outnumber what was tried, and no other explanation.

use std::fs;
use std::path::Path;

use deberta_golden::{Data, Trace};
use deberta_tests::run;
use serde_json::{Value, json};

use crate::causes::{cut, first_tokens};
use crate::faults::{Model, base};
use crate::{CONVERT, VERIFY};

#[test]
fn one_number_confirms_nothing() {
    for (name, fault) in [
        ("heads", "encoder.layer.1.attention.self.in_proj.weight"),
        ("kernel", "encoder.layer.0.attention.output.dense.weight"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::of("sequence-regression");
        cut(&mut model, folder.path(), |name| name == "outputs.logits");
        let mut trace = Trace::read(&model.golden).unwrap();
        for tensor in &mut trace.tensors {
            let len = tensor.shape[1..].iter().product();
            match &mut tensor.data {
                Data::Integers(values) => values.truncate(len),
                Data::Floats(values) => values.truncate(len),
                Data::Doubles(values) => values.truncate(len),
            }
            tensor.shape[0] = 1;
        }
        trace.write(&model.golden).unwrap();
        assert_eq!(model.verify().code, 0);
        let fault = format!("{}{fault}", base(&model));
        match name {
            "heads" => model.rows(&fault, |row| (row + 24) % 48),
            _ => model.transpose(&fault),
        }
        let said = model.verify();
        assert!(said.code == 1 && said.kinds(true).is_empty(), "{name}: {:#?}", said.diagnoses);
    }
}

#[test]
fn two_rows_do_not_confirm_a_normalisation() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::of("masked-lm");
    first_tokens(&mut model, folder.path(), 2, "*LayerNorm");
    for word in ["weight", "bias"] {
        let name = format!("deberta.encoder.layer.1.output.LayerNorm.{word}");
        model.values(&name).iter_mut().enumerate().for_each(|(at, value)| *value += 0.1 * (at as f32).sin());
    }
    let said = model.verify();
    assert!(said.code == 1 && said.kinds(true).is_empty(), "{:#?}", said.diagnoses);
}

#[test]
fn what_one_token_cannot_tell_apart_is_not_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::of("v2-model-conv");
    first_tokens(&mut model, folder.path(), 1, "*");
    let name = "encoder.conv.conv.weight";
    let shape = model.shape(name);
    let (features, taps) = (shape[1], shape[2]);
    let old = model.values(name).clone();
    let turned = |at: usize| {
        old[(at / taps % features * features + at / taps / features) * taps + taps - 1 - at % taps]
    };
    *model.values(name) = (0..old.len()).map(turned).collect();
    let said = model.verify();
    said.names("transposed and reversed", "transposed-kernel");
    assert!(said.kinds(true).is_empty(), "{:#?}", said.diagnoses);
}

/// LN(c x; ε) is LN(x; ε/c²): one normalisation does not tell a table that is scaled from another ε.
#[test]
fn another_epsilon_is_confirmed_where_two_normalisations_show_it() {
    for (factor, eps, confirmed) in [(0.25, None, false), (1.0, Some(1e-3), true)] {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::of("v2-masked-lm");
        cut(&mut model, folder.path(), |name| name.starts_with("outputs.hidden_states"));
        let words = model.values("deberta.embeddings.word_embeddings.weight");
        words.iter_mut().for_each(|value| *value *= factor);
        if let Some(eps) = eps {
            model.config["layer_norm_eps"] = json!(eps);
        }
        let said = model.verify();
        assert_eq!(
            said.kinds(true).contains(&"layer-norm-eps"),
            confirmed,
            "{factor}: {:#?}",
            said.diagnoses
        );
        let scaled = said.diagnoses.iter().any(|known| known["kind"] == "scaled-parameter");
        assert!(confirmed || scaled, "{:#?}", said.diagnoses);
    }
}

#[test]
fn a_scaled_table_is_no_other_epsilon_though_every_layer_projects_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::of("v2-sequence-multi-label");
    model.golden = model.golden.with_file_name("loss.safetensors");
    first_tokens(&mut model, folder.path(), 3, "*");
    // LN(c x; 1e-7) is LN(x; 1e-7/c²): with ε of 1e-12, the scaled table is what it was.
    let table = model.values("deberta.encoder.rel_embeddings.weight");
    table.iter_mut().for_each(|value| *value *= 1e-5_f32.sqrt());
    let said = model.verify();
    let known = |kind: &str| said.diagnoses.iter().any(|known| known["kind"] == kind);
    assert!(known("layer-norm-eps") && known("scaled-parameter"), "{:#?}", said.diagnoses);
    assert!(!said.kinds(true).contains(&"layer-norm-eps"), "{:#?}", said.diagnoses);
}

#[test]
fn a_bias_that_is_lost_is_not_confirmed_by_numbers_of_which_some_do_not_show() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::of("activation-relu");
    cut(&mut model, folder.path(), |name| name.starts_with("outputs.hidden_states"));
    model.values("deberta.encoder.layer.0.intermediate.dense.bias").fill(0.0);
    let said = model.verify();
    // Units that are off for all of these tokens have biases that could be any.
    assert!(said.diagnoses.iter().any(|known| known["kind"] == "dropped-bias"), "{:#?}", said.diagnoses);
    assert!(!said.kinds(true).contains(&"dropped-bias"), "{:#?}", said.diagnoses);
}

/// The causes that the program confirms for a model in a folder, and what it says of each.
fn confirmed(model: &Path, golden: &Path) -> Vec<(String, String)> {
    let [model, golden] = [model, golden].map(|path| path.to_str().unwrap());
    let run = run(VERIFY, &["--model", model, "--golden", golden, "--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let runs = report["files"][0]["runs"].as_array().unwrap();
    let diagnoses = runs.iter().flat_map(|run| run["diagnoses"].as_array().unwrap());
    let said = |diagnosis: &Value, key: &str| diagnosis[key].as_str().unwrap().to_owned();
    diagnoses
        .filter(|diagnosis| diagnosis["confirmed"] == true)
        .map(|diagnosis| (said(diagnosis, "kind"), said(diagnosis, "cause")))
        .collect()
}

/// The golden's configuration is beside it: nothing need be guessed.
#[test]
fn lines_of_the_golden_s_configuration_are_the_cause_where_they_explain_everything() {
    for (key, value, golden_s) in [("num_attention_heads", 2, 3), ("num_hidden_layers", 2, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::of("v2-model");
        model.config[key] = json!(value);
        model.write(folder.path());
        let causes = confirmed(folder.path(), model.golden.parent().unwrap());
        let [(kind, cause), ..] = causes.as_slice() else { panic!("{key}: nothing is confirmed") };
        let line = format!("\"{key}\": {value}, where the golden's has \"{key}\": {golden_s}");
        assert!(kind == "config-differs" && cause.contains(&line), "{causes:?}");
        assert!(causes.iter().all(|cause| cause == &causes[0]), "{causes:?}");
    }
}

/// Of noise in all numbers the tolerance of half precision shows the largest alone.
#[test]
fn a_number_that_was_fitted_is_not_confirmed_in_half_precision() {
    for seed in 1..=8_u32 {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::of("masked-lm");
        let mut state = seed.wrapping_mul(0x9E37_79B9);
        for (_, values) in model.tensors.values_mut() {
            for value in values {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *value += (f64::from(state) / f64::from(u32::MAX) - 0.5) as f32 * 6e-3;
            }
        }
        model.write(folder.path());
        let half = folder.path().join("half/");
        let [from, to] = [folder.path(), &half].map(|path| path.to_str().unwrap());
        deberta_tests::succeed(
            CONVERT,
            &["convert", from, "--to", "safetensors", "--dtype", "f16", "-o", to],
        );
        let golden = tempfile::tempdir().unwrap();
        fs::copy(&model.golden, golden.path().join("plain.safetensors")).unwrap();
        assert_eq!(confirmed(&half, golden.path()), [], "{seed}");
    }
}
