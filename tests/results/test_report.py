import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxrl import results
from jaxrl.errors import UserError
from jaxrl.results import plot, report
from jaxrl.results.store import write_chunk


class Page(HTMLParser):
    """Tables as lists of rows, images and everything that would reach the network."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.images, self.outward, self.words, self.open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag == "img":
            self.images.append(attributes["src"])
        self.outward += [value for name, value in attributes.items()
                         if name in ("src", "href") and not value.startswith(("#", "data:"))]  # fmt: skip
        assert tag not in ("script", "link", "iframe", "b")

    def handle_data(self, data):
        self.words.append(data)
        if self.open[-1:] == ["td"] or self.open[-1:] == ["th"]:
            self.tables[-1][-1].append(data)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass


def test_the_report_holds_every_cell_figure_and_diverged_lane(sweep, tmp_path):
    path = results.write_report(sweep, out=tmp_path / "report.html")
    text = path.read_text()
    page = Page(text)
    cells = results.table.readable(results.summary(results.lanes(sweep)))
    assert page.tables[0] == [list(cells), *cells.to_numpy().tolist()]
    assert len(page.images) == len(report.figures(results.curves(sweep))) == 6
    for image in page.images:
        assert base64.b64decode(image.removeprefix("data:image/png;base64,"))[:8] == b"\x89PNG\r\n\x1a\n"
    assert page.tables[1][1] == [results.curves(sweep).attrs["diverged"], "count", "1", "3", "17"]
    programs = page.tables[2]
    assert programs[0][:5] == ["bonus", "chunks", "lanes", "compile_seconds", "run_seconds"]
    assert [row[:5] for row in programs[1:]] == [[b, "1", "12", "8.1", "31.5"] for b in ("none", "count", "rnd", "e3b")]
    assert ["env", "DeepSea-bsuite"] in page.tables[3] and len(page.tables[4]) == 5
    assert "Which of the bonuses none, count, rnd, e3b helps on DeepSea-bsuite" in page.words[0] + page.words[2]


def test_the_report_opens_offline_and_tells_no_secret(sweep, tmp_path):
    text = results.write_report(sweep, out=tmp_path / "new" / "report.html").read_text()
    assert Page(text).outward == []
    assert not re.findall(r"https?:|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    assert "hunter2" not in text and "prefers-color-scheme: dark" in text


def test_everything_a_user_can_name_is_escaped(tmp_path, chunk):
    evil = "<script>alert('x')</script>"
    write_chunk(tmp_path, chunk(program={"env": evil, evil: evil}, environment={evil: evil}, packing={evil: 1}))
    write_chunk(tmp_path, chunk(program={"env": evil, evil: "<b>"}, environment={evil: evil}))
    text = results.write_report(tmp_path, out=tmp_path / "report.html").read_text()
    Page(text)  # asserts that no such tag opens
    assert evil not in text and "&lt;script&gt;" in text


def test_the_report_counts_only_what_it_read(tmp_path, chunk):
    write_chunk(tmp_path, chunk(code="old"))
    path = write_chunk(tmp_path, chunk(code="new"))
    unfinished = write_chunk(tmp_path, chunk(code="new", seeds=[9]))
    (unfinished / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="leaving out 3 lanes of old"):
        page = Page(results.write_report(tmp_path, out=tmp_path / "report.html").read_text())
    assert [row[0] for row in page.tables[-1]] == ["chunk", path.name]
    assert "1 unfinished chunks were ignored" in " ".join(page.words)


def test_a_sweep_without_evaluation_or_bonus_still_reports(tmp_path, chunk):
    for size in (8, 16):
        made = chunk(program={"env_args": {"size": size}})
        write_chunk(tmp_path, made._replace(curves={"return": made.curves["return"]}))
    page = Page(results.write_report(tmp_path, out=tmp_path / "report.html").read_text())
    assert len(page.images) == 1 and page.tables[0][1][:3] == ["8", "3", "-"]
    assert any("What does env_args.size do on DeepSea-bsuite" in words for words in page.words)


def test_out_is_an_html_file(sweep, tmp_path):
    with pytest.raises(UserError, match=r"name ends in \.html"):
        results.write_report(sweep, out=tmp_path / "report")


@pytest.mark.parametrize("place", ["/proc/nothing/report.html", "file/report.html", "folder.html"])
def test_where_the_page_cannot_be_written_is_a_sentence(sweep, tmp_path, monkeypatch, place):
    here = tmp_path / "here"
    (here / "folder.html").mkdir(parents=True)
    monkeypatch.chdir(here)
    (here / "file").write_text("x")
    with pytest.raises(UserError, match="out = .* cannot be written: "):
        results.write_report(sweep, out=place)
    assert sorted(path.name for path in here.iterdir()) == ["file", "folder.html"]


def test_a_dollar_sign_is_no_formula_in_any_figure(tmp_path, chunk):
    formula = "$x^{$"
    for word in (formula, f"{formula} {formula}", "\\" + formula):
        for number in (1.0, 2.0):
            program, values = {"env": formula, "env_args": {"word": word}}, {formula: number}
            write_chunk(tmp_path / "grid", chunk(program=program, values=values))
    dataset = results.curves(tmp_path / "grid")
    made = report.figures(dataset)
    made["word"] = plot.learning_curves(dataset, "return", hue="env_args.word")
    made["formula"] = plot.learning_curves(dataset, "return", hue=formula)
    made["map"] = plot.coefficient_heatmap(dataset, x=formula, y="env_args.word")
    made["visits"] = plot.visitation(np.ones(4), title=formula)
    for number in range(12):  # far from a grid, so drawn as points
        program, values = {"env": formula, "env_args": {"word": f"{formula} {number}"}}, {formula: float(number)}
        write_chunk(tmp_path / "points", chunk(program=program, values=values))
    points = results.curves(tmp_path / "points")
    assert points.sizes["point"] == 12
    made["points"] = report.figures(points)["eval_return"]
    for figure in made.values():
        figure.savefig(io.BytesIO(), format="png", dpi=40)
