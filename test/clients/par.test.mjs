// Pushed authorization requests (RFC 9126).

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { newClient, newUser } from '../lib/keyraft.mjs'
import { libraries, refused } from './libraries.mjs'

for (const lib of libraries) {
  describe(lib.name, () => {
    test('a client that must push its requests does', async () => {
      const at = await lib.discover(await newClient({ require_pushed_authorization_requests: true }))
      const login = await lib.login(at, await newUser(), { par: true })
      assert.ok(login.tokens.access_token)
    })

    test('what is wrong is told when it is pushed', async () => {
      const at = await lib.discover(await newClient())
      const user = await newUser()
      await assert.rejects(lib.login(at, user, { par: true, parameters: { scope: 'openid admin' } }), refused('invalid_scope'))
      await assert.rejects(lib.login(at, user, { par: true, parameters: { redirect_uri: 'https://other.example/cb' } }), refused('invalid_request'))
    })
  })
}
