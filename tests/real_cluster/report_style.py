"""How the soak's report looks: colours as custom properties, light and dark, then shapes.

Text has a contrast of at least 4.5 to what is behind it in both schemes; what a colour says, a
place, a letter or a word says too.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f8; --card: #ffffff; --ink: #1b1f24; --soft: #59626d; --line: #e2e5e9;
  --grid: #eceef1; --shade: #5b6b7f; --accent: #1f5fa8; --area: #1f5fa8; --failed: #c2500a;
  --p99: #8a4d00; --spread: #d98b2b; --good: #1a7a45; --good-back: #e7f4ec; --bad: #b3132b;
  --bad-back: #fdebed; --warn: #7a5200; --warn-back: #fdf3dc; --on: #ffffff;
  --owners: #2563a8; --replicas: #a35400; --etcd: #6a48b0; --arbiters: #0b7468;
  --callers: #a32c74; --everything: #434c58;
  --held-1: #e3eef6; --held-2: #bcd6e8; --held-3: #8dbad8; --held-4: #37759f; --held-5: #1d5680;
  --on-low: #16364c; --on-high: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1b1f25; --ink: #e6e9ed; --soft: #a2abb6; --line: #2f353d;
    --grid: #272c33; --shade: #b4c4da; --accent: #79b0ee; --area: #5a9be0; --failed: #f28b46;
    --p99: #eab264; --spread: #c07c28; --good: #63cf92; --good-back: #17301f; --bad: #ff8091;
    --bad-back: #3a181d; --warn: #ecc06a; --warn-back: #33290f; --on: #101317;
    --owners: #79b0ee; --replicas: #f0a661; --etcd: #bba5f5; --arbiters: #5fcabb;
    --callers: #ee8ec8; --everything: #b2bac5;
    --held-1: #1f303c; --held-2: #28485c; --held-3: #33657f; --held-4: #5d9dbd; --held-5: #9bd0e6;
    --on-low: #d6e9f4; --on-high: #0c1a22;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 28px 24px 56px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 1200px; margin: 0 auto; }
h1 { font-size: 15px; font-weight: 600; margin: 0 0 14px; color: var(--soft); }
h1 b { color: var(--ink); }
h2 { font-size: 17px; margin: 0 0 10px; }
p { margin: 0 0 10px; }
code { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 18px 20px; margin: 0 0 18px;
}
.soft { color: var(--soft); font-size: 13px; }

.verdict { display: flex; gap: 16px; align-items: center; padding: 18px 22px; border-radius: 8px;
  margin: 0 0 18px; border: 1px solid; }
.verdict .sign { font-size: 34px; line-height: 1; width: 38px; text-align: center; flex: none; }
.verdict strong { display: block; font-size: 23px; line-height: 1.25; }
.verdict span { color: var(--ink); overflow-wrap: anywhere; }
.verdict > div:last-child { min-width: 0; }
pre { overflow-x: auto; font: 12px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
.verdict.good { background: var(--good-back); border-color: var(--good); }
.verdict.good .sign, .verdict.good strong { color: var(--good); }
.verdict.bad { background: var(--bad-back); border-color: var(--bad); }
.verdict.bad .sign, .verdict.bad strong { color: var(--bad); }
.verdict.warn { background: var(--warn-back); border-color: var(--warn); }
.verdict.warn .sign, .verdict.warn strong { color: var(--warn); }

.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 12px;
  margin: 0 0 18px; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px 14px; }
.figure b { display: block; font-size: 22px; line-height: 1.3; font-weight: 600;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.figure span { color: var(--soft); font-size: 13px; }

.violation-card h3 { margin: 0 0 6px; font-size: 15px; color: var(--bad); }
.violation-card { overflow-wrap: anywhere; }
.violation-card + .violation-card { margin-top: 14px; }
.calls { display: grid; grid-template-columns: auto auto 1fr; gap: 3px 14px;
  font-variant-numeric: tabular-nums; }
.letter { background: var(--bad); color: var(--on); border-radius: 3px; padding: 0 6px;
  font-weight: 700; font-size: 12px; align-self: center; }

table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
th { text-align: right; font-weight: 600; color: var(--soft); font-size: 13px;
  padding: 4px 12px 6px; border-bottom: 1px solid var(--line); white-space: nowrap; }
td { text-align: right; padding: 3px 12px; border-bottom: 1px solid var(--grid);
  white-space: nowrap; }
th:first-child, td:first-child, .left { text-align: left; }
td.wide { white-space: normal; min-width: 260px; }
tbody tr:hover td { background: var(--grid); }
tfoot td { border-bottom: 0; border-top: 1px solid var(--line); font-weight: 600; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 9px; }
.meter { display: inline-block; height: 8px; border-radius: 2px; background: var(--accent);
  opacity: .75; vertical-align: middle; }
.track { display: inline-block; width: 92px; text-align: left; margin-right: 10px; }
.meter.fail { background: var(--failed); }
.none { color: var(--soft); }
.broken { color: var(--bad); font-weight: 700; }
details > summary { cursor: pointer; padding: 4px 0; color: var(--accent); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.again { background: var(--grid); padding: 8px 12px; border-radius: 6px; overflow-wrap: anywhere; }

.timeline { display: flex; overflow-x: auto; margin: 0 -6px; padding: 0 6px 6px; }
.timeline svg { flex: none; display: block; }
.timeline .gutter { position: sticky; left: -6px; background: var(--card); z-index: 1; }
.timeline text { font-size: 11.5px; fill: var(--soft); }
.timeline .lane { font-size: 12.5px; font-weight: 600; fill: var(--ink); }
.timeline .lane.plain { font-weight: 400; }
.timeline .small { font-size: 11.5px; }
.timeline .scale { text-anchor: end; font-variant-numeric: tabular-nums; }
.timeline .axis { text-anchor: middle; font-variant-numeric: tabular-nums; }
.timeline .axis.first { text-anchor: start; }
.timeline .axis.last { text-anchor: end; }
.grid { stroke: var(--grid); }
.floor { stroke: var(--line); }
.floor.faint { stroke: var(--grid); }
.shade { fill: var(--shade); opacity: .09; }
.shade.after { opacity: .04; }
.area { fill: var(--area); opacity: .2; }
.answered { fill: none; stroke: var(--area); stroke-width: 1.4; }
.failed { fill: var(--failed); }
.spread { fill: var(--spread); opacity: .22; }
.p99 { fill: none; stroke: var(--p99); stroke-width: 1.6; stroke-linejoin: round; }
.p50 { fill: none; stroke: var(--accent); stroke-width: 1.6; stroke-linejoin: round; }
.column { fill: var(--ink); opacity: 0; }
.column:hover { opacity: .1; }
.of-owners { --own: var(--owners); } .of-replicas { --own: var(--replicas); }
.of-etcd { --own: var(--etcd); } .of-arbiters { --own: var(--arbiters); }
.of-callers { --own: var(--callers); } .of-everything { --own: var(--everything); }
.dot { background: var(--own, var(--soft)); }
.band { fill: var(--own, var(--soft)); }
.tail { fill: var(--own, var(--soft)); opacity: .3; }
.fault:hover .band { stroke: var(--ink); stroke-width: 1.5; }
.timeline .on-band { fill: var(--on); text-anchor: middle; font-weight: 600; font-size: 11px;
  pointer-events: none; }
.timeline .by-band { fill: var(--own); font-size: 11px; }
.held-1 { fill: var(--held-1); } .held-2 { fill: var(--held-2); } .held-3 { fill: var(--held-3); }
.held-4 { fill: var(--held-4); } .held-5 { fill: var(--held-5); }
.timeline .owning text { text-anchor: middle; font-size: 11px; fill: var(--on-low);
  pointer-events: none; }
.timeline .owning .on-4, .timeline .owning .on-5 { fill: var(--on-high); }
.tick { stroke: var(--ink); stroke-width: 1.1; pointer-events: none; }
.aim { stroke: transparent; stroke-width: 8; }
.timeline .good { fill: var(--good); text-anchor: middle; font-weight: 700; font-size: 13px; }
.timeline .bad { fill: var(--bad); text-anchor: middle; font-weight: 700; font-size: 14px; }
.wrong { stroke: var(--bad); stroke-width: 2; }
.wrong-while { fill: var(--bad); opacity: .25; }
.wrong-flag { fill: var(--bad); }
.timeline .on-wrong { fill: var(--on); text-anchor: middle; font-weight: 700; font-size: 11.5px; }
@media (max-width: 640px) {
  body { padding: 14px 10px 40px; }
  .card { padding: 14px 12px; }
  .verdict { padding: 14px; } .verdict strong { font-size: 19px; }
  .meter, .track { display: none; }
  th, td { padding-left: 6px; padding-right: 6px; }
}
@media print { .timeline { overflow: visible; } details { display: none; } }
"""
