// Each way of a client to say who it is, at the token endpoint, PAR, introspection and
// revocation.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { newClient, newUser } from '../lib/keyraft.mjs'
import { libraries, pair, refused } from './libraries.mjs'

const ways = [
  ['client_secret_basic'], ['client_secret_post'], ['client_secret_jwt'],
  ['private_key_jwt', 'ES256'], ['private_key_jwt', 'RS256'], ['private_key_jwt', 'PS256'], ['private_key_jwt', 'Ed25519'], ['private_key_jwt', 'ES384'],
]

for (const lib of libraries) {
  describe(lib.name, () => {
    for (const [method, alg] of ways) {
      test([method, alg].filter(Boolean).join(' '), async () => {
        const key = alg && await pair(alg)
        const made = await newClient({ token_endpoint_auth_method: method, ...(key && { jwks: key.jwks }) })
        const at = await lib.discover({ ...made, ...key })
        const { tokens } = await lib.login(at, await newUser(), { par: true })
        assert.equal((await lib.introspect(at, tokens.access_token)).active, true)
        const next = await lib.refresh(at, tokens.refresh_token)
        await lib.revoke(at, next.access_token)
        assert.equal((await lib.introspect(at, next.access_token)).active, false)
      })
    }

    test('none: a public client with PKCE', async () => {
      const at = await lib.discover(await newClient({ token_endpoint_auth_method: 'none' }))
      const { tokens } = await lib.login(at, await newUser())
      const next = await lib.refresh(at, tokens.refresh_token)
      await lib.revoke(at, next.refresh_token)
      await assert.rejects(lib.refresh(at, next.refresh_token), refused('invalid_grant'))
    })

    test('a wrong secret is refused, whatever it is made of', async () => {
      const at = await lib.discover({ ...(await newClient()), client_secret: 'not: the+secret %&=?/ä' })
      await assert.rejects(lib.login(at, await newUser()), (err) => {
        assert.equal(err.status, 401)
        assert.equal(err.cause[0].scheme, 'basic') // RFC 6749 §5.2: a challenge of the scheme that was used
        return true
      })
    })

    test('client credentials', async () => {
      const at = await lib.discover(await newClient({ grant_types: ['client_credentials'], response_types: [], redirect_uris: [], scope: 'read write' }))
      const tokens = await lib.clientCredentials(at, { scope: 'read' })
      assert.equal(tokens.scope ?? 'read', 'read')
      assert.equal((await lib.introspect(at, tokens.access_token)).sub, at.client.client_id)
    })
  })
}
