import pytest

from jaxft.data import files
from jaxft.errors import BadInput


@pytest.fixture
def write(tmp_path):
    def _write(name, content):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return _write


def test_tsv_is_split_at_tabs_and_nothing_else(write):
    content = "a\tb\n\"open\tit's\u2028one line\x0b\r\n  x \ty\n"
    table = files.read(write("t.tsv", content))
    assert table.columns == {"a": ['"open', "  x "], "b": ["it's\u2028one line\x0b", "y"]}
    assert table.places == [2, 3]
    assert table.where(1).endswith("t.tsv, line 3")


def test_tsv_without_a_header(write):
    table = files.read(write("t.tsv", "1\tx\n0\ty\n\n"), header=("n", "s"))
    assert table.columns == {"n": ["1", "0"], "s": ["x", "y"]}
    assert table.places == [1, 2]


@pytest.mark.parametrize("name", ["t.tsv", "t.csv", "t.jsonl"])
def test_a_byte_order_mark_is_accepted(write, name):
    content = {"t.tsv": "a\n1\n", "t.csv": "a\n1\n", "t.jsonl": '{"a": "1"}\n'}[name]
    assert files.read(write(name, b"\xef\xbb\xbf" + content.encode())).columns == {"a": ["1"]}


def test_csv_is_quoted_and_counts_lines_where_a_row_begins(write):
    table = files.read(write("t.csv", 'a,b\r\n"one, ""two""\nthree",4\r\n\r\nlast,5\r\n'))
    assert table.columns == {"a": ['one, "two"\nthree', "last"], "b": ["4", "5"]}
    assert table.places == [2, 5]


def test_jsonl_keeps_values_and_missing_keys_are_none(write):
    table = files.read(write("t.jsonl", '{"a": 1, "b": "x"}\n\n{"a": true, "c": null}\n'))
    assert table.columns == {"a": [1, True], "b": ["x", None], "c": [None, None]}
    assert table.places == [1, 3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", "", "t.tsv: the file is empty"),
        ("t.csv", "\n \n", "t.csv: the file is empty"),
        ("t.jsonl", b"\xef\xbb\xbf", "t.jsonl: the file is empty"),
        ("t.tsv", "a\tb\n", "t.tsv: a header and no rows"),
        ("t.csv", "a,b\n", "t.csv: a header and no rows"),
        ("t.tsv", "a\tb\n1\t2\n3\n", "t.tsv, line 3: 1 columns; 2 are expected: a, b"),
        ("t.tsv", "a\tb\n1\t2\t3\n", "t.tsv, line 2: 3 columns; 2 are expected: a, b"),
        ("t.tsv", "a\tb\n\n1\t2\n", "t.tsv, line 2: 1 columns; 2 are expected: a, b"),
        ("t.csv", 'a,b\n"x\ny",2\n3\n', "t.csv, line 4: 1 columns; 2 are expected: a, b"),
        ("t.csv", 'a,b\n1,2\n"open,2\n3,4\n', "t.csv, line 3: broken CSV"),
        ("t.tsv", "a\tb\ta\n1\t2\t3\n", "t.tsv: the column 'a' appears twice in the header"),
        ("t.tsv", b"a\tb\n1\t2\n\xff\t2\n", "t.tsv, line 3: not valid UTF-8 (byte 0xff)"),
        ("t.tsv", b"\xef\xbb\xbfa\n\xe9\n", "t.tsv, line 2: not valid UTF-8 (byte 0xe9)"),
        ("t.tsv", "a\tb\n1\t2\n".encode("utf-16"), "t.tsv, line 1: not valid UTF-8 (byte 0xff)"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "t.jsonl, line 2: broken JSON"),
        ("t.jsonl", '{"a": 1}\n[1]\n', "t.jsonl, line 2: a JSON object is expected, found list"),
        ("t.jsonl", "[" * 100_000, "t.jsonl, line 1: broken JSON"),
        ("t.xlsx", "a", "t.xlsx: the file's name ends in none of .tsv, .csv, .jsonl"),
    ],
)
def test_what_is_no_table_names_the_line(write, name, content, message):
    with pytest.raises(BadInput) as error:
        files.read(write(name, content))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_is_not_a_file(tmp_path):
    (tmp_path / "t.tsv").mkdir()
    with pytest.raises(BadInput, match=r"t.tsv: cannot be read \(Is a directory\)"):
        files.read(tmp_path / "t.tsv")


def test_an_absent_column_names_those_present(write):
    table = files.read(write("t.tsv", "a\tb\n1\t2\n"))
    assert table.column("b") == ["2"]
    with pytest.raises(BadInput, match="no column 'c'; the columns are a, b"):
        table.column("c")
