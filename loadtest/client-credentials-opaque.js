// How many opaque access tokens a second. Each is one committed write, so the disks
// of a majority count.
import { arrivals, finish, load, number, prepare, thresholds, trendStats } from './lib/keyraft.js';
import { issueOpaque } from './lib/flows.js';
import { summarise } from './lib/summary.js';

const l = load(100, '30s');
const clients = number('CLIENTS', 4, 1, 1000);

export const options = {
  scenarios: { opaque: arrivals('issueOpaque', l, l.rate) },
  thresholds: thresholds(['opaque']),
  summaryTrendStats: trendStats,
};

export const setup = prepare({ opaque: clients }, l.duration);
export const teardown = finish;
export const handleSummary = summarise('client-credentials-opaque', 'Client credentials, opaque', l.duration, { ...l, clients });
export { issueOpaque };
