"""Tables of factors, from arrays, named columns and files."""

import numpy as np
import pytest
from messages import facts
from numpy.random import RandomState

from disentanglement_challenge.data.table_files import read_codes, read_factors
from disentanglement_challenge.data.tables import FactorGrid, factor_table
from disentanglement_challenge.errors import ConfigError, DataError

GRID = np.stack(np.unravel_index(np.arange(24), [4, 2, 3]), axis=1)


def test_values_are_replaced_by_their_rank():
    table = factor_table({"color": ["red", "blue", "red", "green"], "size": [10.0, 9.0, 9.0, -1.5]})
    assert table.names == ["color", "size"]
    assert table.indices.tolist() == [[2, 2], [0, 1], [2, 1], [1, 0]]
    assert table.sizes == [3, 3]
    assert table.positions is None


def test_a_grid_in_any_order_of_rows_is_one():
    order = RandomState(0).permutation(24)
    table = factor_table(GRID[order] * [1.5, -1, 7])
    data = FactorGrid(table)
    factors, rows = data.sample(50, RandomState(1))
    # The negative second factor reverses its ranks.
    np.testing.assert_array_equal(GRID[order][rows] * [1, -1, 1] + [0, 1, 0], factors)
    assert data.factors_num_values == [4, 2, 3]


@pytest.mark.parametrize("rows", [GRID[:-1], np.vstack([GRID, GRID]), np.vstack([GRID[:-1], GRID[:1]])])
def test_rows_that_are_missing_or_there_twice_are_no_grid(rows):
    assert factor_table(rows).positions is None


class Frame:
    """A data frame with the methods that the code uses: named columns that give arrays."""

    def __init__(self, columns):
        self.columns = list(columns)
        self._columns = columns

    def to_numpy(self):
        return np.stack(list(self._columns.values()), axis=1)

    def __getitem__(self, name):
        return type("Series", (), {"to_numpy": lambda _: np.asarray(self._columns[name], dtype=object)})()


def test_named_columns_of_any_kind_are_read():
    columns = {"word": ["a", "b", "b"], "number": [3, 1, 1]}
    expected = factor_table(columns)
    records = np.array([("a", 3), ("b", 1), ("b", 1)], dtype=[("word", "U1"), ("number", int)])
    for other in (Frame(columns), records):
        table = factor_table(other)
        assert table.names == expected.names
        np.testing.assert_array_equal(table.indices, expected.indices)


def continuous(num_rows=300):
    return np.stack([np.arange(num_rows) % 3, RandomState(0).uniform(size=num_rows)], axis=1)


def test_a_continuous_factor_needs_bins():
    factors = continuous()
    factors[-1] = factors[0]  # otherwise it would be taken for an id
    with pytest.raises(DataError, match=facts("'factor 1'", "299 values", "bins=20", "--bins 20")):
        factor_table(factors)
    table = factor_table(factors, bins=5)
    assert table.sizes == [3, 5]
    np.testing.assert_array_equal(table.indices[:, 1], np.minimum(5 * _unit(factors[:, 1]), 4).astype(int))
    # A number for a single factor bins it, whatever its values are.
    assert factor_table(factors, bins=[2, 4]).sizes == [2, 4]
    assert factor_table(factors, bins=[None, 4]).sizes == [3, 4]


def _unit(values):
    return (values - values.min()) / np.ptp(values)


def test_many_values_that_are_a_grid_or_integers_are_no_continuous_factor():
    values = np.linspace(0, 1, 150)
    grid = np.stack([np.tile(values, 2), np.repeat([0, 1], 150)], axis=1)
    assert factor_table(grid).sizes == [150, 2]
    integers = np.stack([np.tile(np.arange(150.0), 2), RandomState(0).randint(3, size=300)], axis=1)
    assert factor_table(integers).sizes == [150, 3]


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ([1, 2, 3], ["(3,)", "(N, num_factors)", "factors[:, None]"]),
        ([[1, 2], [3]], ["unequal", "(N, num_factors)"]),
        (np.zeros((0, 2)), ["(0, 2)", "(N, num_factors)"]),
        ([[1, 5], [2, 5], [1, 5]], ["'factor 1'", "one value"]),
        ([[1, 0], [1, 1], [2, 2], [2, 3]], ["'factor 1'", "every row", "id"]),
        ([[0.0, 1], [np.nan, 0], [1, 1]], ["'factor 0'", "nan", "row 1", "finite"]),
        ({"a": ["x", None, "y"]}, ["'a'", "no value", "row 1"]),
        ({"a": ["x", "", "y"]}, ["'a'", "no value", "row 1"]),
        ({"a": np.array(["x", 3, "y"], dtype=object)}, ["'a'", "int, str", "numbers", "words"]),
        ({"a": [1, 2], "b": [1, 2, 3]}, ["2, 3 rows"]),
        (np.zeros((4, 70)), ["70 factors", 63]),
        (np.arange(9)[:, None], ["'factor 0'", "every row", "id"]),
        (
            np.array(["2020-01-01", "NaT", "2020-01-02"], dtype="datetime64[D]")[:, None],
            ["'factor 0'", "no value", "row 1"],
        ),
        ([[1j], [2j]], ["'factor 0'", "complex"]),
        ({"a": np.ma.masked_equal([1, 2, 1], 1)}, ["'a'", "masked"]),
        ({1: [1, 2, 1], "1": [1, 2, 2]}, ["'1, 1'", "name"]),
    ],
)
def test_what_is_no_table_of_factors_is_named(factors, said):
    with pytest.raises(DataError, match=facts(*said)):
        factor_table(factors)


@pytest.mark.parametrize(
    ("bins", "said"), [(1, ["bins is 1", 2]), ([5], ["[5]", "2 factors"]), ([5, 0], ["'factor 1'", 0, 2])]
)
def test_bins_that_cannot_be_are_named(bins, said):
    with pytest.raises(ConfigError, match=facts("bins", *said)):
        factor_table(continuous(), bins=bins)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_any_separator_are_read(tmp_path, separator):
    lines = [["color", "size", "id"], ["red", "10", "a1"], ["blue", "9", "a2"], ["red", "9", "a3"]]
    file = tmp_path / "factors.csv"
    file.write_text("\ufeff" + "\n".join(separator.join(line) for line in lines) + "\n\n", encoding="utf-8")
    columns = read_factors(file, ["id"])
    assert list(columns) == ["color", "size"]
    # Numbers sort as numbers: 9 before 10.
    assert factor_table(columns).indices.tolist() == [[1, 1], [0, 0], [1, 0]]


def test_arrays_in_files_are_read(tmp_path):
    np.save(tmp_path / "f.npy", GRID)
    np.savez(tmp_path / "f.npz", labels=GRID, factor_names=["a", "b", "c"])
    np.savez(tmp_path / "c.npz", codes=GRID * 0.5, other=1)
    assert list(read_factors(tmp_path / "f.npy")) == ["factor 0", "factor 1", "factor 2"]
    assert list(read_factors(tmp_path / "f.npz")) == ["a", "b", "c"]
    np.testing.assert_array_equal(read_codes(tmp_path / "c.npz"), GRID * 0.5)
    (tmp_path / "c.csv").write_text("0.5,1\n2,3e-1\n")
    np.testing.assert_array_equal(read_codes(tmp_path / "c.csv"), [[0.5, 1], [2, 0.3]])
    (tmp_path / "c.csv").write_text("z0,z1\n0.5,1\n")
    np.testing.assert_array_equal(read_codes(tmp_path / "c.csv"), [[0.5, 1]])


def test_names_of_factors_in_a_file_may_be_bytes_and_never_objects(tmp_path):
    np.savez(tmp_path / "b.npz", factors=GRID, factor_names=np.array([b"a", b"b", b"c"]))
    assert list(read_factors(tmp_path / "b.npz", ["b"])) == ["a", "c"]
    np.savez(tmp_path / "o.npz", factors=GRID, factor_names=np.array(["a", "b", "c"], dtype=object))
    with pytest.raises(DataError, match=facts(tmp_path / "o.npz", "Python objects")):
        read_factors(tmp_path / "o.npz")


@pytest.mark.parametrize("position", [0.4, 0.6])
def test_a_damaged_file_of_arrays_is_one_line(tmp_path, position):
    path = tmp_path / "c.npz"
    np.savez_compressed(path, codes=np.random.default_rng(0).normal(size=(500, 4)))
    damaged = bytearray(path.read_bytes())
    damaged[int(position * len(damaged))] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=facts("cannot read", path)):
        read_codes(path)


def test_what_is_no_array_is_not_said_to_hold_objects(tmp_path):
    (tmp_path / "c.npy").write_text("<html>Not found</html>")
    with pytest.raises(DataError, match=facts("cannot read", tmp_path / "c.npy")) as caught:
        read_codes(tmp_path / "c.npy")
    assert "objects" not in str(caught.value)


def test_cells_with_an_underscore_are_words(tmp_path):
    (tmp_path / "f.csv").write_text("place,size\n1_11,1\n11_1,1\n1_11,2\n11_1,2\n")
    assert factor_table(read_factors(tmp_path / "f.csv")).sizes == [2, 2]


def test_numbers_separated_by_spaces_are_codes(tmp_path):
    np.savetxt(tmp_path / "c.txt", GRID * 0.5)
    np.testing.assert_array_equal(read_codes(tmp_path / "c.txt"), GRID * 0.5)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**70])
def test_integers_that_float64_cannot_tell_apart_are_no_codes(tmp_path, number):
    (tmp_path / "c.csv").write_text(f"1,{number}\n2,{number + 1}\n")
    with pytest.raises(DataError, match=facts(tmp_path / "c.csv", "'latent 1'", "2**53")):
        read_codes(tmp_path / "c.csv")


def test_signed_and_unsigned_integers_keep_their_values(tmp_path):
    large = [1, 2**63, 2**63 + 1]
    assert factor_table({"a": [0, 0, 0, 1, 1, 1], "b": np.array(large * 2, dtype=object)}).sizes == [2, 3]
    (tmp_path / "f.csv").write_text("b\n" + "\n".join(map(str, large)) + "\n")
    assert read_factors(tmp_path / "f.csv")["b"].tolist() == large


@pytest.mark.parametrize("kind", ["string", "boolean", "Int64"])
def test_an_empty_cell_of_pandas_is_named(kind):
    pandas = pytest.importorskip("pandas")
    values = {"string": ["x", pandas.NA], "boolean": [True, pandas.NA], "Int64": [1, pandas.NA]}[kind]
    with pytest.raises(DataError, match=facts("'a'", "value", "row 1")):
        factor_table(pandas.DataFrame({"a": pandas.array(values, dtype=kind), "b": [1, 2]}))


def test_words_have_no_bins():
    with pytest.raises(DataError, match=facts("words", "'red'", "bins")):
        factor_table({"a": ["red", "blue", "red"], "x": [0.1, 0.5, 0.7]}, bins=[20, 20])


def test_integers_of_any_length_keep_their_values():
    large = [2**70, 2**70 + 1, 2**70 + 1, 2**70]
    table = factor_table({"a": [0, 0, 1, 1], "b": np.array(large, dtype=object)})
    assert table.indices[:, 1].tolist() == [0, 1, 1, 0]


def test_a_table_of_another_separator_is_refused_with_its_header(tmp_path):
    (tmp_path / "f.csv").write_text("color|size\nred|1\nblue|2\n")
    with pytest.raises(DataError, match=facts("'color|size'", "every row")):
        factor_table(read_factors(tmp_path / "f.csv"))


class Evil:
    """An object whose unpickling leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nowhere.npy", None, ["no file"]),
        ("f.csv", "a,b\n1,2\n3\n", ["row 3", "1", "first row", "2"]),
        ("f.csv", "a,b\n1,2\n,3\n", ["row 3", "no value", "'a'"]),
        ("f.csv", "a,a\n1,2\n", ["'a, a'", "name"]),
        ("f.csv", "a,b\n1,NA\n", ["row 2", "no value", "'b'", "'NA'"]),
        ("f.csv", "1,2\n3,4\n", ["'1, 2'", "name the factors"]),
        ("f.csv", "", ["no rows"]),
        ("f.npy", "not an array", ["cannot read"]),
    ],
)
def test_a_file_that_holds_no_factors_is_named(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=facts(tmp_path / name, *said)):
        read_factors(tmp_path / name)


def test_nothing_is_ever_unpickled(tmp_path):
    trap = tmp_path / "unpickled"
    np.save(tmp_path / "evil.npy", np.array([Evil(trap)], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=facts(tmp_path / "evil.npy", "Python objects")):
        read_codes(tmp_path / "evil.npy")
    assert not trap.exists()
    np.load(tmp_path / "evil.npy", allow_pickle=True).item().close()  # which springs it
    assert trap.exists()
