// RP-initiated logout, by the URL that a library builds.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as oidc from 'openid-client'
import { newClient, newUser, signIn } from '../lib/keyraft.mjs'
import { libraries } from './libraries.mjs'

test('openid-client builds a logout that ends the session and comes back', async () => {
  const [lib] = libraries
  const back = 'https://app.example/bye'
  const user = await newUser()
  const at = await lib.discover(await newClient({ post_logout_redirect_uris: [back] }))
  const jar = new Map()
  const login = await lib.login(at, user, { jar })
  const url = oidc.buildEndSessionUrl(at.config, { post_logout_redirect_uri: back, id_token_hint: login.tokens.id_token, state: 's1' })
  const gone = await signIn(url, user, { jar })
  assert.equal(gone.href, `${back}?state=s1`)
  await assert.rejects(lib.login(at, user, { jar, parameters: { prompt: 'none' } }), (err) => err.error === 'login_required')
})
