// Back-channel requests (OpenID Connect CIBA): a client asks a user by name, who finds it
// here and decides.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { newUser } from '../lib/keyraft.mjs'
import { enter, heading, launch, press, quit, visit, withoutScript } from './browser.mjs'
import { newBank } from './waiting.mjs'

let bank
before(async () => { await launch(); bank = await newBank() })
after(quit)

for (const { way, ...options } of withoutScript) {
  describe(way, () => {
    test('two requests of one user: one allowed, one denied, each by what it says', async (t) => {
      const user = await newUser()
      const yes = await bank.begin(user, { binding_message: 'Transfer 12' })
      const no = await bank.begin(user, { binding_message: 'Transfer 9000' })
      await bank.begin(await newUser(), { binding_message: 'Not yours' })
      assert.equal((await yes.poll()).error, 'authorization_pending')
      const window = await visit(t, options)
      await window.goto(bank.page)
      await enter(window, user)
      await heading(window, 'Requests that wait for you')
      const about = (message) => window.getByRole('article').filter({ hasText: message })
      await about('Transfer 12').waitFor()
      assert.equal(await window.getByRole('article', { name: 'Bank asks for access to your account' }).count(), 2)
      assert.equal(await window.getByText('Not yours').count(), 0)
      await press(window, about(/Transfer 9000/).getByRole('button', { name: 'Deny' }))
      await heading(window, 'Access denied')
      await window.goto(bank.page)
      assert.equal(await window.getByRole('article').count(), 1)
      await press(window, about('Transfer 12').getByRole('button', { name: 'Allow' }))
      await heading(window, 'Access allowed')
      await window.goto(bank.page)
      await window.getByText('Nothing waits for you.').waitFor()
      assert.equal((await no.poll()).error, 'access_denied')
      assert.equal((await yes.poll()).sub, user.id)
      assert.equal((await yes.poll()).error, 'invalid_grant')
    })

    test('what comes while the page is open is there when one looks again', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      await window.goto(bank.page)
      await enter(window, user)
      await window.getByText('Nothing waits for you.').waitFor()
      const asked = await bank.begin(user, { binding_message: 'W4SCT' })
      await window.getByRole('link', { name: 'Look again' }).click()
      await window.getByText('W4SCT').waitFor()
      await press(window, 'Allow')
      await heading(window, 'Access allowed')
      assert.equal((await asked.poll()).sub, user.id)
    })

    test('a second answer to one request, from a page that still shows it, changes nothing', async (t) => {
      const user = await newUser()
      const asked = await bank.begin(user)
      const window = await visit(t, { ...options, allowed: /status of 400/ })
      await window.goto(bank.page)
      await enter(window, user)
      await heading(window, 'Requests that wait for you')
      const other = await window.context().newPage()
      await other.goto(bank.page)
      await press(other, 'Deny')
      await heading(other, 'Access denied')
      await press(window, 'Allow')
      await heading(window, 'This did not work')
      assert.equal((await asked.poll()).error, 'access_denied')
    })
  })
}
