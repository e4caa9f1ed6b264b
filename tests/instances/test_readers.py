"""Readers of files: the numbers that were written, and one clear line for what is not read."""

import bz2
import csv
import gzip
import io
import lzma
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from hypothesis import example, given, strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather
from safetensors.numpy import save_file

import copyreg_jax as cr
from copyreg_jax.checker import archive
from copyreg_jax.instances.readers import arrow_files, numpy_files, open_table, text_chunks
from copyreg_jax.instances.readers.row_tables import Choice, Labels


@pytest.fixture(scope="module", autouse=True)
def _small_blocks():
    """Blocks of a few rows, so that small files have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_files, "BLOCK_BYTES", 32)
        patch.setattr(arrow_files, "BLOCK_BYTES", 32)
        patch.setattr(arrow_files, "_PIECE", 2)
        patch.setattr(text_chunks, "_CHUNK", 40)
        patch.setattr(archive, "_TICK", 0)  # no waits for the clock of the file system
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("read")


def shapes(least=1):
    return st.tuples(st.integers(least, 9), st.integers(1, 4))


FINITE = {"allow_nan": False, "allow_infinity": False}
DOUBLES = st.floats(**FINITE)
NARROW = [np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.float16, np.float32]
WIDE = [np.int32, np.uint32, np.int64, np.uint64, np.float64]


@st.composite
def matrices(draw, dtypes=(*NARROW, *WIDE)):
    """Numbers of any type that float64 has exactly."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    elements = None
    if dtype.kind in "iu" and dtype.itemsize == 8:
        short = st.integers(0 if dtype.kind == "u" else -(2**53), 2**53)
        elements = short | st.builds(lambda k, zeros: k << zeros, short, st.integers(0, 9))
    elif dtype.kind == "f":
        elements = st.floats(width=8 * dtype.itemsize, **FINITE)
    return draw(hnp.arrays(dtype, shapes(), elements=elements))


def assert_same(found, A):
    """The same numbers, in the narrower of float32 and float64 that has them."""
    assert found.dtype == (np.float32 if A.dtype.type in NARROW else np.float64)
    assert np.array_equal(found, A.astype(np.float64))


def rest_from_everywhere(table):
    """Every place that blocks give starts the rows after them."""
    blocks = list(table.blocks())
    for k, (_, place) in enumerate(blocks[:-1]):
        again = list(table.blocks(place))
        assert np.array_equal(
            np.concatenate([rows for rows, _ in again]),
            np.concatenate([rows for rows, _ in blocks[k + 1 :]]),
        )
    return blocks


@given(A=matrices(), order=st.sampled_from("CF"), swap=st.booleans())
def test_npy(A, order, swap, folder):
    stored = A.astype(A.dtype.newbyteorder()) if swap else A
    np.save(folder / "a.npy", np.asarray(stored, order=order))
    assert_same(cr.read_matrix(folder / "a.npy"), A)
    rest_from_everywhere(open_table(folder / "a.npy", Choice()))
    np.savez_compressed(folder / "a.npz", A=A, other=A[:1])
    assert_same(cr.read_matrix(f"{folder}/a.npz:A"), A)


@given(
    A=matrices([*WIDE[:3], np.int8, np.float32, np.float64]),
    form=st.sampled_from(["csr", "csc", "bsr", "coo", "dia"]),
    array=st.booleans(),
)
def test_sparse_npz(A, form, array, folder):
    kind = "array" if array else "matrix"
    held = getattr(scipy.sparse, f"{form}_{kind}")(A)
    scipy.sparse.save_npz(folder / "a.npz", held)
    found = cr.read_matrix(folder / "a.npz")
    assert isinstance(found, scipy.sparse.csr_array)
    assert found.has_canonical_format
    assert_same(found.toarray(), A)


def test_sparse_entries_of_one_place_are_added_in_float64(tmp_path):
    for dtype, entries in (np.int8, (100, 100)), (np.float32, (1, 2**-30)):
        place = np.zeros(2, int), np.zeros(2, int)
        held = scipy.sparse.coo_array((np.array(entries, dtype), place), shape=(1, 1))
        scipy.sparse.save_npz(tmp_path / "a.npz", held)
        found = cr.read_matrix(tmp_path / "a.npz")
        assert (found.nnz, found.dtype, found[0, 0]) == (1, np.float64, sum(entries))


@pytest.mark.parametrize("entries", [(2**52, 2**52 + 1), (2**53, 1, -(2**53))])
def test_integers_of_one_place_whose_sum_is_rounded_are_refused(entries, tmp_path):
    rows = np.zeros(len(entries) + 1, int)
    rows[-1] = 1
    held = scipy.sparse.coo_array((np.array([*entries, 2**53]), (rows, rows)), shape=(2, 2))
    scipy.sparse.save_npz(tmp_path / "a.npz", held)
    with pytest.raises(cr.InputError, match="row 0, column 0 are integers whose sum may be beyond"):
        cr.read_matrix(tmp_path / "a.npz")


def test_what_entries_of_one_place_come_to(tmp_path):
    rows = np.zeros(2, int)
    held = scipy.sparse.coo_array((np.ones(2, bool), (rows, rows)), shape=(1, 1))
    scipy.sparse.save_npz(tmp_path / "a.npz", held)
    assert_same(cr.read_matrix(tmp_path / "a.npz").toarray(), held.toarray())
    held = scipy.sparse.coo_array((np.full(2, 1e308), (rows, rows)), shape=(1, 1))
    scipy.sparse.save_npz(tmp_path / "a.npz", held)
    with pytest.raises(cr.InputError, match="row 0, column 0 have a sum that is not finite"):
        cr.read_matrix(tmp_path / "a.npz")


def as_lists(form, flat, width):
    """A column of Arrow whose rows have so many of the numbers."""
    edges = np.arange(0, len(flat) + 1, width)
    if form == "list":
        return pa.ListArray.from_arrays(pa.array(edges, pa.int32()), flat)
    if form == "large list":
        return pa.LargeListArray.from_arrays(pa.array(edges), flat)
    return pa.FixedSizeListArray.from_arrays(flat, width) if form == "fixed-size list" else flat


@st.composite
def arrow_tables(draw):
    """Columns of numbers and of lists, as Arrow has them, and the matrix that they are."""
    n = draw(st.integers(1, 9))
    columns, parts = {}, []
    for k in range(draw(st.integers(1, 3))):
        dtype = np.dtype(draw(st.sampled_from([np.int16, np.int64, np.float32, np.float64, bool])))
        form = draw(st.sampled_from(["number", "list", "large list", "fixed-size list"]))
        width = 1 if form == "number" else draw(st.integers(1, 3))
        part = draw(hnp.arrays(bool if dtype.kind == "b" else np.int8, (n, width))).astype(dtype)
        columns[f"x{k}"] = as_lists(form, pa.array(part.reshape(-1)), width)
        parts.append(part)
    narrow = all(part.dtype.type in NARROW for part in parts)
    A = np.concatenate([part.astype(np.float64) for part in parts], axis=1)
    return pa.table(columns), A.astype(np.float32) if narrow else A


@given(drawn=arrow_tables(), group=st.integers(1, 9), cut=st.integers(0, 3))
def test_parquet_and_arrow(drawn, group, cut, folder):
    table, A = drawn
    cut = min(cut, len(A) - 1)
    table, A = table.slice(cut), A[cut:]  # a slice, whose values have an offset
    pq.write_table(table, folder / "a.parquet", row_group_size=group)
    with pa.OSFile(f"{folder}/a.arrow", "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table, group)
    feather.write_feather(table, folder / "a.feather", "lz4", chunksize=group)
    with pa.OSFile(f"{folder}/b.arrow", "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table, group)
    for name in ("a.parquet", "a.arrow", "b.arrow", "a.feather"):
        found = cr.read_matrix(folder / name)
        assert found.dtype == A.dtype
        assert np.array_equal(found, A)
        rest_from_everywhere(open_table(folder / name, Choice()))


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(
    A=hnp.arrays(np.float64, shapes(), elements=DOUBLES),
    data=st.data(),
    line=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from(",;\t"),
    mark=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_csv(A, data, line, delimiter, mark, quoting, folder):
    """Numbers come back to the bit, beside cells of any text."""
    texts = data.draw(st.lists(TEXTS, min_size=len(A), max_size=len(A)))
    if quoting == csv.QUOTE_MINIMAL:  # by which Python leaves it without quotes, as an end of line
        texts = [text.replace("\r", "") for text in texts]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line, quoting=quoting)
    writer.writerow(["a text, with commas", *(f"x{j}" for j in range(A.shape[1]))])
    for text, row in zip(texts, A, strict=True):
        writer.writerow([text, *map(repr, row.tolist())])
    path = folder / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" * mark + out.getvalue().encode())
    found = cr.read_matrix(path, columns=["x*"], delimiter=delimiter)
    assert np.array_equal(found, A)
    column = "a text, with commas"
    table = open_table(path, Choice(fields=(column,)), delimiter=delimiter)
    rest_from_everywhere(table)
    n, fields = table.survey([(column, "text")])
    assert n == len(A)
    labels = fields[column, "text"]
    assert isinstance(labels, Labels)
    assert [labels.texts[code] for code in labels.codes] == texts


@given(content=st.text(st.sampled_from('12,"\n\r -'), max_size=30), quoted=st.booleans())
@example(content='1,"2\n1,2\n1,"2', quoted=False)
@example(content="1\r2\n", quoted=False)
@example(content="1\n\n2", quoted=False)
def test_csv_that_is_read_has_the_rows_of_the_file(content, quoted, folder):
    """Python's strict parser finds as many rows and the same numbers, or the file is refused."""
    if quoted:
        content = content.replace("1", '"1"').replace("2", '"\n2"')
    (folder / "a.csv").write_text(content, newline="")
    try:
        found = cr.read_matrix(folder / "a.csv", header=False)
    except cr.InputError:
        return
    rows = list(csv.reader(io.StringIO(content, newline=""), strict=True))
    if found.shape[1] > 1:
        rows = [row for row in rows if row]
    assert found.tolist() == [[float(cell) for cell in row] for row in rows]


def test_a_quoted_name_may_have_several_lines(tmp_path):
    for line in ("\r", "\n", "\r\n"):
        (tmp_path / "a.csv").write_bytes(f'\n"x{line}y",z\r\n1,2\r\n3,4\n'.encode())
        assert cr.read_matrix(tmp_path / "a.csv").tolist() == [[1, 2], [3, 4]]
    (tmp_path / "a.csv").write_bytes(b'x,t\n1,"a\r\rb"\n5,c\nz,d\n')
    with pytest.raises(cr.InputError, match="line 4: column 'x' holds 'z'"):
        cr.read_matrix(tmp_path / "a.csv", columns=["x"])


def test_a_line_with_numbers_is_names_or_a_row_as_it_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("0,1\n5,6\n")
    assert cr.read_matrix(tmp_path / "a.csv", header=True).tolist() == [[5, 6]]
    assert cr.read_matrix(tmp_path / "a.csv", header=False).tolist() == [[0, 1], [5, 6]]


@given(
    value=st.integers(-(2**70), 2**70) | st.integers(2**53 - 2, 2**53 + 9),
    shown=st.sampled_from(["{}", "{:+}", "{:030}", "{}.0", "{}e0"]),
)
def test_an_integer_in_text_is_read_exactly_or_refused(value, shown, folder):
    word = shown.format(value)
    (folder / "a.csv").write_text(f"x\n{word}\n")
    (folder / "a.svm").write_text(f"1 0:{word}\n")
    lines = matrix_market("array", "real", "general", (1, 1), [word])
    (folder / "a.mtx").write_text(lines)
    for name in ("a.csv", "a.svm", "a.mtx"):
        try:
            found = cr.read_matrix(folder / name)
        except cr.InputError:
            assert float(value) != value
        else:
            assert int(found[0, 0]) == value or "." in word or "e" in word


def test_the_index_of_a_data_frame_is_no_column_of_A(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": [1.0, 2], "y": [3.0, 4]})
    for index, name in (pd.Index([3, 1]), "__index_level_0__"), (pd.Index([3, 1], name="i"), "i"):
        table = pa.Table.from_pandas(frame.set_axis(index))
        pq.write_table(table, tmp_path / "a.parquet")
        feather.write_feather(table, tmp_path / "a.feather")
        for path in (tmp_path / "a.parquet", tmp_path / "a.feather"):
            for columns in (None, ["*"]):
                with pytest.raises(cr.InputError, match=rf"'{name}' .*--without-columns {name}\)"):
                    cr.read_matrix(path, columns=columns)
            assert cr.read_matrix(path, without=[name]).tolist() == [[1, 3], [2, 4]]
            assert cr.read_matrix(path, columns=["y", name]).tolist() == [[3, 3], [4, 1]]
    frame.to_parquet(tmp_path / "a.parquet")  # an index that is no column
    assert cr.read_matrix(tmp_path / "a.parquet").shape == (2, 2)
    for metadata in (b"no JSON", b"[]"):
        table = pa.table({"x": [1.0]}).replace_schema_metadata({"pandas": metadata})
        pq.write_table(table, tmp_path / "a.parquet")
        assert cr.read_matrix(tmp_path / "a.parquet").tolist() == [[1]]


def svmlight_text(A, labels, base, data):
    """Lines as programs write them, some of them untidy."""
    lines = []
    for label, row in zip(labels, A, strict=True):
        blank = data.draw(st.sampled_from([" ", "  ", "\t"]))
        words = [repr(label), *(f"{j + base}:{v!r}" for j, v in enumerate(row.tolist()) if v)]
        lines.append(blank.join(words) + data.draw(st.sampled_from(["", " ", " # 7:7", "\r"])))
        lines += data.draw(st.sampled_from([[], [""], ["# a comment"]]))
    return "\n".join(lines) + data.draw(st.sampled_from(["", "\n"]))


@given(
    A=hnp.arrays(np.float64, shapes(), elements=st.sampled_from([0.0, 1.5, -1e-300, 0.1])),
    base=st.sampled_from([0, 1]),
    data=st.data(),
)
def test_svmlight(A, base, data, folder):
    A[0, -1] = 1  # so that the last column is there
    labels = data.draw(st.lists(DOUBLES, min_size=len(A), max_size=len(A)))
    path = folder / "a.svm"
    path.write_text(svmlight_text(A, labels, base, data), newline="")
    found = cr.read_matrix(path, index_base=base)
    assert found.has_canonical_format
    assert np.array_equal(found.toarray(), A)
    table = open_table(path, Choice(fields=("label",)), index_base=base)
    _, fields = table.survey([("label", "number")])
    assert np.array_equal(fields["label", "number"], labels)


def matrix_market(form, field, symmetry, shape, lines):
    header = f"%%MatrixMarket matrix {form} {field} {symmetry}", "% a comment"
    return "\n".join([*header, " ".join(map(str, shape)), *lines]) + "\n"


@given(
    A=hnp.arrays(np.float64, st.integers(2, 5).map(lambda n: (n, n)), elements=st.integers(-3, 3)),
    form=st.sampled_from(["coordinate", "array"]),
    field=st.sampled_from(["real", "integer", "pattern"]),
    symmetry=st.sampled_from(["general", "symmetric", "skew-symmetric"]),
)
def test_matrix_market(A, form, field, symmetry, folder):
    if field == "pattern":
        form, A = "coordinate", (A != 0).astype(float)
    below = np.tril(A, -1 if symmetry == "skew-symmetric" else 0)
    if symmetry != "general":
        A = below + np.tril(A, -1).T * (1 if symmetry == "symmetric" else -1)
    listed = np.ones_like(A) if symmetry == "general" else np.tri(*A.shape)
    if symmetry == "skew-symmetric":
        listed -= np.eye(len(A))
    number = (lambda v: f"{v:.0f}") if field == "integer" else repr
    if form == "array":
        places = np.argwhere(listed.T)[:, ::-1]  # column by column
        lines = [number(float(A[i, j])) for i, j in places]
        text = matrix_market(form, field, symmetry, A.shape, lines)
    else:
        places = np.argwhere(listed * A)
        value = (lambda v: "") if field == "pattern" else number
        lines = [f"{i + 1} {j + 1} {value(float(A[i, j]))}" for i, j in places]
        text = matrix_market(form, field, symmetry, (*A.shape, len(lines)), lines)
    (folder / "a.mtx").write_text(text)
    found = cr.read_matrix(folder / "a.mtx")
    assert found.dtype == np.float64
    assert scipy.sparse.issparse(found) == (form == "coordinate")
    assert np.array_equal(found.toarray() if form == "coordinate" else found, A)


@given(
    bits=hnp.arrays(np.uint16, shapes()),
    kind=st.sampled_from([ml_dtypes.bfloat16, np.float16]),
)
def test_half_precision_of_safetensors_is_widened_exactly(bits, kind, folder):
    """A number of 16 bits, and the float32 of it, round to the same bits."""
    A = bits.view(kind)
    A[~np.isfinite(A.astype(np.float32))] = 1
    save_file({"w": A, "bias": np.ones(2)}, folder / "a.safetensors")
    found = cr.read_matrix(f"{folder}/a.safetensors:w")
    assert found.dtype == np.float32
    assert np.array_equal(found.astype(kind).view(np.uint16), A.view(np.uint16))
    rest_from_everywhere(open_table(folder / "a.safetensors", Choice(), key="w"))


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip), ("bz2", bz2), ("xz", lzma)])
def test_packed_text(suffix, pack, tmp_path):
    content = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(50))
    (tmp_path / f"a.csv.{suffix}").write_bytes(pack.compress(content))
    found = cr.read_matrix(tmp_path / f"a.csv.{suffix}")
    assert np.array_equal(found, [[i, i * i] for i in range(50)])
    rest_from_everywhere(open_table(tmp_path / f"a.csv.{suffix}", Choice()))
    (tmp_path / f"b.csv.{suffix}").write_bytes(pack.compress(content)[:-9])
    with pytest.raises(cr.InputError, match=r"can't read .*b\.csv"):
        cr.read_matrix(tmp_path / f"b.csv.{suffix}")


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.tsv", None), ("a.csv", "tab"), ("a.csv", r"\t"), ("a.csv", "\t")]
)
def test_tabs(name, delimiter, tmp_path):
    (tmp_path / name).write_text("x\ty\n1\t2\n")
    assert cr.read_matrix(tmp_path / name, delimiter=delimiter).tolist() == [[1, 2]]


def test_columns_are_chosen_by_names_and_patterns(tmp_path):
    (tmp_path / "a.csv").write_text("id,x[1],x2,y\n9,1,2,3\n")

    def read(**options):
        return cr.read_matrix(tmp_path / "a.csv", **options).tolist()

    assert read() == [[9, 1, 2, 3]]
    assert read(columns=["y", "x*"]) == [[3, 1, 2]]
    assert read(columns=["x[1]"]) == [[1]]
    assert read(columns=["x*"], without=["x2"]) == [[1]]
    assert read(without=["id"]) == [[1, 2, 3]]


# Surprises of other libraries, a test each.


def test_what_svmlight_files_count_from_is_shown_or_asked_for(tmp_path):
    path = tmp_path / "a.svm"
    path.write_text("1 1:5 3:7\n")
    with pytest.raises(cr.InputError, match=r"no index 0.* say --index-base 1"):
        cr.read_matrix(path)
    assert cr.read_matrix(path, index_base=0).toarray().tolist() == [[0, 5, 0, 7]]
    assert cr.read_matrix(path, index_base=1).toarray().tolist() == [[5, 0, 7]]
    path.write_text("1 0:5\n")
    assert cr.read_matrix(path).toarray().tolist() == [[5]]
    for word, width in ("zero", 3), ("one", 2):
        path.write_text(f"# Column indices are {word}-based\n1 2:5\n")
        assert cr.read_matrix(path).shape == (1, width)
        with pytest.raises(cr.InputError, match=r"a comment says"):
            cr.read_matrix(path, index_base=int(word == "zero"))
    path.write_text("# Column indices are one-based\n1 0:5\n")
    assert cr.read_matrix(path, index_base=0).toarray().tolist() == [[5]]
    for options in ({}, {"index_base": 1}):
        with pytest.raises(cr.InputError, match=r"row 0 has the index 0; give index_base 0"):
            cr.read_matrix(path, **options)


def test_zeros_that_svmlight_files_list_stay(tmp_path):
    (tmp_path / "a.svm").write_text("1 0:0 2:0.0\n")
    found = cr.read_matrix(tmp_path / "a.svm")
    assert (found.nnz, found.shape) == (2, (1, 3))


def test_a_symmetric_file_with_both_triangles_is_not_doubled(tmp_path):
    lines = ["1 1 5", "2 1 7", "1 2 7"]
    text = matrix_market("coordinate", "real", "symmetric", (2, 2, 3), lines)
    (tmp_path / "a.mtx").write_text(text)
    with pytest.raises(cr.InputError, match="symmetric, but lists row 1, column 2"):
        cr.read_matrix(tmp_path / "a.mtx")
    (tmp_path / "a.mtx").write_text(text.replace("symmetric", "general"))
    assert cr.read_matrix(tmp_path / "a.mtx").toarray().tolist() == [[5, 7], [7, 0]]


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2)])
def test_sparse_arrays_of_other_dimensions_are_refused(shape, tmp_path):
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.coo_array(np.ones(shape)))
    with pytest.raises(cr.InputError, match=f"{len(shape)} dimensions"):
        cr.read_matrix(tmp_path / "a.npz")


def test_null_rows_of_arrow_lists_do_not_shift_the_others(tmp_path):
    lists = [[1.0, 2.0], [3.0, 4.0], None, [5.0, 6.0]]
    for kind in (pa.list_(pa.float32(), 2), pa.list_(pa.float32())):
        table = pa.table({"x": pa.array(lists, kind)})
        for slices, row in ((table, 2), (table.slice(1), 1)):
            pq.write_table(slices, tmp_path / "a.parquet")
            with pytest.raises(cr.InputError, match=f"row {row}: column 'x' is null"):
                cr.read_matrix(tmp_path / "a.parquet")


@pytest.mark.parametrize("way", ["text", "number"])
def test_nulls_in_the_dictionary_of_a_column_are_nulls(way, tmp_path):
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["1", None]))
    feather.write_feather(pa.table({"t": words, "x": [1, 2]}), tmp_path / "a.feather")
    table = open_table(tmp_path / "a.feather", Choice(fields=("t",)))
    with pytest.raises(cr.InputError, match="row 1: column 't' is null"):
        table.survey([("t", way)])


def test_texts_of_a_dictionary_that_no_row_has_are_left_out(tmp_path):
    words = pa.DictionaryArray.from_arrays(pa.array([2, 1]), pa.array([None, "a", "b", "c"]))
    feather.write_feather(pa.table({"t": words, "x": [1, 2]}), tmp_path / "a.feather")
    table = open_table(tmp_path / "a.feather", Choice(fields=("t",)))
    labels = table.survey([("t", "text")])[1]["t", "text"]
    assert [labels.texts[code] for code in labels.codes] == ["b", "a"]
    assert len(labels.texts) == 2


def test_an_integer_in_a_column_of_text_is_not_rounded(tmp_path):
    words = pa.array(["1", "1e300", str(2**53 + 1)])
    for column in words, words.dictionary_encode(), words.cast(pa.large_string()):
        pq.write_table(pa.table({"t": column, "x": [1, 2, 3]}), tmp_path / "a.parquet")
        table = open_table(tmp_path / "a.parquet", Choice(fields=("t",)))
        with pytest.raises(cr.InputError, match="row 2: column 't' is 9007199254740993, an int"):
            table.survey([("t", "number")])


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_an_integer_beside_A_is_refused_if_float64_does_not_hold_it_and_else_read(kind, tmp_path):
    def read(*numbers):
        held = pa.table({"t": pa.array(numbers, kind), "x": np.ones(len(numbers))})
        pq.write_table(held, tmp_path / "a.parquet")
        table = open_table(tmp_path / "a.parquet", Choice(fields=("t",)))
        return table.survey([("t", "number")])[1]["t", "number"]

    assert read(1, 2**60).tolist() == [1, 2**60]
    with pytest.raises(cr.InputError, match=r"is 1152921504606846977 at row 1, column 't'"):
        read(1, 2**60 + 1)


def test_tensors_of_arrow_are_read_if_they_are_rows(tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    for shape in ((4,), (2, 2)):
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(numbers.reshape(3, *shape))
        pq.write_table(pa.table({"x": tensors}), tmp_path / "a.parquet")
        if len(shape) == 1:
            assert np.array_equal(cr.read_matrix(tmp_path / "a.parquet"), numbers.reshape(3, 4))
        else:
            with pytest.raises(cr.InputError, match=r"column 'x' holds the type .*tensor"):
                cr.read_matrix(tmp_path / "a.parquet")


def test_a_tensor_of_8_bits_does_not_stop_the_others(tmp_path):
    eight = np.ones((2, 2), ml_dtypes.float8_e4m3fn)
    save_file({"a": np.eye(2), "b": eight}, tmp_path / "a.safetensors")
    assert np.array_equal(cr.read_matrix(f"{tmp_path}/a.safetensors:a"), np.eye(2))
    with pytest.raises(cr.InputError, match="has type F8_E4M3; convert it"):
        cr.read_matrix(f"{tmp_path}/a.safetensors:b")


def test_a_type_that_npy_has_lost_is_not_guessed(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 2), ml_dtypes.bfloat16))
    with pytest.raises(cr.InputError, match="as NumPy stores bfloat16"):
        cr.read_matrix(tmp_path / "a.npy")


# Files that are refused.


def npy(array):
    def write(path):
        np.save(path, np.asarray(array), allow_pickle=True)

    return write


def under_any_name(save):
    def write(path):
        with path.open("wb") as file:
            save(file, np.eye(2))

    return write


def parquet(**columns):
    return lambda path: pq.write_table(pa.table(columns), path)


BAD = {
    "npy: not finite": ("a.npy", npy([[0, 1], [2, np.inf]]), "is inf at row 1, column '1'"),
    "npy: integer": ("a.npy", npy([[0], [2**53 + 1]]), "9007199254740993 at row 1, column '0'"),
    "npy: negative integer": ("a.npy", npy([[-(2**53) - 1]]), "-9007199254740993 at row 0"),
    "npz: sparse integer": (
        "a.npz",
        lambda p: scipy.sparse.save_npz(p, scipy.sparse.csr_array([[0, 0], [2**60, 2**60 + 1]])),
        "1152921504606846977 at row 1, column 1; .* one of float64",
    ),
    "npy: shape": ("a.npy", npy(np.ones((1, 2, 3))), r"has shape \(1, 2, 3\); give"),
    "npy: no rows": ("a.npy", npy(np.ones((0, 2))), r"has shape \(0, 2\); give"),
    "npy: complex": ("a.npy", npy([[1j]]), "has dtype complex128; give real"),
    "npy: objects": ("a.npy", npy([[{}]]), "holds pickled objects"),
    "npy: no array": ("a.npy", b"hello", "truncated or not an .npy file"),
    "npz: no archive": ("a.npz", b"hello", "truncated or not an .npz file"),
    "npz: several": ("a.npz", lambda p: np.savez(p, a=1, b=2), "several arrays; it has 'a', 'b'"),
    "parquet: text": (
        "a.parquet", parquet(x=[1.0], t=["a"], u=["b"]),
        r"columns 't', 'u' hold the type string, no .* \(--without-columns t,u; without=",
    ),
    "parquet: null": ("a.parquet", parquet(x=[1.0, None]), "row 1: column 'x' is null"),
    "parquet: nan": ("a.parquet", parquet(x=[1.0, np.nan]), "is nan at row 1, column 'x'"),
    "parquet: null in a list": (
        "a.parquet", parquet(x=[[1.0, 2.0], [3.0, None]]), r"row 1: 'x\[1\]' is null",
    ),
    "parquet: ragged": (
        "a.parquet", parquet(x=[[1.0], [2.0], [3.0, 4.0]]), "row 2: column 'x' has 2 numbers, but",
    ),
    "parquet: short": (
        "a.parquet", parquet(x=[[1.0, 2.0], [3.0]]), "row 1: column 'x' has 1 numbers, but row 0",
    ),
    "parquet: integer": (
        "a.parquet", parquet(x=[2**60, 2**60 + 1]), f"is {2**60 + 1} at row 1, column 'x'",
    ),
    "parquet: no rows": ("a.parquet", parquet(x=pa.array([], pa.float32())), "has no row"),
    "parquet: no lists": ("a.parquet", parquet(x=pa.array([], pa.list_(pa.int8()))), "has no row"),
    "parquet: damaged": ("a.parquet", b"PAR1 PAR1", "truncated or no Parquet file"),
    "arrow: damaged": ("a.arrow", b"hello", "truncated or no Arrow file"),
    "csv: empty": ("a.csv", b"", "is empty"),
    "csv: no rows": ("a.csv", b"x,y\n", "has no row"),
    "csv: text": ("a.csv", b"x,y\n1,2\n\n3,abc\n", "line 4: column 'y' holds 'abc'"),
    "csv: columns of text": (
        "a.csv", b'x,t,"u v"\n1,a,b\n2,c,d\n',
        "a.csv: columns 't', 'u v' hold text, as 'a' in line 2, .* \\(--without-columns 't,u v';",
    ),
    "csv: decimal commas": (
        "a.csv", b'x,y\n1,"-1,5"\n', "line 2: column 'y' holds '-1,5', .*; save .* decimal points",
    ),
    "csv: a Parquet file": (
        "a.csv", parquet(x=[1.0]), "is a Parquet file; say --format parquet",
    ),
    "csv: an archive": ("a.csv", under_any_name(np.savez), "is a zip archive, as spr"),
    "csv: an array": ("a.csv", under_any_name(np.save), "is an .npy file; say"),
    "csv: packed": ("a.csv", gzip.compress(b"x,y"), "is packed by gzip; let its name end in .gz"),
    "a spreadsheet": ("a.xlsx", b"PK", "is a spreadsheet; save the sheet as CSV"),
    "csv: gap": ("a.csv", b'x,y\n"1",2\n,4\n', "line 3: column 'x' is empty"),
    "csv: nan": ("a.csv", b"x,y\n1,nan\n", "line 2: column 'y' holds 'nan'"),
    "csv: ragged": ("a.csv", b"x,y\n" + b"1,2\n" * 30 + b"3\n", "line 32: 1 cells, but there"),
    "csv: old lines": ("a.csv", b"x,y\r1,2\r", "line 1: a carriage return ends no line"),
    "csv: old line": ("a.csv", b"x,y\n1,2\r3,4\n", "line 2: a carriage return ends no line"),
    "csv: old names": ("a.csv", b"x,y\r1,2\n3,4\n", "line 1: a carriage return ends no line"),
    "csv: UTF-16": ("a.csv", 'x,"y"\r\n1,2\r\n'.encode("utf-16"), "line 1: not UTF-8"),
    "csv: open quote": (
        "a.csv", b"x\n" + b'"1"\n' * 18 + b'"2\n' + b"3\n" * 30,
        "line 20: a quote is opened and never closed",
    ),
    "csv: two open quotes": (
        "a.csv", b'x,t\n1,"12 inch\n2,b\n3,"13 inch\n4,d\n', "line 4: a quote in the middle",
    ),
    "csv: quote in a cell": ("a.csv", b'x,t\n1,5" pipe\n', "line 2: a quote in the middle"),
    "csv: text after a quote": ("a.csv", b'x,t\n1,"a"b\n', "line 2: a quote in the middle"),
    "csv: blank": ("a.csv", b"x\n1\n\n3\n", "line 3 is empty, which in a table of one column"),
    "csv: last blank": ("a.csv", b"x\n" + b"1\n" * 30 + b"\r\n", "line 32 is empty"),
    "csv: line feed": ("a.csv", b'x,y\n1,"2\n"\n', r"after line 1: .* value '2 '"),
    "csv: integer": (
        "a.csv", b"x,y\n1,2\n3,9007199254740993\n", "line 3: column 'y' holds 9007199254740993,",
    ),
    "csv: negative integer": (
        "a.csv", b'x\n1e300\n" -9007199254740993"\n', "line 3: column 'x' holds  -9007199254740993",
    ),
    "csv: not UTF-8": ("a.csv", b"x,y\n1,2\n\xff,3\n", "line 3: not UTF-8"),
    "csv: names twice": ("a.csv", b"x,x\n1,2\n", "two columns have the name 'x'"),
    "csv: no header": ("a.csv", b"1,2\n3,4\n", "the first line holds the number 1; if it is a row"),
    "csv: half a header": ("a.csv", b"s,5.1,q\n1,2,3\n", r"number 5.1; .*\(--no-header"),
    "csv: names of pandas": (
        "a.csv", b",0,1\n0,2,3\n", r"counts the columns, as pandas .*\(--header, or header=True",
    ),
    "csv: delimiter": ("a.csv", b"x;y\n1;2\n", "--delimiter ';'"),
    "csv: index of pandas": ("a.csv", b",x\n0,2\n", "column 1 has no name"),
    "svmlight: empty": ("a.svm", b"\n# none\n", "has no row"),
    "svmlight: no entry": ("a.svm", b"1\n2\n", "has no entry"),
    "svmlight: order": ("a.svm", b"1 0:1\n" * 9 + b"1 5:1 3:2\n", "line 10: the index 3 comes aft"),
    "svmlight: twice": ("a.svm", b"1 0:1 0:2\n", "line 1: the index 0 comes after 0"),
    "svmlight: label": ("a.svm", b"0:1\n", "'0:1' stands where the label"),
    "svmlight: labels": ("a.svm", b"1,2 0:1\n", "the label '1,2' is not one finite number"),
    "svmlight: value": ("a.svm", b"1 0:x\n", "'0:x' is not INDEX:VALUE"),
    "svmlight: not finite": ("a.svm", b"1 0:nan\n", "'0:nan' is not INDEX:VALUE with a finite"),
    "svmlight: index": ("a.svm", b"1 -1:2\n", "the index '-1' is not a whole number"),
    "svmlight: half an index": ("a.svm", b"1 0.5:2\n", "the index '0.5' is not a whole number"),
    "svmlight: large index": ("a.svm", b"1 9999999999:2\n", "the index '9999999999' is not"),
    "svmlight: integer": (
        "a.svm", b"1 0:1 # a\n" * 9 + b"1 0:9007199254740993\n", "line 10: 9007199254740993 is an",
    ),
    "svmlight: integer label": ("a.svm", b"-9007199254740993 0:1\n", "line 1: -9007199254740993"),
    "svmlight: another comment": ("a.svm", b"1 1:0.5 # not one-based\n", "no index 0, so it does"),
    "svmlight: late comment": (
        "a.svm", b"1 1:5\n# Column indices are one-based\n", "no index 0, so it does",
    ),
    "svmlight: comment of a person": ("a.svm", b"# is it one-based?\n1 1:5\n", "no index 0, so it"),
    "svmlight: old line": (
        "a.svm", b"1 0:5\r\n2 0:5 # a\r3 0:6\n", "line 2: a carriage return in a comment",
    ),
    "svmlight: query": ("a.svm", b"1 qid:4 0:2\n", "'qid:4' is an id of a query"),
    "mtx: no header": ("a.mtx", b"1 1 1\n", "line 1: not a header of Matrix Market"),
    "mtx: complex": (
        "a.mtx", matrix_market("array", "complex", "general", (1, 1), ["1 0"]), "complex numbers",
    ),
    "mtx: truncated": (
        "a.mtx", matrix_market("coordinate", "real", "general", (2, 2, 2), ["1 1 5"]), "truncated",
    ),
    "mtx: too many": (
        "a.mtx", matrix_market("array", "real", "general", (1, 1), ["1", "2"]), "1 entries exp",
    ),
    "mtx: outside": (
        "a.mtx",
        matrix_market("coordinate", "real", "general", (2, 2, 1), ["3 1 5"]),
        "line 4: b'3 1 5' is not a row of 1 to 2",
    ),
    "mtx: integer": (
        "a.mtx",
        matrix_market("array", "integer", "general", (1, 1), [str(2**53 + 1)]),
        "line 4: 9007199254740993 is an integer beyond",
    ),
    "mtx: real integer": (
        "a.mtx",
        matrix_market("coordinate", "real", "general", (1, 1, 1), ["1 1 9007199254740993"]),
        "line 4: 9007199254740993 is an integer",
    ),
    "mtx: old line": (
        "a.mtx",
        matrix_market("array", "real", "general", (1, 1), ["1 # a\r2"]).encode(),
        "line 4: a carriage return in a comment",
    ),
    "mtx: not square": (
        "a.mtx", matrix_market("array", "real", "symmetric", (1, 2), ["1"]), r"has shape \(1, 2\)",
    ),
    "mtx: no size": (
        "a.mtx", matrix_market("array", "real", "general", (1, -2), []), "is no line of sizes",
    ),
    "mtx: twice": (
        "a.mtx",
        matrix_market("coordinate", "real", "general", (2, 2, 2), ["2 1 5", "2 1 6"]),
        "lists row 2, column 1 twice",
    ),
    "mtx: diagonal": (
        "a.mtx",
        matrix_market("coordinate", "real", "skew-symmetric", (2, 2, 1), ["2 2 5"]),
        "skew-symmetric, but lists row 2, column 2",
    ),
    "mtx: not finite": (
        "a.mtx",
        matrix_market("coordinate", "real", "general", (2, 2, 1), ["2 1 nan"]),
        r"line 4: b'2 1 nan' is not a row of 1 to 2, a col",
    ),
    "safetensors: damaged": ("a.safetensors", b"hello", "not a .safetensors file"),
    "safetensors: several": (
        "a.safetensors", lambda p: save_file({"a": np.eye(1), "b": np.eye(1)}, p), "several tensor",
    ),
    "suffix": ("a.txt", b"1 2\n", "the suffix '.txt' is of no known format"),
    "packed": ("a.npy.gz", b"", "is packed; unpack it first"),
    "a folder": ("a.csv", Path.mkdir, "is not a regular file"),
    "no file": ("none.csv", lambda p: None, "can't read .*none.csv: No such file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(name, tmp_path):
    file, content, message = BAD[name]
    path = tmp_path / file
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(cr.InputError, match=message) as caught:
        cr.read_matrix(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


WRONG = {
    "unknown column": ({"columns": ["z"]}, "no column 'z'; it has 'x', 'y'"),
    "unknown pattern": ({"without": ["z*"]}, r"no column 'z\*'; it has"),
    "nothing left": ({"without": ["*"]}, "no column is left for A"),
    "no list": ({"columns": "xy"}, "lists of names"),
    "index_base": ({"index_base": 1}, "index_base is for svmlight files only"),
    "key": ({"key": "x"}, "is for npz and safetensors files only"),
    "delimiter": ({"delimiter": "ab"}, "the delimiter is 'ab'"),
    "null byte": ({"delimiter": "\0"}, r"the delimiter is '\\x00'"),
    "no text": ({"delimiter": 5}, "delimiter is 5; give a text"),
    "no names": ({"without": 5}, "without is 5; give a list of names"),
    "without nothing": ({"without": None}, "without is None; give a list of names"),
    "header": ({"header": 0}, "header is 0; give True for names"),
    "no name": ({"columns": 5}, "columns is 5; give a list of names"),
    "no format": ({"format": []}, r"format is \[\]; give a text"),
    "format": ({"format": "xls"}, "format is 'xls'; choose one of npy"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_named(name, tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    options, message = WRONG[name]
    with pytest.raises(cr.InputError, match=message):
        cr.read_matrix(tmp_path / "a.csv", **options)


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.eye(2))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cr.read_matrix(tmp_path / "a.npy").shape == (2, 2)  # needs none
    for suffix, package in ("csv", "pyarrow"), ("safetensors", "safetensors"):
        with pytest.raises(cr.InputError, match=rf"{package} is not installed; run: pip install"):
            cr.read_matrix(f"a.{suffix}")


def test_paths_that_are_none():
    for path in ("a\0b.csv", "a\0b.npy"):
        with pytest.raises(cr.InputError, match="can't read"):
            cr.read_matrix(path)
    with pytest.raises(cr.InputError, match=r"None is no path"):
        cr.read_matrix(None)


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_never_crashes(seed, tmp_path):
    """Bytes that are changed or cut off give other numbers or an `InputError`, nothing else."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(6, 3))
    np.save(tmp_path / "a.npy", A)
    np.savez(tmp_path / "a.npz", A=A)
    scipy.sparse.save_npz(tmp_path / "b.npz", scipy.sparse.csr_array(A))
    save_file({"A": A}, tmp_path / "a.safetensors")
    (tmp_path / "a.csv").write_text(
        "x,y,z\n" + "\n".join(",".join(map(repr, r)) for r in A.tolist())
    )
    (tmp_path / "a.svm").write_text("\n".join(f"1 0:{a} 2:{b}" for a, b, _ in A.tolist()))
    lines = [repr(float(v)) for v in A.T.reshape(-1)]
    (tmp_path / "a.mtx").write_text(matrix_market("array", "real", "general", A.shape, lines))
    lines = [f"{i + 1} {j + 1} {A[i, j]}" for i, j in np.ndindex(A.shape)]
    listed = matrix_market("coordinate", "real", "general", (*A.shape, A.size), lines)
    (tmp_path / "b.mtx").write_text(listed)
    for path in sorted(Path(tmp_path).iterdir()):
        raw, refused = path.read_bytes(), 0
        for position in rng.integers(0, len(raw), 25):
            changed = bytearray(raw)
            changed[position] ^= int(rng.integers(1, 256))
            path.write_bytes(changed if rng.random() < 0.8 else changed[:position])
            try:
                cr.read_matrix(path)
            except cr.InputError:  # any other exception fails the test
                refused += 1
        assert refused > 0, path.name


def test_an_arrow_stream_that_ends_early_is_refused_when_rows_are_counted(tmp_path):
    numbers, path = pa.table({"x": np.arange(1000.0)}), tmp_path / "a.arrow"
    with pa.ipc.new_stream(path, numbers.schema) as stream:
        stream.write_table(numbers, max_chunksize=500)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(cr.InputError, match=r"a\.arrow: Expected to be able to read 4000"):
        open_table(path, Choice()).survey([])


def test_a_row_without_an_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_chunks, "_CHUNK", 1 << 20)
    monkeypatch.setattr(text_chunks, "_MAX_CHUNK", 1 << 20)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n" + "3" * (3 << 20))
    with pytest.raises(cr.InputError, match=r"line 3: no end of this row in 1 MB"):
        cr.read_matrix(tmp_path / "a.csv")
