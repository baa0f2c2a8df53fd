// Clients that poll until a user has decided: devices (RFC 8628) and back channels (CIBA).

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { address, newClient, newUser, signIn } from '../lib/keyraft.mjs'
import { libraries, pair, refused } from './libraries.mjs'

const device = 'urn:ietf:params:oauth:grant-type:device_code'
const ciba = 'urn:openid:params:grant-type:ciba'
const scope = 'openid profile email offline_access'
const made = (members) => newClient({ response_types: [], redirect_uris: undefined, ...members })

for (const lib of libraries) {
  describe(lib.name, { concurrency: true }, () => { // they wait for their intervals
    for (const [name, members] of [['a public device', { token_endpoint_auth_method: 'none' }], ['a confidential one', {}]]) {
      test(`${name}: allowed`, async () => {
        const user = await newUser()
        const at = await lib.discover(await made({ grant_types: [device, 'refresh_token'], ...members }))
        const asked = await lib.device(at, { scope })
        assert.equal(asked.verification_uri, `${address}/device`)
        const [tokens] = await Promise.all([patient(asked), signIn(asked.verification_uri_complete, user)])
        assert.equal((await lib.userinfo(at, { tokens, claims: { sub: user.id } })).email, user.email)
        const next = await lib.refresh(at, tokens.refresh_token)
        await lib.revoke(at, next.refresh_token)
        await assert.rejects(lib.refresh(at, next.refresh_token), refused('invalid_grant'))
      })
    }

    test('a device that is denied', async () => {
      const at = await lib.discover(await made({ grant_types: [device], token_endpoint_auth_method: 'none' }))
      const asked = await lib.device(at, { scope: 'openid' })
      await Promise.all([assert.rejects(patient(asked), refused('access_denied')), signIn(asked.verification_uri_complete, await newUser(), { decision: 'deny' })])
    })

    for (const [name, keyed] of [['a secret', false], ['a key', true]]) {
      test(`a back channel of a client with ${name}: allowed`, async () => {
        const key = keyed && await pair('PS256')
        const user = await newUser()
        const client = await made({ grant_types: [ciba, 'refresh_token'], ...(key && { token_endpoint_auth_method: 'private_key_jwt', jwks: key.jwks }) })
        const at = await lib.discover({ ...client, ...key })
        const asked = await lib.backchannel(at, { scope, login_hint: user.username, binding_message: 'W4SCT', requested_expiry: '120' })
        assert.equal(asked.expires_in, 120)
        const [tokens] = await Promise.all([patient(asked), signIn(`${address}/requests`, user)])
        assert.equal((await lib.introspect(at, tokens.access_token)).sub, user.id)
        assert.ok((await lib.refresh(at, tokens.refresh_token)).access_token)
      })
    }

    test('a back channel that is denied; a user that nobody is', async () => {
      const at = await lib.discover(await made({ grant_types: [ciba] }))
      const user = await newUser()
      const asked = await lib.backchannel(at, { scope: 'openid', login_hint: user.username })
      await Promise.all([assert.rejects(patient(asked), refused('access_denied')), signIn(`${address}/requests`, user, { decision: 'deny' })])
      await assert.rejects(lib.backchannel(at, { scope: 'openid', login_hint: 'nobody-at-all' }), refused('unknown_user_id'))
    })

    // patient polls as RFC 8628 §3.5 has it. openid-client does this by itself.
    async function patient(asked) {
      for (;;) {
        try {
          return await asked.poll()
        } catch (err) {
          if (!['authorization_pending', 'slow_down'].includes(err.error)) throw err
          if (err.error === 'slow_down') asked.interval += 5
          await new Promise((resolve) => setTimeout(resolve, asked.interval * 1000))
        }
      }
    }
  })
}
