// What all scripts share: parameters, requests with their errors by kind, and
// what is made before a run and removed after it. Nothing here is loaded from
// the network.
import http from 'k6/http';
import exec from 'k6/execution';
import encoding from 'k6/encoding';
import { Counter, Gauge, Trend } from 'k6/metrics';

// --- Parameters -----------------------------------------------------------

// stop ends the run with one line; k6's exit code is 108. In setup() and in the
// middle of a run, what was measured until then is written all the same.
export function stop(line) {
  exec.test.abort(`keyraft: ${line}`);
  throw new Error(line); // where abort() returns, nothing after it may run
}

export function env(name, otherwise = '') {
  const value = __ENV[name];
  return value === undefined || value === '' ? otherwise : value;
}

// number is a parameter from low to high.
export function number(name, otherwise, low = 0, high = Number.MAX_SAFE_INTEGER) {
  const value = Number(env(name, String(otherwise)));
  if (!Number.isFinite(value) || value < low || value > high) {
    stop(`${name}=${env(name)} must be a number from ${low} to ${high}`);
  }
  return value;
}

// seconds is a parameter such as 90, 30s, 5m or 1h30m.
export function seconds(name, otherwise) {
  const text = env(name, otherwise);
  if (/^\d+(\.\d+)?$/.test(text) && Number(text) > 0) return Number(text);
  let sum = 0;
  const rest = text.replace(/(\d+(?:\.\d+)?)(ms|h|m|s)/g, (_, n, unit) => {
    sum += Number(n) * { ms: 0.001, s: 1, m: 60, h: 3600 }[unit];
    return '';
  });
  if (rest !== '' || !(sum > 0)) stop(`${name}=${text} must be a duration above 0, such as 30s, 5m or 1h30m`);
  return sum;
}

// span writes seconds as k6 reads them.
export const span = (s) => `${Math.round(s * 1000)}ms`;

export const nodes = env('KEYRAFT_ADDR', 'http://127.0.0.1:9763').split(',').map((a) => a.trim().replace(/\/+$/, ''));
for (const node of nodes) {
  if (!/^https?:\/\/[^/\s]+$/.test(node)) stop(`KEYRAFT_ADDR=${env('KEYRAFT_ADDR')} must be URLs of nodes with a comma between them, such as http://127.0.0.1:9763,http://127.0.0.1:9773`);
}

const adminToken = env('KEYRAFT_TOKEN');
const given = {
  id: env('KEYRAFT_CLIENT_ID'),
  secret: env('KEYRAFT_CLIENT_SECRET'),
  gateway: env('KEYRAFT_GATEWAY_CREDENTIAL'),
};
export const isAdmin = adminToken !== '';
export const giveUp = seconds('GIVE_UP', '10s');
const timeout = span(seconds('TIMEOUT', '10s'));
const errorRate = number('ERROR_RATE', 0.01, 0, 1);

// load is how much: requests a second, for how long, by how many virtual users.
// MAX_VUS are added when answers are slow; beyond them, requests are dropped and
// counted in dropped_iterations.
export function load(rate, duration) {
  const vus = number('VUS', 20, 1, 100000);
  return {
    rate: number('RATE', rate, 0.1, 1e6),
    duration: seconds('DURATION', duration),
    vus,
    maxVUs: number('MAX_VUS', Math.max(vus, 10 * vus), vus, 100000),
  };
}

// arrivals is a scenario of an open model: requests begin at their time, whether
// those before have been answered or not.
export function arrivals(execName, l, rate, more = {}) {
  return Object.assign({
    executor: 'constant-arrival-rate', exec: execName, ...whole(rate), duration: span(l.duration),
    preAllocatedVUs: l.vus, maxVUs: l.maxVUs, gracefulStop: '15s',
  }, more);
}

// whole is a rate as k6 takes it: a whole number for a unit of time.
function whole(rate) {
  return rate >= 100 ? { rate: Math.round(rate), timeUnit: '1s' } : { rate: Math.max(1, Math.round(rate * 100)), timeUnit: '100s' };
}

// ramp is a scenario whose rate follows stages of [seconds, rate].
export function ramp(execName, l, from, stages, more = {}) {
  const tens = (rate) => Math.max(0, Math.round(rate * 100));
  return Object.assign({
    executor: 'ramping-arrival-rate', exec: execName, timeUnit: '100s', startRate: tens(from),
    stages: stages.map(([s, rate]) => ({ duration: span(s), target: tens(rate) })),
    preAllocatedVUs: l.vus, maxVUs: l.maxVUs, gracefulStop: '15s',
  }, more);
}

const waits = ['poll', 'events', 'receipt']; // requests that wait on purpose

// thresholds: every kind of request was made and answered but for ERROR_RATE, and
// every answer was right. A kind with a question mark may not have had its turn in a
// short run. Latency counts only where P95_MS or P99_MS is set; what waits on purpose has none.
export function thresholds(ops, more = {}) {
  const latency = [];
  for (const p of [95, 99]) {
    const ms = number(`P${p}_MS`, 0);
    if (ms > 0) latency.push(`p(${p})<${ms}`);
  }
  const out = { checks: [`rate>=${number('CHECK_RATE', 1, 0, 1)}`] };
  for (const named of ops) {
    const op = named.replace('?', '');
    out[`http_reqs{op:${op}}`] = op === named ? ['count>0'] : [];
    out[`http_req_failed{op:${op}}`] = [`rate<=${errorRate}`];
    out[`http_req_duration{op:${op}}`] = waits.includes(op) ? [] : latency;
  }
  const dropped = env('DROPPED_MAX');
  if (dropped !== '') out.dropped_iterations = [`count<=${number('DROPPED_MAX', 0)}`];
  return Object.assign(out, more);
}

export const trendStats = ['min', 'avg', 'med', 'p(50)', 'p(75)', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max', 'count'];

// --- Requests --------------------------------------------------------------

const answerMs = new Trend('keyraft_answer_ms', true); // all requests but those that wait on purpose
const aborted = new Counter('keyraft_aborted');
const errors = {};
for (const kind of ['unreachable', 'timeout', 'refused', 'overload', 'unavailable', 'unknown', 'failed', 'odd']) {
  errors[kind] = new Counter(`keyraft_error_${kind}`);
}

let told = 0; // how many errors this virtual user has written
const silentSince = {}; // node → since when nothing has come from it

// node is the one that has its turn at this virtual user.
let turn = 0;
export function node() {
  turn += 1;
  return nodes[(exec.vu.idInTest + turn) % nodes.length];
}

// another is a node other than this one, where there is one.
export function another(than) {
  return nodes[(nodes.indexOf(than) + 1 + (turn % Math.max(1, nodes.length - 1))) % nodes.length];
}

function basic(client) {
  return `Basic ${encoding.b64encode(`${encodeURIComponent(client.id)}:${encodeURIComponent(client.secret)}`)}`;
}

// send makes one request and returns {ok, status, body, res}. Who is the credential
// in words. A status of also is no error; it is the caller's to look at.
export function send(op, method, at, path, { body = null, auth = '', who = '', headers = {}, also = [], bound = timeout, responseType = 'text' } = {}) {
  const params = {
    headers: Object.assign({}, headers),
    tags: { op, name: `${method} ${path.split('?')[0].replace(/(clients|gateways|users)\/.+/, '$1/{id}')}` },
    timeout: bound,
    redirects: 0,
    responseType,
    responseCallback: http.expectedStatuses({ min: 200, max: 299 }, ...also),
  };
  if (auth !== '') params.headers.Authorization = auth;
  const res = http.request(method, at + path, body, params);
  if (!waits.includes(op)) answerMs.add(res.timings.duration);
  const out = { ok: res.status >= 200 && res.status < 300, status: res.status, body: null, res };
  if (responseType === 'text' && res.body) {
    try {
      out.body = JSON.parse(res.body);
    } catch (_) {
      out.body = null;
    }
  }
  if (res.status !== 0) delete silentSince[at];
  if (!out.ok && !also.includes(res.status)) judge(out, op, at, who);
  return out;
}

// judge counts an error by its kind, and ends a run that has become pointless.
function judge(out, op, at, who) {
  const kind = kindOf(out);
  errors[kind].add(1);
  if (told < 3) {
    told += 1;
    console.warn(`${op} at ${at}: ${reason(out)}`);
  }
  if (out.status === 401) give(`${at} does not accept ${who || 'the credential'} (${code(out)}): it is wrong, has expired or was revoked; set ${source(who)}`);
  if (out.status === 403 && who === 'the admin token') give(`${at} says that the admin token is not enough for ${op} (${code(out)}); set KEYRAFT_TOKEN to one that may change clients and gateways`);
  if (out.status !== 0) return;
  silentSince[at] = silentSince[at] || Date.now();
  const silent = nodes.every((n) => silentSince[n] && Date.now() - silentSince[n] > giveUp * 1000);
  if (silent) give(`no node answers any more since ${giveUp} s (${reason(out)}); look at the nodes' logs`);
}

// give ends the run as partial.
function give(line) {
  aborted.add(1);
  stop(line);
}

function kindOf(out) {
  if (out.status === 0) return out.res.error_code === 1050 ? 'timeout' : 'unreachable';
  if (out.status === 429) return 'overload';
  if (out.status === 503) return code(out) === 'outcome_unknown' ? 'unknown' : 'unavailable';
  if (out.status >= 500) return 'failed';
  return out.status >= 400 ? 'refused' : 'odd';
}

const code = (out) => (out.body && (out.body.error || out.body.code)) || `status ${out.status}`;

// reason is one line about an error. Answers hold no secret, and only their words
// for errors are told.
function reason(out) {
  if (out.status === 0) return out.res.error.replace(/^.*?(dial|read|write|EOF|context|request timeout)/, '$1');
  const detail = (out.body && (out.body.error_description || out.body.detail)) || '';
  return `${out.status} ${code(out)} ${detail} [request ${out.res.headers['X-Request-Id'] || '-'}]`;
}

const source = (who) => ({ 'the admin token': 'KEYRAFT_TOKEN', 'the gateway credential': 'KEYRAFT_GATEWAY_CREDENTIAL' }[who] || 'KEYRAFT_CLIENT_ID and KEYRAFT_CLIENT_SECRET');

// issue gets an access token by client_credentials: {token, expires} or null.
export function issue(op, at, client) {
  const out = send(op, 'POST', at, '/oauth2/token', { body: { grant_type: 'client_credentials' }, auth: basic(client), who: `the client ${client.id}` });
  if (!out.ok) return null;
  const body = out.body || {};
  return { token: body.access_token || '', type: body.token_type, expires: Date.now() + 1000 * (body.expires_in || 0), lifetime: body.expires_in };
}

// introspect returns the answer, or null when there was none.
export function introspect(at, client, token) {
  const out = send('introspect', 'POST', at, '/oauth2/introspect', { body: { token }, auth: basic(client), who: `the client ${client.id}` });
  return out.ok ? out.body : null;
}

// revoke takes a token of the client's own back (RFC 7009).
export function revoke(at, client, token) {
  return send('revoke', 'POST', at, '/oauth2/revoke', { body: { token }, auth: basic(client), who: `the client ${client.id}` }).ok;
}

// redirectURI is where codes go. Nobody calls it: k6 reads the redirect instead.
export const redirectURI = 'https://loadtest.example/callback';

// asBrowser makes one request of a person at a browser: cookies are kept, and a redirect
// is an answer.
export function asBrowser(op, method, at, path, body = null) {
  return send(op, method, at, path, { body, also: [303] });
}

// tokens asks the token endpoint with a grant of a user.
export function tokens(op, at, client, form) {
  const out = send(op, 'POST', at, '/oauth2/token', { body: form, auth: basic(client), who: `the client ${client.id}` });
  return out.ok ? out.body : null;
}

const json = { 'Content-Type': 'application/json' };

// admin calls the admin API.
export function admin(op, method, at, path, body = null) {
  const headers = body === null ? {} : json;
  return send(op, method, at, path, {
    body: body === null ? null : JSON.stringify(body), headers, auth: `Bearer ${adminToken}`, who: 'the admin token', bound: '30s',
  });
}

// asGateway calls the gateway API.
export function asGateway(op, at, credential, path, more = {}) {
  return send(op, 'GET', at, path, Object.assign({ auth: `Bearer ${credential}`, who: 'the gateway credential' }, more));
}

// claims reads the payload of a JWT; null for an opaque token.
export function claims(token) {
  const parts = token.split('.');
  return parts.length === 3 ? JSON.parse(encoding.b64decode(parts[1], 'rawurl', 's')) : null;
}

// --- Before and after --------------------------------------------------------

// prepare returns setup(): it looks for the nodes, tries the credentials, and makes
// what the flows need. needs is {jwt, opaque, gateways}: how many of each. A token
// of these clients outlives the run.
export function prepare(needs, lifetime) {
  return () => {
    const data = { jwt: [], opaque: [], gateways: [], clients: [], registered: [], users: [], people: [] };
    reachable();
    memory(data, 'begin');
    if (isAdmin) make(data, needs, Math.ceil(lifetime) + 600);
    else take(data, needs);
    return data;
  };
}

function reachable() {
  for (const at of nodes) {
    const res = http.get(`${at}/readyz`, { tags: { op: 'ready' }, timeout: '5s', redirects: 0, responseCallback: null });
    const silent = res.status === 0;
    if (silent && /x509|tls:/.test(res.error)) stop(`${at} shows a certificate that is not trusted (${reason({ status: 0, res })}); set SSL_CERT_FILE to the file of its CA`);
    if (silent) stop(`${at} can't be reached (${reason({ status: 0, res })}); start it, or set KEYRAFT_ADDR`);
    let health = null;
    try {
      health = res.json();
    } catch (_) {
      health = null;
    }
    if (!health || !health.status) stop(`${at} answers /readyz with status ${res.status} and no health document; is it a Keyraft node? Set KEYRAFT_ADDR`);
    if (res.status !== 200) stop(`${at} is ${health.status}: ${health.reason || 'it does not say why'}; wait until it is ready, or leave it out of KEYRAFT_ADDR`);
  }
}

// made is an answer of the admin API in setup. Where there is none, the run ends, and
// what was made before is removed here: k6 calls no teardown after a setup that failed.
function made(out, what, data) {
  if (out.ok) return out.body;
  remove(data);
  return stop(`could not ${what} at ${nodes[0]}: ${reason(out)}`);
}

function make(data, needs, lifetime) {
  const run = `loadtest-${Date.now().toString(36)}-${Math.floor(Math.random() * 1e6).toString(36)}`;
  const client = (format, more = {}) => {
    const body = Object.assign({
      client_name: run, scope: 'read write', grant_types: ['client_credentials'],
      access_token_format: format, access_token_lifetime: lifetime,
    }, more);
    const c = made(admin('setup', 'POST', nodes[0], '/admin/v1/clients', body), 'register a client', data);
    data.clients.push(c.client_id);
    return { id: c.client_id, secret: c.client_secret };
  };
  const alg = env('ALG');
  for (let i = 0; i < (needs.jwt || 0); i++) data.jwt.push(client('jwt', alg === '' ? {} : { access_token_signed_response_alg: alg }));
  for (let i = 0; i < (needs.opaque || 0); i++) data.opaque.push(client('opaque'));
  data.asker = client('jwt', { introspection: 'any' });
  if (needs.users) {
    data.web = client('jwt', {
      grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], redirect_uris: [redirectURI], scope: 'openid offline_access', skip_consent: true,
    });
    for (let i = 0; i < needs.users; i++) {
      const password = `${run}-${Math.random().toString(36)}${Math.random().toString(36)}`;
      const u = made(admin('setup', 'POST', nodes[0], '/admin/v1/users', { username: `${run}-${i}`, password }), 'make a user', data);
      data.people.push(u.id);
      data.users.push({ username: u.username, password });
    }
  }
  if (!needs.gateways) return;
  const each = 512; // one credential may hold 1,024 long-polls
  for (let i = 0; i * each < needs.gateways; i++) {
    const g = made(admin('setup', 'POST', nodes[0], '/admin/v1/gateways', { name: `${run}-${i}` }), 'register a gateway', data);
    data.registered.push(g.id);
    data.gateways.push({ name: g.name, credential: g.credential });
  }
}

// take uses the credentials that are given, each once to see that it is good.
function take(data, needs) {
  if (needs.users) stop('this script makes users and a client for them: set KEYRAFT_TOKEN (an admin token)');
  if (given.id === '' || given.secret === '') {
    stop('no credential: set KEYRAFT_TOKEN (an admin token), or KEYRAFT_CLIENT_ID and KEYRAFT_CLIENT_SECRET');
  }
  const client = { id: given.id, secret: given.secret };
  const first = issue('setup', nodes[0], client);
  if (!first) stop(`${nodes[0]} gives the client ${client.id} no token; the line above says why`);
  const format = claims(first.token) ? 'jwt' : 'opaque';
  const other = format === 'jwt' ? 'opaque' : 'jwt';
  if (needs[other] && !needs[format]) stop(`the client ${client.id} gets ${format} tokens, and this script is about ${other} ones; give another client, or KEYRAFT_TOKEN`);
  data[format].push(client);
  data.asker = client;
  if (!needs.gateways) return;
  if (given.gateway === '') stop('no gateway credential: set KEYRAFT_GATEWAY_CREDENTIAL, or KEYRAFT_TOKEN');
  const out = asGateway('setup', nodes[0], given.gateway, '/gateway/v1/members');
  if (!out.ok) stop(`${nodes[0]} gives the gateway no list of members: ${reason(out)}`);
  data.gateways.push({ name: '', credential: given.gateway });
}

// finish is teardown(): what was made is removed.
export function finish(data) {
  memory(data, 'end');
  remove(data);
}

function remove(data) {
  const paths = data.clients.map((id) => `/admin/v1/clients/${id}`).concat(
    data.registered.map((id) => `/admin/v1/gateways/${id}`), data.people.map((id) => `/admin/v1/users/${id}`));
  const left = paths.filter((path) => ![204, 404].includes(retried(path)));
  if (left.length > 0) console.error(`could not remove ${left.join(', ')}; remove them by hand`);
}

function retried(path) {
  let status = 0;
  for (let i = 0; i < 3 * nodes.length && ![204, 401, 403, 404].includes(status); i++) {
    const params = { headers: { Authorization: `Bearer ${adminToken}` }, tags: { op: 'teardown' }, timeout: '10s', responseCallback: null };
    status = http.del(nodes[i % nodes.length] + path, null, params).status;
  }
  return status;
}

// memory reads what the nodes' processes hold, where METRICS_ADDR (or a node in
// --dev) shows it: what grew over a long run stands in the summary.
const rss = { begin: new Gauge('keyraft_rss_mib_begin'), end: new Gauge('keyraft_rss_mib_end') };
const goroutines = { begin: new Gauge('keyraft_goroutines_begin'), end: new Gauge('keyraft_goroutines_end') };
function memory(data, when) {
  const at = env('METRICS_ADDR') === '' ? nodes : env('METRICS_ADDR').split(',').map((a) => a.trim());
  let most = 0;
  let many = 0;
  for (const a of at) {
    const res = http.get(`${a.replace(/\/+$/, '')}/metrics`, { tags: { op: 'metrics' }, timeout: '5s', responseCallback: null });
    if (res.status !== 200 || !res.body) continue;
    const read = (name) => Number((new RegExp(`^${name} (\\S+)`, 'm').exec(res.body) || [])[1] || 0);
    most = Math.max(most, read('process_resident_memory_bytes') / 1048576);
    many = Math.max(many, read('go_goroutines'));
  }
  if (most > 0) rss[when].add(most);
  if (many > 0) goroutines[when].add(many);
}
