"""A benchmark's side: a process that does jobs when it is told to, and says how long each took."""

import json
import subprocess
import sys
from pathlib import Path


def least_seconds(sides: list["Worker"], threads: int, rounds: int) -> list[dict[str, float]]:
    """The least seconds of each job of each side; in each round every job is done once, and every second one backwards.

    On one thread processor time counts, on more wall time.
    """
    clock = "processor" if threads == 1 else "wall"
    jobs = [(number, job) for number, side in enumerate(sides) for job in side.jobs]
    found: list[dict[str, float]] = [{} for _ in sides]
    for turn in range(rounds):
        for number, job in jobs if turn % 2 == 0 else reversed(jobs):
            seconds = sides[number].time(job)[clock]
            found[number][job] = min(seconds, found[number].get(job, seconds))
        print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    return found


class Worker:
    """One side of a benchmark.

    Its program gets the side's name and a number of threads, writes the names of its jobs as a line of JSON, and then
    for each name on its standard input a line with the seconds.
    """

    def __init__(self, python: str, program: str, side: str, threads: int, *more: str):
        """Start the process and read the names of its jobs.

        Args:
            python: Interpreter that has the side's packages.
            program: File beside this one.
            side: Which side to be.
            threads: How many threads the side may use.
            *more: Further arguments of the program.
        """
        # A waiting thread of the other side must not spin on the core that is measured.
        calm = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "OMP_NUM_THREADS": str(threads)}
        program = str(Path(__file__).with_name(program))
        command = ["env", *(f"{k}={v}" for k, v in calm.items()), python, program, side, str(threads), *more]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.jobs = self._read()

    def time(self, job: str) -> dict[str, float]:
        """Seconds of a job, by clock."""
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self):
        while line := self.process.stdout.readline():
            # Libraries print remarks of their own.
            if line[:1] in "[{":
                return json.loads(line)
        sys.exit(f"a worker ended with exit code {self.process.wait()}")
