"""Pages as a browser shows them: on a phone, a tablet and a desk, in light and dark; skipped where there is no Chromium."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nwb_sbtt.report.comparison import page_of_runs
from nwb_sbtt.report.page import write_report
from tests.support.estimates import history, inferred, scored, simulated

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; install it to see pages as readers do"),
]
WIDTHS = (375, 800, 1400)
PROBE = """
<script>
function report() {
  const root = document.documentElement, shown = {};
  for (const width of WIDTHS) {
    const frame = document.createElement('iframe');
    frame.style.cssText = `width:${width}px;height:900px;border:0`;
    frame.srcdoc = PAGE;
    document.body.append(frame);
    frame.onload = () => {
      const page = frame.contentDocument, images = [...page.images];
      const wide = [...page.body.querySelectorAll('*')].filter(
        e => e.getBoundingClientRect().right > width + 1 && !e.closest('.wide, pre')).map(e => e.tagName + '.' + e.className);
      const background = frame.contentWindow.getComputedStyle(page.body).backgroundColor;
      shown[width] = {scroll: page.documentElement.scrollWidth, wide: wide.slice(0, 5), images: images.length,
        missing: images.filter(i => !i.complete || !i.naturalWidth).length, background,
        dark: images.filter(i => i.currentSrc !== i.src).length};
      if (Object.keys(shown).length === WIDTHS.length) {
        const out = document.createElement('pre');
        out.id = 'out';
        out.textContent = JSON.stringify(shown);
        document.body.append(out);
      }
    };
  }
}
report();
</script>
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    ds = simulated()
    latents = inferred(ds, inputs=1)
    long = ds.assign_attrs(session_id="sub-" + "x" * 90, notes=json.dumps(["a/very/long/path/" * 12]))
    page = write_report(
        tmp_path_factory.mktemp("report") / "report.html",
        data=long,
        latents=latents,
        history=history(),
        metrics=scored(ds, latents),
        title="lfads · " + "recording_of_a_long_name_" * 4,
    )
    metrics = scored(ds, latents)
    row = {
        **{"run": "runs/" + "a" * 60, "session": "s", "state": "finished", "cause": "", "metric": metrics["metric"]},
        **{"names": metrics["names"], "scores": {"hidden": metrics["scores"]}, "settings": {"seed": 1}},
        "checks": {check["name"]: check for check in metrics["checks"]},
        "data": {"source": "x.nwb", "kind": "units", "trials": 3, "bins": 4, "bin_width": 0.01, "channels": 5},
        "fit": {"model": "conv", "likelihood": "poisson", "epochs": 3, "best_epoch": 2, "seconds": 100.0},
    }
    comparison = page_of_runs({"rows": [row, row], "settings": ["seed"]}, title="Comparison of fits")
    return {"report": page.read_text(encoding="utf-8"), "comparison": comparison}


def seen(page: str, folder: Path, *, dark: bool) -> dict[str, dict[str, object]]:
    """What a browser makes of a page at each width, found by a page around it."""
    probe = PROBE.replace("WIDTHS", str(list(WIDTHS))).replace("PAGE", json.dumps(page).replace("</", "<\\/"))
    (folder / "probe.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{probe}</body>", encoding="utf-8")
    assert CHROMIUM is not None
    options = ["--headless=new", "--disable-gpu", "--no-sandbox", "--hide-scrollbars", "--window-size=1600,1000"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--dump-dom"]
    options += ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(
        [CHROMIUM, *options, (folder / "probe.html").as_uri()],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return dict(json.loads(found[1]))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_page_fits_every_screen_and_shows_every_picture(
    pages: dict[str, str], name: str, dark: bool, tmp_path: Path
) -> None:
    for width, shown in seen(pages[name], tmp_path, dark=dark).items():
        assert (shown["scroll"], shown["wide"]) == (int(width), []), (width, shown)
        assert (shown["images"], shown["missing"]) == (pages[name].count("<img"), 0)
        assert shown["dark"] == (shown["images"] if dark else 0)
        assert shown["background"] == ("rgb(22, 24, 27)" if dark else "rgb(255, 255, 255)")
