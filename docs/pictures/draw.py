"""Draw the README's pictures from a real run: the demo as SVG, the portal's invoice list as PNG.

    .venv/bin/python docs/pictures/draw.py

Writes docs/pictures/demo.svg and docs/pictures/portal.png. Fails, and writes nothing, when the demo fails.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from cpa.demo.portal import create_portal
from cpa.demo.serving import serve
from cpa.demo.story import tell

HERE = Path(__file__).parent
_WIDTH = 112
_THEME = TerminalTheme(
    (18, 24, 33),
    (214, 222, 232),
    [
        (18, 24, 33),
        (235, 111, 111),
        (126, 211, 140),
        (235, 192, 110),
        (110, 170, 240),
        (200, 150, 235),
        (95, 205, 215),
        (214, 222, 232),
    ],
    [
        (125, 138, 154),
        (245, 130, 130),
        (150, 230, 160),
        (250, 210, 130),
        (140, 190, 250),
        (215, 170, 245),
        (125, 225, 235),
        (255, 255, 255),
    ],
)
# Fonts of the reader's machine: a picture must not fetch anything.
_FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img"
aria-label="A run of the CPA demo in a terminal">
<style>
.{unique_id}-matrix {{
  font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
.{unique_id}-title {{ font-family: sans-serif; font-size: 16px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


async def draw_demo() -> str:
    """The demo's output as SVG."""
    console = Console(
        record=True, file=io.StringIO(), width=_WIDTH, color_system="truecolor", highlight=False
    )
    with tempfile.TemporaryDirectory() as folder:
        if await tell(console, language="en", folder=Path(folder)) != 0:
            raise SystemExit(console.export_text() + "\nThe demo failed; no picture was drawn.")
    return console.export_svg(title="cpa demo", theme=_THEME, code_format=_FORMAT, unique_id="cpa")


async def draw_portal() -> bytes:
    """The customer's page with its invoices."""
    from playwright.async_api import async_playwright

    async with serve(create_portal("demo")) as url, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium-headless-shell", args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page(viewport={"width": 1080, "height": 640})
        await page.goto(f"{url}/customers/10017")
        await page.fill("#username", "demo")
        await page.fill("#password", "demo")
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_selector("#invoices")
        picture = await page.screenshot()
        await browser.close()
        return picture


async def main() -> None:
    demo, portal = await draw_demo(), await draw_portal()
    (HERE / "demo.svg").write_text(demo, "utf-8")
    (HERE / "portal.png").write_bytes(portal)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
