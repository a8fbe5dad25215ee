"""Reports without a browser: what stands in them is what the JSON says, escaped, in order, and the same every time."""

import json
import re
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from made_scores import SYSTEMS, comparison_section, trust_sections, write_made_scores

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.reports import numerals
from mentallama_jax.evaluation.reports.canvas import tick_words, ticks
from mentallama_jax.evaluation.reports.latex import latex_escape
from mentallama_jax.evaluation.reports.masking import masked
from mentallama_jax.evaluation.reports.numerals import NONE, decimal, percent, percent_range, points, points_range
from mentallama_jax.evaluation.reports.plain_section import plain_blocks
from mentallama_jax.evaluation.reports.published import published_tables
from mentallama_jax.files import write_json, write_jsonl
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.make_report import make_report

VOID = {"meta", "line", "rect", "circle", "polygon", "polyline", "br", "link", "img", "input"}
HOSTILE = "<script>alert(1)</script>{{ 7*7 }}\\input{x}$a_b%&#~^|`[x](http://e.example)\x1b[31m\u202e"


class Page(HTMLParser):
    """What a page is made of; refuses tags that do not fit together."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[int, str]] = []
        self.tables: list[list[list[str]]] = []
        self.captions: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch(r"h\d", tag):
            self.headings.append((int(tag[1]), ""))
        if tag == "table":
            self.tables.append([])
        if tag == "caption":
            self.captions.append("")
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if any(tag in self.open for tag in ("th", "td")):
            self.tables[-1][-1][-1] += data
        if "caption" in self.open:
            self.captions[-1] += data
        if self.open and re.fullmatch(r"h\d", self.open[-1]):
            self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data)

    def table(self, caption: str) -> list[list[str]]:
        return self.tables[self.captions.index(caption)]


def test_no_minus_stands_before_a_zero() -> None:
    assert (points(-0.0001), points(0.0), points_range((-0.0004, 0.0004))) == ("+0.0", "+0.0", "+0.0 to +0.0")
    assert (decimal(-0.001), decimal(-0.006)) == ("0.00", "\u22120.01")
    signed = re.compile(r":\+[.,\d]*f\}")  # a format with a sign, but without `z`
    for path in Path(numerals.__file__).parents[2].rglob("*.py"):
        assert signed.findall(path.read_text("utf-8")) == [], path


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    return write_made_scores(tmp_path_factory.mktemp("scores"))


@pytest.fixture(scope="module")
def side(folders) -> Path:
    """A report of three systems."""
    made = make_report(folders, folders[0].parent / "side")
    assert [path.name for path in made.paths] == ["report.html", "report.md", "tables.tex"]
    return folders[0].parent / "side"


@pytest.fixture(scope="module")
def page(side) -> Page:
    return Page((side / "report.html").read_text("utf-8"))


def scores_of(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text("utf-8"))


def test_the_page_needs_nothing_from_elsewhere_and_no_script(side, page):
    assert {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "embed", "base"} == set()
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name in ("src", "srcset", "action") for name in attributes)
        address = attributes.get("href")
        assert address is None or address.startswith("#") or (tag == "a" and address == "https://findahelpline.com")
    assert not re.search(r"url\(|@import", (side / "report.html").read_text("utf-8"))


def test_headings_are_in_order_and_names_of_places_are_used_once(page):
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a" and attributes["href"][0] == "#"}
    assert links <= set(ids)


def test_cells_are_headed_and_pictures_have_words(page):
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    assert len(page.captions) == len(set(page.captions)) == len(page.tables)
    assert all(len({len(row) for row in table}) == 1 for table in page.tables)
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 3 + (8 + 6 + 2) * len(SYSTEMS)  # forests, and a matrix of each data set or aspect
    assert all(each["role"] == "img" and each["aria-labelledby"] for each in pictures)


def test_every_figure_of_correctness_is_that_of_the_json(folders, page):
    rows = {(row[0], row[1]): row for row in page.table("Correctness")}
    for folder in folders:
        scores = scores_of(folder)
        for name, of in [*scores["datasets"].items(), ("pooled", scores["pooled"])]:
            expected = [f"{of['n']:,}", f"{of['posts']:,}"]
            for metric in ("accuracy", "weighted_f1", "macro_f1"):
                mark = "*" if of["warning"] else ""
                expected += [percent(of[metric]), percent_range(of[f"{metric}_interval"], mark)]
            assert rows[name, folder.name][2:] == [*expected, percent(of["majority_weighted_f1"]), str(of["unparsed"])]
        mean = scores["mean_over_datasets"]["weighted_f1"]
        assert percent(mean) in rows["mean", folder.name]
        for name, of in scores["datasets"].items():
            found = {
                tuple(row[2:5]): row[5] for row in page.table("Commonest confusions") if row[:2] == [name, folder.name]
            }
            for (aspect, gold, label), rows_of in found.items():
                confusion = (of["confusion_per_aspect"] or {NONE: of["confusion"]})[aspect]
                assert int(rows_of) == confusion[gold][label]


def test_confusion_matrices_hold_every_count(folders):
    alone = make_report(folders[:1]).paths[0].read_text("utf-8")
    for name, of in scores_of(folders[0])["datasets"].items():
        matrices = of["confusion_per_aspect"] or {"": of["confusion"]}
        titles = {f"{name}, {aspect}" if aspect else name: confusion for aspect, confusion in matrices.items()}
        assert (f"{name}: {of['n']} rows" in alone) is (len(matrices) == 1)  # aspects are not pooled
        for title, confusion in titles.items():
            rows = sum(sum(row.values()) for row in confusion.values())
            drawn = next(svg for svg in re.findall(r"<svg.*?</svg>", alone) if f"{title}: {rows} rows" in svg)
            cells = [count for row in confusion.values() if sum(row.values()) for count in row.values()]
            assert re.findall(r">(\d+)</text>", drawn) == [str(cell) for cell in cells]


def test_published_figures_stand_beside_and_are_those_of_the_file(page):
    table = page.table("Weighted F1 beside published figures, held-out tasks")
    assert table[0] == ["system", "CAMS", "dreaddit", "IRF", "T-SID"]
    assert ["MentaLLaMA-chat-13B", "36.29", "74.54", "67.87", "75.87"] in table
    assert {name for each in published_tables() for of in each.models.values() for name in of} == set(TASKS)
    assert all(0 < f1 < 100 for each in published_tables() for of in each.models.values() for f1 in of.values())


def test_equal_scores_give_equal_bytes_wherever_they_lie(folders, tmp_path):
    first = [path.read_bytes() for path in make_report(folders[1:2]).paths]
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "scores.json").write_bytes((folders[1] / "scores.json").read_bytes())
    assert [path.read_bytes() for path in make_report([other]).paths] == first
    assert [path.read_bytes() for path in make_report([other], tmp_path / "out").paths] == first


def test_ten_data_sets_and_three_systems_are_small_and_quick(folders, tmp_path):
    start = time.process_time()
    made = make_report(folders, tmp_path)
    assert time.process_time() - start < 20
    assert sum(path.stat().st_size for path in made.paths) < 3_000_000


def test_hostile_text_is_shown_as_it_is(folders, tmp_path):
    scores = scores_of(folders[0])
    scores["datasets"] = {HOSTILE: scores["datasets"]["DR"]}
    scores["signature"]["generation"] = {HOSTILE: HOSTILE}
    scores["notes of a stranger"] = {HOSTILE: {"figure": 1, "other": HOSTILE}}
    write_json(tmp_path / "scores.json", scores)
    html, markdown, latex = (path.read_text("utf-8") for path in make_report([tmp_path]).paths)
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert shown in {row[0] for row in page.table("Correctness")}
    assert "{{ 7*7 }}" in html
    for text in (html, markdown, latex):
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", text)
    assert "<script>" not in markdown.replace("\\<", "")
    assert "](http" not in markdown.replace("\\]", "")
    assert "\\input{" not in latex
    assert "\\textless{}script\\textgreater{}" in latex


def test_tables_for_a_paper_are_whole(side):
    latex = (side / "tables.tex").read_text("utf-8")
    floats = re.findall(r"\\begin\{table\}.*?\\end\{table\}", latex, re.DOTALL)
    labels = re.findall(r"\\label\{(.*?)\}", latex)
    assert len(floats) == len(labels) == len(set(labels)) > 5
    for each in floats:
        form = re.search(r"\\begin\{tabular\}\{([lr]+)\}", each)
        body = each.partition("\\midrule")[2].partition("\\bottomrule")[0].strip().splitlines()
        assert body
        for line in body:
            assert line.endswith(r"\\")
            assert len(re.findall(r"(?<!\\)&", line)) == len(form[1]) - 1
    assert latex_escape("50 % & a_b − 1 – 2") == r"50 \% \& a\_b $-$ 1 -- 2"


def test_markdown_tables_are_whole(side):
    markdown = (side / "report.md").read_text("utf-8")
    blocks = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(blocks) > 5
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_an_unknown_section_is_shown_with_every_figure():
    value = {
        "datasets": {"DR": {"a": {"value": 0.125, "interval": [0.1, 0.25]}, "deep": {"b": [{"c": 3, "d": None}]}}},
        "alone": 17,
        "listed": [1, 2, 3],
        "told": "a long line that says what was done with what, and how, and on which of the rows",
    }
    blocks = plain_blocks("Section", {"one": value})
    said = repr(blocks)
    for figure in ("0.125", "0.1 to 0.25", "3", "17", "1, 2, 3", "a long line", "DR"):
        assert figure in said
    assert "'one'" not in said
    assert repr(plain_blocks("Section", {"one": value, "two": value})).count("'two'") >= 2


def test_folders_of_one_name_are_told_by_more_of_their_paths(folders, tmp_path):
    twins = [tmp_path / "a" / "scores", tmp_path / "b" / "scores"]
    for twin in twins:
        twin.mkdir(parents=True)
        (twin / "scores.json").write_bytes((folders[0] / "scores.json").read_bytes())
    page = Page(make_report(twins, tmp_path / "out").paths[0].read_text("utf-8"))
    assert [row[0] for row in page.table("All rows together")[1:]] == ["a/scores", "b/scores"]
    with pytest.raises(UserError, match="given twice"):
        make_report([twins[0], twins[0]], tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1]", "expected a JSON object"),
        (b"{", "not valid JSON"),
        (b'{"datasets": 3, "signature": {}}', "not the scores that `mentallama evaluate` writes"),
        (b'{"datasets": {"DR": {}}, "signature": {}}', "not valid scores"),
        (b'{"datasets": {"DR": 3}, "pooled": {}, "signature": {}}', "not valid scores"),
    ],
)
def test_what_is_no_scores_is_refused_in_one_line(tmp_path, content, reason):
    (tmp_path / "scores.json").write_bytes(content)
    with pytest.raises(UserError, match=reason) as refused:
        make_report([tmp_path])
    assert str(tmp_path) in str(refused.value)
    with pytest.raises(UserError, match="say with --out"):
        make_report([tmp_path, tmp_path])
    (tmp_path / "scores.json").unlink()
    with pytest.raises(UserError, match=r"no scores.json and no metrics.jsonl"):
        make_report([tmp_path])


def test_training_runs_side_by_side(tmp_path):
    for name, loss in (("one", 2.0), ("two", 3.0)):
        lines = [
            {"kind": "train", "step": step, "epoch": 1, "loss": loss / step, "learning_rate": 1e-5, "grad_norm": 1.5,
             "pad_share": 0.25, "tokens_per_second": 100.0 + step}
            for step in range(1, 900)
        ]  # fmt: skip
        lines += [{"kind": "validation", "step": 899, "validation_loss": 0.5, "label_f1": 0.625}]
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "metrics.jsonl", lines)
    html = make_report([tmp_path / "one", tmp_path / "two"], tmp_path / "out").paths[0].read_text("utf-8")
    page = Page(html)
    assert page.table("Training runs")[2] == ["two", "899", "1", "3.000", "0.003", "1.50", "550", "25.0"]
    assert ["one", "Label F1 on validation", "0.6250", "899", "0.6250"] in page.table("Validation")
    for title in (
        "Training loss",
        "Learning rate",
        "Gradient norm",
        "Tokens a second",
        "Padding",
        "Label F1 on validation",
    ):
        assert f"<figcaption>{title}</figcaption>" in html
    assert len(html) < 120_000
    (tmp_path / "one" / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="no update is logged yet"):
        make_report([tmp_path / "one"])


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("see https://a.example/x?y=1 now", "see [link] now"),
        ("write to jo.doe+x@mail.example.org", "write to [e-mail]"),
        ("ask @jo_doe or u/jo-doe in r/lonely", "ask [handle] or [handle] in [forum]"),
        ("call 020 7946 0018 or +44 20 7946 0018", "call [phone] or [phone]"),
        ("on 2020-05-03, 3/5/2020, May 3rd, 2020 and 3 May", "on [date], [date], [date] and [date]"),
        ("I'm 17 and she's 19f, 23 years old (24M)", "I'm [age] and she's [age], [age] [age]"),
        ("Hi Anna, my name is Jo Doe.", "Hi [name], my name is [name]."),
        ("I am 50 % sure; hi there; 3 of 4 posts, 988", "I am 50 % sure; hi there; 3 of 4 posts, 988"),
    ],
)
def test_what_says_who_wrote_it_is_masked(text, hidden):
    assert masked(text) == hidden
    assert masked(hidden) == hidden


def test_ticks_are_round_and_inside():
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert tick_words(ticks(-0.13, 0.31)) == ["-0.1", "0.0", "0.1", "0.2", "0.3"]
    for low, high in ((0, 3e-5), (2.3, 2.4), (-7, 1200), (1, 1)):
        found = ticks(low, high)
        assert 1 <= len(found) <= 7
        assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)


@pytest.fixture
def trusted(folders, tmp_path) -> Page:
    """A report of scores with sections on trust and a comparison beside them."""
    write_json(tmp_path / "scores.json", scores_of(folders[0]) | trust_sections())
    write_json(tmp_path / "comparison.json", comparison_section())
    html = make_report([tmp_path]).paths[0].read_text("utf-8")
    assert "another version" not in html
    return Page(html)


def test_recall_of_high_risk_comes_first(trusted):
    assert [text for _, text in trusted.headings][1:3] == ["At a glance", "High-risk classes"]
    assert trusted.captions[0] == "Recall of high-risk classes"
    row = ["DR", "yes", "8", "37.5", "27.5–47.5*", "5", "62.5", "2", "75.0"]
    assert trusted.table("Recall of high-risk classes")[1] == row


def test_figures_of_trust_are_those_of_the_json(trusted):
    table = trusted.table("Calibration")
    assert table[1][:5] == ["DR", "as given", "8", "0.188", "0.062 to 0.312"]
    assert [row[1] for row in table[1:]] == ["as given", "with temperature"]
    assert trusted.table("Conformal sets")[1][:4] == ["DR", "90.0", "0.875", "0.750 to 1.000"]
    assert trusted.table("Temperature")[1] == ["DR", "1.25", "0.75 to 2.00", "40"]
    assert trusted.table("Faults of outputs")[1] == ["DR", "empty", "1", "8", "12.5", "2.5–22.5*"]
    row = ["DR", "rouge1", "response", "8", "37.5", "25.0–50.0", "%", "–"]
    assert trusted.table("Metrics of explanations")[1] == row


def test_differences_of_systems_are_those_of_the_json(trusted):
    assert trusted.table("Standings")[1] == ["weighted F1", "DR", "50.0", "75.0", "tuned"]
    row = [
        "weighted F1",
        "DR",
        "base less tuned",
        "8",
        "−25.0",
        "−43.8 to −6.2",
        "0.0312",
        "0.0625",
        "31.2",
        "12",
        "mcnemar",
    ]
    assert trusted.table("Differences")[1] == row


def test_a_section_of_another_version_is_shown_as_it_stands(folders, tmp_path):
    scores = scores_of(folders[0]) | {"calibration": {"datasets": {"DR": {"as_given": {"ece": 0.625}}}}}
    write_json(tmp_path / "scores.json", scores)
    html = make_report([tmp_path]).paths[0].read_text("utf-8")
    assert "another version" in html
    assert any("0.625" in cell for table in Page(html).tables for row in table for cell in row)
