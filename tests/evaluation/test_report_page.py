"""The page in a browser: nothing overflows a telephone, every picture has its words, axe-core finds no fault.

Chromium alone is driven, by its own `--dump-dom`: a frame of the wanted width holds the page. Where they are not found,
set CHROMIUM to the program and AXE_CORE to `axe.min.js`.
"""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from made_scores import comparison_section, trust_sections, write_made_scores

from mentallama_jax.jobs.make_report import make_report

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
AXE = Path(os.environ.get("AXE_CORE") or ROOT / "node_modules/axe-core/axe.min.js")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=60000",
)  # fmt: skip
DARK, LIGHT = "--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)}; set CHROMIUM")
needs_axe = pytest.mark.skipif(
    not AXE.is_file(), reason="no axe-core: `npm install --no-save axe-core` here, or set AXE_CORE"
)

HARNESS = """<!DOCTYPE html><meta charset="utf-8"><title>harness</title><pre id="result"></pre><script>
const frame = document.createElement("iframe");
frame.width = WIDTH; frame.height = 900; frame.srcdoc = PAGE;
frame.onload = async () => {
  const page = frame.contentDocument, found = {};
  found.width = page.documentElement.clientWidth;
  found.scroll_width = page.documentElement.scrollWidth;
  found.dark = getComputedStyle(page.body).backgroundColor;
  found.pictures = page.querySelectorAll("svg").length;
  found.without_words = [...page.querySelectorAll("svg")].filter(svg => svg.getAttribute("role") !== "img" ||
    svg.getAttribute("aria-labelledby").split(" ").some(id => !page.getElementById(id)?.textContent.trim())).length;
  found.small_letters = [...page.querySelectorAll("svg")].filter(svg =>
    svg.getBoundingClientRect().width < 0.95 * svg.getAttribute("width")).length;
  if (AXE) {
    const script = page.createElement("script"); script.textContent = AXE; page.head.append(script);
    const levels = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const run = await frame.contentWindow.axe.run(page, {runOnly: levels});
    found.violations = run.violations.map(each => each.id + ": " + each.nodes[0].html.slice(0, 160));
    found.passes = run.passes.length;
  }
  document.getElementById("result").textContent = JSON.stringify(found);
};
document.body.append(frame);
</script>"""


def looked_at(page: str, folder: Path, width: int, scheme: str, axe: str = "") -> dict:
    """What a browser of this width finds in the page."""

    def literal(text: str) -> str:
        return json.dumps(text).replace("</", "<\\/").replace("<!--", "<\\!--")

    texts = {"WIDTH": str(width), "PAGE": literal(page), "AXE": literal(axe)}
    harness = folder / "harness.html"
    harness.write_text(re.sub(r"\b(WIDTH|PAGE|AXE)\b", lambda found: texts[found[0]], HARNESS), "utf-8")
    command = [CHROMIUM, *FLAGS, scheme, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000"]
    done = subprocess.run(
        [*command, "--dump-dom", harness.as_uri()], capture_output=True, text=True, timeout=300, check=False
    )
    found = re.search(r'<pre id="result">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, f"the browser gave nothing: {done.stderr[-500:]}"
    return json.loads(unescape(found[1]))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    systems = write_made_scores(folder)
    for name, value in trust_sections().items():
        scores = json.loads((systems[0] / "scores.json").read_text("utf-8"))
        (systems[0] / "scores.json").write_text(json.dumps(scores | {name: value}), "utf-8")
    (systems[0] / "comparison.json").write_text(json.dumps(comparison_section()), "utf-8")
    made = make_report(systems, folder / "side")
    return made.paths[0].read_text("utf-8")


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(390, LIGHT), (390, DARK), (1280, LIGHT)])
def test_nothing_overflows_and_every_picture_has_its_words(page, tmp_path, width, scheme):
    found = looked_at(page, tmp_path, width, scheme)
    assert found["width"] == found["scroll_width"] <= width
    assert found["width"] > width - 20
    assert found["pictures"] > 30
    assert found["without_words"] == 0
    assert found["small_letters"] == 0
    light = sum(map(int, re.findall(r"\d+", found["dark"])[:3])) > 380
    assert light == (scheme == LIGHT)


@needs_chromium
def test_the_browser_sees_what_is_wrong(tmp_path):
    wrong = (
        "<!DOCTYPE html><html lang='en'><title>x</title><div style='width: 900px'>a</div>"
        "<svg role='img' aria-labelledby='gone' width='10'></svg></html>"
    )
    found = looked_at(wrong, tmp_path, 390, LIGHT)
    assert found["scroll_width"] > found["width"]
    assert found["without_words"] == 1


@pytest.mark.long
@needs_chromium
@needs_axe
@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_axe_finds_no_violation(page, tmp_path, scheme):
    found = looked_at(page, tmp_path, 1280, scheme, AXE.read_text("utf-8"))
    assert found["violations"] == []
    assert found["passes"] > 15


@needs_chromium
@needs_axe
def test_axe_finds_faults_where_they_are(tmp_path):
    wrong = "<!DOCTYPE html><html><title>x</title><p style='color: #ccc; background: #fff'>pale</p><img src='data:,'>"
    found = looked_at(wrong, tmp_path, 1280, LIGHT, AXE.read_text("utf-8"))
    assert {each.split(":")[0] for each in found["violations"]} >= {"color-contrast", "html-has-lang", "image-alt"}


@needs_chromium
def test_it_prints_as_pdf(page, tmp_path):
    (tmp_path / "report.html").write_text(page, "utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={tmp_path / 'report.pdf'}"]
    subprocess.run([*command, (tmp_path / "report.html").as_uri()], capture_output=True, timeout=300, check=True)
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 5 < len(re.findall(rb"/Type\s*/Page\b", content)) < 60
