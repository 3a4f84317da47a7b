"""Where ONNX Runtime's library is that pip installed: `python runtime.py` prints its path, or nothing."""

from pathlib import Path

try:
    import onnxruntime
except ImportError:
    onnxruntime = None


def library():
    folder = onnxruntime and Path(onnxruntime.__file__).parent / "capi"
    patterns = "libonnxruntime.so*", "libonnxruntime*.dylib"
    return next((path for pattern in patterns for path in sorted(folder.glob(pattern))), None) if folder else None


if __name__ == "__main__":
    print(library() or "")
