"""The look of a report: one style sheet, light and dark, from phone to desk, and on paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1d2127;--soft:#5b626b;--line:#d9dde2;--card:#f6f7f9;--accent:#2b62a8;
--stable:#256f3e;--operational:#2b62a8;--hotspot:#9c4d06;--critical:#b3302b;--recessive:#5f656d;--aleatoric:#6a48ad}
@media (prefers-color-scheme:dark){:root{--page:#0f1318;--ink:#e4e7eb;--soft:#a3abb5;--line:#313843;--card:#181e26;
--accent:#7db0ee;--stable:#63c486;--operational:#7db0ee;--hotspot:#eb9a4b;--critical:#f0827c;--recessive:#a9b0b9;
--aleatoric:#b79bea}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 20px 48px}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:40px 0 8px;padding-top:12px;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 4px}
p{margin:0 0 10px;max-width:76ch}
.soft,.sub,figcaption,footer{color:var(--soft)}
.sub{margin:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0 0;padding:0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.tile dt{font-size:.85rem;color:var(--soft)}
.tile dd{margin:0}
.tile .value{font-size:1.45rem;font-weight:600;line-height:1.3}
.notes{margin:16px 0 0;padding:10px 14px 10px 32px;border-left:4px solid var(--hotspot);background:var(--card)}
.notes li{margin:2px 0;overflow-wrap:anywhere}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));gap:20px;align-items:start}
figure{margin:0;min-width:0}
figure svg{display:block;max-width:100%;height:auto;fill:var(--soft)}
.beside{display:flex;gap:28px;align-items:flex-start}.beside figcaption{max-width:36ch;margin-top:24px}
.narrow{display:none}
figcaption{font-size:.9rem;margin-top:4px;max-width:60ch}
.wide{overflow-x:auto;margin:8px 0 14px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
caption{text-align:left;color:var(--soft);padding-bottom:4px}
th,td{padding:5px 12px 5px 0;border-bottom:1px solid var(--line);text-align:right;vertical-align:top;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
td.text,th.text{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:12ch}
thead th{font-weight:600;color:var(--soft);white-space:normal;min-width:4em;max-width:14em;overflow-wrap:break-word}
tbody th{font-weight:400;white-space:normal;min-width:9em;max-width:22em;overflow-wrap:anywhere}
.best{font-weight:700}
.issues{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:16px}
.issue{border:1px solid var(--line);border-left:5px solid var(--recessive);border-radius:8px;background:var(--card);
padding:14px 16px;min-width:0;overflow-wrap:anywhere}
.issue p{margin:0 0 6px}
.issue ul,.issue ol{margin:2px 0 8px;padding-left:20px}
.issue li{margin:1px 0}
.issue h4{font-size:.85rem;margin:10px 0 0;color:var(--soft);font-weight:600}
.chip{display:inline-block;border:1px solid currentColor;border-radius:999px;padding:0 9px;font-size:.82rem;
font-weight:600;white-space:nowrap;margin-right:6px}
.stable{color:var(--stable)}.operational{color:var(--operational)}.hotspot{color:var(--hotspot)}
.critical{color:var(--critical)}.recessive{color:var(--recessive)}.aleatoric{color:var(--aleatoric)}
.issue.hotspot,.issue.critical,.issue.recessive{color:inherit}
.issue.hotspot{border-left-color:var(--hotspot)}.issue.critical{border-left-color:var(--critical)}
code{font:.88em/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--page);
border:1px solid var(--line);border-radius:4px;padding:0 4px;overflow-wrap:anywhere}
dl.facts{display:grid;grid-template-columns:minmax(0,max-content) minmax(0,1fr);gap:4px 16px;font-size:.92rem}
dl.facts dt{color:var(--soft)}dl.facts dd{margin:0;overflow-wrap:anywhere}
details{margin:8px 0}summary{cursor:pointer;color:var(--accent)}
footer{margin-top:40px;padding-top:12px;border-top:1px solid var(--line);font-size:.88rem}
@media (max-width:560px){main{padding:16px 14px 32px}h1{font-size:1.3rem}h2{margin-top:32px}
.beside{display:block}.beside figcaption{max-width:60ch;margin-top:4px}.narrow{display:block}.roomy{display:none}
th,td{padding-right:10px}tbody th{min-width:8em}
.tiles{grid-template-columns:1fr 1fr}.tile .value{font-size:1.2rem}
dl.facts{grid-template-columns:minmax(0,1fr)}dl.facts dd{margin-bottom:6px}}
@media print{:root{color-scheme:light}.issue,figure{break-inside:avoid}main{max-width:none}}
"""
