"""What may happen to the data of a run before it is resumed, for each place they may be in."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, strategies as st

import copyreg_jax as cr
from copyreg_jax.solvers import checkpoint
from tests.support.registry import cases, random_problem

ROWS, COLUMNS = 60, 5
CUTS = [20, 40]


class Run:
    """A run on data of some kind in a folder, and what can happen to them before it is resumed."""

    def __init__(self, folder, kind):
        self.folder, self.kind, self.order = folder, kind, [0, 1, 2]
        made = random_problem(8, 60, 5, w=0.02, gamma=0.01)
        self.A, w = np.array(made.A), np.full(ROWS, 0.02)
        self.rest = {"b": np.array(made.b), "protected": 20, "gamma": 0.01, "w": w}
        if kind == "sparse":
            self.A[self.A < -0.5] = 0
        self.write()

    def write(self):
        for i, rows in enumerate(np.split(self.A, CUTS)):
            if self.kind == "sparse":
                scipy.sparse.save_npz(self.folder / f"{i}.npz", scipy.sparse.csr_array(rows))
            else:
                np.save(self.folder / f"{i}.npy", rows)
        np.save(self.folder / "A.npy", self.A)

    def problem(self):
        whole, ending = self.folder / "A.npy", "npz" if self.kind == "sparse" else "npy"
        files = [self.folder / f"{i}.{ending}" for i in self.order]
        if self.kind == "in memory":
            A = np.load(whole)
        else:
            A = cr.RowBlocks(whole if self.kind == "file" else files, block_bytes=25 * 8 * COLUMNS)
        return cr.CopyrightRegression(A, **self.rest)

    def change(self, seed):
        """One entry, by one unit in the last place."""
        rng = np.random.default_rng(seed)
        row, column = rng.integers(ROWS), rng.integers(COLUMNS)
        self.A[row, column] = np.nextafter(self.A[row, column], 9)
        self.write()

    def swap(self):
        """Shards in another order, or, of one file, rows."""
        if self.kind in ("shards", "sparse"):
            self.order = [0, 2, 1]
        else:
            self.A = np.concatenate([self.A[:20], self.A[40:], self.A[20:40]])
            self.write()


KINDS = ["shards", "file", "sparse", "in memory"]
SAME = {
    "killed": lambda run, file, seed: file.with_name(".run.npz.half").write_bytes(b"half written"),
    "written again": lambda run, file, seed: run.write(),
    "moved": lambda run, file, seed: setattr(
        run, "folder", run.folder.rename(run.folder.with_name("elsewhere"))
    ),
}
OTHER = {
    "an entry": lambda run, file, seed: run.change(seed),
    "swapped": lambda run, file, seed: run.swap(),
    "float32": lambda run, file, seed: (setattr(run, "A", run.A.astype("f4")), run.write()),
    "b": lambda run, file, seed: run.rest.update(b=np.roll(run.rest["b"], 1)),
    "w": lambda run, file, seed: run.rest.update(w=np.nextafter(run.rest["w"], 1)),
    "gamma": lambda run, file, seed: run.rest.update(gamma=np.nextafter(0.01, 1)),
    "protected": lambda run, file, seed: run.rest.update(protected=21),
    "reading": lambda run, file, seed: run.rest.update(reading="block"),
    "metric": lambda run, file, seed: run.rest.update(metric="cross-entropy"),
}  # fmt: skip


def with_version(file, version):
    """The checkpoint as another version of JAX would have written it."""
    with np.load(file) as held:
        arrays = dict(held)
    arrays["run"][checkpoint._RUN.index("version of JAX")] = np.frombuffer(
        checkpoint._digest(version), np.uint8
    )
    np.savez(file, **arrays)


OTHER["JAX"] = lambda run, file, seed: with_version(file, "0.0.1")
WHOLE = {}


@pytest.mark.slow
@cases(6)
@given(
    kind=st.sampled_from(KINDS),
    event=st.sampled_from([*SAME, *OTHER]),
    most=st.integers(1, 5),
    seed=st.integers(0, 1 << 16),
)
def test_no_run_goes_on_with_other_data_and_none_is_lost(kind, event, most, seed, tmp_path_factory):
    """Resumed on the same data it is the whole run; on others it is refused and left as it was."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "data").mkdir()
    run, file = Run(folder / "data", kind), folder / "run.npz"
    if kind not in WHOLE:
        WHOLE[kind] = cr.solve(run.problem(), cr.NewtonCG()).raise_for_status()
        assert WHOLE[kind].num_steps > 5
    states = []  # what a kill after any step leaves: files are written whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "_SECONDS", 0.0)
        patch.setattr(checkpoint, "_SHARE", 0)
        write = checkpoint.write_whole

        def kept(path, content):
            write(path, content)
            states.append(path.read_bytes())

        patch.setattr(checkpoint, "write_whole", kept)
        cr.solve(run.problem(), cr.NewtonCG(), max_steps=most, checkpoint=file)
    file.write_bytes(states[seed % len(states)])
    (SAME | OTHER)[event](run, file, seed)
    before = file.read_bytes()
    if event in SAME:
        resumed = cr.solve(run.problem(), cr.NewtonCG(), checkpoint=file)
        np.testing.assert_array_equal(resumed.x, WHOLE[kind].x)
        np.testing.assert_array_equal(resumed.history.value, WHOLE[kind].history.value)
        return
    differs = "version of JAX" if event == "JAX" else "problem"
    with pytest.raises(cr.InputError, match=f"another run: not the same {differs};"):
        cr.solve(run.problem(), cr.NewtonCG(), checkpoint=file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("event", [*SAME, *(event for event in OTHER if event != "JAX")])
@pytest.mark.parametrize("kind", KINDS)
def test_what_tells_a_problem_from_another(kind, event, tmp_path):
    """Each way in which data may change or stay the same, for each kind, by fingerprint alone."""
    (tmp_path / "data").mkdir()
    run = Run(tmp_path / "data", kind)
    before = checkpoint._digest(run.problem())
    (SAME | OTHER)[event](run, tmp_path / "run.npz", 3)
    assert (checkpoint._digest(run.problem()) == before) == (event in SAME)


@pytest.mark.slow
def test_the_same_rows_in_other_shards_are_the_same_run(tmp_path):
    """The blocks that are multiplied are the same, and so are all bits."""
    run, file = Run(tmp_path, "shards"), tmp_path / "run.npz"
    whole = cr.solve(run.problem())
    cr.solve(run.problem(), max_steps=2, checkpoint=file)
    run.kind = "file"
    resumed = cr.solve(run.problem(), checkpoint=file)
    np.testing.assert_array_equal(resumed.x, whole.x)


def test_the_fingerprint_reads_each_block_once(tmp_path, monkeypatch):
    numbers, made = [], Run(tmp_path, "shards").problem()
    read = cr.RowBlocks.read
    monkeypatch.setattr(cr.RowBlocks, "read", lambda A, i: numbers.append(i) or read(A, i))
    checkpoint._digest(made)
    assert numbers == list(range(made.A.num_blocks)) == [0, 1, 2]
