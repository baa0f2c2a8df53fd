// Tokens that are bound to a key (RFC 9449).

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { newClient, newUser } from '../lib/keyraft.mjs'
import { libraries, refused } from './libraries.mjs'

for (const lib of libraries) {
  describe(lib.name, () => {
    for (const alg of ['ES256', 'Ed25519', 'RS256', 'PS256']) {
      test(`${alg}: code, userinfo and refresh with proofs, nonces included`, async () => {
        const at = await lib.discover(await newClient({ dpop_bound_access_tokens: true }))
        const login = await lib.login(at, await newUser(), { dpop: await lib.dpopKeys(alg) })
        assert.equal(login.tokens.token_type.toLowerCase(), 'dpop')
        assert.equal((await lib.userinfo(at, login)).sub, login.claims.sub)
        const told = await lib.introspect(at, login.tokens.access_token)
        assert.equal(typeof told.cnf.jkt, 'string')
        const next = await lib.refresh(at, login.tokens.refresh_token, login)
        assert.equal(next.token_type.toLowerCase(), 'dpop')
      })
    }

    test('a request that is pushed with a proof gives a code for its key alone', async () => {
      const at = await lib.discover(await newClient({ token_endpoint_auth_method: 'none', dpop_bound_access_tokens: true }))
      const login = await lib.login(at, await newUser(), { par: true, dpop: await lib.dpopKeys('ES256') })
      const other = await lib.login(at, await newUser(), { dpop: await lib.dpopKeys('ES256') })
      await assert.rejects(lib.refresh(at, login.tokens.refresh_token, other), refused('invalid_grant'))
      assert.ok((await lib.refresh(at, login.tokens.refresh_token, login)).access_token)
    })

    test('without a proof the token opens nothing', async () => {
      const at = await lib.discover(await newClient({ dpop_bound_access_tokens: true }))
      const login = await lib.login(at, await newUser(), { dpop: await lib.dpopKeys('ES256') })
      await assert.rejects(lib.userinfo(at, { ...login, DPoP: undefined }))
    })
  })
}
