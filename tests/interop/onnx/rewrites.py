"""What optimizers and other tools make of a graph: every rewrite takes the path of a model and the path of the new one."""

import contextlib
import io

import numpy as np
import onnx
import onnxruntime

try:
    import onnxslim
except ImportError:
    onnxslim = None
try:
    import onnxsim
except ImportError:
    onnxsim = None


def runtime(level):
    """As ONNX Runtime saves a model that it optimized: `ORT_ENABLE_BASIC` is Optimum's O1."""

    def rewrite(source, target):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    return rewrite


def slim(source, target):
    with contextlib.redirect_stdout(io.StringIO()):
        onnx.save(onnxslim.slim(onnx.load(str(source))), str(target))


def simplified(source, target):
    with contextlib.redirect_stdout(io.StringIO()):
        onnx.save(onnxsim.simplify(onnx.load(str(source)))[0], str(target))


def is_weight(tensor):
    return tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 0


def rename(graph, names):
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for list_of_names in (node.input, node.output):
            for place, name in enumerate(list_of_names):
                list_of_names[place] = names.get(name, name)


def anonymous(source, target):
    """No tensor keeps its name."""
    model = onnx.load(str(source))
    kept = {output.name for output in model.graph.output}
    names = [tensor.name for tensor in model.graph.initializer]
    names += [name for node in model.graph.node for name in node.output if name not in kept]
    rename(model.graph, {name: f"tensor_{number}" for number, name in enumerate(names)})
    onnx.save(model, str(target))


def nameless(source, target):
    """No node keeps its name, and none its metadata."""
    model = onnx.load(str(source))
    for node in model.graph.node:
        node.name = ""
        del node.metadata_props[:]
    onnx.save(model, str(target))


def duplicated(source, target):
    """Every operand has a tensor of its own, also where exporters store a parameter once."""
    model = onnx.load(str(source))
    weights = {tensor.name: tensor for tensor in model.graph.initializer if is_weight(tensor)}
    copies, used = [], set()

    def copy(name, of):
        copies.append(onnx.TensorProto())
        copies[-1].CopyFrom(weights[of])
        copies[-1].name = name
        return copies[-1]

    for node in [node for node in model.graph.node if node.op_type == "Identity" and node.input[0] in weights]:
        weights[node.output[0]] = copy(node.output[0], node.input[0])
        model.graph.node.remove(node)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in used:
                node.input[place] = copy(f"copy_{len(copies)}", name).name
            used |= {name} & set(weights)
    model.graph.initializer.extend(copies)
    onnx.save(model, str(target))


def halves(canonical):
    """Weights stored as f16, each behind a `Cast` to f32: the tensor has the weight's name, or else the `Cast`'s result."""

    def rewrite(source, target):
        model = onnx.load(str(source))
        casts = []
        for tensor in [tensor for tensor in model.graph.initializer if is_weight(tensor)]:
            name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
            if canonical:
                rename(model.graph, {name: f"{name}_f32"})
            stored, cast = (name, f"{name}_f32") if canonical else (f"{name}_f16", name)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), stored))
            casts.append(onnx.helper.make_node("Cast", [stored], [cast], to=onnx.TensorProto.FLOAT))
        nodes = [*casts, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        onnx.save(model, str(target))

    return rewrite
