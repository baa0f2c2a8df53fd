// The way that most clients go: discovery, code with PKCE, an ID token that is checked,
// userinfo, refresh, introspection, revocation.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as oauth from 'oauth4webapi'
import { address, newClient, newUser } from '../lib/keyraft.mjs'
import { libraries, refused } from './libraries.mjs'

for (const lib of libraries) {
  describe(lib.name, () => {
    test('a login gives tokens that the library checks, and the answer names its issuer', async () => {
      const user = await newUser()
      const at = await lib.discover(await newClient())
      const login = await lib.login(at, user)
      assert.equal(login.back.searchParams.get('iss'), address)
      assert.equal(login.claims.sub, user.id)
      assert.equal(typeof login.claims.auth_time, 'number')
      assert.equal(typeof login.claims.sid, 'string')
      assert.equal(login.tokens.token_type.toLowerCase(), 'bearer')
      const told = await lib.userinfo(at, login)
      assert.deepEqual([told.sub, told.name, told.email, told.email_verified], [user.id, 'Ada Lovelace', user.email, true])
    })

    test('a code is good once, and its second use takes back what came of it', async () => {
      const at = await lib.discover(await newClient())
      const login = await lib.login(at, await newUser())
      await assert.rejects(login.again(), refused('invalid_grant'))
      assert.equal((await lib.introspect(at, login.tokens.access_token)).active, false)
      await assert.rejects(lib.refresh(at, login.tokens.refresh_token), refused('invalid_grant'))
    })

    test('a refresh token rotates; the old one, used once more, ends the whole login', async () => {
      const user = await newUser()
      const at = await lib.discover(await newClient({ refresh_grace: 0 }))
      const login = await lib.login(at, user)
      const second = await lib.refresh(at, login.tokens.refresh_token)
      assert.notEqual(second.refresh_token, login.tokens.refresh_token)
      assert.ok(second.id_token)
      const third = await lib.refresh(at, second.refresh_token)
      await assert.rejects(lib.refresh(at, second.refresh_token), refused('invalid_grant'))
      await assert.rejects(lib.refresh(at, third.refresh_token), refused('invalid_grant'))
      assert.equal((await lib.introspect(at, third.access_token)).active, false)
    })

    test('within the grace window a repeated refresh gets the same successor', async () => {
      const at = await lib.discover(await newClient({ refresh_grace: 60 }))
      const login = await lib.login(at, await newUser())
      const [one, two] = await Promise.all([lib.refresh(at, login.tokens.refresh_token), lib.refresh(at, login.tokens.refresh_token)])
      assert.equal(one.refresh_token, two.refresh_token)
    })

    test('introspection tells of a live token, and not of a revoked one', async () => {
      const user = await newUser()
      const at = await lib.discover(await newClient())
      const { tokens } = await lib.login(at, user)
      const told = await lib.introspect(at, tokens.access_token)
      assert.deepEqual([told.active, told.sub, told.client_id, told.iss], [true, user.id, at.client.client_id, address])
      await lib.revoke(at, tokens.access_token)
      assert.equal((await lib.introspect(at, tokens.access_token)).active, false)
      await lib.revoke(at, tokens.refresh_token)
      await assert.rejects(lib.refresh(at, tokens.refresh_token), refused('invalid_grant'))
    })

    test('opaque access tokens do the same', async () => {
      const at = await lib.discover(await newClient({ access_token_format: 'opaque' }))
      const login = await lib.login(at, await newUser())
      assert.equal(login.tokens.access_token.split('.').length, 1)
      assert.equal((await lib.userinfo(at, login)).sub, login.claims.sub)
      assert.equal((await lib.introspect(at, login.tokens.access_token)).active, true)
    })

    for (const alg of ['RS256', 'PS256', 'ES256', 'EdDSA']) {
      test(`ID tokens and userinfo signed with ${alg}`, async () => {
        const at = await lib.discover(await newClient({ id_token_signed_response_alg: alg, userinfo_signed_response_alg: alg }))
        const login = await lib.login(at, await newUser())
        const header = JSON.parse(Buffer.from(login.tokens.id_token.split('.')[0], 'base64url'))
        assert.equal(header.alg, alg)
        assert.equal((await lib.userinfo(at, login)).name, 'Ada Lovelace')
      })
    }

    test('introspection as a signed JWT', async () => {
      const at = await lib.discover(await newClient({ introspection_signed_response_alg: 'ES256' }))
      const { tokens } = await lib.login(at, await newUser())
      assert.equal((await lib.introspect(at, tokens.access_token)).active, true)
    })

    test('prompt=none answers login_required when nobody is signed in, and a code when somebody is', async () => {
      const user = await newUser()
      const at = await lib.discover(await newClient())
      await assert.rejects(lib.login(at, user, { parameters: { prompt: 'none' } }), refused('login_required'))
      const jar = new Map()
      const first = await lib.login(at, user, { jar })
      const silent = await lib.login(at, user, { jar, parameters: { prompt: 'none' } })
      assert.equal(silent.claims.sid, first.claims.sid)
    })
  })
}

test('both places of the metadata are right for the library', async () => {
  const issuer = new URL(address)
  const insecure = { [oauth.allowInsecureRequests]: true }
  for (const algorithm of ['oidc', 'oauth2']) {
    const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm, ...insecure }))
    assert.equal(as.issuer, address)
    assert.equal(as.authorization_response_iss_parameter_supported, true)
  }
})

test('an access token is a JWT of RFC 9068 for an API that checks it', async () => {
  const [, lib] = libraries
  const at = await lib.discover(await newClient({ resources: ['https://api.example'] }))
  const { tokens } = await lib.login(at, await newUser(), { parameters: { resource: 'https://api.example' } })
  const call = new Request('https://api.example/x', { headers: { authorization: `Bearer ${tokens.access_token}` } })
  const claims = await oauth.validateJwtAccessToken(at.as, call, 'https://api.example', { [oauth.allowInsecureRequests]: true })
  assert.equal(claims.client_id, at.client.client_id)
})
