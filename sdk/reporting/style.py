"""How the report looks: colours for light and dark, tables that scroll by themselves, figures for desk and phone."""

COLOURS = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2330;--soft:#5b6472;--line:#dfe3ea;--teacher:#6b7280;--student:#0b7a53;
--rival:#b3541e;--c0:#0b7a53;--c1:#2f6fce;--c2:#b3541e;--c3:#8b4fc2;--c4:#8a6d00;--c5:#c23b6a;--good:#0b7a53;--bad:#b42318}
@media (prefers-color-scheme:dark){:root{--bg:#14181f;--fg:#e6e9ee;--soft:#9aa4b2;--line:#333b47;--teacher:#a7b0bd;
--student:#3ecf97;--rival:#f0955c;--c0:#3ecf97;--c1:#79aef5;--c2:#f0955c;--c3:#c39af0;--c4:#dcc04f;--c5:#f286ab;
--good:#3ecf97;--bad:#ff8a80}}
"""

PAGE = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:24px 20px 64px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:26px;line-height:1.25;margin:8px 0;max-width:40em}h2{font-size:19px;margin:36px 0 8px}
p,li{max-width:80ch}ol{columns:2 160px;padding-left:24px;margin:4px 0}
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;min-width:100%;font-variant-numeric:tabular-nums;font-size:13.5px}
th,td{padding:5px 8px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap;vertical-align:top}
th{font-weight:600;color:var(--soft)}th.text,td.text{text-align:left}.aside{display:block;color:var(--soft);font-size:12px}
.cell{white-space:normal;display:inline-block;max-width:48ch}.phrase{white-space:normal;display:inline-block;width:18ch}
.sentence{white-space:normal;display:inline-block;min-width:30ch;max-width:90ch}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
details{margin:8px 0}summary{cursor:pointer;font-weight:600}
.narrow{display:none}@media (max-width:720px){.wide{display:none}.narrow{display:block}body{padding:16px 16px 48px}
h1{font-size:22px}th,td{padding:5px 6px}td.text{white-space:normal}.phrase{width:16ch}}
"""

FIGURES = """
svg{width:100%;height:auto;display:block;margin:8px 0}.wide svg{max-width:1000px}.narrow svg{max-width:480px}
svg text{font:12px system-ui,sans-serif;fill:var(--fg)}svg .title{fill:var(--soft);text-anchor:middle}
svg .tick{fill:var(--soft)}svg .middle{text-anchor:middle}svg .end{text-anchor:end}
svg .label{paint-order:stroke;stroke:var(--bg);stroke-width:3px;stroke-linejoin:round}
svg .axis{fill:none;stroke:var(--soft)}svg .grid{stroke:var(--line)}svg .error{stroke:var(--soft)}
svg .leader{stroke:var(--soft);stroke-dasharray:2 3}
svg .front{fill:none;stroke:var(--student);stroke-dasharray:5 4;opacity:.7}
svg circle.teacher{fill:var(--teacher)}svg circle.student{fill:var(--student)}svg circle.rival{fill:var(--rival)}
svg .curve{fill:none;stroke-width:2}svg .curve.teacher{stroke:var(--teacher);stroke-dasharray:6 3}
svg .c0{stroke:var(--c0)}svg .c1{stroke:var(--c1)}svg .c2{stroke:var(--c2)}svg .c3{stroke:var(--c3)}
svg .c4{stroke:var(--c4)}svg .c5{stroke:var(--c5)}svg .dot{fill:var(--bg);stroke-width:2}
svg .tail{fill:none;stroke-width:2;stroke-dasharray:3 4}
svg .dot.teacher{fill:var(--bg);stroke:var(--teacher)}
"""

STYLE = (COLOURS + PAGE + FIGURES).replace("\n", "")
