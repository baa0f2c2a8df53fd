// RP-initiated logout, by the URL that a library builds; Back-Channel Logout, at receivers
// that check the token by jose.

import assert from 'node:assert/strict'
import http from 'node:http'
import { test } from 'node:test'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import * as oidc from 'openid-client'
import { address, admin, newClient, newUser, signIn } from '../lib/keyraft.mjs'
import { libraries, refused } from './libraries.mjs'

test('openid-client builds a logout that ends the session and comes back', async () => {
  const [lib] = libraries
  const back = 'https://app.example/bye'
  const user = await newUser()
  const at = await lib.discover(await newClient({ post_logout_redirect_uris: [back] }))
  const jar = new Map()
  const login = await lib.login(at, user, { jar })
  const url = oidc.buildEndSessionUrl(at.config, { post_logout_redirect_uri: back, id_token_hint: login.tokens.id_token, state: 's1' })
  const gone = await signIn(url, user, { jar })
  assert.equal(gone.href, `${back}?state=s1`)
  await assert.rejects(lib.login(at, user, { jar, parameters: { prompt: 'none' } }), (err) => err.error === 'login_required')
})

// receiver is an application's endpoint for logout tokens. It answers with each of these
// statuses in turn and the last one from then on; next waits for another token.
async function receiver(t, ...statuses) {
  const waiting = []
  const come = []
  const server = http.createServer(async (request, response) => {
    let text = ''
    for await (const chunk of request) text += chunk
    response.writeHead(statuses.length > 1 ? statuses.shift() : statuses[0]).end()
    const told = { method: request.method, type: request.headers['content-type'], form: new URLSearchParams(text) }
    if (waiting.length) waiting.shift()(told)
    else come.push(told)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => { server.close(); server.closeAllConnections() })
  return { url: `http://127.0.0.1:${server.address().port}/told`, next: () => come.shift() ?? new Promise((resolve) => waiting.push(resolve)), come }
}

// check verifies a logout token as Back-Channel Logout §2.6 has it.
async function check(at, { method, type, form }) {
  assert.deepEqual([method, type.split(';')[0], [...form.keys()]], ['POST', 'application/x-www-form-urlencoded', ['logout_token']])
  const keys = createRemoteJWKSet(new URL(at.as.jwks_uri))
  const { payload } = await jwtVerify(form.get('logout_token'), keys, { issuer: address, audience: at.client.client_id, typ: 'logout+jwt', requiredClaims: ['iat', 'exp', 'jti'], algorithms: [at.client.id_token_signed_response_alg ?? 'RS256'] })
  assert.deepEqual(payload.events, { 'http://schemas.openid.net/event/backchannel-logout': {} })
  assert.equal(payload.nonce, undefined)
  return payload
}

for (const lib of libraries) {
  test(`${lib.name}: the logout at one application is told to each one of the session, by its own algorithm and subject`, async (t) => {
    const [one, two] = [await receiver(t, 200), await receiver(t, 200)]
    const user = await newUser()
    const jar = new Map()
    const first = await lib.discover(await newClient({ backchannel_logout_uri: one.url, backchannel_logout_session_required: true, post_logout_redirect_uris: ['https://app.example/bye'] }))
    const second = await lib.discover(await newClient({ backchannel_logout_uri: two.url, backchannel_logout_session_required: true, id_token_signed_response_alg: 'EdDSA', subject_type: 'pairwise' }))
    const login = await lib.login(first, user, { jar })
    const other = await lib.login(second, user, { jar })
    const elsewhere = await lib.login(second, user) // by another session, which goes on
    const leave = new URLSearchParams({ id_token_hint: login.tokens.id_token, post_logout_redirect_uri: 'https://app.example/bye' })
    await signIn(`${first.as.end_session_endpoint}?${leave}`, user, { jar })
    const [tokenOne, tokenTwo] = await Promise.all([check(first, await one.next()), check(second, await two.next())])
    assert.deepEqual([tokenOne.sub, tokenOne.sid], [login.claims.sub, login.claims.sid])
    assert.deepEqual([tokenTwo.sub, tokenTwo.sid], [other.claims.sub, other.claims.sid])
    assert.notEqual(tokenTwo.sub, user.id)
    assert.ok((await lib.refresh(second, elsewhere.tokens.refresh_token)).access_token)
    assert.equal(two.come.length, 0)
  })

  test(`${lib.name}: an operator ends a session; a receiver that failed is told again`, async (t) => {
    const app = await receiver(t, 503, 200)
    const user = await newUser()
    const at = await lib.discover(await newClient({ backchannel_logout_uri: app.url }))
    const login = await lib.login(at, user, { parameters: { scope: 'openid' } })
    await admin('DELETE', `/users/${user.id}/sessions/${login.claims.sid}`)
    const tokens = [await check(at, await app.next()), await check(at, await app.next())]
    for (const token of tokens) assert.equal(token.sid, login.claims.sid)
    await assert.rejects(lib.refresh(at, login.tokens.refresh_token), refused('invalid_grant'))
  })
}
