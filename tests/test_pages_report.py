"""Pages of figures: what a command prints becomes tables, what it draws is inside."""

import pytest

from dimofs.pages.report import recorded, tables
from dimofs.picture import png
from tests.support.browser import Page
from tests.support.clips import picture

PRINTED = """\
JHMDB, 3 clips & <b>all</b>
            Head   Mean
mAP         71.5    9.0
AP prec        -   10.0

note: one  two"""


def test_columns_are_those_that_stand_above_one_another():
    lines = ["name       ms   peer    note", "a b     1.50           a note", "c      10.00   12.1"]
    assert tables(lines) == [
        [["name", "ms", "peer", "note"], ["a b", "1.50", "", "a note"], ["c", "10.00", "12.1", ""]]
    ]


def test_a_row_without_numbers_begins_another_table():
    lines = ["mAP    Head   Mean", "a       1.0    2.0", "MOTA   Head   Mean", "a      -3.0    4.0"]
    first, second = tables(lines)
    assert first[1] == ["a", "1.0", "2.0"] and second == [["MOTA", "Head", "Mean"], ["a", "-3.0", "4.0"]]


def test_names_with_a_number_each_are_a_table_without_head(tmp_path):
    with recorded(tmp_path / "x.html", "x"):
        print("sectors over the floor\na kernel, planar      1.50\nanother               12.00\n")
    text = (tmp_path / "x.html").read_text()
    assert "<p>sectors over the floor</p>" in text and "<tr><td>another</td><td>12.00</td></tr>" in text
    assert "<thead></thead>" in text


def test_what_is_printed_and_drawn_is_in_the_page(tmp_path, capsys):
    path = tmp_path / "report.html"
    with recorded(path, "A <title>") as report:
        print(PRINTED)
        drawn, kept = report.picture(None, "a plot"), report.picture(tmp_path / "kept.png", "kept & shown")
        assert drawn is not None and kept is not None and kept == tmp_path / "kept.png"
        drawn.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        kept.write_bytes(png(picture(0)))
        assert report.picture(tmp_path / "x.pdf", "a pdf, which pages cannot show") == tmp_path / "x.pdf"
    assert capsys.readouterr().out == PRINTED + "\n"
    text = path.read_text()
    assert "<th></th><th>Head</th><th>Mean</th>" in text and "<td>AP prec</td><td>-</td><td>10.0</td>" in text
    assert "<p>JHMDB, 3 clips &amp; &lt;b&gt;all&lt;/b&gt;</p>" in text and "<title>A &lt;title&gt;</title>" in text
    assert text.count("<img") == 2 and "data:image/svg+xml;base64,PHN2" in text and "http://" not in text
    assert not drawn.exists()


def test_no_page_is_made_unless_it_is_asked_for_and_all_went_well(tmp_path):
    with recorded(None, "x") as report:
        assert report.picture(None, "x") is None and report.picture(tmp_path / "x.png", "x") == tmp_path / "x.png"
    with pytest.raises(RuntimeError), recorded(tmp_path / "x.html", "x"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_click_on_a_column_sorts_by_it(driver, tmp_path):
    with recorded(tmp_path / "x.html", "x"):
        print("name   score   switches", "a        1.5         20", "b          -          3", sep="\n")
        print("c       10.0        100")
    view = Page(driver, tmp_path / "x.html")
    script = "return [...document.querySelectorAll('td:first-child')].map((cell) => cell.textContent).join('')"
    assert view.run(script) == "abc"
    for column, order in ((3, "cab"), (3, "bac"), (1, "abc")):
        view.find(f"th:nth-child({column})").click()
        assert view.run(script) == order
    assert view.complaints() == []
