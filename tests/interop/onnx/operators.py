"""Every operator that tools write, by the backend `onnx` (rten) and by ONNX Runtime.

    python operators.py EVALUATE

EVALUATE is the example `evaluate` of deberta-golden. A graph is one node among constants. Where the two differ, the table of
`golden/src/backend/onnx/departures.rs` must refuse the node: what is neither equal nor refused is a failure, but for what
stands here as `known`.
"""
import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

RANDOM = numpy.random.default_rng(16)
OPSETS = (11, 13, 14, 17, 18, 20)


def f32(*shape, low=-2.0, high=2.0):
    return RANDOM.uniform(low, high, shape).astype(numpy.float32)


def integers(low, high, *shape, dtype=numpy.int64):
    return RANDOM.integers(low, high, shape, dtype=dtype)


def int64(*values):
    return numpy.array(values, dtype=numpy.int64)


class Case:
    """A node, its constants by operand (None for one that is left out), and the number of its outputs."""

    def __init__(self, operator, inputs, outputs=1, since=1, until=99, domain="", tolerance=2e-6, tag="", known="", **attributes):
        self.operator, self.inputs, self.outputs, self.domain = operator, inputs, outputs, domain
        self.since, self.until, self.attributes, self.tolerance, self.tag = since, until, attributes, tolerance, tag
        self.known = known

    def model(self, opset):
        names = ["" if value is None else f"i{at}" for at, value in enumerate(self.inputs)]
        results = [f"o{at}" for at in range(self.outputs)]
        node = helper.make_node(self.operator, names, results, name="node", domain=self.domain, **self.attributes)
        casts = [helper.make_node("Cast", [name], [f"{name}.f32"], to=TensorProto.FLOAT) for name in results]
        outputs = [helper.make_tensor_value_info(f"{name}.f32", TensorProto.FLOAT, None) for name in results]
        constants = [
            value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name)
            for name, value in zip(names, self.inputs) if value is not None
        ]
        for name, constant in zip((name for name in names if name), constants):
            constant.name = name
        graph = helper.make_graph([node, *casts], "operator", [], outputs, constants)
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)

    def __str__(self):
        shapes = ", ".join("-" if value is None else described(value) for value in self.inputs)
        attributes = ", ".join(f"{key}={value}" for key, value in self.attributes.items() if not isinstance(value, TensorProto))
        return f"{self.operator}({shapes}{'; ' + attributes if attributes else ''}){' ' + self.tag if self.tag else ''}"


def described(value):
    if isinstance(value, TensorProto):
        return f"{TensorProto.DataType.Name(value.data_type).lower()}{list(value.dims)}"
    return f"{value.dtype}{list(value.shape)}"


def unary():
    for operator in ("Abs", "Ceil", "Erf", "Exp", "Floor", "Identity", "Neg", "Relu", "Round", "Sigmoid", "Sign", "Tanh", "Sin", "Cos"):
        yield Case(operator, [f32(3, 7, high=4)])
        yield Case(operator, [f32(2, 5).astype(numpy.float16)], tolerance=2e-3, since=13)
    for operator in ("Log", "Sqrt", "Reciprocal"):
        yield Case(operator, [f32(3, 7, low=0.01, high=9)])
    yield Case("Round", [numpy.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5], numpy.float32)])
    yield Case("Sign", [integers(-3, 4, 9)])
    yield Case("Abs", [integers(-9, 9, 9)])
    yield Case("Neg", [integers(-9, 9, 9)])
    yield Case("Erf", [numpy.linspace(-6, 6, 400, dtype=numpy.float32)])
    yield Case("Tanh", [numpy.linspace(-30, 30, 400, dtype=numpy.float32)])
    yield Case("Exp", [numpy.linspace(-100, 80, 400, dtype=numpy.float32)])
    yield Case("Log", [numpy.geomspace(1e-30, 1e30, 400, dtype=numpy.float32)])
    yield Case("Not", [integers(0, 2, 7).astype(bool)])
    for alpha, beta in ((0.2, 0.5), (0.1, 0.3)):
        yield Case("HardSigmoid", [f32(9, low=-9, high=9)], alpha=alpha, beta=beta)
    yield Case("LeakyRelu", [f32(9)], alpha=0.3)
    yield Case("Elu", [f32(9)], alpha=0.7)
    yield Case("Softplus", [f32(9, low=-30, high=30)])
    yield Case("IsNaN", [numpy.array([1, numpy.nan, numpy.inf], numpy.float32)])
    yield Case("IsInf", [numpy.array([1, numpy.nan, numpy.inf, -numpy.inf], numpy.float32)])
    for approximate in ("none", "tanh"):
        yield Case("Gelu", [numpy.linspace(-9, 9, 300, dtype=numpy.float32)], since=20, approximate=approximate)


def binary():
    pairs = [((3, 4), (3, 4)), ((2, 3, 4), (4,)), ((2, 3, 4), (3, 1)), ((2, 1, 4), (1, 3, 1)), ((), (3,)), ((3,), ()), ((0, 4), (4,))]
    for operator, (one, other) in itertools.product(("Add", "Sub", "Mul", "Div", "Max", "Min"), pairs):
        yield Case(operator, [f32(*one), f32(*other, low=0.5)])
    for operator in ("Add", "Sub", "Mul"):
        yield Case(operator, [integers(-9, 9, 3, 4), integers(-9, 9, 4)])
        yield Case(operator, [integers(-9, 9, 3, 4, dtype=numpy.int32), integers(-9, 9, 4, dtype=numpy.int32)])
    numerators, denominators = int64(-7, -6, -1, 0, 1, 7, 8), int64(2, 4, 3, 5, 2, 2, -3)
    yield Case("Div", [numerators, denominators], tag="signs")
    yield Case("Mod", [numerators, denominators], tag="signs")
    yield Case("Mod", [numerators, denominators], fmod=1, tag="signs")
    yield Case("Mod", [f32(9, low=-9, high=9), f32(9, low=0.5, high=3)], fmod=1)
    for operator in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        since = 16 if operator.endswith("OrEqual") else 13
        yield Case(operator, [integers(0, 3, 3, 4), integers(0, 3, 4)], since=since)
        yield Case(operator, [f32(3, 4), f32(1, 4)], since=since)
        yield Case(operator, [numpy.array([1, numpy.nan, 2], numpy.float32), numpy.array([1, numpy.nan, 3], numpy.float32)], since=since)
    yield Case("Equal", [integers(0, 2, 5).astype(bool), integers(0, 2, 5).astype(bool)])
    for operator in ("And", "Or", "Xor"):
        yield Case(operator, [integers(0, 2, 2, 5).astype(bool), integers(0, 2, 5).astype(bool)])
    for exponent in (2.0, 3.0, 0.5, -1.0, 0.0):
        yield Case("Pow", [f32(9, low=0.1, high=3), numpy.array(exponent, numpy.float32)])
    yield Case("Pow", [f32(9), numpy.array(2, numpy.float32)], tag="negative base")
    yield Case("Pow", [f32(9), numpy.array(3, numpy.int64)], tag="integer exponent", since=12)
    yield Case("Pow", [integers(1, 5, 6), int64(2)], since=12)
    yield Case("Where", [integers(0, 2, 2, 3, 1).astype(bool), f32(3, 4), f32(2, 1, 4)])
    yield Case("Where", [integers(0, 2, 4).astype(bool), integers(0, 9, 2, 4), int64(7)])
    yield Case("Where", [integers(0, 2, 4).astype(bool), numpy.array(-numpy.inf, numpy.float32), f32(4)])
    yield Case("Sum", [f32(3, 4), f32(4), f32(1)])
    yield Case("Mean", [f32(3, 4), f32(4), f32(1)])
    for dtype in (numpy.float32, numpy.int64):
        low, high, x = dtype(-1), dtype(1), f32(9, low=-5, high=5).astype(dtype)
        for bounds in ([low, high], [None, high], [low]):
            yield Case("Clip", [x, *[bound if bound is None else numpy.array(bound) for bound in bounds]], since=12)
    yield Case("PRelu", [f32(3, 4), f32(4)])


def products():
    shapes = [((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((2, 3, 5), (2, 5, 4)), ((2, 1, 3, 5), (4, 5, 6)), ((5,), (5, 3)), ((3, 5), (5,)), ((1, 2, 7, 33), (1, 2, 33, 65)), ((0, 5), (5, 3))]
    for one, other in shapes:
        yield Case("MatMul", [f32(*one), f32(*other)])
        yield Case("MatMul", [f32(*one).astype(numpy.float16), f32(*other).astype(numpy.float16)], tolerance=1e-2, since=13)
    for a, b in itertools.product((0, 1), (0, 1)):
        left, right = ((5, 3) if a else (3, 5)), ((4, 5) if b else (5, 4))
        for bias in ((4,), (3, 1), (3, 4), (1,), ()):
            yield Case("Gemm", [f32(*left), f32(*right), f32(*bias)], transA=a, transB=b, alpha=0.5, beta=1.5)
        yield Case("Gemm", [f32(*left), f32(*right)], transA=a, transB=b)
    for equation, shapes in {
        "bhid,bhjd->bhij": ((2, 3, 4, 5), (2, 3, 6, 5)), "ij,jk->ik": ((3, 4), (4, 5)), "bhij,bhjd->bihd": ((2, 3, 4, 5), (2, 3, 5, 6)), "bij->bji": ((2, 3, 4),),
        "...ij,...jk->...ik": ((2, 3, 4), (2, 4, 5)), "ij->": ((3, 4),), "ii->i": ((3, 3),), "bnd,hd->bnh": ((2, 3, 4), (5, 4)),
    }.items():
        yield Case("Einsum", [f32(*shape) for shape in shapes], equation=equation, since=12)
    for group, pads, dilations, strides in itertools.product((1, 2), ([0, 0], [1, 1], [2, 0]), ([1], [2]), ([1], [2])):
        yield Case("Conv", [f32(2, 4, 9), f32(6, 4 // group, 3), f32(6)], group=group, pads=pads, dilations=dilations, strides=strides, kernel_shape=[3])
    yield Case("Conv", [f32(2, 4, 9), f32(6, 4, 3)], auto_pad="SAME_UPPER")
    yield Case("Conv", [f32(2, 4, 9), f32(6, 4, 1)])


def arrangements():
    x = f32(2, 3, 4, 5)
    for perm in ([0, 2, 1, 3], [3, 2, 1, 0], [0, 1, 3, 2], [2, 0, 3, 1]):
        yield Case("Transpose", [x], perm=perm)
    yield Case("Transpose", [x])
    for shape in ([2, 12, 5], [0, -1], [-1, 60], [0, 0, 20], [120]):
        yield Case("Reshape", [x, int64(*shape)])
    yield Case("Reshape", [f32(0, 4), int64(4, 0)], allowzero=1, since=14)
    for axes in ([0], [1, 3], [-1], [0, -1]):
        yield Case("Unsqueeze", [f32(2, 3), int64(*axes)], since=13)
        yield Case("Unsqueeze", [f32(2, 3)], axes=axes, since=11, until=12)
        squeezed = {(0,): (1, 3), (1, 3): (2, 1, 3, 1), (-1,): (2, 1), (0, -1): (1, 3, 1)}[tuple(axes)]
        yield Case("Squeeze", [f32(*squeezed), int64(*axes)], since=13)
    yield Case("Squeeze", [f32(1, 3, 1)], since=13)
    for axis in (0, 1, 2, -1):
        yield Case("Flatten", [f32(2, 3, 4)], axis=axis)
        yield Case("Concat", [f32(2, 2, 2), f32(2, 2, 2)], axis=axis)
        yield Case("Gather", [f32(3, 3, 3), integers(-3, 3, 2, 2)], axis=axis)
        yield Case("GatherElements", [f32(3, 3, 3), integers(-3, 3, 3, 3, 3)], axis=axis)
        yield Case("GatherElements", [f32(3, 4, 5), integers(0, 3, 2, 3, 2)], axis=axis)
        yield Case("GatherElements", [f32(2, 4, 5), integers(0, 2, 2, 2, 3, dtype=numpy.int32)], axis=axis)
        yield Case("ScatterElements", [f32(3, 3, 3), integers(-3, 3, 3, 1, 3) if axis == 1 else numpy.argsort(f32(3, 3, 3), axis=axis).astype(numpy.int64), f32(*((3, 1, 3) if axis == 1 else (3, 3, 3)))], axis=axis)
        yield Case("Softmax", [f32(3, 4, 5, high=20)], axis=axis, since=13)
        yield Case("LogSoftmax", [f32(3, 4, 5, high=20)], axis=axis, since=13)
        yield Case("Softmax", [f32(3, 4, 5, high=20)], axis=axis, since=11, until=12, tag="flattened")
        yield Case("LogSoftmax", [f32(3, 4, 5, high=20)], axis=axis, since=11, until=12, tag="flattened")
        for exclusive, reverse in itertools.product((0, 1), (0, 1)):
            yield Case("CumSum", [f32(3, 4, 5), numpy.array(axis, numpy.int64)], exclusive=exclusive, reverse=reverse)
        yield Case("CumSum", [integers(0, 9, 3, 4, 5), numpy.array(axis, numpy.int32)])
        yield Case("Split", [f32(6, 6, 6)], outputs=2, axis=axis, since=11, until=17)
        yield Case("Split", [f32(6, 6, 6)], outputs=3, axis=axis, since=18, num_outputs=3)
        yield Case("Split", [f32(6, 6, 6), int64(1, 2, 3)], outputs=3, axis=axis, since=13)
        yield Case("Split", [f32(6, 6, 6)], outputs=2, axis=axis, since=11, until=12, split=[2, 4])
        for keep in (0, 1):
            yield Case("ArgMax", [f32(3, 4, 5)], axis=axis, keepdims=keep)
            yield Case("ArgMin", [f32(3, 4, 5)], axis=axis, keepdims=keep)
        yield Case("ArgMax", [numpy.array([[1, 2, 2], [3, 3, 1]], numpy.float32).reshape(1, 2, 3)], axis=axis, tag="ties")
        yield Case("ArgMax", [numpy.array([[1, 2, 2], [3, 3, 1]], numpy.float32).reshape(1, 2, 3)], axis=axis, select_last_index=1, tag="ties", since=12)
    yield Case("Split", [f32(7, 2)], outputs=3, axis=0, since=18, num_outputs=3, tag="uneven")
    yield Case("Softmax", [numpy.full((2, 3), numpy.finfo(numpy.float32).min, numpy.float32)], axis=-1, since=13, tag="masked row")
    yield Case("Softmax", [numpy.array([[-numpy.inf, 1, 2], [-numpy.inf] * 3], numpy.float32)], axis=-1, since=13, tag="infinite mask")
    slices = [([0], [2], None, None), ([-2], [2**31 - 1], [1], None), ([1, 0], [3, 2**63 - 1], [0, 2], None), ([-1], [-(2**63)], [1], [-1]), ([0], [9], [1], [2]), ([3], [-9], [-1], [-2]), ([5], [9], [0], None)]
    for starts, ends, axes, steps in slices:
        operands = [int64(*starts), int64(*ends), None if axes is None else int64(*axes), None if steps is None else int64(*steps)]
        while operands[-1] is None:
            operands.pop()
        yield Case("Slice", [f32(3, 4, 5), *operands])
    for shape in ([2, 3, 4], [1], [3, 4], [2, 1, 4], [1, 1, 1, 1]):
        yield Case("Expand", [f32(3, 1), int64(*shape)])
    yield Case("Expand", [int64(3), int64(0)])
    yield Case("Tile", [f32(2, 3), int64(2, 3)])
    yield Case("Tile", [integers(0, 9, 2, 3), int64(1, 0)])
    for upper, k in itertools.product((0, 1), (-1, 0, 2)):
        yield Case("Trilu", [f32(2, 4, 5), numpy.array(k, numpy.int64)], upper=upper, since=14)
    for mode in ("constant", "reflect", "edge"):
        yield Case("Pad", [f32(3, 4), int64(1, 0, 2, 1)], mode=mode)
    yield Case("Pad", [f32(3, 4), int64(1, 0, 2, 1), numpy.array(7, numpy.float32)])
    yield Case("Pad", [f32(3, 4), int64(-1, 0, 0, 1)], tag="negative")
    yield Case("Pad", [f32(3, 4), int64(1, 2), numpy.array(7, numpy.float32), int64(1)], since=18)
    yield Case("GatherND", [f32(2, 3, 4), integers(0, 2, 3, 2)], since=12)
    yield Case("GatherND", [f32(2, 3, 4), integers(-2, 2, 3, 2)], since=12, tag="negative")
    yield Case("GatherND", [f32(2, 3, 4), integers(0, 3, 2, 1)], batch_dims=1, since=12)
    yield Case("ScatterND", [f32(4, 3), int64(1, 3).reshape(2, 1), f32(2, 3)])
    yield Case("ScatterND", [f32(4, 3), int64(1, 1).reshape(2, 1), f32(2, 3)], reduction="add", since=16)
    yield Case("TopK", [f32(3, 6), int64(3)], outputs=2)
    yield Case("TopK", [f32(3, 6), int64(3)], outputs=2, largest=0, axis=0)
    yield Case("OneHot", [integers(-4, 4, 3), numpy.array(4, numpy.int64), numpy.array([0, 1], numpy.float32)])
    yield Case("OneHot", [integers(0, 4, 2, 3), numpy.array(4, numpy.int64), numpy.array([2, 5], numpy.float32)], axis=1)
    yield Case("NonZero", [integers(0, 2, 3, 4)])
    yield Case("Range", [numpy.array(0, numpy.int64), numpy.array(7, numpy.int64), numpy.array(2, numpy.int64)])
    yield Case("Range", [numpy.array(7, numpy.int64), numpy.array(-1, numpy.int64), numpy.array(-3, numpy.int64)])
    yield Case("Range", [numpy.array(0.5, numpy.float32), numpy.array(3, numpy.float32), numpy.array(0.7, numpy.float32)])
    yield Case("Shape", [f32(2, 3, 4)])
    yield Case("Shape", [f32(2, 3, 4)], start=1, since=15)
    yield Case("Shape", [f32(2, 3, 4)], start=-2, end=-1, since=15)
    yield Case("Size", [f32(2, 3, 4)])
    for value in (numpy.array([1], numpy.int64), numpy.array([True]), numpy.array([0.5], numpy.float32)):
        yield Case("ConstantOfShape", [int64(2, 3)], value=numpy_helper.from_array(value))
    yield Case("ConstantOfShape", [int64(2, 3)])
    yield Case("EyeLike", [f32(3, 4)], k=1)
    for to, value in itertools.product((TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT, TensorProto.BOOL), (numpy.array([-1.7, -0.5, 0, 0.5, 1.7, 3e9], numpy.float32), int64(-1, 0, 1, 2), numpy.array([True, False]))):
        if not (value.dtype == numpy.float32 and to == TensorProto.INT32):
            whole = value.dtype == bool or value.dtype == numpy.int64 and to != TensorProto.BOOL or to == TensorProto.FLOAT
            yield Case("Cast", [value], to=to, known="" if whole else "truth values are what they were cast from, integers have 32 bits")
    yield Case("Cast", [numpy.array([0.1, 65519, 1e-8, 3.3333333], numpy.float32)], to=TensorProto.FLOAT16, tag="rounds", tolerance=1e-3)
    yield Case("Cast", [numpy.array([1e5, -1e5], numpy.float32)], to=TensorProto.FLOAT16, tag="overflow", known="f16 is f32; range.rs puts the range back")
    yield Case("Cast", [int64(2**31 - 1, -(2**31))], to=TensorProto.FLOAT)
    yield Case("Dropout", [f32(3, 4)], since=12)
    yield Case("ReverseSequence", [f32(4, 2), int64(2, 4)], batch_axis=1, time_axis=0)


def reductions():
    for operator in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceLogSumExp"):
        new = 13 if operator == "ReduceSum" else 18
        for axes, keep in itertools.product(([0], [-1], [1, 2], None), (0, 1)):
            yield Case(operator, [f32(3, 4, 5)], until=new - 1, keepdims=keep, **({} if axes is None else {"axes": axes}))
            yield Case(operator, [f32(3, 4, 5), *([] if axes is None else [int64(*axes)])], since=new, keepdims=keep)
    yield Case("ReduceSum", [f32(3, 4), numpy.zeros(0, numpy.int64)], noop_with_empty_axes=1, since=13)
    yield Case("ReduceSum", [f32(3, 4), numpy.zeros(0, numpy.int64)], since=13, tag="no axes")
    yield Case("ReduceSum", [integers(0, 9, 3, 4), int64(1)], since=13)
    yield Case("ReduceMax", [integers(-9, 9, 3, 4), int64(1)], since=18)


def normalisations():
    for axis, shape in ((-1, (5,)), (2, (5,)), (1, (4, 5))):
        for epsilon in (1e-7, 1e-3):
            yield Case("LayerNormalization", [f32(3, 4, 5), f32(*shape), f32(*shape)], axis=axis, epsilon=epsilon, since=17)
            yield Case("LayerNormalization", [f32(3, 4, 5) * 1e-3, f32(*shape)], axis=axis, epsilon=epsilon, since=17)
    yield Case("LayerNormalization", [f32(3, 64) * 1e-3 + 100, f32(64), f32(64)], epsilon=1e-7, since=17, tag="offset", tolerance=2e-2)
    yield Case("BatchNormalization", [f32(2, 3, 4), f32(3), f32(3), f32(3), f32(3, low=0.1)], since=15)
    yield Case("InstanceNormalization", [f32(2, 3, 4), f32(3), f32(3)])


def fused():
    ms = {"domain": "com.microsoft"}
    x, bias = numpy.linspace(-9, 9, 96, dtype=numpy.float32).reshape(2, 6, 8), f32(8)
    yield Case("Mish", [x], since=18)
    yield Case("Gelu", [x], **ms)
    yield Case("BiasGelu", [x, bias], **ms)
    yield Case("FastGelu", [x], **ms)
    yield Case("FastGelu", [x, bias], **ms)
    yield Case("QuickGelu", [x], alpha=1.702, **ms)
    for extra in ([], [f32(8)], [f32(8), f32(8)]):
        yield Case("SkipLayerNormalization", [f32(2, 6, 8), f32(2, 6, 8), f32(8), *extra], epsilon=1e-7, **ms)
    yield Case("SkipLayerNormalization", [f32(2, 6, 8), f32(1, 6, 8), f32(8), f32(8)], epsilon=1e-3, tag="broadcast skip", **ms)
    yield Case("SkipLayerNormalization", [f32(2, 6, 8), f32(6, 8), f32(8), f32(8)], epsilon=1e-3, tag="skip of rank 2", **ms)
    for a, b, alpha in itertools.product((0, 1), (0, 1), (1.0, 0.25)):
        left, right = ((2, 3, 5, 4) if a else (2, 3, 4, 5)), ((2, 3, 6, 5) if b else (2, 3, 5, 6))
        yield Case("FusedMatMul", [f32(*left), f32(*right)], transA=a, transB=b, alpha=alpha, **ms)
    yield Case("FusedMatMul", [f32(4, 2, 5), f32(2, 5, 6)], transBatchA=1, **ms)
    yield Case("FusedMatMul", [f32(2, 4, 5), f32(6, 2, 5)], transBatchB=1, transB=1, **ms)


def quantized():
    def scales(count):
        return f32(*count, low=0.01, high=0.1)

    for dtype in (numpy.uint8, numpy.int8):
        low, high = (0, 256) if dtype == numpy.uint8 else (-128, 128)
        x, zero = integers(low, high, 3, 64, dtype=dtype), integers(low, high, dtype=dtype)
        tables = [(numpy.array(0.05, numpy.float32), numpy.array(zero)), (numpy.array(0.05, numpy.float32),)]
        for operands in tables:
            yield Case("DequantizeLinear", [x, *operands])
            yield Case("QuantizeLinear", [f32(3, 64, low=-9, high=9), *operands] if len(operands) > 1 or dtype == numpy.uint8 else [f32(3, 64), *operands])
        for axis in (0, 1, -1):
            count = x.shape[axis]
            yield Case("DequantizeLinear", [x, scales((count,)), integers(low, high, count, dtype=dtype)], axis=axis, since=13)
            yield Case("QuantizeLinear", [f32(3, 64, low=-9, high=9), scales((count,)), integers(low, high, count, dtype=dtype)], axis=axis, since=13)
        yield Case("QuantizeLinear", [numpy.arange(-8, 8, dtype=numpy.float32) / 2, numpy.array(1, numpy.float32), numpy.array(0, dtype)], tag="halves")
        for columns in (1, 5, 16, 40, 129):
            a, b = integers(0, 256, 4, 33, dtype=numpy.uint8), integers(low, high, 33, columns, dtype=dtype)
            yield Case("MatMulInteger", [a, b])
            yield Case("MatMulInteger", [a, b, numpy.array(117, numpy.uint8), numpy.array(3, dtype)])
            yield Case("MatMulInteger", [a, b, numpy.array(117, numpy.uint8), integers(low, high, columns, dtype=dtype)], tag="per column")
            yield Case("MatMulInteger", [a, b, numpy.array(117, numpy.uint8), numpy.full(columns, 3, dtype)], tag="per column, equal")
            yield Case("MatMulInteger", [a, b, numpy.array([117], numpy.uint8), numpy.array([3], dtype)], tag="of one")
        yield Case("MatMulInteger", [integers(0, 256, 2, 3, 4, 33, dtype=numpy.uint8), integers(low, high, 2, 3, 33, 20, dtype=dtype), numpy.array(9, numpy.uint8), numpy.array(3, dtype)], tag="batched")
        yield Case("MatMulInteger", [integers(low, high, 4, 33, dtype=dtype), integers(low, high, 33, 20, dtype=dtype), numpy.array(9, dtype), numpy.array(3, dtype)], tag="same sign")
        yield Case("MatMulInteger", [numpy.full((4, 512), 255, numpy.uint8), numpy.full((512, 20), high - 1, dtype)], tag="saturation")
        yield Case("QLinearMatMul", [integers(low, high, 4, 33, dtype=dtype), numpy.array(0.02, numpy.float32), numpy.array(3, dtype), integers(low, high, 33, 20, dtype=dtype), numpy.array(0.01, numpy.float32), numpy.array(4, dtype), numpy.array(0.2, numpy.float32), numpy.array(5, dtype)])
    for x in (f32(3, 64, low=-3, high=5), f32(3, 64, low=1, high=5), f32(3, 64, low=-5, high=-1), numpy.zeros((2, 3), numpy.float32)):
        yield Case("DynamicQuantizeLinear", [x], outputs=3, known="" if x.any() else "zeros have a scale of 0, and stay zeros")
    for bits, rows, inner in ((4, 8, 64), (4, 20, 128), (4, 8, 48), (8, 8, 64)):
        blocks = -(-inner // 32)
        packed = integers(0, 256, rows, blocks, 32 * bits // 8, dtype=numpy.uint8)
        operands = [f32(3, inner), packed, f32(rows * blocks, low=-0.1, high=0.1)]
        attributes = {"K": inner, "N": rows, "bits": bits, "block_size": 32, "domain": "com.microsoft", "tolerance": 1e-5}
        yield Case("MatMulNBits", operands, **attributes)
        yield Case("MatMulNBits", [*operands, integers(0, 256, rows * -(-blocks * bits // 8), dtype=numpy.uint8)], tag="zero points", **attributes)


def cases():
    for group in (unary, binary, products, arrangements, reductions, normalisations, fused, quantized):
        yield from group()


def by_onnxruntime(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {})


def differ(case, expected, computed):
    """In what a result is not what ONNX Runtime computes; nothing if it is."""
    for want, got in zip(expected, computed):
        have = numpy.array([float(value) for value in got["values"]], numpy.float32)
        if list(want.shape) != got["shape"]:
            return f"shape {got['shape']}, ONNX Runtime has {list(want.shape)}"
        want = want.ravel()
        if not numpy.array_equal(numpy.isfinite(want), numpy.isfinite(have)):
            at = int(numpy.argmax(numpy.isfinite(want) != numpy.isfinite(have)))
            return f"{have[at]} at {at}, ONNX Runtime has {want[at]}"
        finite = numpy.isfinite(want)
        if not numpy.array_equal(numpy.sign(want[~finite]), numpy.sign(have[~finite]), equal_nan=True):
            return "infinities of another sign"
        off = numpy.abs(want[finite] - have[finite])
        allowed = case.tolerance * (1 + (numpy.abs(want[finite]).max() if finite.any() else 0))
        if off.size and off.max() > allowed:
            at = int(off.argmax())
            return f"{have[finite][at]} at {at}, ONNX Runtime has {want[finite][at]}"
    return None


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("evaluate")
    arguments.add_argument("--all", action="store_true", help="print what is equal, too")
    options = arguments.parse_args()
    counts = {"equal": 0, "refused": 0, "known": 0, "not run by rten": 0, "not run by ONNX Runtime": 0, "FAILED": 0}
    program = subprocess.Popen([options.evaluate], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            for opset in OPSETS:
                if not case.since <= opset <= case.until:
                    continue
                try:
                    model = case.model(opset)
                    expected = by_onnxruntime(model)
                except Exception as error:
                    counts["not run by ONNX Runtime"] += 1
                    if options.all:
                        print(f"not run by ONNX Runtime  opset {opset} {case}: {str(error)[:120]}")
                    continue
                path = Path(folder) / "operator.onnx"
                onnx.save(model, path)
                print(path, file=program.stdin, flush=True)
                answer = json.loads(program.stdout.readline())
                if "error" in answer:
                    what = "refused" if ": rten " in answer["error"] else "not run by rten"
                    said = answer["error"].split(".onnx: ")[-1]
                else:
                    said = differ(case, expected, answer["outputs"])
                    what = "equal" if said is None else "known" if case.known else "FAILED"
                    said = f"{said}: {case.known}"
                counts[what] += 1
                if options.all or what in ("FAILED", "not run by rten"):
                    print(f"{what}  opset {opset} {case}: {said}")
    program.stdin.close()
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    sys.exit(1 if counts["FAILED"] or counts["equal"] < 1000 else 0)


if __name__ == "__main__":
    main()
