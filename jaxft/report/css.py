"""How the page looks: on a phone, on a desk, in print."""

CSS = """
:root { color-scheme: light; --ink: #1d2126; --soft: #565d66; --line: #dfe3e8; --card: #fff; --back: #f5f6f8;
  --accent: #0072B2; --warn: #fff6e0; --warn-line: #E69F00; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--back); color: var(--ink); line-height: 1.5; overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header, footer, nav { max-width: 1240px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 28px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3em; }
h2 { font-size: 1.4rem; line-height: 1.25; margin: 2.2em 0 .5em; padding-top: .5em;
  border-top: 3px solid var(--accent); }
h3 { font-size: 1.08rem; line-height: 1.3; margin: 0 0 .6em; }
h4 { font-size: .95rem; margin: 1em 0 .3em; }
p { margin: 0 0 .7em; max-width: 76ch; }
.soft, figcaption, .note { color: var(--soft); }
.note { font-size: .86rem; margin-bottom: .4em; }
a { color: var(--accent); }
nav ul { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: .92rem; }
nav { padding-top: 10px; padding-bottom: 10px; }
section.part { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 20px 22px;
  margin: 0 0 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 0 0 16px; }
.tile { border-left: 4px solid var(--accent); background: var(--back); padding: 8px 12px;
  border-radius: 0 6px 6px 0; }
.tile b { display: block; font-size: 1.22rem; line-height: 1.3; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
.tile span { font-size: .84rem; color: var(--soft); display: block; line-height: 1.35; }
@media (min-width: 1000px), print {
  .beside { display: grid; grid-template-columns: minmax(0, 520px) minmax(0, 1fr); column-gap: 36px;
  grid-template-rows: auto auto 1fr; }
  .beside > * { grid-column: 2; } .beside > h3 { grid-column: 1 / 3; }
  .beside > .figures { grid-column: 1; grid-row: 2 / 4; display: block; }
}
@media (min-width: 1000px) {
  .part:not(.beside) > .pairs { columns: 2; column-gap: 36px; } .pairs > * { break-inside: avoid; }
}
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 18px 28px;
  margin: 0 0 10px; }
figure { margin: 0; max-width: 520px; min-width: 0; break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { font-size: .9rem; line-height: 1.45; margin-top: 6px; }
.warning { background: var(--warn); border-left: 4px solid var(--warn-line); padding: 9px 13px; margin: 0 0 12px;
  font-size: .93rem; max-width: 90ch; border-radius: 0 6px 6px 0; }
.refused { color: var(--soft); font-size: .9rem; margin: 0 0 8px; padding: 6px 12px;
  border-left: 4px solid var(--line); max-width: 90ch; }
details { margin: 8px 0 0; }
summary { cursor: pointer; font-size: .93rem; }
.wide { overflow-x: auto; margin: 6px 0 4px; max-width: 100%; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; color: var(--soft); padding-bottom: 3px; }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
td.text { white-space: normal; min-width: 8em; max-width: 26em; }
th.text, td.text { text-align: left; }
th { border-bottom: 2px solid #b9c0c9; font-weight: 600; position: sticky; top: 0; background: var(--card); }
pre { font-size: .82rem; background: var(--back); padding: 12px; overflow-x: auto; border-radius: 6px;
  white-space: pre-wrap; margin: 6px 0; }
dl { margin: 0; } dt { font-weight: 600; margin-top: .6em; } dd { margin: 0; max-width: 84ch; }
footer { padding-top: 16px; padding-bottom: 40px; font-size: .88rem; color: var(--soft); }
@media (max-width: 600px) {
  body { font-size: 15px; }
  main, header, footer, nav { padding-left: 12px; padding-right: 12px; }
  section.part { padding: 14px 12px; border-radius: 6px; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tile { padding: 6px 9px; } .tile b { font-size: 1.1rem; }
  h1 { font-size: 1.4rem; } h2 { font-size: 1.2rem; }
  table { font-size: .8rem; } th, td { padding: 4px 7px; } th:first-child, td:first-child { padding-left: 0; }
  td.text { min-width: 5.5em; }
}
@media print {
  body { background: #fff; font-size: 10pt; }
  nav { display: none; }
  main, header, footer { max-width: none; padding: 0; }
  section.part { border: 0; border-top: 1px solid #999; border-radius: 0; padding: 8pt 0; }
  h2, h3 { break-after: avoid; }
  @media (min-width: 1000px), print {
  .beside { display: grid; grid-template-columns: minmax(0, 520px) minmax(0, 1fr); column-gap: 36px;
  grid-template-rows: auto auto 1fr; }
  .beside > * { grid-column: 2; } .beside > h3 { grid-column: 1 / 3; }
  .beside > .figures { grid-column: 1; grid-row: 2 / 4; display: block; }
}
@media (min-width: 1000px) {
  .part:not(.beside) > .pairs { columns: 2; column-gap: 36px; } .pairs > * { break-inside: avoid; }
}
.figures { display: block; } figure { width: 48%; display: inline-block; vertical-align: top; margin-right: 1.5%; }
  .wide { overflow: visible; } table { font-size: 7.5pt; } th { position: static; } tr { break-inside: avoid; }
  .tile, .warning { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
