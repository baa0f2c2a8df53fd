// A day in fast-forward: DURATION is 24 hours, RATE the requests a second at its
// busiest. Night, the morning's rise, noon, the afternoon's peak, the evening; tokens
// are issued, asked about and taken back while GATEWAYS gateways poll.
import { finish, isAdmin, load, number, prepare, ramp, thresholds, trendStats } from './lib/keyraft.js';
import { gateway, introspectOne, issueJWT, issueOpaque, polls, revokeOne } from './lib/flows.js';
import { summarise } from './lib/summary.js';

const l = load(200, '4m');
const gateways = number('GATEWAYS', 20, 1, 100000);

// Hour and share of the peak.
const day = [[6, 0.1], [9, 0.7], [11, 0.85], [13, 0.6], [15, 1], [18, 0.7], [21, 0.35], [24, 0.1]];
// Share of the requests; a revocation is four requests (issue, ask, revoke, ask).
const mix = { issueJWT: 0.6, issueOpaque: 0.08, introspectOne: 0.3, revokeOne: 0.02 };

function stages(share) {
  let hour = 0;
  return day.map(([until, height]) => {
    const s = ((until - hour) / 24) * l.duration;
    hour = until;
    return [s, l.rate * share * height];
  });
}

const ops = ['jwt', 'introspect', 'fill', 'revoke?', 'poll', 'keys', 'snapshot'];
const scenarios = {};
for (const [exec, share] of Object.entries(mix)) {
  if (exec === 'issueOpaque' && !isAdmin) continue; // one client is given; it has one format
  scenarios[exec] = ramp(exec, l, l.rate * share * 0.1, stages(share));
}
if (isAdmin) ops.push('opaque?');
scenarios.gateways = polls(gateways, l.duration);

export const options = { scenarios, thresholds: thresholds(ops), summaryTrendStats: trendStats };

export const setup = prepare({ jwt: 4, opaque: isAdmin ? 2 : 0, gateways }, l.duration);
export const teardown = finish;
export const handleSummary = summarise('mixed-day', 'A day in fast-forward', l.duration, { ...l, gateways, mix });
export { gateway, introspectOne, issueJWT, issueOpaque, revokeOne };
