// How many introspections a second, of JWTs and opaque tokens, with a share of forged
// ones. The answer is linearizable and known beforehand: it is checked.
import { arrivals, finish, load, number, prepare, thresholds, trendStats } from './lib/keyraft.js';
import { introspectOne } from './lib/flows.js';
import { summarise } from './lib/summary.js';

const l = load(200, '30s');

export const options = {
  scenarios: { introspect: arrivals('introspectOne', l, l.rate) },
  thresholds: thresholds(['introspect', 'fill']),
  summaryTrendStats: trendStats,
};

export const setup = prepare({ jwt: 2, opaque: 2 }, l.duration);
export const teardown = finish;
export const handleSummary = summarise('introspection', 'Introspection', l.duration, { ...l, tokens: number('TOKENS', 20), bad_share: number('BAD_SHARE', 0.1) });
export { introspectOne };
