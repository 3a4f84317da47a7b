//! The table of containers. The first that a sign fits is it.

use super::Container;
use super::Sign::{Bytes, Extension, Folder, LastBytes, Markup, Name, Text};

const TAKE_THE_ORIGINAL: &str = "its weights are changed for where they run, and cannot be recovered: take the PyTorch, safetensors, TensorFlow or \
     ONNX file that it was made from";

/// Every container that is known by name.
pub const CONTAINERS: &[Container] = &[
    Container {
        name: "a git-LFS pointer, not the file itself",
        told_by: &[Text("version https://git-lfs")],
        lead: "run `git lfs pull`, or download the file",
    },
    Container {
        name: "an interrupted download",
        told_by: &[
            Extension("incomplete"),
            Extension("part"),
            Extension("partial"),
            Extension("crdownload"),
            Extension("download"),
            Extension("aria2"),
        ],
        lead: "download the file anew",
    },
    Container {
        name: "a web page, not a model",
        told_by: &[Text("<!doctype html"), Text("<html"), Markup("<html")],
        lead: "the download went wrong; look at the page, which says why, and download the file anew",
    },
    Container {
        name: "a message of a storage server",
        told_by: &[Markup("<error>")],
        lead: "the download went wrong; look at the text, which says why, and download the file anew",
    },
    Container {
        name: "OpenVINO",
        told_by: &[Name("*openvino*"), Folder("openvino"), Extension("blob"), Markup("<net ")],
        lead: TAKE_THE_ORIGINAL,
    },
    Container {
        name: "XML text, not a model",
        told_by: &[Text("<?xml"), Markup("xmlns")],
        lead: "look at the text; if it is a message of a server, download the file anew",
    },
    Container {
        name: "JSON text, not weights",
        told_by: &[Text("{"), Text("[")],
        lead: "a shard index must end in .index.json; if the text is a message of a server, download the file anew",
    },
    Container {
        name: "DeepSpeed",
        told_by: &[
            Name("mp_rank_*_model_states.pt"),
            Name("layer_*-model_states.pt"),
            Name("*expert_*_model_states.pt"),
            Name("*zero_pp_rank_*"),
            Name("*_optim_states.pt"),
        ],
        lead: "`python zero_to_fp32.py CHECKPOINT_FOLDER OUTPUT_FOLDER` (DeepSpeed puts that program beside the file `latest`) \
               makes whole weights of it; below ZeRO stage 3, `deberta-convert convert mp_rank_00_model_states.pt --to safetensors` \
               reads them where they are",
    },
    Container {
        name: "PyTorch's distributed checkpoints",
        told_by: &[Extension("distcp")],
        lead: "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch CHECKPOINT_FOLDER pytorch_model.bin`, or for \
               those of accelerate `accelerate merge-weights CHECKPOINT_FOLDER OUTPUT_FOLDER`",
    },
    Container {
        name: "TensorFlow's checkpoints",
        told_by: &[
            Name("checkpoint"),
            Name("*.ckpt.*"),
            Name("*.ckpt-*"),
            Name("*.data-00000-of-*"),
            LastBytes(b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"),
        ],
        lead: "`python -c \"import transformers as t; m = t.TFDebertaModel(t.AutoConfig.from_pretrained('FOLDER')); \
               m(m.dummy_inputs); m.load_weights('FOLDER/model'); m.save_pretrained('OUTPUT')\"`, with the class that wrote it, \
               makes tf_model.h5 of it",
    },
    Container {
        name: "TensorFlow (SavedModel, frozen graph)",
        told_by: &[Extension("pb"), Folder("variables")],
        lead: "`python -c \"import tensorflow as tf, safetensors.numpy as s; s.save_file({v.name: v.numpy() for v in \
               tf.saved_model.load('FOLDER').variables}, 'model.safetensors')\"` takes the weights of a SavedModel out of it",
    },
    Container {
        name: "TensorFlow",
        told_by: &[Extension("pbtxt")],
        lead: "the text of a graph, whose weights are in another file",
    },
    Container {
        name: "Keras 3",
        told_by: &[Extension("keras"), Name("*.weights.h5")],
        lead: "`python -c \"import transformers as t; m = t.TFDebertaModel(t.AutoConfig.from_pretrained('FOLDER')); \
               m(m.dummy_inputs); m.load_weights('model.keras'); m.save_pretrained('OUTPUT')\"`, with the class that wrote it, \
               makes tf_model.h5 of it",
    },
    Container {
        name: "Flax",
        told_by: &[Extension("msgpack")],
        lead: "transformers has no DeBERTa for Flax: take the PyTorch, safetensors or TensorFlow file of the model",
    },
    Container {
        name: "tch-rs (rust-bert)",
        told_by: &[Extension("ot")],
        lead: "take the pytorch_model.bin that it was made from: `deberta-convert convert pytorch_model.bin --to safetensors`",
    },
    Container {
        name: "llama.cpp",
        told_by: &[
            Extension("gguf"),
            Extension("ggml"),
            Bytes(0, b"GGUF"),
            Bytes(0, b"lmgg"),
            Bytes(0, b"tjgg"),
        ],
        lead: TAKE_THE_ORIGINAL,
    },
    Container {
        name: "TensorFlow Lite",
        told_by: &[Extension("tflite"), Bytes(4, b"TFL3")],
        lead: TAKE_THE_ORIGINAL,
    },
    Container {
        name: "Core ML",
        told_by: &[
            Extension("mlmodel"),
            Extension("mlpackage"),
            Extension("mlmodelc"),
            Folder(".mlpackage"),
            Folder(".mlmodelc"),
            Folder("coreml"),
        ],
        lead: TAKE_THE_ORIGINAL,
    },
    Container {
        name: "NumPy",
        told_by: &[Extension("npz"), Extension("npy"), Bytes(0, b"\x93NUMPY")],
        lead: "`python -c \"import numpy, safetensors.numpy as s; s.save_file(dict(numpy.load('FILE')), 'model.safetensors')\"`, \
               if the arrays have the names of the parameters",
    },
    Container {
        name: "PaddlePaddle",
        told_by: &[Extension("pdparams"), Extension("pdmodel"), Extension("pdiparams")],
        lead: "take the PyTorch, safetensors or TensorFlow file of the model",
    },
    Container {
        name: "TensorRT",
        told_by: &[
            Extension("engine"),
            Extension("plan"),
            Extension("trt"),
            Bytes(0, b"ftrt"),
            Bytes(0, b"ptrt"),
        ],
        lead: TAKE_THE_ORIGINAL,
    },
    Container {
        name: "ONNX Runtime's own format",
        told_by: &[Extension("ort"), Bytes(4, b"ORTM")],
        lead: "take the ONNX file that it was made from",
    },
    Container {
        name: "rten",
        told_by: &[Extension("rten"), Bytes(0, b"RTEN")],
        lead: "take the ONNX file that it was made from",
    },
    Container { name: "MNN", told_by: &[Extension("mnn")], lead: TAKE_THE_ORIGINAL },
    Container { name: "ncnn", told_by: &[Extension("ncnn")], lead: TAKE_THE_ORIGINAL },
    Container { name: "Caffe", told_by: &[Extension("caffemodel")], lead: TAKE_THE_ORIGINAL },
    Container {
        name: "MXNet",
        told_by: &[Extension("params")],
        lead: "take the PyTorch, safetensors or TensorFlow file of the model",
    },
    Container { name: "Qualcomm's SNPE", told_by: &[Extension("dlc")], lead: TAKE_THE_ORIGINAL },
    Container { name: "Huawei's CANN", told_by: &[Extension("om")], lead: TAKE_THE_ORIGINAL },
    Container {
        name: "PyTorch Mobile",
        told_by: &[Extension("ptl")],
        lead: "take the state_dict() of the model that it was made from",
    },
    Container {
        name: "torch.export",
        told_by: &[Extension("pt2")],
        lead: "`python -c \"import torch, transformers.modeling_outputs; torch.save(torch.export.load('FILE').state_dict, 'pytorch_model.bin')\"` saves its weights",
    },
    Container {
        name: "ExecuTorch",
        told_by: &[Extension("pte"), Bytes(4, b"ET12")],
        lead: TAKE_THE_ORIGINAL,
    },
    Container { name: "AWS Neuron", told_by: &[Extension("neuron")], lead: TAKE_THE_ORIGINAL },
    Container {
        name: "TorchServe",
        told_by: &[Extension("mar")],
        lead: "a zip archive with the model in it: `unzip FILE -d FOLDER`, then `deberta-convert convert FOLDER --to safetensors`",
    },
    Container {
        name: "NeMo",
        told_by: &[Extension("nemo")],
        lead: "a tar archive with the weights in it: `tar xf FILE`, then `deberta-convert convert model_weights.ckpt --to safetensors`",
    },
    Container {
        name: "a pickle of Python",
        told_by: &[Extension("pkl"), Extension("pickle")],
        lead: "`deberta-convert audit FILE` lists what it calls; save the state_dict() of the model in it with torch.save",
    },
    Container {
        name: "joblib",
        told_by: &[Extension("joblib")],
        lead: "save the state_dict() of the model in it with torch.save",
    },
    Container {
        name: "gzip data",
        told_by: &[Bytes(0, b"\x1f\x8b")],
        lead: "unpack it first: `gunzip FILE`, or `tar xzf FILE` for a .tar.gz",
    },
    Container {
        name: "a tar archive",
        told_by: &[Bytes(257, b"ustar")],
        lead: "unpack it first: `tar xf FILE` (a .tar checkpoint of PyTorch before 0.1.10 must be saved again)",
    },
    Container {
        name: "an archive",
        told_by: &[
            Extension("zip"),
            Extension("tar"),
            Extension("gz"),
            Extension("tgz"),
            Extension("bz2"),
            Extension("xz"),
            Extension("zst"),
            Extension("lz4"),
            Extension("7z"),
            Extension("rar"),
            Bytes(0, b"\xfd7zXZ\0"),
            Bytes(0, b"\x28\xb5\x2f\xfd"),
            Bytes(0, b"7z\xbc\xaf\x27\x1c"),
            Bytes(0, b"BZh"),
            Bytes(0, b"Rar!\x1a\x07"),
        ],
        lead: "unpack it first (`unzip FILE`, `tar xf FILE`), then `deberta-convert convert FOLDER --to safetensors`",
    },
];
