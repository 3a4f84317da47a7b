//! The allow-list: every global that a checkpoint may name, and what it stands for.
//!
//! It follows torch's own list for `torch.load(weights_only=True)` (`torch/_weights_only_unpickler.py`), plus NumPy
//! scalars and `defaultdict`, which training loops leave beside the weights. Nothing on it is ever executed:
//! tensors and dicts are rebuilt here, everything else is only described.

use crate::tensor::Dtype;

/// What an allowed global stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    /// A subclass of dict: `OrderedDict`.
    Dict,
    /// `set`, `frozenset`.
    Set,
    /// `torch.Size`: a tuple.
    Size,
    /// `torch._utils._rebuild_tensor`, …
    Rebuild(Rebuild),
    /// A function that makes a tensor of a kind that is recognised but not read, in words.
    Unreadable(&'static str),
    /// `torch.FloatStorage`, …: only ever part of a persistent id.
    Storage(ElementType),
    /// `torch.float32`, …
    Dtype(ElementType),
    /// `torch.nn.parameter.Parameter`, `torch.Tensor`, …
    TensorClass,
    /// Makes, or is, a value that is only described, in words.
    Described(&'static str),
}

/// The functions that rebuild a dense tensor (torch/_utils.py, torch/_tensor.py).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rebuild {
    /// `(storage, offset, size, stride)`
    Tensor,
    /// `(storage, offset, size, stride, requires_grad, backward_hooks, metadata=None)`
    TensorV2,
    /// `(storage, offset, size, stride, requires_grad, backward_hooks, dtype, metadata=None)`
    TensorV3,
    /// `(data, requires_grad, backward_hooks)`
    Parameter,
    /// `(data, requires_grad, backward_hooks, state)`
    ParameterWithState,
    /// `(function, type, arguments, state)`
    FromTypeV2,
}

/// The type of a storage's elements, also where it is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ElementType {
    /// What torch calls it: `float32`.
    pub(crate) name: &'static str,
    /// Bytes per element.
    pub(crate) size: usize,
    /// Ours, if it is one of ours.
    pub(crate) dtype: Option<Dtype>,
}

/// `module.name` as messages show it, under the module names of Python 3. The modules behind `os` are what pickle
/// writes for its functions: `posix.system (os.system)`.
pub(crate) fn full_name(module: &str, name: &str) -> String {
    let also = if matches!(module, "posix" | "nt") { format!(" (os.{name})") } else { String::new() };
    format!("{}.{name}{also}", python3_module(module))
}

/// What leads on where a checkpoint names a global that is not allowed, to follow the refusal: nothing where it may be an
/// attack.
pub(crate) fn lead(module: &str, name: &str) -> &'static str {
    const SETTINGS: [&str; 12] = [
        "accelerate.",
        "argparse",
        "datetime",
        "enum",
        "hydra.",
        "lightning",
        "omegaconf.",
        "pathlib",
        "pytorch_lightning.",
        "torch.optim.",
        "transformers.",
        "yacs.",
    ];
    if name == "_load_from_bytes" && module == "torch.storage" {
        ". Tensors that Python's pickle wrote, and not torch.save: if you trust the file, `python -c \"import pickle, torch; \
         torch.save(pickle.load(open('FILE', 'rb')), 'pytorch_model.bin')\"` saves them as a checkpoint"
    } else if name == "_reconstruct" && module.starts_with("numpy") {
        ". These are arrays of NumPy: if you trust the file, `python -c \"import torch; \
         d = torch.load('FILE', weights_only=False); torch.save({k: torch.as_tensor(v) for k, v in d.items()}, \
         'pytorch_model.bin')\"` makes tensors of them, where the file is a dict of such arrays (`pickle.load(open('FILE', 'rb'))` \
         reads what torch did not write)"
    } else if is_of_module(module) {
        ". This is a whole module, as `torch.save(model, …)` pickles one, with the classes of the program that \
         wrote it: if you trust the file, `python -c \"import torch; \
         torch.save(torch.load('FILE', weights_only=False).state_dict(), 'pytorch_model.bin')\"` saves its weights; \
         of a module in a dict, `torch.load('FILE', weights_only=False)['KEY'].state_dict()` is what to save"
    } else if SETTINGS.iter().any(|start| module.starts_with(start)) {
        ". Such an object is no weight, but a setting beside them: if you trust the file, `python -c \"import torch; \
         torch.save(torch.load('FILE', weights_only=False)['state_dict'], 'pytorch_model.bin')\"` saves the weights alone, \
         with the key that they have in this file"
    } else {
        ""
    }
}

/// Whether classes of modules that compute are in a Python module of this name.
fn is_of_module(module: &str) -> bool {
    // A configuration or a tokenizer.
    let computes = !["configuration_", "tokenization_"].iter().any(|part| module.contains(part));
    const STARTS: [&str; 7] = [
        "torch.nn.modules",
        "torch.nn.parallel",
        "transformers.models",
        "transformers.modeling",
        "peft.",
        "sentence_transformers.",
        "__main__",
    ];
    computes && STARTS.iter().any(|start| module.starts_with(start))
}

/// What the global stands for, or `None` if it is not allowed.
pub(crate) fn find(module: &str, name: &str) -> Option<Global> {
    Some(match python3_module(module) {
        "collections" => match name {
            "OrderedDict" | "Counter" | "defaultdict" => Global::Dict,
            _ => return None,
        },
        "builtins" => match name {
            "set" | "frozenset" => Global::Set,
            "dict" => Global::Dict,
            "bytearray" => Global::Described("bytes"),
            "complex" => Global::Described("complex number"),
            // The factory of a defaultdict.
            "list" | "int" | "float" => Global::Described("class"),
            _ => return None,
        },
        "_codecs" if name == "encode" => Global::Described("bytes"),
        "torch" | "torch.cuda" if name.ends_with("Storage") => Global::Storage(storage_class(name)?),
        "torch.storage" if name == "UntypedStorage" => Global::Storage(storage_class(name)?),
        "torch" => match name {
            "Size" => Global::Size,
            "Tensor" => Global::TensorClass,
            "device" => Global::Described("device"),
            "per_tensor_affine"
            | "per_tensor_symmetric"
            | "per_channel_affine"
            | "per_channel_symmetric"
            | "per_channel_affine_float_qparams" => Global::Described("quantization scheme"),
            "strided" | "sparse_coo" | "sparse_csr" | "sparse_csc" | "sparse_bsr" | "sparse_bsc" => {
                Global::Described("layout")
            }
            _ => Global::Dtype(element_type(name)?),
        },
        "torch.nn.parameter" if matches!(name, "Parameter" | "Buffer") => Global::TensorClass,
        "torch.serialization" if name == "_get_layout" => Global::Described("layout"),
        "torch._tensor" if name == "_rebuild_from_type_v2" => Global::Rebuild(Rebuild::FromTypeV2),
        "torch._utils" => match name {
            "_rebuild_tensor" => Global::Rebuild(Rebuild::Tensor),
            "_rebuild_tensor_v2" => Global::Rebuild(Rebuild::TensorV2),
            "_rebuild_tensor_v3" => Global::Rebuild(Rebuild::TensorV3),
            "_rebuild_parameter" => Global::Rebuild(Rebuild::Parameter),
            "_rebuild_parameter_with_state" => Global::Rebuild(Rebuild::ParameterWithState),
            "_rebuild_qtensor" => Global::Unreadable("is quantized, which is not supported"),
            "_rebuild_sparse_tensor" => Global::Unreadable("is sparse, which is not supported"),
            "_rebuild_nested_tensor" => Global::Unreadable("is nested, which is not supported"),
            "_rebuild_wrapper_subclass" => {
                Global::Unreadable("is of a tensor subclass, which is not supported")
            }
            "_rebuild_meta_tensor_no_storage" => Global::Unreadable(ON_META),
            "_rebuild_device_tensor_from_numpy"
            | "_rebuild_xla_tensor"
            | "_rebuild_device_tensor_from_cpu_tensor" => {
                Global::Unreadable("was saved on a device without storages, which is not supported")
            }
            _ => return None,
        },
        "numpy.core.multiarray" | "numpy._core.multiarray" if name == "scalar" => {
            Global::Described("numpy scalar")
        }
        "numpy" if name == "dtype" => Global::Described("numpy dtype"),
        "numpy.dtypes" if name.ends_with("DType") => Global::Described("numpy dtype"),
        _ => return None,
    })
}

/// Why a tensor on the meta device is an error.
const ON_META: &str = "is on the meta device: the file has its shape, but no values (transformers 4.57 writes such \
                       files when it loads a .h5 checkpoint with from_tf=True; convert the .h5 itself)";

/// Modules that were renamed in Python 3. Protocol 2 and below write the old names.
fn python3_module(module: &str) -> &str {
    match module {
        "__builtin__" => "builtins",
        "copy_reg" => "copyreg",
        other => other,
    }
}

/// `torch.float32` and the like, by the name after the dot.
fn element_type(name: &str) -> Option<ElementType> {
    ELEMENT_TYPES.iter().find(|(element, _)| element.name == name).map(|(element, _)| *element)
}

/// The elements of a storage class: `FloatStorage` holds float32.
fn storage_class(class: &str) -> Option<ElementType> {
    if class == "UntypedStorage" {
        return element_type("uint8");
    }
    ELEMENT_TYPES.iter().find(|(_, storage)| *storage == class).map(|(element, _)| *element)
}

/// The dtypes of torch that can be in a file, with the class of their storages if they have one.
const ELEMENT_TYPES: &[(ElementType, &str)] = {
    const fn known(name: &'static str, dtype: Dtype) -> ElementType {
        ElementType { name, size: dtype.size(), dtype: Some(dtype) }
    }
    const fn other(name: &'static str, size: usize) -> ElementType {
        ElementType { name, size, dtype: None }
    }
    &[
        (known("float64", Dtype::F64), "DoubleStorage"),
        (known("float32", Dtype::F32), "FloatStorage"),
        (known("float16", Dtype::F16), "HalfStorage"),
        (known("bfloat16", Dtype::BF16), "BFloat16Storage"),
        (known("int64", Dtype::I64), "LongStorage"),
        (known("int32", Dtype::I32), "IntStorage"),
        (known("int16", Dtype::I16), "ShortStorage"),
        (known("int8", Dtype::I8), "CharStorage"),
        (known("uint8", Dtype::U8), "ByteStorage"),
        (known("bool", Dtype::Bool), "BoolStorage"),
        (other("complex64", 8), "ComplexFloatStorage"),
        (other("complex128", 16), "ComplexDoubleStorage"),
        (other("qint8", 1), "QInt8Storage"),
        (other("quint8", 1), "QUInt8Storage"),
        (other("qint32", 4), "QInt32Storage"),
        (other("quint4x2", 1), "QUInt4x2Storage"),
        (other("quint2x4", 1), "QUInt2x4Storage"),
        (other("complex32", 4), ""),
        (other("uint16", 2), ""),
        (other("uint32", 4), ""),
        (other("uint64", 8), ""),
        (other("float8_e4m3fn", 1), ""),
        (other("float8_e4m3fnuz", 1), ""),
        (other("float8_e5m2", 1), ""),
        (other("float8_e5m2fnuz", 1), ""),
        (other("float8_e8m0fnu", 1), ""),
        (other("float4_e2m1fn_x2", 1), ""),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_trusted_has_a_way_on_and_attacks_have_none() {
        for (module, name, expected) in [
            ("transformers.models.deberta.modeling_deberta", "DebertaModel", "a whole module"),
            ("__main__", "Net", "a whole module"),
            ("transformers.models.deberta.configuration_deberta", "DebertaConfig", "a setting beside them"),
            ("transformers.training_args", "TrainingArguments", "a setting beside them"),
            ("argparse", "Namespace", "a setting beside them"),
            ("omegaconf.dictconfig", "DictConfig", "a setting beside them"),
            ("numpy.core.multiarray", "_reconstruct", "arrays of NumPy"),
            ("torch.storage", "_load_from_bytes", "pickle.load"),
        ] {
            assert!(lead(module, name).contains(expected), "{module}.{name}");
        }
        for (module, name) in
            [("posix", "system"), ("builtins", "eval"), ("builtins", "getattr"), ("runpy", "run_path")]
        {
            assert_eq!(lead(module, name), "", "{module}.{name}");
        }
    }

    #[test]
    fn names_of_python_2_are_understood() {
        assert_eq!(find("__builtin__", "set"), Some(Global::Set));
        assert_eq!(full_name("__builtin__", "eval"), "builtins.eval");
        assert_eq!(full_name("posix", "system"), "posix.system (os.system)");
    }

    #[test]
    fn storages_know_their_elements() {
        let Some(Global::Storage(element)) = find("torch", "BFloat16Storage") else { panic!("not allowed") };
        assert_eq!((element.name, element.size, element.dtype), ("bfloat16", 2, Some(Dtype::BF16)));
        assert!(find("torch", "Storage").is_none());
    }

    #[test]
    fn what_runs_code_or_loads_more_is_not_allowed() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("__builtin__", "exec"),
            ("torch.storage", "_load_from_bytes"),
            ("torch.storage", "TypedStorage"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("torch._utils", "_rebuild_anything"),
            ("torch", "_utils._rebuild_tensor_v2"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("copyreg", "_reconstructor"),
        ] {
            assert_eq!(find(module, name), None, "{module}.{name}");
        }
    }
}
