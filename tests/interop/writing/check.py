"""Kills the programs while they write, fills disks, and lets runs collide."""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from jobs import Job, State, hidden, jobs, judge, models, state, together

NAMING = "rename renameat renameat2 link linkat unlink unlinkat mkdir mkdirat rmdir".split()
"""The calls that change names. Where the processor has no call of one of these names, strace does without it."""

QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Checks:
    """A folder for the checks, and what they found."""

    def __init__(self, folder: Path, convert: str, verify: str) -> None:
        self.folder, self.convert = folder, convert
        self.old, self.new = models(convert, verify, folder)
        self.failures: list[str] = []
        self.whole: dict[str, tuple[State, State]] = {}

    def fail(self, what: str) -> None:
        self.failures.append(what)
        print(f"FAIL {what}", flush=True)

    def outcome(self, job: Job) -> tuple[State, State]:
        """What a folder holds with the old output, and with the new one over it."""
        if job.name not in self.whole:
            out = self.fresh()
            states = []
            for model, is_old in ((self.old, True), (self.new, False)):
                self.run(job, model, out, is_old)
                states.append(state(out))
            # What only the new output has is seen in an empty folder.
            self.whole[job.name] = (states[0], states[1])
            shutil.rmtree(out)
            if job.is_change:
                return self.whole[job.name]
            out = self.fresh()
            self.run(job, self.new, out)
            if state(out) != states[1]:
                self.fail(f"{job.name}: the output depends on what was there")
            shutil.rmtree(out)
        return self.whole[job.name]

    def run(self, job: Job, model: Path, out: Path, old: bool = False) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(job.argv(model, out, old), capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0 and not job.may_differ:
            self.fail(f"{job.name}: {done.stderr.decode()}")
        return done

    def fresh(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def prepared(self, job: Job, over_old: bool) -> Path:
        out = self.fresh()
        if over_old:
            self.run(job, self.old, out, old=True)
        return out

    def after_death(self, job: Job, out: Path, over_old: bool, when: str) -> str:
        """Judges what a killed run left, and what the next one makes of it."""
        old, new = self.outcome(job)
        before = old if over_old else {}
        place = f"{job.name}, over {'the old output' if over_old else 'nothing'}, killed {when}"
        found = state(out)
        if wrong := judge(job, found, before, new):
            self.fail(f"{place}: {wrong}")
        # A run that writes something else into the folder finds what the killed one left.
        other = out / job.folder / "other.safetensors"
        command = [self.convert, "convert", str(self.old), "--to", "safetensors", "--force", "-o", str(other)]
        subprocess.run(command, check=True, **QUIET)
        other.unlink()
        then = state(out)
        fate = "old" if then == before else "new" if then == new else "none" if not then else "half"
        if fate == "half" and together(job, then) in (together(job, before), together(job, new)):
            # What stands alone was judged above.
            fate = "some"
        if fate == "half" or hidden(out):
            self.fail(f"{place}: after the next run there are {sorted(then)}, {hidden(out)}")
        if fate != "new":
            self.run(job, self.new, out)
            if state(out) != new or hidden(out):
                self.fail(f"{place}: the same run again leaves {sorted(state(out))}")
        shutil.rmtree(out)
        return fate

    def random_kills(self, all_jobs: list[Job], kills: int) -> None:
        """SIGKILL at random moments."""
        fates: Counter[str] = Counter()
        took: dict[str, float] = {}
        for number in range(kills):
            job = all_jobs[number % len(all_jobs)]
            over_old = job.is_change or number // len(all_jobs) % 2 == 0
            self.outcome(job)
            out = self.prepared(job, over_old)
            if job.name not in took:
                probe = self.prepared(job, job.is_change)
                start = time.monotonic()
                self.run(job, self.new, probe)
                took[job.name] = time.monotonic() - start
                shutil.rmtree(probe)
            # Names are given in the end: half of the deaths are there.
            moment = took[job.name] * (random.uniform(0.7, 1.05) if number % 4 < 2 else random.random())
            child = subprocess.Popen(job.argv(self.new, out), **QUIET)
            # The measured run may have taken long for reasons of the machine.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(moment)
            child.send_signal(signal.SIGKILL)
            child.wait()
            fates[self.after_death(job, out, over_old, f"after {moment:.3f} s")] += 1
            if number % 100 == 99:
                print(f"{number + 1} deaths", flush=True)
        print(f"{kills} deaths at random moments: {dict(fates)}", flush=True)

    def kills_at_names(self, all_jobs: list[Job]) -> None:
        """SIGKILL before every call that changes a name."""
        if not shutil.which("strace"):
            print("not checked: deaths at the names of files, for which strace is needed")
            return
        for job in all_jobs:
            for over_old in (True,) if job.is_change else (False, True):
                self.outcome(job)
                fates: Counter[str] = Counter()
                for call in NAMING:
                    # strace counts the calls of each name for itself.
                    while self.dies_at(job, over_old, call, fates[call] + 1):
                        fates[call] += 1
                print(f"{job.name}, over {'old' if over_old else 'nothing'}: {dict(+fates)}", flush=True)

    def dies_at(self, job: Job, over_old: bool, call: str, count: int) -> bool:
        """Kills a run before its n-th call of a name; whether there is such a call."""
        out = self.prepared(job, over_old)
        inject = ["-e", f"trace=?{call}", "-e", f"inject=?{call}:signal=SIGKILL:when={count}"]
        traced = ["strace", "-f", "-qq", "-o", os.devnull, *inject, *job.argv(self.new, out)]
        ended = subprocess.run(traced, **QUIET).returncode
        if ended not in (-signal.SIGKILL, 128 + signal.SIGKILL):
            shutil.rmtree(out)
            return False
        self.after_death(job, out, over_old, f"at {call} {count}")
        return True

    def collisions(self, all_jobs: list[Job], rounds: int) -> None:
        """Two runs at once with different models."""
        names = {"safetensors", "shards", "external", "several", "file", "golden", "bless"}
        racing = [job for job in all_jobs if job.name in names]
        if not racing:
            print("skipped: no collisions, of this kind of output two runs may both win")
            return
        results: Counter[str] = Counter()
        for number in range(rounds):
            job = racing[number % len(racing)]
            force = job.is_change or number // len(racing) % 2 == 0
            _, new = self.outcome(job)
            out = self.prepared(job, over_old=force)
            old = state(self.of_old(job))
            argvs = [job.argv(model, out) for model in (self.old, self.new)]
            argvs = argvs if force else [[part for part in argv if part != "--force"] for argv in argvs]
            racers = [
                subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                for argv in argvs
            ]
            told = [racer.communicate()[1].decode() for racer in racers]
            codes = [racer.returncode for racer in racers]
            found = state(out)
            winners = codes.count(0)
            results[f"{winners} of 2"] += 1
            if found not in (old, new) or hidden(out) or winners == 0:
                self.fail(f"{job.name}, two at once: exit {codes}, {sorted(found)}: {told}")
            elif winners == 1 and found != (old, new)[codes.index(0)]:
                self.fail(f"{job.name}, two at once: the output is not that of the run that succeeded")
            lost = [text for code, text in zip(codes, told, strict=True) if code != 0]
            expected = ("another run wrote it", "already exists", "is there already", "differs from")
            if any(not any(why in text for why in expected) for text in lost):
                self.fail(f"{job.name}, two at once: who lost says {lost}")
            shutil.rmtree(out)
        print(f"{rounds} collisions: {dict(results)} succeeded", flush=True)

    def of_old(self, job: Job) -> Path:
        """A folder with what the job makes of the old model."""
        kept = self.folder / f"old-{job.name.replace(' ', '-')}"
        if not kept.exists():
            kept.mkdir()
            self.run(job, self.old, kept, old=job.is_change)
        return kept

    def full_disks(self, all_jobs: list[Job]) -> None:
        """Disks without enough room, of which a tmpfs is one."""
        disk = self.folder / "disk"
        disk.mkdir()
        refused = 0
        for job in all_jobs:
            _, new = self.outcome(job)
            kept = self.of_old(job)
            # A tmpfs gives out whole pages.
            size = sum((path.stat().st_size + 8191) // 4096 * 4096 for path in kept.rglob("*") if path.is_file())
            for percent in (5, 35, 65, 95):
                room = (size + size * percent // 100) // 4096 * 4096
                mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(disk)], **QUIET)
                if mounted.returncode != 0:
                    print("not checked: full disks, for which a tmpfs must be mounted")
                    return
                try:
                    self.run(job, self.old, disk, old=job.is_change)
                    before = state(disk)
                    done = subprocess.run(job.argv(self.new, disk), capture_output=True, stdin=subprocess.DEVNULL)
                    after = state(disk)
                    is_full = b"No space left" in done.stderr
                    refused += is_full
                    if job.may_differ:
                        right = judge(job, after, before, new) is None
                    else:
                        # A report is written of a failure, too.
                        right = together(job, after) == together(job, before if done.returncode else new)
                        right &= is_full or done.returncode == 0
                    if not right or hidden(disk):
                        self.fail(f"{job.name}, {percent} % of the room: exit {done.returncode}, {done.stderr.decode()}")
                finally:
                    subprocess.run(["umount", str(disk)], check=True)
        print(f"{refused} runs on full disks failed, and changed nothing", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--convert", required=True, help="the program deberta-convert")
    parser.add_argument("--verify", required=True, help="the program deberta-verify")
    parser.add_argument("--kills", type=int, default=1000, help="deaths at random moments")
    parser.add_argument("--rounds", type=int, default=100, help="collisions")
    parser.add_argument("--only", help="the only kind of output, by its name in jobs.py")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--no-names", action="store_true", help="without deaths at names")
    given = parser.parse_args()
    random.seed(given.seed)
    print(f"--seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="writing-") as folder:
        checks = Checks(Path(folder), given.convert, given.verify)
        chosen = [job for job in jobs(given.convert, given.verify) if given.only in (None, job.name)]
        if not given.no_names:
            checks.kills_at_names(chosen)
        if given.kills:
            checks.random_kills(chosen, given.kills)
        if given.rounds:
            checks.collisions(chosen, given.rounds)
        checks.full_disks(chosen)
    print(f"{len(checks.failures)} failures")
    return 1 if checks.failures else 0


if __name__ == "__main__":
    sys.exit(main())
