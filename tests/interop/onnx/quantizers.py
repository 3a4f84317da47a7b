"""The tools that make the graphs of a release smaller or faster, each with the settings that releases have: a tool takes the
path of a graph, that of the new one, and batches of inputs to calibrate with."""

import contextlib
import io
import logging
import signal
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import rewrites
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer
from onnxruntime.quantization.matmul_nbits_quantizer import (
    GPTQWeightOnlyQuantConfig,
    HQQWeightOnlyQuantConfig,
    KQuantWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
    RTNWeightOnlyQuantConfig,
)
from onnxruntime.transformers import optimizer

try:
    from onnxconverter_common import float16
except ImportError:
    float16 = None

logging.disable(logging.WARNING)


SECONDS = 300
"""How long a tool may compute: the converter to f16 puts a `Cast` behind every `Cast` of some graphs, for ever."""


def make(tool, source, target, batches):
    """What a tool makes of a graph.

    Raises what the tool does, and TimeoutError."""

    def late(*_):
        raise TimeoutError(f"it has not ended after {SECONDS} seconds")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        TOOLS[tool](source, target, batches)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Batches(CalibrationDataReader):
    def __init__(self, batches):
        self.batches = iter(batches)

    def get_next(self):
        return next(self.batches, None)


def dynamic(**options):
    def make(source, target, batches):
        quantize_dynamic(str(source), str(target), **options)

    return make


def static(products_alone=True, **options):
    """Without `products_alone` the mask is quantized too, with 3.4e38 / 255 as its step."""
    if products_alone:
        options["op_types_to_quantize"] = ["MatMul", "Gemm", "Gather", "Conv"]

    def make(source, target, batches):
        quantize_static(str(source), str(target), Batches(batches), **options)

    return make


def blocks(form=QuantFormat.QOperator, **options):
    def make(source, target, batches):
        quantizer = MatMulNBitsQuantizer(onnx.load(str(source)), quant_format=form, **options)
        with contextlib.redirect_stdout(io.StringIO()):
            quantizer.process()
        onnx.save(quantizer.model.model, str(target))

    return make


def optimized_zeros(**options):
    """Blocks whose zero points are chosen by half-quadratic optimization (HQQ), and are no integers."""
    return lambda source, target, batches: blocks(algo_config=HQQWeightOnlyQuantConfig(**options))(source, target, batches)


def gptq(bits=4, block_size=32, is_symmetric=False, **options):
    """As onnxruntime 1.32 does it: its errors make up for nothing, because it takes the wrong half of a triangular matrix, but
    numbers are rounded twice, in another order of rows, or with scales that large ones are beyond."""

    def make(source, target, batches):
        config = GPTQWeightOnlyQuantConfig(calibration_data_reader=Batches(batches), **options)
        blocks(bits=bits, block_size=block_size, is_symmetric=is_symmetric, algo_config=config)(source, target, batches)

    return make


def compensated(source, target, batches, block=32, damping=0.01):
    """GPTQ as its paper has it: the rows of a matrix that are not rounded yet make up for the errors of those that are."""
    model = onnx.load(str(source))
    matrices = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 2}
    products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in matrices]
    taken = sorted({node.input[0] for node in products} - {value.name for value in model.graph.output} - set(matrices))
    watched = onnx.load(str(source))
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in taken)
    session = onnxruntime.InferenceSession(watched.SerializeToString())
    products_of = dict.fromkeys(taken, 0.0)
    for batch in batches:
        for name, value in zip(taken, session.run(taken, batch)):
            rows = value.reshape(-1, value.shape[-1]).astype(np.float64)
            products_of[name] = products_of[name] + rows.T @ rows
    for node in products:
        if node.input[0] in products_of:
            tensor = matrices[node.input[1]]
            rounded = compensating(onnx.numpy_helper.to_array(tensor).astype(np.float64), products_of[node.input[0]], block, damping)
            # What others take stays as it is.
            node.input[1] = f"{node.name}_weight"
            model.graph.initializer.append(onnx.numpy_helper.from_array(rounded.astype(np.float32), node.input[1]))
    with tempfile.TemporaryDirectory() as folder:
        between = Path(folder) / "model.onnx"
        onnx.save(model, str(between))
        blocks(bits=4, block_size=block, is_symmetric=False)(between, target, batches)


def compensating(weights, products, block, damping):
    """The numbers of 4 bits that a matrix becomes, given the sums of products of what it is multiplied with."""
    factors = np.linalg.cholesky(np.linalg.inv(products + damping * np.mean(np.diag(products)) * np.eye(len(products)))).T
    for row in range(len(weights)):
        if row % block == 0:
            ahead = weights[row : row + block]
            least, most = np.minimum(ahead.min(0), 0), np.maximum(ahead.max(0), 0)
            step = np.where(most > least, (most - least) / 15, 1)
            zero = np.round(-least / step)
        rounded = (np.clip(np.round(weights[row] / step) + zero, 0, 15) - zero) * step
        weights[row + 1 :] -= np.outer(factors[row, row + 1 :], (weights[row] - rounded) / factors[row, row])
        weights[row] = rounded
    return weights


def bnb4(kind):
    def make(source, target, batches):
        quantizer = MatMulBnb4Quantizer(onnx.load(str(source)), kind, 64)
        quantizer.process()
        onnx.save(quantizer.model.model, str(target))

    return make


def halves(**options):
    """As the scripts of transformers.js, with what they keep in f32."""

    def make(source, target, batches):
        model = onnx.load(str(source))
        kept = [*(name for name in float16.DEFAULT_OP_BLOCK_LIST if name != "Range"), "Cast"]
        model = float16.convert_float_to_float16(model, op_block_list=kept, disable_shape_infer=True, **options)
        onnx.save(sorted_by_use(model), str(target))

    return make


def halves_of_no_runtime(source, target, batches):
    """The tool's defaults leave a `Cast` to f32 where f16 is due."""
    onnx.save(float16.convert_float_to_float16(onnx.load(str(source)), keep_io_types=True), str(target))


def stored(kind):
    """Every matrix in half precision behind a `Cast`, under the old name; computed in f32."""

    def make(source, target, batches):
        model = onnx.load(str(source))
        casts = []
        for tensor in model.graph.initializer:
            if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims, dtype=int) < 2:
                continue
            values, name = onnx.numpy_helper.to_array(tensor), tensor.name
            narrow = onnx.helper.float32_to_bfloat16 if hasattr(onnx.helper, "float32_to_bfloat16") else bfloat16
            if kind == onnx.TensorProto.FLOAT16:
                rounded = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_stored")
            else:
                bits = bfloat16(values)
                rounded = onnx.TensorProto(name=f"{name}_stored", data_type=kind, dims=tensor.dims, raw_data=bits.tobytes())
            tensor.CopyFrom(rounded)
            casts.append(onnx.helper.make_node("Cast", [f"{name}_stored"], [name], f"{name}_cast", to=onnx.TensorProto.FLOAT))
        nodes = [*casts, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        onnx.save(model, str(target))

    return make


def bfloat16(values):
    """The bits of the nearest numbers, to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def fused(level=None, half=False, **options):
    """`onnxruntime.transformers.optimizer` with the fusions of `bert`, as Optimum's O2 to O4 have them."""

    def make(source, target, batches):
        from onnxruntime.transformers.fusion_options import FusionOptions

        fusion = FusionOptions("bert")
        fusion.enable_gelu_approximation = options.get("approximate", False)
        model = optimizer.optimize_model(str(source), "bert", num_heads=4, hidden_size=64, opt_level=level, optimization_options=fusion)
        if half:
            model.convert_float_to_float16(keep_io_types=True)
        model.save_model_to_file(str(target))

    return make


def after(first, second):
    def make(source, target, batches):
        with tempfile.TemporaryDirectory() as folder:
            between = Path(folder) / "model.onnx"
            first(source, between, batches)
            second(between, target, batches)

    return make


def alone(rewrite):
    return lambda source, target, batches: rewrite(source, target)


def sorted_by_use(model):
    """Some tools put a node behind those that take its output."""
    known = {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input} | {""}
    ahead, nodes = [(node, taken(node)) for node in model.graph.node], []
    while ahead:
        behind = []
        for node, names in ahead:
            if all(name in known for name in names):
                nodes.append(node)
                known.update(node.output)
            else:
                behind.append((node, names))
        if len(behind) == len(ahead):
            raise ValueError(f"{behind[0][0].name} takes what nothing makes")
        ahead = behind
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def taken(node):
    """What a node takes, and what its branches take of the values around them."""
    names = list(node.input)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            made = {name for inner in attribute.g.node for name in inner.output} | {tensor.name for tensor in attribute.g.initializer}
            names += [name for inner in attribute.g.node for name in taken(inner) if name not in made]
    return names


INT8, UINT8 = QuantType.QInt8, QuantType.QUInt8
PRODUCTS = {"MatMulConstBOnly": True}

PRODUCTS_OF = {
    "MatMul": {"weight": 1, "scale": 1, "zero": 1},
    "Gemm": {"weight": 1, "scale": 1, "zero": 1},
    "MatMulInteger": {"weight": 1, "zero": 3, "scale": 99},
    "QLinearMatMul": {"weight": 3, "scale": 4, "zero": 5},
    "QGemm": {"weight": 3, "scale": 4, "zero": 5},
    "MatMulNBits": {"weight": 1, "scale": 2, "zero": 3},
    "MatMulBnb4": {"weight": 1, "scale": 2},
}
"""Operators that multiply with a weight, and which of the inputs it, its scale and its zero point are."""

TOOLS = {
    "int8": dynamic(weight_type=INT8, extra_options=PRODUCTS),
    "uint8": dynamic(weight_type=UINT8, extra_options=PRODUCTS),
    "int8-channels": dynamic(weight_type=INT8, per_channel=True),
    "uint8-channels": dynamic(weight_type=UINT8, per_channel=True),
    "int8-asymmetric": dynamic(weight_type=INT8, per_channel=True, extra_options={"WeightSymmetric": False}),
    "int8-7bit": dynamic(weight_type=INT8, per_channel=True, reduce_range=True),
    "int8-optimized": after(dynamic(weight_type=INT8), alone(rewrites.runtime("ORT_ENABLE_ALL"))),
    "qdq": static(quant_format=QuantFormat.QDQ),
    "qdq-tensorrt": static(
        quant_format=QuantFormat.QDQ, activation_type=INT8, weight_type=INT8, per_channel=True,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "AddQDQPairToWeight": True},
    ),
    "qdq-channels": static(quant_format=QuantFormat.QDQ, per_channel=True, weight_type=INT8),
    "qdq-16": static(quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt16, weight_type=INT8, extra_options={"UseQDQContribOps": True}),
    "qoperator": static(quant_format=QuantFormat.QOperator),
    "qoperator-mask": static(False, quant_format=QuantFormat.QOperator),
    "qdq-mask": static(False, quant_format=QuantFormat.QDQ),
    "q4": blocks(bits=4, block_size=32, is_symmetric=True),
    "q4-zeros": blocks(bits=4, block_size=32, is_symmetric=False),
    "q4-16": blocks(bits=4, block_size=16, is_symmetric=True),
    "q4-128": blocks(bits=4, block_size=128, is_symmetric=False),
    "q4-level4": blocks(bits=4, block_size=32, is_symmetric=True, accuracy_level=4),
    "q4-hqq": optimized_zeros(bits=4, block_size=64),
    "q4-rtn": blocks(bits=4, block_size=32, is_symmetric=False, algo_config=RTNWeightOnlyQuantConfig()),
    "q4-kquant": blocks(bits=4, block_size=32, is_symmetric=False, algo_config=KQuantWeightOnlyQuantConfig()),
    "q4-gptq": gptq(),
    "q4-gptq-ordered": gptq(actorder=True),
    "q4-gptq-symmetric": gptq(is_symmetric=True),
    "q4-gptq-clipped": gptq(mse=True),
    "q4-gptq-tensor": gptq(perchannel=False),
    "q4-compensated": compensated,
    "q2": blocks(bits=2, block_size=32, is_symmetric=True),
    "q8-blocks": blocks(bits=8, block_size=32, is_symmetric=True),
    "q8-level4": blocks(bits=8, block_size=64, is_symmetric=False, accuracy_level=4),
    "q4-qdq": blocks(QuantFormat.QDQ, bits=4, block_size=32, is_symmetric=True),
    "q4-qdq-zeros": blocks(QuantFormat.QDQ, bits=4, block_size=32, is_symmetric=False),
    "q4-tables": blocks(bits=4, block_size=32, is_symmetric=True, op_types_to_quantize=("MatMul", "Gather"), quant_axes=(("MatMul", 0), ("Gather", 1))),
    "bnb4": bnb4(1),
    "bnb4-fp4": bnb4(0),
    "fp16": halves(keep_io_types=True),
    "fp16-io": halves(keep_io_types=False),
    "q4f16": after(blocks(bits=4, block_size=32, is_symmetric=True), halves(keep_io_types=True)),
    "f16-stored": stored(onnx.TensorProto.FLOAT16),
    "bf16-stored": stored(onnx.TensorProto.BFLOAT16),
    "fp16-defaults": halves_of_no_runtime,
    "basic": alone(rewrites.runtime("ORT_ENABLE_BASIC")),
    "extended": alone(rewrites.runtime("ORT_ENABLE_EXTENDED")),
    "all": alone(rewrites.runtime("ORT_ENABLE_ALL")),
    "bert": fused(0),
    "bert-1": fused(1),
    "bert-2": fused(2),
    "bert-fast-gelu": fused(2, approximate=True),
    "bert-half": fused(2, half=True, approximate=True),
    "onnxslim": rewrites.onnxslim and alone(rewrites.slim),
    "onnxsim": rewrites.onnxsim and alone(rewrites.simplified),
    "int8-slim": rewrites.onnxslim and after(alone(rewrites.slim), dynamic(weight_type=INT8, extra_options=PRODUCTS)),
    "int8-fused": after(fused(2), dynamic(weight_type=INT8)),
    "qdq-saved": after(static(quant_format=QuantFormat.QDQ), alone(rewrites.runtime("ORT_ENABLE_ALL"))),
    "qoperator-saved": after(static(quant_format=QuantFormat.QOperator), alone(rewrites.runtime("ORT_ENABLE_ALL"))),
    "qdq-optimized": after(alone(rewrites.runtime("ORT_ENABLE_BASIC")), static(quant_format=QuantFormat.QDQ)),
}
"""By the names that this script gives them; nothing for a tool that is not installed."""
