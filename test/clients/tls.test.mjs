// Clients that prove themselves by a certificate, and tokens that are bound to one
// (RFC 8705). They need TLS; over plain HTTP there is nothing to prove by.

import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import https from 'node:https'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { address, newClient, newUser } from '../lib/keyraft.mjs'
import { libraries, refused } from './libraries.mjs'

const folder = process.env.KEYRAFT_TEST_CLIENTS
const file = (name) => readFileSync(join(folder, `${name}.pem`))

// by is fetch over connections that show this certificate.
function by(name) {
  const agent = new https.Agent({ cert: file(name), key: file(`${name}-key`), keepAlive: true, timeout: 20_000 })
  return (url, { method = 'GET', headers, body } = {}) => new Promise((resolve, reject) => {
    const request = https.request(url, { method, agent, headers: Object.fromEntries(new Headers(headers)) }, (answer) => {
      const parts = []
      answer.on('data', (part) => parts.push(part)).on('error', reject)
      answer.on('end', () => resolve(new Response(answer.statusCode === 204 ? null : Buffer.concat(parts), { status: answer.statusCode, headers: Object.entries(answer.headers).map(([k, v]) => [k, String(v)]) })))
    })
    request.on('error', reject).end(body?.toString())
  })
}

// alone is the key set of a certificate that nobody else has signed.
function alone(name) {
  const cert = new X509Certificate(file(name))
  return { keys: [{ ...cert.publicKey.export({ format: 'jwk' }), x5c: [cert.raw.toString('base64')] }] }
}

// stranger is what a library throws when the client is not proved.
const stranger = (err) => {
  assert.equal(err.status, 401, err.stack)
  return true
}

const ways = [
  ['tls_client_auth by its subject', () => ({ token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'CN=a.client.example,O=Keyraft' }), 'client-a', ['client-b', 'alone-a']],
  ['tls_client_auth by a name', () => ({ token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_san_dns: 'a.client.example' }), 'client-a', ['client-b', 'alone-a']],
  ['self_signed_tls_client_auth', () => ({ token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks: alone('alone-a') }), 'alone-a', ['alone-b', 'client-a']],
]

if (!address.startsWith('https:') || !folder) {
  test('without TLS no certificate proves a client', async () => {
    const [, lib] = libraries
    const at = await lib.discover(await newClient({ token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_san_dns: 'a.client.example' }))
    await assert.rejects(lib.login(at, await newUser()), stranger)
  })
} else {
  for (const lib of libraries) {
    describe(lib.name, () => {
      for (const [name, members, own, others] of ways) {
        test(`${name}: PAR, code, refresh, introspection, revocation`, async () => {
          const client = await newClient(members())
          const at = await lib.discover(client, { fetch: by(own) })
          const { tokens } = await lib.login(at, await newUser(), { par: true })
          assert.equal((await lib.introspect(at, tokens.access_token)).active, true)
          const next = await lib.refresh(at, tokens.refresh_token)
          for (const other of others) {
            const thief = await lib.discover(client, { fetch: by(other) })
            await assert.rejects(lib.refresh(thief, next.refresh_token), stranger)
          }
          await assert.rejects(lib.refresh(await lib.discover(client), next.refresh_token), stranger)
          await lib.revoke(at, next.refresh_token)
          await assert.rejects(lib.refresh(at, next.refresh_token), refused('invalid_grant'))
        })
      }

      for (const [name, members] of [['public', { token_endpoint_auth_method: 'none' }], ['that has a secret', {}]]) {
        test(`tokens of a client ${name} are bound to its certificate`, async () => {
          const client = await newClient({ ...members, tls_client_certificate_bound_access_tokens: true })
          const at = await lib.discover(client, { fetch: by('alone-a') })
          const login = await lib.login(at, await newUser())
          const thumbprint = new X509Certificate(file('alone-a')).fingerprint256.replaceAll(':', '')
          const { cnf } = JSON.parse(Buffer.from(login.tokens.access_token.split('.')[1], 'base64url'))
          assert.equal(Buffer.from(cnf['x5t#S256'], 'base64url').toString('hex').toUpperCase(), thumbprint)
          assert.equal((await lib.userinfo(at, login)).sub, login.claims.sub)
          const thief = await lib.discover(client, { fetch: by('alone-b') })
          await assert.rejects(lib.userinfo(thief, login))
          await assert.rejects(lib.userinfo(await lib.discover(client), login))
          if (members.token_endpoint_auth_method) await assert.rejects(lib.refresh(thief, login.tokens.refresh_token), refused('invalid_grant'))
          assert.ok((await lib.refresh(at, login.tokens.refresh_token)).access_token)
        })
      }
    })
  }
}
