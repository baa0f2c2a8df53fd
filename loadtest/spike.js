// A spike: RATE for a third of DURATION, SPIKE times that for the second third, RATE
// again. While it lasts, a node may refuse what is too much (429, 503); before and
// after it must not, and no answer may be wrong at any time.
import { arrivals, finish, load, number, prepare, span, thresholds, trendStats } from './lib/keyraft.js';
import { introspectOne, issueJWT } from './lib/flows.js';
import { summarise } from './lib/summary.js';

const l = load(50, '60s');
const spike = number('SPIKE', 10, 1, 10000);
const allowed = number('SPIKE_ERROR_RATE', 0.5, 0, 1);
const errorRate = number('ERROR_RATE', 0.01, 0, 1);

const third = { ...l, duration: l.duration / 3 };
const scenarios = {};
const limits = {};
['before', 'spike', 'after'].forEach((phase, i) => {
  const rate = phase === 'spike' ? l.rate * spike : l.rate;
  const at = { startTime: span(i * third.duration), gracefulStop: '10s', tags: { phase } };
  scenarios[`${phase}_jwt`] = arrivals('issueJWT', third, rate * 0.7, at);
  scenarios[`${phase}_introspect`] = arrivals('introspectOne', third, rate * 0.3, at);
  limits[`http_req_failed{phase:${phase}}`] = [`rate<=${phase === 'spike' ? allowed : errorRate}`];
  limits[`http_req_duration{phase:${phase}}`] = [];
  limits[`http_reqs{phase:${phase}}`] = ['count>0'];
});
const all = thresholds(['jwt', 'introspect', 'fill'], limits);
for (const op of ['jwt', 'introspect', 'fill']) all[`http_req_failed{op:${op}}`] = []; // each phase has its own

export const options = { scenarios, thresholds: all, summaryTrendStats: trendStats };

export const setup = prepare({ jwt: 4, opaque: 2 }, l.duration);
export const teardown = finish;
export const handleSummary = summarise('spike', 'A spike', l.duration, { ...l, spike, spike_error_rate: allowed }, {
  before: third.duration, spike: third.duration, after: third.duration,
});
export { introspectOne, issueJWT };
