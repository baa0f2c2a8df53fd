// ID tokens and userinfo that only their client can read.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { exportJWK, generateKeyPair } from 'jose'
import { newClient, newUser } from '../lib/keyraft.mjs'
import { libraries } from './libraries.mjs'

const ways = [['ECDH-ES', undefined], ['ECDH-ES', 'A256GCM'], ['ECDH-ES+A256KW', 'A128GCM'], ['ECDH-ES+A128KW', 'A128CBC-HS256'], ['RSA-OAEP-256', 'A256GCM'], ['RSA-OAEP-256', 'A128CBC-HS256']]

for (const lib of libraries) {
  describe(lib.name, () => {
    for (const [alg, enc] of ways) {
      test(`${alg}, ${enc ?? 'the default content encryption'}`, async () => {
        const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
        const kid = 'enc-1'
        const at = await lib.discover(await newClient({
          jwks: { keys: [{ ...(await exportJWK(publicKey)), kid, use: 'enc', alg }] },
          id_token_signed_response_alg: 'ES256', id_token_encrypted_response_alg: alg, id_token_encrypted_response_enc: enc,
          userinfo_signed_response_alg: 'PS256', userinfo_encrypted_response_alg: alg, userinfo_encrypted_response_enc: enc,
        }), { decrypt: { key: privateKey, alg, kid } })
        const user = await newUser()
        const login = await lib.login(at, user)
        assert.equal(login.tokens.id_token.split('.').length, 5)
        assert.equal(login.claims.sub, user.id)
        assert.equal((await lib.userinfo(at, login)).name, 'Ada Lovelace')
        assert.ok((await lib.refresh(at, login.tokens.refresh_token)).id_token)
      })
    }
  })
}
