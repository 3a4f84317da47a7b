"""One line per check, and the verdict."""


class Report:
    """Counts checks and prints each as it is decided."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, label, error=None, note=None):
        """A check that passed, unless `error` says what is wrong."""
        if error:
            self.failed += 1
            print(f"FAIL {label}: {error}", flush=True)
        else:
            self.passed += 1
            print(f"ok   {label}" + (f" ({note})" if note else ""), flush=True)
        return not error

    def verdict(self):
        """Prints the totals; the exit code. Nothing checked is a failure too."""
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed or not self.passed else 0
