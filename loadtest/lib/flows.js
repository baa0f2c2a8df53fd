// What one virtual user does, once: the scripts schedule these. An answer that came
// is checked for its truth here; whether it came is counted by the requests.
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { Counter, Gauge, Trend } from 'k6/metrics';
import http from 'k6/http';
import crypto from 'k6/crypto';
import { admin, another, asBrowser, asGateway, claims, introspect, issue, node, nodes, number, redirectURI, revoke, seconds, span, tokens } from './keyraft.js';

const any = (list) => list[Math.floor(Math.random() * list.length)];

// issueJWT and issueOpaque get one token.
export function issueJWT(data) {
  const got = issue('jwt', node(), any(data.jwt));
  if (!got) return;
  check(got, {
    'a JWT comes with its type and lifetime': (t) => t.type === 'Bearer' && t.lifetime > 0 && t.token.split('.').length === 3,
  });
}

export function issueOpaque(data) {
  const got = issue('opaque', node(), any(data.opaque));
  if (!got) return;
  check(got, {
    'an opaque token comes with its type and lifetime': (t) => t.type === 'Bearer' && t.lifetime > 0 && t.token.startsWith('kr1_'),
  });
}

// introspectOne asks about a token that this virtual user holds, or about a forged
// one: the answer is known beforehand.
const kept = [];
const hold = number('TOKENS', 20, 1, 10000);
const badShare = number('BAD_SHARE', 0.1, 0, 1);
export function introspectOne(data) {
  if (Math.random() < badShare) {
    const answer = introspect(node(), data.asker, forged());
    if (answer) check(answer, { 'a forged token is not active, and nothing is told of it': (a) => a.active === false && Object.keys(a).length === 1 });
    return;
  }
  const one = holding(data);
  if (!one) return;
  const answer = introspect(node(), data.asker, one.token);
  if (answer) check(answer, { 'a good token is active, at every node': (a) => a.active === true });
}

function holding(data) {
  while (kept.length > 0 && kept[0].expires < Date.now() + 5000) kept.shift(); // the oldest goes first
  if (kept.length < hold) {
    const jwt = data.opaque.length === 0 || (data.jwt.length > 0 && kept.length % 2 === 0);
    const got = issue('fill', node(), any(jwt ? data.jwt : data.opaque));
    if (got && got.expires > Date.now() + 5000) kept.push(got);
    return got;
  }
  return any(kept);
}

function forged() {
  const text = Array.from({ length: 43 }, () => 'abcdefghijklmnopqrstuvwxyz0123456789'[Math.floor(Math.random() * 36)]).join('');
  return Math.random() < 0.5 ? `kr1_${text}` : `eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.${text}`;
}

// revokeOne takes a fresh token back at one node; from the answer on, no node calls
// it active.
export function revokeOne(data) {
  const client = any(data.jwt.length > 0 && (data.opaque.length === 0 || Math.random() < 0.5) ? data.jwt : data.opaque);
  const at = node();
  const got = issue('fill', at, client);
  if (!got) return;
  const before = introspect(another(at), client, got.token);
  if (before) check(before, { 'a fresh token is active at another node': (a) => a.active === true });
  if (!revoke(at, client, got.token)) return; // 503: nobody promised anything
  const after = introspect(another(at), client, got.token);
  if (after) check(after, { 'a revoked token is not active at another node': (a) => a.active === false });
}

// --- Users --------------------------------------------------------------------

// signIn is one person at a browser without cookies who signs in, and their client, which
// redeems the code and refreshes REFRESHES times: each request at another node.
const refreshes = number('REFRESHES', 1, 0, 1000);
export function signIn(data) {
  for (const at of nodes) http.cookieJar().clear(at);
  const who = any(data.users);
  const verifier = Array.from({ length: 64 }, () => 'abcdefghijklmnopqrstuvwxyz0123456789'[Math.floor(Math.random() * 36)]).join('');
  const state = `${exec.vu.idInTest}-${exec.vu.iterationInScenario}`;
  const query = Object.entries({
    client_id: data.web.id, redirect_uri: redirectURI, response_type: 'code', scope: 'openid offline_access', state, nonce: state,
    code_challenge: crypto.sha256(verifier, 'base64rawurl'), code_challenge_method: 'S256',
  }).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&');
  const page = asBrowser('authorize', 'GET', node(), `/oauth2/authorize?${query}`);
  if (!page.ok) return;
  const flow = (/name="flow" value="([^"]+)"/.exec(page.res.body) || [])[1];
  if (!check(flow, { 'somebody unknown is asked to sign in': (f) => f !== undefined })) return;
  const answer = asBrowser('login', 'POST', node(), '/login', { flow, username: who.username, password: who.password });
  if (answer.status !== 303 && !answer.ok) return;
  const to = answer.res.headers.Location || '';
  const param = (name) => decodeURIComponent((new RegExp(`[?&]${name}=([^&]*)`).exec(to) || [])[1] || '');
  if (!check(to, { 'the right password leads back with a code and the state': () => to.startsWith(redirectURI) && param('code') !== '' && param('state') === state })) return;
  let got = tokens('code', node(), data.web, { grant_type: 'authorization_code', code: param('code'), redirect_uri: redirectURI, code_verifier: verifier });
  if (!got) return;
  const first = claims(got.id_token);
  check(first, { 'the ID token is for this client and this request': (c) => c.aud === data.web.id && c.nonce === state });
  for (let i = 0; i < refreshes; i++) {
    const next = tokens('refresh', node(), data.web, { grant_type: 'refresh_token', refresh_token: got.refresh_token });
    if (!next) return;
    const before = got.refresh_token;
    check(next, { 'a refresh token gives the next one, of the same user': (n) => n.refresh_token !== before && claims(n.id_token).sub === first.sub });
    got = next;
  }
}

// --- Gateways ---------------------------------------------------------------

const longest = seconds('WAIT', '10s');
const bound = span(longest + 15);
const seen = new Counter('keyraft_events_seen');
const behind = new Counter('keyraft_polls_behind');
const arrivals = new Counter('keyraft_arrivals');
const arrival = new Trend('keyraft_arrival_ms', true);
const inReceipt = new Gauge('keyraft_receipt_gateways');
const receiptMs = new Trend('keyraft_receipt_ms', true);

let me = null; // position of the gateway that this virtual user is

// polls is the scenario of so many gateways, which live for s seconds; lead is how much
// earlier than the other scenarios they begin.
export function polls(gateways, s, lead = 0) {
  lifetime = s;
  ahead = lead;
  return { executor: 'constant-vus', exec: 'gateway', vus: gateways, duration: span(s), gracefulStop: '30s' };
}

let lifetime = 0; // of the gateways, in seconds
let ahead = 0;

// gateway is one poll of one gateway process; a virtual user is one for all its life.
// The last poll waits no longer than the run.
export function gateway(data) {
  if (me === null) me = enter(data);
  if (me === null) {
    sleep(1);
    return;
  }
  const left = (exec.scenario.startTime - Date.now()) / 1000 + lifetime;
  const wait = Math.max(0.05, Math.min(longest, left));
  const out = asGateway('poll', me.at, me.credential, `/gateway/v1/revocations?since=${me.since}&epoch=${me.epoch}&wait=${span(wait)}&instance=${me.instance}`, {
    headers: { 'X-Keyraft-Fail-Mode': 'closed', 'X-Keyraft-Bound-Ms': '5000' }, also: [409], bound,
  });
  if (out.ok) {
    advance(out.body);
    return;
  }
  if (out.status === 409 && out.body && out.body.code === 'behind') {
    behind.add(1); // this node knows less than we do: another one
    me.at = another(me.at);
    return;
  }
  if (out.status === 409) {
    check(out.body, { 'the position of a gateway stays good': () => false });
    me = null; // of another epoch, or ahead: begin again with the snapshot
    return;
  }
  me.at = another(me.at);
  sleep(0.2 + Math.random());
}

// enter begins as a gateway does: keys, then the snapshot, then polls from its head.
function enter(data) {
  const who = data.gateways[exec.vu.idInTest % data.gateways.length];
  const at = node();
  const keys = asGateway('keys', at, who.credential, '/gateway/v1/jwks');
  if (!keys.ok) return null;
  check(keys.body, { 'a gateway gets the keys of every issuer': (b) => b.issuers.length > 0 && b.issuers.every((i) => i.jwks.keys.length > 0) });
  const snapshot = asGateway('snapshot', at, who.credential, '/gateway/v1/revocations/snapshot', { responseType: 'none', also: [429], bound: '60s' });
  if (!snapshot.ok) return null; // 429: too many at once; the next turn tries again
  // The snapshot holds the events up to its own head, which is at least this one.
  return { at, credential: who.credential, instance: `vu-${exec.vu.idInTest}`, cluster: keys.body.cluster, epoch: keys.body.epoch, since: keys.body.head };
}

// advance takes a delta in and moves on: that is the acknowledgement.
function advance(delta) {
  const seqs = delta.items.map((i) => i.seq);
  check(delta, {
    'the head of a gateway never goes back': (d) => d.head >= me.since,
    'events come once each, by rising seq, above since and up to the head': (d) => seqs.every((s, i) => s > (i === 0 ? me.since : seqs[i - 1]) && s <= d.head),
    'the cluster and its epoch stay': (d) => d.cluster === me.cluster && d.epoch === me.epoch,
  });
  seen.add(seqs.length);
  me.since = delta.truncated ? Math.max(me.since, ...seqs) : Math.max(me.since, delta.head);
}

// revocationArrives takes a token back at one node and looks for the event at
// another: keyraft_arrival_ms is from the request to the event in hand.
export function revocationArrives(data) {
  const credential = any(data.gateways).credential;
  const at = node();
  const other = another(at);
  const client = any(data.jwt);
  const got = issue('fill', at, client);
  const from = asGateway('keys', other, credential, '/gateway/v1/jwks');
  if (!got || !from.ok) return;
  const target = claims(got.token).jti;
  const begun = Date.now();
  if (!revoke(at, client, got.token)) return;
  check(arrives(other, credential, from.body, target, begun), { 'a revocation arrives at another node': (came) => came !== false });
}

// arrives follows the log until the target is revoked in it. null: a request failed.
function arrives(at, credential, from, target, begun) {
  let since = from.head;
  for (const end = begun + 10000; Date.now() < end;) {
    // The event log acknowledges nothing: it makes no gateway of whoever reads it.
    const out = asGateway('events', at, credential, `/gateway/v1/events?since=${since}&epoch=${from.epoch}&wait=2s&kinds=token`, { also: [409], bound });
    if (out.status === 409) continue; // behind: it will catch up
    if (!out.ok) return null;
    if (out.body.items.some((i) => i.kind === 'token' && i.target === target)) {
      arrival.add(Date.now() - begun);
      arrivals.add(1);
      return true;
    }
    since = out.body.truncated ? out.body.items[out.body.items.length - 1].seq : Math.max(since, out.body.head);
  }
  return false;
}

// receipt takes a token back and waits until every gateway of this run says that it
// knows: keyraft_receipt_ms is the slowest of them, from the revocation on.
export function receipt(data) {
  const at = node();
  const got = issue('fill', at, any(data.jwt));
  if (!got) return;
  const out = admin('receipt', 'POST', at, '/admin/v1/revocations?wait=gateways&timeout=10s', { token: got.token });
  const end = exec.scenario.startTime + (lifetime - ahead) * 1000;
  if (!out.ok || Date.now() > end) return; // after the end no gateway is there to confirm
  const ours = (out.body.receipt || []).filter((r) => data.registered.some((id) => r.gateway === id) || data.gateways.some((g) => r.gateway === g.name));
  check(ours, { 'every gateway confirms a revocation': (list) => list.length > 0 && list.every((r) => r.ok) });
  const confirmed = ours.filter((r) => r.ok).map((r) => r.ms);
  inReceipt.add(confirmed.length);
  if (confirmed.length > 0) receiptMs.add(Math.max(...confirmed));
}
