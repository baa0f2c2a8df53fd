// How many sign-ins a second: the login page, the right password, a code with PKCE, its
// tokens, and REFRESHES refreshes. A password costs a processor for a while, on purpose
// (argon2id on a bounded pool), so few of these are a lot. Needs an admin token: the users
// and their client are made before the run and removed after it.
import { arrivals, finish, load, number, prepare, thresholds, trendStats } from './lib/keyraft.js';
import { signIn } from './lib/flows.js';
import { summarise } from './lib/summary.js';

const l = load(5, '30s');
const users = number('USERS', 10, 1, 10000);
const refreshes = number('REFRESHES', 1, 0, 1000);

const ops = ['authorize', 'login', 'code'];
if (refreshes > 0) ops.push('refresh');

export const options = {
  scenarios: { login: arrivals('signIn', l, l.rate) },
  thresholds: thresholds(ops),
  summaryTrendStats: trendStats,
};

export const setup = prepare({ users }, l.duration);
export const teardown = finish;
export const handleSummary = summarise('login', 'Sign-in, code and refresh', l.duration, { ...l, users, refreshes });
export { signIn };
