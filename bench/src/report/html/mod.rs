//! The page: one file, readable without a network.
//!
//! Owns its structure and style. Never refers to anything outside itself: no script, no font, no image.

mod compare;

mod limits;

mod runs;

mod search;

use super::svg::{Axis, Scale};
use crate::limits::LimitsReport;
use crate::record::folder::SavedRun;
use crate::record::series::{CompareReport, SearchReport};

/// What a page shows.
#[derive(Debug, Default)]
pub struct Contents {
    /// Saved runs.
    pub runs: Vec<SavedRun>,
    /// Saved searches.
    pub searches: Vec<SearchReport>,
    /// Saved comparisons.
    pub comparisons: Vec<CompareReport>,
    /// What the machine can do.
    pub limits: Vec<LimitsReport>,
}

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#667;--line:#d8dde3;--card:#f6f8fa;--good:#1a7f37;--bad:#c02;
--c0:#0969da;--c1:#bc4c00;--c2:#8250df;--c3:#1a7f37;--c4:#bf3989;--c5:#57606a}
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--dim:#9aa4af;--line:#30363d;--card:#161b22;--good:#3fb950;--bad:#ff6b6b;
--c0:#58a6ff;--c1:#f0883e;--c2:#bc8cff;--c3:#3fb950;--c4:#f778ba;--c5:#9aa4af}}
body{font:15px/1.5 system-ui,sans-serif;background:var(--bg);color:var(--fg);max-width:900px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .4em}h3{font-size:1em;margin:1.4em 0 .2em}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:.6em 0}
th,td{padding:.25em .55em;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}th{color:var(--dim);font-weight:500}
th:first-child,td:first-child{text-align:left;white-space:normal}
.answer{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.7em 1em;font-size:1.05em}
.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}.dim,.empty,.note{color:var(--dim)}.wide{overflow-x:auto}
svg{width:100%;height:auto;display:block}.grid{stroke:var(--line);stroke-width:1}.tick,.markname{font-size:11px;fill:var(--dim)}.label{font-size:12px;fill:var(--dim)}
.line{fill:none;stroke-width:1.8;stroke:currentColor}.dot{fill:currentColor}.dashed{stroke-dasharray:5 4}.mark{stroke:var(--bad);stroke-dasharray:3 3}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}
.legend{display:flex;flex-wrap:wrap;gap:.2em 1.2em;font-size:13px;color:var(--dim);margin:.2em 0 0 4em}.legend i{display:inline-block;width:1.4em;border-top:3px solid currentColor;margin-right:.4em;vertical-align:middle}.legend i.dashed{border-top-style:dashed}
.bar{stroke:currentColor;stroke-width:3}details{margin:.8em 0}summary{cursor:pointer;color:var(--dim)}
";

/// Makes the page.
pub fn page(contents: &Contents) -> String {
    let mut body = String::new();
    contents
        .comparisons
        .iter()
        .for_each(|comparison| compare::section(&mut body, comparison));
    contents
        .searches
        .iter()
        .for_each(|search| search::section(&mut body, search));
    if !contents.runs.is_empty() {
        runs::section(&mut body, &contents.runs);
    }
    contents
        .limits
        .iter()
        .for_each(|report| limits::section(&mut body, report));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>gramme bench</title><style>{STYLE}</style></head>\n<body><h1>gramme bench</h1>{body}\
         <p class=\"note\">Latency counts from the intended start of each request; what a tool would print that times from the sending is the dashed line. Percentiles that the number of requests cannot support are not shown.</p></body></html>\n"
    )
}

fn us_axis() -> Axis {
    Axis {
        label: "response".to_owned(),
        scale: Scale::Log,
        tick: power_of_ten,
    }
}

/// Ticks of a logarithmic axis are whole powers of ten.
fn power_of_ten(us: f64) -> String {
    match us {
        us if us >= 999_999.0 => format!("{:.0}s", us / 1e6),
        us if us >= 999.0 => format!("{:.0}ms", us / 1e3),
        us if us >= 0.99 => format!("{us:.0}us"),
        us => format!("{:.0}ns", us * 1e3),
    }
}
