// Token exchange (RFC 8693): an API passes its caller on to another one.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { newClient, newUser } from '../lib/keyraft.mjs'
import { libraries, refused } from './libraries.mjs'

const grant = 'urn:ietf:params:oauth:grant-type:token-exchange'
const access = 'urn:ietf:params:oauth:token-type:access_token'
const orders = 'https://orders.example'
const stock = 'https://stock.example'

for (const lib of libraries) {
  describe(lib.name, () => {
    // shop is a web client, and the API that its tokens are for.
    const shop = async () => {
      const api = await lib.discover(await newClient({
        grant_types: [grant], response_types: [], redirect_uris: undefined, scope: 'openid profile', resources: [stock],
        token_exchange_subjects: [orders], token_exchange_audiences: [stock], skip_consent: true,
      }))
      const web = await lib.discover(await newClient({ resources: [orders] }))
      const user = await newUser()
      const login = await lib.login(web, user, { parameters: { resource: orders } })
      return { api, web, user, login, asked: { subject_token: login.tokens.access_token, subject_token_type: access, resource: stock, scope: 'profile' } }
    }
    const claims = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'))

    test('for another API, narrower, and saying who acts', async () => {
      const { api, user, asked } = await shop()
      const got = await lib.exchange(api, asked)
      assert.equal(got.issued_token_type, access)
      const { sub, aud, act, scope } = claims(got.access_token)
      assert.deepEqual([sub, [aud].flat(), act.sub, scope], [user.id, [stock], api.client.client_id, 'profile'])
      assert.equal((await lib.introspect(api, got.access_token)).active, true)
    })

    test('what is taken back takes with it what came of it', async () => {
      const { api, web, login, asked } = await shop()
      const got = await lib.exchange(api, asked)
      await lib.revoke(web, login.tokens.access_token)
      assert.equal((await lib.introspect(api, got.access_token)).active, false)
      await assert.rejects(lib.exchange(api, asked), refused('invalid_request')) // RFC 8693 §2.2.2
    })

    test('neither wider, nor for elsewhere, nor by who may not', async () => {
      const { api, web, asked } = await shop()
      await assert.rejects(lib.exchange(api, { ...asked, scope: 'profile admin' }), refused('invalid_scope'))
      await assert.rejects(lib.exchange(api, { ...asked, resource: 'https://bank.example' }), refused('invalid_target'))
      await assert.rejects(lib.exchange(web, asked), refused('unauthorized_client'))
      await assert.rejects(lib.exchange(api, { ...asked, subject_token: asked.subject_token.slice(0, -4) + 'AAAA' }), refused('invalid_request'))
    })
  })
}
