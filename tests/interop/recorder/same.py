"""Compares golden/data as it was just recorded with what is committed: the same tensors and metadata, and the same bytes where
the processor rounds alike.

python same.py NEW COMMITTED
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "golden" / "python" / "python"))

from deberta_verify.recorder import safetensors_file  # noqa: E402

# Two processors may round the last digits otherwise: of numbers of up to 30, summed over up to 34 terms.
LAST_DIGITS = 1e-5


def main():
    new, committed = Path(sys.argv[1]), Path(sys.argv[2])
    files = sorted(path.relative_to(new) for path in new.rglob("*") if path.is_file())
    equal, rounded, wrong = 0, 0, []
    for file in files:
        ours, theirs = new / file, committed / file
        if theirs.is_file() and ours.read_bytes() == theirs.read_bytes():
            equal += 1
        elif theirs.is_file() and file.suffix == ".safetensors" and file.name != "model.safetensors" and alike(ours, theirs):
            rounded += 1
        else:
            wrong.append(str(file))
    print(f"{len(files)} files: {equal} have the same bytes, {rounded} differ in the last digits, {len(wrong)} are others")
    for file in wrong:
        print(f"  {file}")
    sys.exit(bool(wrong) or not equal)


def alike(ours, theirs):
    """Whether two traces have the same metadata, names, shapes and integers, and numbers that differ in the last digits."""
    (ours, of_ours), (theirs, of_theirs) = safetensors_file.read(ours), safetensors_file.read(theirs)
    if of_ours != of_theirs or ours.keys() != theirs.keys():
        return False
    for name, array in ours.items():
        other = theirs[name]
        if array.shape != other.shape or array.dtype != other.dtype:
            return False
        if array.dtype.kind == "i" and not np.array_equal(array, other):
            return False
        if array.dtype.kind == "f" and not np.allclose(array, other, rtol=LAST_DIGITS, atol=LAST_DIGITS):
            return False
    return True


if __name__ == "__main__":
    main()
