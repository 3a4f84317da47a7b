//! PyTorch names: canonical ones, and what older or other code wrote instead.
//!
//! Accepted besides the canonical name: `LayerNorm.gamma` and `LayerNorm.beta` (before transformers 1.0), and the
//! `classifer` of `mask_predictions` (Microsoft's original code). What stands before the names is the business of
//! [`super::prefixes`].

use deberta_reference::{Module, Param, Role};

use super::Stored;

/// The name that PyTorch gives `param`: the canonical one.
pub fn stored(param: &Param) -> Stored {
    Stored { name: param.name.clone(), transposed: false }
}

/// All names under which `param` is accepted once prefixes are canonical; the first is [`stored`].
pub fn accepted(param: &Param) -> Vec<Stored> {
    let mut names = vec![stored(param)];
    let old = match (param.role, param.module) {
        (Role::LayerNormScale, _) => Some((".weight", ".gamma")),
        (Role::LayerNormShift, _) => Some((".bias", ".beta")),
        (_, Module::MaskPredictionsClassifier) => Some((".classifier.", ".classifer.")),
        _ => None,
    };
    if let Some((new, old)) = old {
        names.push(Stored { name: param.name.replace(new, old), transposed: false });
    }
    names
}

#[cfg(test)]
mod tests {
    use deberta_reference::{DebertaConfig, Head, params};

    use super::*;

    #[test]
    fn only_layer_norms_have_old_spellings() {
        let config = DebertaConfig::from_json("{}").unwrap();
        for param in params(&config, Head::Base) {
            let names: Vec<String> = accepted(&param).into_iter().map(|stored| stored.name).collect();
            let old = match param.role {
                Role::LayerNormScale => vec![format!("{}.gamma", param.path())],
                Role::LayerNormShift => vec![format!("{}.beta", param.path())],
                _ => Vec::new(),
            };
            assert_eq!(names, [vec![param.name.clone()], old].concat());
        }
    }
}
