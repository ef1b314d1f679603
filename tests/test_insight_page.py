"""The page and the figure of a report: their content, and the page in a browser."""

import dataclasses
import json
import math
import re
import sys
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import browser
import jaxinit
from jaxinit.insight import statistics
from jaxinit.insight.charts import histogram
from jaxinit.insight.report import Growth, Parameter, Report, Row, Verdict

HOSTILE = "b/<script>window.broken = 1</script>&amp;\"'/w"
BINS = (*[0] * 8, *range(1, 9), *range(9, 1, -1), *[0] * 8)
FAULT = Verdict("forward", True, "The signal grows by 3 a layer & more.")
NOTE = Verdict("alike", False, f"Rows become alike after {HOSTILE}.")


def place(path, depth, std, grad=1.0, **fields):
    fields = {"kind": "dot", "fan_in": 8, "histogram": BINS} | fields
    return Row(path=path, depth=depth, out_std=std, grad_std=grad, **fields)


PARAMETER = Parameter(
    path="w",
    shape=(2, 3),
    rms=1.0,
    grad_std=2.0,
    grad_rms=2.0,
    sgd_step=2.0,
    adam_step=math.inf,
    is_used=True,
)


GROWTH = {
    "rate": 3.0,
    "error": 0.1,
    "layers": 4,
    "first": 1.0,
    "last": 27.0,
    "of": "product",
}


def make(rows, *verdicts):
    growth = Growth(**GROWTH)
    return Report(
        rows=tuple(rows),
        parameters=(PARAMETER,),
        forward=growth,
        backward=None,
        output_variance=2.0,
        output_rms=1.5,
        jacobian=None,
        loss=0.5,
        verdicts=verdicts,
    )


ROWS = (
    place("table", 0, 0.3, kind="lookup", fan_in=None),
    place("first", 1, 1.0, 0.02, out_mean=0.25, activation="relu"),
    place(HOSTILE, 2, 2.0, 0.1),
    place("twin", 2, 8.0, 0.4),
    place("last", 4, 27.0, 2.0, layer=3),
    Row(path="attention", kind="softmax", depth=4, entropy=0.75),
    Row(path="sum", kind="residual", depth=4, branch=0.5),
)
REPORT = make(ROWS, FAULT, NOTE)


class Element:
    """An element of a document, with its text and its children."""

    def __init__(self, name, attributes, parent):
        self.name, self.attributes, self.parent = name, attributes, parent
        self.children, self.own = [], []

    @property
    def text(self):
        return "".join(x if isinstance(x, str) else x.text for x in self.own)

    def walk(self):
        for child in self.children:
            yield child
            yield from child.walk()

    def all(self, name, kind=None):
        return [
            x
            for x in self.walk()
            if x.name == name and kind in (None, x.attributes.get("class"))
        ]

    def numbers(self, *names):
        return tuple(float(self.attributes[name]) for name in names)


class Reader(HTMLParser):
    """Builds the tree; a tag that does not match fails."""

    VOID = "meta", "link", "input", "wbr"

    def __init__(self, text):
        super().__init__()
        self.at = self.root = Element("", {}, None)
        self.feed(text)
        self.close()
        assert self.at is self.root

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        new = Element(tag, dict(attrs), self.at)
        self.at.children.append(new)
        self.at.own.append(new)
        if tag not in self.VOID:
            self.at = new

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.at.name == tag
        self.at = self.at.parent

    def handle_data(self, data):
        self.at.own.append(data)


def read(report, tmp_path, title="Probe"):
    path = tmp_path / "report.html"
    report.save(path, title=title)
    return Reader(path.read_text("utf-8")).root


@pytest.fixture
def page(tmp_path):
    """Saves reports and reads the tree of their pages."""
    return lambda report=REPORT, **options: read(report, tmp_path, **options)


def figures(root):
    """Each figure by its title."""
    return {x.all("b")[0].text: x for x in root.all("figure")}


def scale(values, positions):
    """The affine map from pixels to values that the labels of an axis tell."""
    slope, offset = np.polyfit(positions, values, 1)
    back = slope * np.array(positions) + offset
    assert np.abs(back - values).max() < 0.02 * (1 + abs(slope))
    return lambda position: slope * position + offset


def axes(figure, is_log=True):
    """Functions from pixels to depth and value."""
    labels = [x for x in figure.all("text") if x.text != "depth"]
    ticks = [x for x in labels if x.attributes.get("class") == "value"]
    values = [math.log10(float(x.text)) if is_log else float(x.text) for x in ticks]
    grid = [
        float(re.match(r"M\d+ ([\d.]+)H", x.attributes["d"])[1])
        for x in figure.all("path", "grid")
    ]
    y = scale(values, grid)
    depths = [x for x in labels if x not in ticks]
    x = scale([int(d.text) for d in depths], [d.numbers("x")[0] for d in depths])
    return x, (lambda p: 10 ** y(p)) if is_log else y


# --- content --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "field"),
    [
        ("Signal", "out_std"),
        ("Gradient", "grad_std"),
        ("Branch over stream", "branch"),
        ("Entropy of attention", "entropy"),
    ],
)
def test_the_marks_of_a_chart_are_the_rows(page, title, field):
    rows = [row for row in ROWS if getattr(row, field) is not None]
    if len(rows) == 1:  # an axis of depths needs two
        rows.append(dataclasses.replace(rows[0], depth=9, **{field: 0.1}))
    figure = figures(page(make(rows)))[title]
    x, y = axes(figure, field != "entropy")
    marks = figure.all("circle")
    assert len(marks) == len(rows)
    for mark, row in zip(marks, rows, strict=True):
        px, py = mark.numbers("cx", "cy")
        assert x(px) == pytest.approx(row.depth, abs=0.05)
        assert y(py) == pytest.approx(getattr(row, field), rel=0.02)
        value = f"{getattr(row, field):.3g}"
        assert mark.text == f"{row.name} {row.kind}: {value}"


def test_the_line_is_the_mean_of_the_layers(page):
    figure = figures(page())["Signal"]
    x, y = axes(figure)
    (line,) = figure.all("polyline")
    points = [
        tuple(map(float, p.split(","))) for p in line.attributes["points"].split()
    ]
    found = [(round(x(px)), y(py)) for px, py in points]
    expected = [(1, 1.0), (2, 4.0), (4, 27.0)]  # 4 is the geometric mean of 2 and 8
    assert [depth for depth, _ in found] == [depth for depth, _ in expected]
    for (_, value), (_, wanted) in zip(found, expected, strict=True):
        assert value == pytest.approx(wanted, rel=0.02)
    assert len(figure.all("circle", "layer")) == 4  # the lookup is no layer
    assert "the line goes through the products" in figure.text.lower()
    sums = [place("s", i, 2.0**i, kind="residual", fan_in=None) for i in (2, 4, 6)]
    figure = figures(page(make([*ROWS[:4], *sums])))["Signal"]
    assert len(figure.all("circle", "layer")) == 3
    assert "the residual sums" in figure.text


@pytest.mark.parametrize(("title", "start"), [("Signal", 1.0), ("Gradient", 2.0)])
def test_the_bands_are_around_the_layer_where_the_signal_starts(page, title, start):
    figure = figures(page())[title]
    _, y = axes(figure)
    outer, inner = figure.all("rect", "band")
    top, height = inner.numbers("y", "height")
    assert y(top) == pytest.approx(10 * start, rel=0.03)
    assert y(top + height) == pytest.approx(start / 10, rel=0.03)
    top, height = outer.numbers("y", "height")
    low, high = (f(y(t) for t in (top, top + height)) for f in (min, max))
    ticks = [float(x.text) for x in figure.all("text", "value")]
    assert low == pytest.approx(max(start / 100, min(ticks)), rel=0.03)
    assert high == pytest.approx(min(start * 100, max(ticks)), rel=0.03)


@pytest.mark.parametrize("finite", [(), (1e-300, 1e300), (5e-324,), (1.7e308,), (1.0,)])
def test_values_outside_an_axis_are_crosses_at_its_ends(page, finite):
    values = [*finite, math.inf, math.nan, 0.0]
    rows = [place(f"w{i}", i, value) for i, value in enumerate(values)]
    root = page(make(rows))
    figure = figures(root)["Signal"]
    assert len(figure.all("circle")) == len(finite)
    high, nan, zero = (
        float(re.match(r"M[\d.]+ ([\d.]+)l", x.attributes["d"])[1])
        for x in figure.all("path", "bad")
    )
    assert high == nan < 30 and zero > 160
    for name in ("cx", "cy"):
        assert all(math.isfinite(x.numbers(name)[0]) for x in figure.all("circle"))
    heads = [x.text for x in root.all("thead")[0].all("th")]
    column = heads.index("out std") - 1
    cells = [row.all("td")[column] for row in root.all("tbody")[0].all("tr")]
    assert [x.text for x in cells] == [f"{x:.3g}" for x in values]
    marked = [x.attributes.get("class") == "bad" for x in cells]
    assert marked == [not math.isfinite(x) for x in values]


def test_a_report_without_places_or_layers_is_a_page(page):
    root = page(make([]))
    assert root.all("figure") == [] and "0 places" in root.text
    assert figures(page(make(ROWS[:1])))["Signal"].all("rect") == []


def test_the_verdicts_are_on_top(page):
    root = page()
    found = [x for x in root.all("p") if "verdict" in x.attributes.get("class", "")]
    assert [x.text for x in found] == [f"fault {FAULT.text}", f"note {NOTE.text}"]
    kinds = [x.attributes["class"] for x in found]
    assert kinds == ["verdict fault", "verdict note"]
    everything = list(root.walk())
    before = everything[: everything.index(found[0])]
    assert {x.name for x in before} <= {
        *("html", "head", "meta", "title", "link", "style", "body", "div", "h1")
    }
    assert "No fault found" in page(make(ROWS)).text
    numbers = [x.text for x in root.all("dd")]
    assert numbers[:2] == ["x 3 +- 0.1 a layer, x 27 over 4", "too shallow for a rate"]


def test_the_table_is_the_rows(page):
    root = page()
    heads = [x.text for x in root.all("thead")[0].all("th")]
    assert heads[:2] == ["place", "kind"] and heads[-1] == "activation"
    assert "in rms" not in heads and "entropy" in heads  # no column without a number
    rows = root.all("tbody")[0].all("tr")
    assert [x.all("th")[0].text for x in rows] == [row.name for row in ROWS]
    assert ROWS[4].name == "last[3]"
    cells = dict(zip(heads, ["", *(x.text for x in rows[1].all("td"))], strict=True))
    assert cells["out mean"] == "0.25" and cells["out std"] == "1"
    assert cells["activation"] == "relu" and cells["entropy"] == ""


def test_texts_of_the_user_are_escaped(page):
    root = page(title=HOSTILE)
    assert root.all("script") == [] and root.all("title")[0].text == HOSTILE
    assert root.all("h1")[0].text == HOSTILE
    row = root.all("tbody")[0].all("tr")[2]
    assert row.attributes["data-words"] == f"{HOSTILE} dot "
    assert f"{HOSTILE} dot" in [x.text for x in root.all("option")]
    assert "/" in HOSTILE and row.all("wbr")  # where a narrow cell may break it


def test_half_a_surrogate_pair_and_control_characters_can_be_saved(page):
    page(make([place("a\ud800\x00\n", 1, 1.0)]))


def test_the_page_loads_no_other_file(page):
    root = page()
    assert root.all("meta")[1].attributes["name"] == "viewport"
    for element in root.walk():
        for name in ("src", "href", "srcset", "data"):
            assert element.attributes.get(name, "data:,") == "data:,"
        assert "id" not in element.attributes  # two reports may be in one notebook
    for style in root.all("style"):
        assert "url(" not in style.text and "@import" not in style.text


def heights(path, bottom):
    """The height of each bar, by the bin that it begins at."""
    found = re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)h([\d.]+)V", path)
    assert {float(base) for _, base, _, _ in found} <= {bottom}
    (width,) = {float(width) for *_, width in found}
    first = 52.0  # where the axis begins
    return {
        round((float(x) - first) / width): bottom - float(top) for x, _, top, _ in found
    }


def test_the_bars_of_a_histogram_are_the_counts(page):
    spike = tuple(100 if i == 16 else 0 for i in range(32))
    rows = [*ROWS, place("spike", 5, 1.0, histogram=spike)]
    figure = figures(page(make(rows)))["Histogram"]
    options = figure.all("option")
    assert [x.text for x in options] == [
        f"{row.name} {row.kind}" for row in rows if row.histogram
    ]
    bars, curve = options[0].attributes["value"].split("|")
    assert figure.all("path", "bars")[0].attributes["d"] == bars
    assert figure.all("path", "curve")[0].attributes["transform"] == curve
    found = heights(bars, 190.0)
    assert set(found) == {i for i, n in enumerate(BINS) if n}
    for i, height in found.items():
        assert height / found[16] == pytest.approx(BINS[i] / BINS[16], abs=0.02)
    bars, curve = options[-1].attributes["value"].split("|")
    assert set(heights(bars, 190.0)) == {16}
    share = 0.0987  # of a normal variable within a quarter standard deviation of 0
    assert float(curve.split()[3]) == pytest.approx(share, abs=0.001)


# --- style ----------------------------------------------------------------------------


def rules():
    """Selectors and bodies of the style."""
    text = REPORT._repr_html_()
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    media = r"@media \(prefers-color-scheme: dark\) \{(.*?)\n\}"
    (dark,) = re.findall(media, style, re.S)
    light = re.sub(media, "", style, flags=re.S)
    return [re.findall(r"([^{}]+)\{([^{}]*)\}", part) for part in (light, dark)]


def test_the_style_changes_only_the_report():
    """A notebook has a style of its own."""
    for selector in (selector for part in rules() for selector, _ in part):
        for one in re.sub(r"\([^)]*\)", "", selector).split(","):
            assert one.strip().startswith(".jaxinit-report"), selector


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast(dark):
    """4.5, as WCAG 2 asks of text."""
    body = rules()[dark][0][1]
    colors = dict(re.findall(r"--(\w+): (#\w{6})", body))
    assert (luminance(colors["ground"]) < 0.1) == dark
    for ground in ("ground", "card"):
        for name in ("text", "quiet", "line", "fault", "note", "ok"):
            pair = sorted(luminance(colors[x]) for x in (name, ground))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (name, ground)


def test_notebooks_show_a_part_of_the_page():
    text = REPORT._repr_html_()
    root = Reader(text).root
    (part,) = root.children
    assert part.name == "div" and FAULT.text in part.text
    assert root.all("html") + root.all("h1") + root.all("script") == []
    assert list(figures(root)) == [
        *("Signal", "Gradient", "Branch over stream"),
        *("Entropy of attention", "Histogram"),
    ]


# --- files ----------------------------------------------------------------------------


def test_save_replaces_a_file_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        REPORT.save(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    REPORT.save(str(path))
    assert path.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(OSError, match="none"):
        REPORT.save(tmp_path / "none" / "report.html")


def test_reports_are_read_as_they_were_written():
    rows = [*ROWS, place("w", 6, math.inf, layer=(1, 2)), place("inf", 7, math.nan)]
    report = make(rows, FAULT)
    again = Report.from_json(report.to_json())
    assert again.to_json() == report.to_json() and again.rows[:-1] == report.rows[:-1]
    assert again.rows[-1].path == "inf" and math.isnan(again.rows[-1].out_std)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["rows"][0].update(out_std="wide"), "Row.out_std is 'wide'"),
        (lambda d: d["rows"][0].update(path=3), "Row.path is 3"),
        (lambda d: d["rows"][0].update(histogram=[1, "2"]), "Row.histogram"),
        (lambda d: d["rows"][0].update(histogram=[]), r"Row.histogram is \(\)"),
        (lambda d: d["rows"][0].update(histogram=[-1] * 32), "Row.histogram"),
        (lambda d: d["rows"][0].update(histogram=[1] * 33), "Row.histogram"),
        (lambda d: d["rows"][0].update(depth=2**31), "Row.depth is 2147483648"),
        (lambda d: d["rows"][0].update(depth=-1), "Row.depth is -1"),
        (lambda d: d.update(forward=GROWTH | {"layers": 0}), "Growth.layers is 0"),
        (lambda d: d["rows"][0].update(more=1), "more"),
        (lambda d: d["rows"][0].pop("path"), "path"),
        (lambda d: d.update(rows=3), "not iterable"),
        (lambda d: d.update(rows=[[1, 2]]), "no Row"),
        (lambda d: d.update(forward=[]), "no Growth"),
        (lambda d: d.update(loss=10**400), "too large"),
        (lambda d: d.update(loss=None), "Report.loss is None"),
        (lambda d: d.pop("verdicts"), "verdicts"),
    ],
)
def test_invalid_reports_are_refused(change, message):
    data = json.loads(REPORT.to_json())
    change(data)
    with pytest.raises(ValueError, match=f"is no report: .*{message}"):
        Report.from_json(json.dumps(data))


def test_a_growth_beyond_a_float_is_infinite():
    data = json.loads(REPORT.to_json())
    data["forward"] = GROWTH | {"rate": 1e200, "layers": 10**9}
    report = Report.from_json(json.dumps(data))
    assert report.forward.total == math.inf
    assert "x inf over 1000000000" in str(report) and "inf" in report._repr_html_()


def test_a_report_prints_no_control_characters_and_no_long_names():
    names = "a\x1b[2J", "b" * 10**5
    rows = [place(name, 1, 1.0, activation="c\x1b[2J") for name in names]
    report = make(rows, Verdict("dead", True, "d\x1b[2J" + "e" * 10**5))
    other = make([place(name, 1, 9.0) for name in names[:1]])
    with pytest.raises(ValueError) as e:
        report.check()
    for text in (str(report), str(report.compare(other)), str(e.value)):
        assert r"\x1b[2J" in text and "\x1b" not in text and len(text) < 5000
    assert report.rows[0].path == names[0]  # the data is as it was


def test_only_text_is_read():
    for text in (None, 3, ["{}"], b"{}"):
        with pytest.raises(TypeError, match=r"from_json\(text=...\) must be a str"):
            Report.from_json(text)


def test_a_text_too_deep_is_refused():
    with pytest.raises(ValueError, match="levels deep"):
        Report.from_json("[" * 100_000)


# --- matplotlib -----------------------------------------------------------------------


def test_plot_draws_the_charts_of_the_page(page):
    pytest.importorskip("matplotlib")
    figure = REPORT.plot("first")
    titles = [x.get_title() for x in figure.axes]
    assert titles[:4] == list(figures(page()))[:4]
    assert titles[4:] == ["Histogram of first"]
    signal = figure.axes[0]
    lines = {x.get_linestyle(): x for x in signal.lines}
    x, y = lines["-"].get_data()
    assert list(x) == [1, 2, 4]
    assert list(y) == pytest.approx([0, math.log10(4), math.log10(27)])
    marks = [
        xy
        for line in signal.lines
        if line.get_marker() == "o"
        for xy in zip(*line.get_data(), strict=True)
    ]
    rows = [row for row in ROWS if row.out_std is not None]
    expected = sorted((row.depth, math.log10(row.out_std)) for row in rows)
    assert np.array(sorted(marks)) == pytest.approx(np.array(expected))
    assert FAULT.text in figure.get_suptitle()
    figure.canvas.draw()  # as a notebook does
    bars, normal = figure.axes[4].patches
    assert bars.get_data().values == pytest.approx(np.array(BINS) / sum(BINS))
    assert sum(normal.get_data().values) == pytest.approx(1)


def test_plot_of_numbers_that_are_not_finite():
    pytest.importorskip("matplotlib")
    values = (math.inf, math.nan, 0.0)
    rows = [place(f"${i}_$w$", i, x) for i, x in enumerate(values)]
    figure = make(rows, FAULT).plot("$0_$w$")
    figure.canvas.draw()
    (line,) = [x for x in figure.axes[0].lines if x.get_marker() == "x"]
    low, high = figure.axes[0].get_ylim()
    assert list(line.get_ydata()) == [high, high, low]
    assert make([]).plot().axes == []


def test_errors_of_plot(monkeypatch):
    with pytest.raises(
        ValueError, match=r"plot\(place=\.\.\.\) .*'none'.* are table, f"
    ):
        REPORT.plot("none")
    with pytest.raises(ValueError, match="has none"):
        make([]).plot("none")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxinit\[plots\]'"):
        REPORT.plot()


# --- histograms of a probe ------------------------------------------------------------


def counts(x):
    x = np.asarray(x, np.float64)
    z = (x - x.mean()) / x.std()
    return tuple(np.histogram(np.clip(z, -4, 4), 32, (-4, 4))[0])


def test_probe_counts_the_results():
    key = jax.random.key(0)
    x = jax.random.normal(key, (12, 8))
    w = jax.random.normal(jax.random.key(1), (3, 8, 8)) ** 3

    def fn(p, x):
        def step(x, w):
            y = x @ w
            return jnp.tanh(y), y

        x, ys = jax.lax.scan(step, x, p["w"])
        return (x * p["zero"], ys)

    params = {"w": w, "zero": jnp.zeros(8)}
    report = jaxinit.probe(fn, params, x, key=key)
    *layers, last = report.rows
    for i, y in enumerate(fn(params, x)[1]):
        assert sum(layers[i].histogram) == y.size
        off = np.abs(np.subtract(layers[i].histogram, counts(y)))
        assert off.sum() <= 2  # an element at the edge of two bins, of 96
    assert last.histogram[16] == x.size == sum(last.histogram)
    steps = jaxinit.probe(
        lambda w, x: jax.lax.scan(lambda h, _: (h @ w, h), x, length=5)[0],
        jnp.eye(8),
        x,
        key=key,
    )
    assert sum(steps.rows[0].histogram) == 5 * x.size
    broken = jaxinit.probe(lambda w, x: x @ w, w[0].at[0, 0].set(jnp.inf), x, key=key)
    assert sum(broken.rows[0].histogram) == x.size - 12
    broken._repr_html_()


def test_a_part_of_a_large_result_is_counted():
    x = np.random.default_rng(0).normal(size=(2, 64, 1024)) * [[[1e200]], [[1e-200]]]
    found = statistics.histogram(x)
    assert found.shape == (2, 32)
    for row in found:
        assert 2**13 < row.sum() <= 2**14
        off = row / row.sum() - histogram(BINS).normal
        assert np.abs(off).max() < 5 * math.sqrt(0.1 / row.sum())
    features = np.arange(64 * 1024).reshape(64, 1024) % 2  # every other one is 1
    assert list(np.flatnonzero(statistics.histogram(features))) == [12, 20]


# --- a browser ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    with browser.started() as running:
        yield running


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1200])
def test_in_a_browser(chromium, tmp_path, width, dark):
    path = tmp_path / "report.html"
    long = "a_module_with_a_name_that_no_line_of_a_phone_holds/" * 3
    rows = [*ROWS, *(place(f"{long}{i}", 5 + i, 1.0) for i in range(40))]
    make(rows, FAULT, NOTE).save(path, title=HOSTILE)
    page = chromium.open(path.as_uri(), width=width, dark=dark)
    assert page.sideways() == 0
    assert page.evaluate("document.title") == HOSTILE
    assert page.evaluate("typeof window.broken") == "undefined"

    find = "document.querySelector('.verdict')"
    assert page.evaluate(f"{find}.innerText") == f"fault {FAULT.text}"
    assert page.evaluate(f"{find}.checkVisibility()")
    box = page.evaluate(f"{find}.getBoundingClientRect().toJSON()")
    assert 0 < box["top"] < 200 and box["height"] > 20 and box["right"] <= width
    style = f"getComputedStyle({find}.parentElement).backgroundColor"
    assert page.evaluate(style) == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")

    shown = "[...document.querySelectorAll('tbody tr')].filter(x => x.offsetHeight)"
    shown += ".map(x => x.querySelector('th').textContent)"
    assert page.evaluate(shown) == [row.name for row in rows]
    page.type("input", "SOFTmax")
    assert page.evaluate(shown) == ["attention"]
    assert page.evaluate("document.querySelector('output').value") == "1 of 47 places"
    page.type("input", "holds/ 3")
    assert page.evaluate(shown) == [
        row.name for row in rows if "holds" in row.name and "3" in row.name
    ]
    page.type("input", "nowhere")
    assert page.evaluate(shown) == []
    assert page.sideways() == 0

    drawn = "document.querySelector('.bars').getAttribute('d')"
    before = page.evaluate(drawn)
    page.evaluate(
        "(select => { select.selectedIndex = 1; select.options[1].value = 'M1 2h3|';"
        "select.dispatchEvent(new Event('change')) })(document.querySelector('select'))"
    )
    assert page.evaluate(drawn) == "M1 2h3" != before
    table = "document.querySelector('.table')"
    inside = page.evaluate(f"[{table}.scrollWidth, {table}.clientWidth]")
    assert (inside[0] > inside[1]) == (width == 360)  # it scrolls in its own box
    assert set(page.requests()) <= {path.as_uri(), "data:,"}
    assert page.errors() == []


def test_two_reports_in_one_document(chromium, tmp_path):
    """As in a notebook: each search filters its own table; the rest keeps its style."""
    path = tmp_path / "notebook.html"
    part = REPORT._repr_html_()
    plain = "<p class='note'>plain</p><table><tr><td>cell</td></tr></table>"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8>{plain}{part}{part}")
    page = chromium.open(path.as_uri())
    page.type("input", "softmax")
    shown = "[...document.querySelectorAll('.table')].map(x => "
    shown += "[...x.querySelectorAll('tbody tr')].filter(x => !x.hidden).length)"
    assert page.evaluate(shown) == [1, len(ROWS)]
    outside = "getComputedStyle(document.querySelector('body > p')).borderLeftWidth"
    assert page.evaluate(outside) == "0px"
    outside = "getComputedStyle(document.querySelector('body > table td')).padding"
    assert page.evaluate(outside) == "1px"
    assert page.errors() == []
