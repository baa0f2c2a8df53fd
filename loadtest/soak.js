// The same load for a long time: what grows, what slows down? DURATION is an hour when
// it is left out. The first and the last fifth are told apart (phase), and the
// summary has memory and goroutines of the largest node before and after.
import { arrivals, finish, isAdmin, load, number, prepare, span, thresholds, trendStats } from './lib/keyraft.js';
import { gateway, introspectOne, issueJWT, issueOpaque, polls, revokeOne } from './lib/flows.js';
import { summarise } from './lib/summary.js';

const l = load(100, '1h');
const gateways = number('GATEWAYS', 10, 1, 100000);
const flows = { issueJWT, issueOpaque, introspectOne, revokeOne };
const mix = { issueJWT: 0.6, issueOpaque: isAdmin ? 0.08 : 0, introspectOne: 0.3, revokeOne: 0.02 };

const fifth = { ...l, duration: l.duration / 5 };
const middle = { ...l, duration: l.duration - 2 * fifth.duration };
const scenarios = {
  gateways: polls(gateways, l.duration),
};
const limits = {};
[['first', fifth, 0], ['middle', middle, fifth.duration], ['last', fifth, l.duration - fifth.duration]].forEach(([phase, part, at]) => {
  scenarios[phase] = arrivals('mixed', part, l.rate, { startTime: span(at), tags: { phase } });
  limits[`http_reqs{phase:${phase}}`] = ['count>0'];
  limits[`http_req_failed{phase:${phase}}`] = [];
  limits[`http_req_duration{phase:${phase}}`] = [];
});

export const options = {
  scenarios,
  thresholds: thresholds(['jwt', 'introspect', 'fill', 'poll', 'opaque?', 'revoke?'], limits),
  summaryTrendStats: trendStats,
};

export const setup = prepare({ jwt: 4, opaque: isAdmin ? 2 : 0, gateways }, l.duration);
export const teardown = finish;
export const handleSummary = summarise('soak', 'Soak', l.duration, { ...l, gateways, mix }, {
  first: fifth.duration, middle: middle.duration, last: fifth.duration,
});

// mixed is one of the flows, by its share.
export function mixed(data) {
  let at = Math.random() * Object.values(mix).reduce((a, b) => a + b, 0);
  for (const [name, share] of Object.entries(mix)) {
    at -= share;
    if (at < 0) return flows[name](data);
  }
  return issueJWT(data); // rounding
}
export { gateway };
