// What a run leaves behind: a table on standard output and one JSON file, also of
// a run that broke off. The file holds no credential: k6's setup_data, which does,
// is left out.
import { env, nodes, isAdmin } from './keyraft.js';

// summarise returns handleSummary(). planned is how many seconds the run takes when
// nothing ends it early; phases tells the seconds of its parts, where it has any.
export function summarise(name, title, planned, parameters, phases = {}) {
  return (data) => {
    const ran = data.state.testRunDurationMs / 1000;
    const partial = ran < planned - 0.2 || data.metrics.keyraft_aborted !== undefined;
    const report = {
      name, title, partial, planned_s: planned, ran_s: ran, parameters, phases,
      nodes, credential: isAdmin ? 'admin token' : 'client', metrics: data.metrics, root_group: data.root_group,
    };
    const out = { stdout: `${table(report)}\n` };
    const file = env('SUMMARY', `loadtest-${name}.json`);
    if (file !== 'none') out[file] = `${JSON.stringify(report)}\n`;
    return out;
  };
}

// table is the run in words.
function table(r) {
  const lines = ['', `${r.title}${r.partial ? '   *** PARTIAL: it broke off ***' : ''}`, `${r.ran_s.toFixed(1)} s of ${r.planned_s.toFixed(1)} s, ${r.nodes.length} node(s)`, ''];
  lines.push(row(['request', 'count', 'per s', 'failed', 'p50 ms', 'p95 ms', 'p99 ms', 'max ms']));
  const inTime = Object.keys(r.phases); // phases come in their order, after the requests
  const place = ([key]) => inTime.findIndex((p) => key.endsWith(`{phase:${p}}`));
  for (const [key, m] of Object.entries(r.metrics).sort().sort((a, b) => place(a) - place(b))) {
    const [, tag, kind] = /^http_req_duration\{((?:op|phase):(.+))\}$/.exec(key) || [];
    const count = tag ? values(r, `http_reqs{${tag}}`).count || 0 : 0;
    if (count === 0) continue;
    const failed = values(r, `http_req_failed{${tag}}`).rate || 0;
    const v = m.values;
    const time = tag.startsWith('op:') ? r.ran_s : r.ran_s * (r.phases[kind] / r.planned_s);
    lines.push(row([tag.startsWith('op:') ? kind : `(${kind})`, count, (count / Math.max(time, 0.001)).toFixed(1), percent(failed), v['p(50)'], v['p(95)'], v['p(99)'], v.max]));
  }
  const checks = values(r, 'checks');
  lines.push('', `answers checked: ${(checks.passes || 0) + (checks.fails || 0)}, wrong: ${checks.fails || 0}`);
  for (const c of r.root_group.checks) if (c.fails > 0) lines.push(`  WRONG ${c.fails} of ${c.passes + c.fails}: ${c.name}`);
  const dropped = values(r, 'dropped_iterations').count || 0;
  if (dropped > 0) lines.push(`not sent, all virtual users were waiting: ${dropped}; raise MAX_VUS or lower RATE`);
  for (const [key, m] of Object.entries(r.metrics).sort()) {
    if (key.startsWith('keyraft_error_')) lines.push(`errors, ${key.slice(14)}: ${m.values.count}`);
    else if (key.startsWith('keyraft_') && m.type === 'trend' && key !== 'keyraft_answer_ms') lines.push(`${key}: p50 ${ms(m.values['p(50)'])}, p95 ${ms(m.values['p(95)'])}, p99 ${ms(m.values['p(99)'])}, max ${ms(m.values.max)}`);
    else if (key.startsWith('keyraft_') && m.type === 'gauge') lines.push(`${key}: ${ms(m.values.value)}`);
    for (const [rule, t] of Object.entries(m.thresholds || {})) if (!t.ok) lines.push(`threshold crossed: ${key} ${rule}`);
  }
  return lines.join('\n');
}

const values = (r, key) => (r.metrics[key] || {}).values || {};
const percent = (rate) => `${(100 * rate).toFixed(2)} %`;
const ms = (v) => (v === undefined ? '-' : v.toFixed(v < 10 ? 2 : 0));
const row = (cells) => cells.map((c, i) => (i === 0 ? String(c).padEnd(12) : (typeof c === 'number' && i > 3 ? ms(c) : String(c === undefined ? '-' : c)).padStart(10))).join('');
