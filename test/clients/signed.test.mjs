// What is signed on its way through the browser: request objects (RFC 9101), answers
// (JARM), and the ID token of a hybrid answer.

import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { address, newClient, newUser, settings } from '../lib/keyraft.mjs'
import { libraries, pair, refused } from './libraries.mjs'

// Tokens that come through the browser are off before an operator wants them, for the
// tenant and for the client.
before(async () => {
  const { grant_types_supported } = await (await fetch(address + '/.well-known/openid-configuration')).json()
  await settings({ grant_types: [...grant_types_supported, 'implicit'], authorization_details_types: ['payment'] })
})
const hybrid = (members) => newClient({ grant_types: ['authorization_code', 'refresh_token', 'implicit'], response_types: ['code id_token'], ...members })

for (const lib of libraries) {
  describe(`${lib.name}: request objects`, () => {
    for (const alg of ['ES256', 'RS256', 'PS256', 'Ed25519', 'ES384']) {
      test(`by value and pushed, signed with ${alg}`, async () => {
        const object = await pair(alg)
        const user = await newUser()
        const at = await lib.discover(await newClient({ jwks: object.jwks, require_signed_request_object: true }))
        assert.ok((await lib.login(at, user, { object })).tokens.access_token)
        assert.ok((await lib.login(at, user, { object, par: true })).tokens.access_token)
      })
    }

    test('whoever must sign is refused without, and by another key', async () => {
      const object = await pair('ES256')
      const user = await newUser()
      const at = await lib.discover(await newClient({ jwks: object.jwks, require_signed_request_object: true }))
      const other = { key: (await pair('ES256')).key, kid: object.kid }
      await assert.rejects(lib.login(at, user, { par: true }), refused('invalid_request'))
      await assert.rejects(lib.login(at, user, { par: true, object: other }), refused('invalid_request_object'))
    })

    test('the key of the client proves it, too; what is asked inside is what counts', async () => {
      const key = await pair('ES256')
      const user = await newUser()
      const made = await newClient({ token_endpoint_auth_method: 'private_key_jwt', jwks: key.jwks, require_pushed_authorization_requests: true, request_object_signing_alg: 'ES256' })
      const at = await lib.discover({ ...made, ...key })
      const claims = JSON.stringify({ id_token: { email: { essential: true } } })
      const login = await lib.login(at, user, { object: key, par: true, parameters: { max_age: '1000', claims, login_hint: user.username } })
      assert.equal(login.claims.email, user.email)
    })
  })

  describe(`${lib.name}: answers`, () => {
    for (const mode of ['jwt', 'query.jwt', 'form_post.jwt']) {
      test(`${mode} (JARM)`, async () => {
        const at = await lib.discover(await newClient(), { jarm: true })
        const { back, tokens } = await lib.login(at, await newUser(), { mode })
        assert.ok(tokens.access_token)
        assert.equal(back.method, mode === 'form_post.jwt' ? 'POST' : undefined)
        if (back.searchParams) assert.deepEqual([...back.searchParams.keys()], ['response'])
      })
    }

    for (const alg of ['ES256', 'PS256', 'EdDSA']) {
      test(`a JARM answer signed with ${alg}, to a request that was signed and pushed`, async () => {
        const object = await pair('PS256')
        const at = await lib.discover(await newClient({ authorization_signed_response_alg: alg, jwks: object.jwks, require_signed_request_object: true }), { jarm: true })
        const { back } = await lib.login(at, await newUser(), { object, par: true })
        const header = JSON.parse(Buffer.from(back.searchParams.get('response').split('.')[0], 'base64url'))
        assert.equal(header.alg, alg)
      })
    }

    test('a refusal by JARM', async () => {
      const at = await lib.discover(await newClient(), { jarm: true })
      await assert.rejects(lib.login(at, await newUser(), { parameters: { prompt: 'none' } }), refused('login_required'))
      await assert.rejects(lib.login(at, await newUser(), { mode: 'form_post.jwt', parameters: { prompt: 'none' } }), refused('login_required'))
    })

    for (const mode of [undefined, 'form_post']) {
      test(`code id_token ${mode ?? 'in the fragment'}, with c_hash and s_hash`, async () => {
        const user = await newUser()
        const at = await lib.discover(await hybrid({ id_token_signed_response_alg: mode ? 'ES256' : undefined }), { hybrid: true })
        const { back, claims } = await lib.login(at, user, { mode })
        assert.equal(claims.sub, user.id)
        if (mode) assert.equal(back.method, 'POST')
        else assert.equal(back.search, '')
      })
    }

    test('a client that is not registered for it gets no ID token through the browser', async () => {
      const at = await lib.discover(await newClient(), { hybrid: true })
      await assert.rejects(lib.login(at, await newUser(), { par: true }), refused('unauthorized_client'))
    })
  })

  describe(`${lib.name}: authorization details (RFC 9396)`, () => {
    const details = [{ type: 'payment', instructedAmount: { currency: 'EUR', amount: '12.00' }, creditorName: 'Müller & Söhne' }]

    for (const how of [{}, { par: true }, { par: true, signed: true }]) {
      test(['asked', how.par && 'pushed', how.signed && 'signed'].filter(Boolean).join(', '), async () => {
        const object = how.signed && await pair('ES256')
        const at = await lib.discover(await newClient({ authorization_details_types: ['payment'], ...(object && { jwks: object.jwks }) }))
        const login = await lib.login(at, await newUser(), { par: how.par, object, parameters: { authorization_details: JSON.stringify(details) } })
        assert.deepEqual(login.tokens.authorization_details, details)
        assert.deepEqual((await lib.introspect(at, login.tokens.access_token)).authorization_details, details)
        assert.deepEqual((await lib.refresh(at, login.tokens.refresh_token)).authorization_details, details)
      })
    }

    test('of another type than the client may', async () => {
      const at = await lib.discover(await newClient({ authorization_details_types: ['payment'] }))
      await assert.rejects(lib.login(at, await newUser(), { par: true, parameters: { authorization_details: '[{"type":"loan"}]' } }), refused('invalid_authorization_details'))
    })
  })
}
