// Many gateways that long-poll for revocations, each with its own instance and
// position, while RATE tokens a second are revoked. Checked: no position goes back,
// each revocation arrives at another node, and (with an admin token) every gateway
// confirms it. A gateway has one poll open at a time; the revocations are an open
// model.
import { arrivals, finish, isAdmin, load, number, prepare, span, thresholds, trendStats } from './lib/keyraft.js';
import { gateway, polls, receipt, revocationArrives } from './lib/flows.js';
import { summarise } from './lib/summary.js';

const l = load(5, '30s');
const gateways = number('GATEWAYS', 100, 1, 100000);
const receipts = number('RECEIPT_RATE', 1, 0.01, 1000);
const lead = 2; // seconds in which the gateways come in, and stay when the load has ended
const total = l.duration + 2 * lead;

const scenarios = {
  gateways: polls(gateways, total, lead),
  revocations: arrivals('revocationArrives', l, l.rate, { startTime: span(lead) }),
};
const ops = ['keys', 'snapshot', 'poll', 'fill', 'revoke', 'events'];
if (isAdmin) {
  scenarios.receipts = arrivals('receipt', l, receipts, { startTime: span(lead) });
  ops.push('receipt');
}

export const options = {
  scenarios,
  thresholds: thresholds(ops, { keyraft_arrivals: ['count>0'] }),
  summaryTrendStats: trendStats,
};

export const setup = prepare({ jwt: 2, gateways }, total);
export const teardown = finish;
export const handleSummary = summarise('gateways', 'Gateways that poll for revocations', total, { ...l, gateways, receipt_rate: receipts });
export { gateway, receipt, revocationArrives };
