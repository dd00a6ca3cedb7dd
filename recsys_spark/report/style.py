"""The look of the page: one type scale (12, 15, 19, 24, 36 px), the Okabe-Ito colours, light and dark."""

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --paper: #faf9f6; --card: #ffffff; --ink: #1d2227; --soft: #5b656e; --faint: #e6e4dd; --grid: #ecebe5;
  --blue: #0072b2; --green: #008f68; --grey: #a3abb2; --orange: #c9500a; --wash: #0072b214;
  --validation: #56b4e92e; --test: #e69f002e; --validation-ink: #23688f; --test-ink: #8a5a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #13161a; --card: #1a1e23; --ink: #e7e9eb; --soft: #9aa4ad; --faint: #2b3138; --grid: #262b31;
    --blue: #56b4e9; --green: #35c79a; --grey: #6b757e; --orange: #f2914a; --wash: #56b4e91f;
    --validation: #56b4e926; --test: #e69f0026; --validation-ink: #8ccbef; --test-ink: #e8b64c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 15px/1.5 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main, header { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 40px; }
h1 { font-size: 36px; line-height: 1.15; letter-spacing: -0.02em; font-weight: 680; margin: 8px 0 12px;
  max-width: 24em;
  text-wrap: balance; }
h1.lost { color: var(--orange); }
h2 { font-size: 24px; line-height: 1.25; letter-spacing: -0.012em; font-weight: 640; margin: 64px 0 4px;
  scroll-margin: 12px; }
h3 { font-size: 15px; line-height: 1.4; font-weight: 640; margin: 0 0 2px; }
h4 { font-size: 12px; font-weight: 640; margin: 0 0 8px; color: var(--soft); letter-spacing: 0.02em; }
p { margin: 0 0 12px; max-width: 70ch; }
.lead { font-size: 19px; line-height: 1.45; color: var(--soft); max-width: 46em; }
.small, .soft { color: var(--soft); }
.small { font-size: 12px; }
.card > .small { margin-bottom: 12px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 24px 0 0; padding: 12px 0;
  border-block: 1px solid var(--faint); }
nav a { color: var(--blue); text-decoration: none; }
nav a:hover { text-decoration: underline; }
.grid { display: grid; gap: 16px; margin-top: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); }
.card { background: var(--card); border: 1px solid var(--faint); border-radius: 10px; padding: 18px 20px;
  min-width: 0; }
.card.flat { background: none; border-color: transparent; }
.block { margin-top: 16px; }
.tiles { display: grid; gap: 20px 24px; margin-top: 24px;
  grid-template-columns: repeat(auto-fit, minmax(136px, 1fr)); }
.tile b { display: block; font-size: 24px; line-height: 1.25; font-weight: 640; letter-spacing: -0.012em; }
.tile span { color: var(--soft); font-size: 12px; }

table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 7px 16px 7px 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; }
th { font-size: 12px; font-weight: 600; color: var(--soft); vertical-align: bottom; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-size: 15px; font-weight: 400; color: var(--ink); vertical-align: top; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
td small { display: block; color: var(--soft); font-size: 12px; white-space: nowrap; }
td.best b { color: var(--blue); }
td.bar { width: 26%; min-width: 90px; }
tr.head > * { border-bottom: 0; padding-bottom: 0; }
tr.head + tr > * { padding-top: 0; }
.scroll { overflow-x: auto; }
.figures th, .figures td { padding: 7px 9px 7px 0; }
.figures .group { border-left: 1px solid var(--grid); padding-left: 9px; }
code { font: 12px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.meter { display: block; height: 9px; margin-top: 7px; border-radius: 2px; background: var(--grid); }
.meter i { display: block; height: 100%; border-radius: 2px; background: var(--blue); min-width: 1px; }
.meter.grey i { background: var(--grey); }
.meter.green i { background: var(--green); }
dl { margin: 12px 0 0; display: grid; grid-template-columns: 1fr auto; gap: 12px 12px; }
dt, dd { margin: 0; }
dd { text-align: right; }
dl .meter { grid-column: 1 / -1; margin: -8px 0 4px; }
ul.notes { margin: 0; padding-left: 18px; }
details > summary { cursor: pointer; color: var(--blue); }
details[open] > summary { margin-bottom: 8px; }

svg { display: block; width: 100%; height: auto; overflow: visible; max-width: 440px; }
svg.wide { max-width: none; }
svg.narrow { display: none; }
svg text { font-size: 12px; fill: var(--soft); font-family: inherit; }
svg text.value, svg text.method { fill: var(--ink); }
svg text.best, svg text.method.table { font-weight: 680; }
svg text.tag { font-weight: 600; }
svg text.tag.validation { fill: var(--validation-ink); }
svg text.tag.test { fill: var(--test-ink); }
svg .grid { stroke: var(--grid); }
svg .axis { stroke: var(--grey); }
svg .window.validation { fill: var(--validation); }
svg .window.test { fill: var(--test); }
svg .mark { fill: var(--soft); }
svg .bar { fill: var(--blue); }
svg .bar.past { fill: var(--grey); }
svg .bar.validation { fill: var(--blue); }
svg .bar.test, svg .bar.full { fill: var(--orange); }
svg .bar.baseline { fill: var(--grey); }
svg .bar.towers { fill: var(--green); }
svg .whisker { stroke: var(--ink); stroke-width: 1.3; }
svg .curve { fill: none; stroke: var(--blue); stroke-width: 2; stroke-linejoin: round; }
svg .curve.pale { stroke-width: 1; opacity: 0.35; }
svg .point { fill: var(--card); stroke: var(--blue); stroke-width: 2; }
svg .point.best { fill: var(--blue); }
svg .name { font-size: 12px; }

.choice { position: absolute; opacity: 0; pointer-events: none; }
.choice + label { display: inline-block; padding: 4px 14px; margin: 12px 6px 0 0;
  border: 1px solid var(--faint);
  border-radius: 99px; cursor: pointer; color: var(--soft); background: var(--card); }
.choice:checked + label { background: var(--ink); border-color: var(--ink); color: var(--paper); }
.choice:focus-visible + label { outline: 2px solid var(--blue); outline-offset: 2px; }
.at { display: none; }
.at > h3 { margin-top: 28px; }
.panels { display: grid; gap: 28px 32px; margin-top: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 270px), 1fr)); }

.user { margin-top: 16px; }
.user > header { padding: 0; margin: 0 0 16px; max-width: none; }
.user .columns { display: grid; gap: 24px 32px; grid-template-columns: repeat(3, minmax(0, 1fr)); }
.user ol { list-style: none; margin: 0; padding: 0; }
.user li { display: grid; grid-template-columns: 30px 1fr; gap: 0 6px; padding: 4px 6px;
  border-radius: 5px; line-height: 1.35; }
.user .past li { grid-template-columns: 56px 1fr; padding-left: 0; }
.user .past li > span:first-child { white-space: nowrap; }
.user li > span:first-child { color: var(--soft); }
.user li div { overflow-wrap: anywhere; }
.user li.hit { background: var(--wash); }
.user li.hit > span:first-child { color: var(--blue); font-weight: 680; }
.hit-note { color: var(--blue); font-weight: 600; }
footer { margin: 64px 0 40px; padding-top: 12px; border-top: 1px solid var(--faint); }
@media (max-width: 760px) {
  main, header { padding: 0 16px; }
  header { padding-top: 24px; }
  h1 { font-size: 24px; }
  h2 { margin-top: 48px; }
  .lead { font-size: 15px; }
  .card { padding: 16px; }
  th, td { padding-right: 10px; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .user .columns { grid-template-columns: 1fr; }
  svg.wide { display: none; }
  svg.narrow { display: block; }
}
"""
