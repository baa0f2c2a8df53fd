// Clients that register themselves (RFC 7591).

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { admin, newUser, redirect } from '../lib/keyraft.mjs'
import { libraries, pair, refused } from './libraries.mjs'

const initial = async () => (await admin('POST', '/initial-access-tokens', {})).token

const metadata = {
  client_name: 'Weather', redirect_uris: [redirect], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
  scope: 'openid profile email offline_access', application_type: 'web',
}

for (const lib of libraries) {
  describe(lib.name, () => {
    test('a client registers itself with a token of the operator and logs a user in', async () => {
      const at = await lib.register({ ...metadata, token_endpoint_auth_method: 'client_secret_basic' }, await initial())
      const login = await lib.login(at, await newUser())
      assert.ok(login.claims.sub)
    })

    test('the answer has what libraries need of it when little is asked', async () => {
      const at = await lib.register({ redirect_uris: [redirect] }, await initial())
      assert.equal(at.client.token_endpoint_auth_method, 'client_secret_basic')
      assert.equal(at.client.client_secret_expires_at, 0)
      assert.deepEqual(at.client.response_types, ['code'])
    })

    test('pairwise, with a key of its own', async () => {
      const key = await pair('ES256')
      const user = await newUser()
      const at = await lib.register({ ...metadata, token_endpoint_auth_method: 'private_key_jwt', jwks: key.jwks, subject_type: 'pairwise' }, await initial(), key)
      const keyed = await lib.discover({ ...at.client, ...key })
      const login = await lib.login(keyed, user)
      assert.notEqual(login.claims.sub, user.id)
      assert.equal((await lib.userinfo(keyed, login)).sub, login.claims.sub)
    })

    test('without a token nobody registers, and a token is good once', async () => {
      await assert.rejects(lib.register(metadata), refused('invalid_token'))
      const token = await initial()
      await lib.register(metadata, token)
      await assert.rejects(lib.register(metadata, token), refused('invalid_token'))
    })
  })
}
