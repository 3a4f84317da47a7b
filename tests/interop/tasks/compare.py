"""Numbers of two programs, compared to the last printed digit."""

import math


def difference(found, expected, exact=()):
    """What differs between two maps of metrics, or nothing. Those in `exact` must be the same to the last bit; all must be
    equal to 12 digits, and as they are printed."""
    if set(found) != set(expected):
        return f"metrics {sorted(set(found) ^ set(expected))} on one side alone"
    for name, want in expected.items():
        have = found[name]
        if have is None or want is None:
            if have is not want:
                return f"{name}: {have}, expected {want}"
            continue
        have, want = float(have), float(want)
        if math.isnan(want) or f"{have:.4f}" != f"{want:.4f}" or not math.isclose(have, want, rel_tol=1e-12, abs_tol=1e-12):
            return f"{name}: {have!r}, expected {want!r}"
        if name in exact and have != want:
            return f"{name}: {have!r}, expected exactly {want!r}"
    return ""
