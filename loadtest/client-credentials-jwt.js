// How many JWT access tokens a second: POST /oauth2/token with client_credentials.
// Nothing is written for one, so every node counts. ALG names the signature.
import { arrivals, env, finish, load, number, prepare, thresholds, trendStats } from './lib/keyraft.js';
import { issueJWT } from './lib/flows.js';
import { summarise } from './lib/summary.js';

const l = load(200, '30s');
const clients = number('CLIENTS', 4, 1, 1000);

export const options = {
  scenarios: { jwt: arrivals('issueJWT', l, l.rate) },
  thresholds: thresholds(['jwt']),
  summaryTrendStats: trendStats,
};

export const setup = prepare({ jwt: clients }, l.duration);
export const teardown = finish;
export const handleSummary = summarise('client-credentials-jwt', 'Client credentials, JWT', l.duration, { ...l, clients, alg: env('ALG', 'the default') });
export { issueJWT };
