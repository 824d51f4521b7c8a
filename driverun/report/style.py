"""The style sheet of a report's page."""

from __future__ import annotations

CSS = """
:root{color-scheme:light dark;
--paper:#fff;--ink:#1c2126;--soft:#5b6670;--faint:#8b959e;--rule:#e3e7ea;--panel:#f6f8f9;
--a:#1f6fb4;--b:#c8590c;--good:#1a7f4b;--good-wash:#e6f4ec;--warn:#9a6200;--warn-wash:#fdf3dc;
--bad:#b3261e;--bad-wash:#fcebea;--busy:#1f6fb4;--busy-wash:#e6f0f9;--calm:#5b6670;--calm-wash:#eef1f3}
@media (prefers-color-scheme:dark){:root{
--paper:#14181c;--ink:#e4e8eb;--soft:#a3adb6;--faint:#77828c;--rule:#2a3138;--panel:#1b2126;
--a:#62aef0;--b:#f29a52;--good:#5cc98d;--good-wash:#16301f;--warn:#e3b04b;--warn-wash:#332a12;
--bad:#f2857d;--bad-wash:#3a1c1a;--busy:#62aef0;--busy-wash:#16293a;--calm:#a3adb6;--calm-wash:#232a30}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums lining-nums}
main{max-width:1040px;margin:0 auto;padding:44px 28px 64px}
h1{font-size:30px;line-height:1.2;font-weight:650;letter-spacing:-.015em;margin:0;overflow-wrap:anywhere}
h2{font-size:17px;font-weight:650;margin:52px 0 14px;padding-top:14px;border-top:1px solid var(--rule)}
h3{font-size:13px;font-weight:600;color:var(--soft);margin:26px 0 8px}
p{margin:0 0 12px;max-width:72ch}
code,pre,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:.875em;overflow-wrap:anywhere}
.over{color:var(--faint);font-size:13px;margin:0 0 6px}
.title{display:flex;flex-wrap:wrap;align-items:center;gap:8px 14px}
.id{color:var(--soft);margin:6px 0 0}
.soft{color:var(--soft)}
.pill{display:inline-block;padding:1px 9px;border-radius:20px;font-size:12px;font-weight:600;line-height:20px;
letter-spacing:.02em;white-space:nowrap}
.good{color:var(--good);background:var(--good-wash)}.warn{color:var(--warn);background:var(--warn-wash)}
.bad{color:var(--bad);background:var(--bad-wash)}.busy{color:var(--busy);background:var(--busy-wash)}
.calm{color:var(--calm);background:var(--calm-wash)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(138px,1fr));gap:18px 24px;margin:30px 0 0;
padding:18px 0 16px;border-top:1px solid var(--rule);border-bottom:1px solid var(--rule)}
.facts dt{color:var(--soft);font-size:13px}
.facts dd{margin:1px 0 0;font-size:21px;font-weight:550;letter-spacing:-.01em;line-height:1.3}
.facts dd small{display:block;font-size:13px;font-weight:400;letter-spacing:0;color:var(--soft)}
.panel{background:var(--panel);border-left:3px solid var(--rule);border-radius:0 6px 6px 0;padding:14px 18px;
margin:24px 0 0}
.panel>:last-child{margin-bottom:0}.panel p{max-width:80ch}
.panel ul{margin:0 0 12px;padding-left:20px}
.panel.is-good{border-color:var(--good)}.panel.is-warn{border-color:var(--warn)}
.panel.is-bad{border-color:var(--bad)}
.scroll{overflow-x:auto;margin:0 0 12px}
.scroll.tall{max-height:420px;overflow-y:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
table.narrow{width:auto;min-width:min(100%,420px)}
th{font-weight:500;color:var(--soft);font-size:13px;text-align:left;white-space:nowrap;
border-bottom:1px solid var(--rule)}
th,td{padding:6px 22px 6px 0;vertical-align:top}
th:last-child,td:last-child{padding-right:2px}
tbody tr+tr td,tbody tr+tr th{border-top:1px solid var(--rule)}
tbody th{border-bottom:0;font-size:14px;color:var(--ink);font-weight:450}
.n{text-align:right;white-space:nowrap}
.w{white-space:nowrap}
td code{white-space:nowrap}.columns td code{white-space:normal}
td.why{min-width:200px;color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr));gap:22px 28px}
.charts.single{grid-template-columns:minmax(0,640px)}
figure{margin:0;min-width:0}
figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:2px 14px;font-size:14px;
font-weight:600;margin-bottom:4px}
.legend{font-weight:400;font-size:13px;color:var(--soft);white-space:nowrap}
.key{display:inline-block;width:14px;height:0;border-top:2.5px solid;vertical-align:3.5px;margin:0 5px 0 12px}
.key.a{color:var(--a)}.key.b{color:var(--b)}
.key.box{height:10px;border:0;border-radius:2px;vertical-align:-1px;background:currentColor}
.key.done{color:var(--good)}.key.stopped{color:var(--a)}.key.failed{color:var(--bad)}
.key.running{color:var(--a);opacity:.55}.key.again{color:var(--b)}
.timelegend{font-size:13px;color:var(--soft);margin:2px 0 14px}.timelegend .key{margin-left:0}
.timelegend>span{white-space:nowrap;margin-right:14px}
svg{display:block;max-width:100%;overflow:visible}
svg.chart{width:100%;height:auto}
svg text{fill:var(--soft);font-size:11px;paint-order:stroke;stroke:var(--paper);stroke-width:3px;
stroke-linejoin:round}
svg .label{fill:var(--faint)}
svg.timeline text{font-size:12px}svg.timeline .name{fill:var(--ink)}svg.timeline .note{fill:var(--soft)}
.grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--faint);stroke-width:1}
.line path{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.line path.faint{stroke-width:1;opacity:.4}
.line.a path{stroke:var(--a)}.line.a circle{fill:var(--a)}
.line.b path{stroke:var(--b)}.line.b circle{fill:var(--b)}
.line circle{stroke:var(--paper);stroke-width:.8}
.mark line{stroke:var(--faint);stroke-width:1;stroke-dasharray:2 3}.mark path{fill:var(--faint)}
.bar.done rect{fill:var(--good)}.bar.stopped rect{fill:var(--a)}.bar.failed rect{fill:var(--bad)}
.bar.running rect{fill:var(--a);opacity:.55}.bar.idle rect{fill:var(--faint)}
.bar rect.lost{fill:var(--b)}
.pause{stroke:var(--faint);stroke-width:1;stroke-dasharray:2 3}
pre{background:var(--panel);border-radius:6px;padding:12px 14px;margin:0 0 12px;overflow:auto;
max-height:460px;font-size:12.5px;line-height:1.5;white-space:pre;overflow-wrap:normal}
details{margin:0 0 12px}summary{cursor:pointer;color:var(--soft)}details[open]>summary{margin-bottom:10px}
.columns{columns:400px 2;column-gap:40px}
.columns>div{break-inside:avoid;padding:1px 0 6px}.columns h3{margin-top:14px}
.columns th{padding-right:28px;width:1%}
footer{margin-top:56px;padding-top:14px;border-top:1px solid var(--rule);color:var(--faint);font-size:13px}
@media (max-width:560px){main{padding:26px 16px 40px}h1{font-size:25px}h2{margin-top:40px}
.facts{grid-template-columns:1fr 1fr;gap:14px 18px}.facts dd{font-size:18px}th,td{padding-right:14px}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--faint:#777;--rule:#ccc;
--panel:#f6f6f6;--a:#1f6fb4;--b:#c8590c;--good:#1a7f4b;--good-wash:#fff;--warn:#9a6200;--warn-wash:#fff;
--bad:#b3261e;--bad-wash:#fff;--busy:#1f6fb4;--busy-wash:#fff;--calm:#444;--calm-wash:#fff}
main{max-width:none;padding:0}body{font-size:11pt}.pill{border:1px solid}
.scroll,.scroll.tall,pre{overflow:visible;max-height:none}pre{white-space:pre-wrap}
figure,tr,svg,.panel{break-inside:avoid}h2,h3{break-after:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
