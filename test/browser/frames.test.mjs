// Front-Channel Logout: the applications of a session are told by frames of the last page.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { eachWay, enter, heading, launch, press, quit, refusedWith, visit } from './browser.mjs'

let one, two, deaf
before(async () => {
  await launch()
  one = await startApp({ skip_consent: true, framed: true })
  two = await startApp({ skip_consent: true, framed: true })
  deaf = await startApp({ skip_consent: true })
})
after(async () => { await quit(); await Promise.all([one.close(), two.close(), deaf.close()]) })

for (const { way, ...options } of eachWay) {
  describe(way, () => {
    // everywhere is a window that is signed in to all applications by one session.
    const everywhere = async (t) => {
      const window = await visit(t, options)
      await window.goto(one.start())
      await enter(window, await newUser())
      await heading(window, 'Signed in')
      for (const app of [two, deaf]) {
        await window.goto(app.start())
        await heading(window, 'Signed in')
      }
      const { sid } = one.got.at(-1).claims
      assert.equal(two.got.at(-1).claims.sid, sid)
      one.told = []
      two.told = []
      return { window, notice: { iss: one.metadata.issuer, sid } }
    }
    const gone = async (window) => {
      for (const app of [one, two, deaf]) {
        await window.goto(app.start({ prompt: 'none' }))
        await refusedWith(window, 'login_required')
      }
    }

    test('the logout at one application tells both, then goes back to it', async (t) => {
      const { window, notice } = await everywhere(t)
      await window.goto(one.logout(true))
      if (!options.javaScriptEnabled) {
        await heading(window, 'You are signed out')
        await window.getByRole('link', { name: 'Back to the application' }).click()
      }
      await heading(window, 'Left')
      assert.equal(await window.locator('#state').innerText(), 'left')
      assert.deepEqual([one.told, two.told], [[notice], [notice]])
      await gone(window)
    })

    test('the logout at the server tells both, and stays', async (t) => {
      const { window, notice } = await everywhere(t)
      await window.goto(one.metadata.end_session_endpoint)
      await heading(window, 'Sign out?')
      await press(window, 'Sign out')
      await heading(window, 'You are signed out')
      await window.waitForLoadState('load') // with its frames
      assert.deepEqual([one.told, two.told], [[notice], [notice]])
      await gone(window)
    })

    test('so does the account page', async (t) => {
      const { window, notice } = await everywhere(t)
      await window.goto(`${one.metadata.issuer}/account`)
      await press(window, window.getByRole('button', { name: /^Sign out: / }))
      await heading(window, 'You are signed out')
      await window.waitForLoadState('load')
      assert.deepEqual([one.told, two.told], [[notice], [notice]])
    })
  })
}

test('an application that does not answer holds nobody up', async (t) => {
  const slow = await startApp({ skip_consent: true, framed: true })
  t.after(slow.close)
  const window = await visit(t, { allowed: /ERR_/ })
  await window.goto(slow.start())
  await enter(window, await newUser())
  await heading(window, 'Signed in')
  await window.route('**/told*', () => {}) // for ever
  await window.goto(slow.logout(true), { waitUntil: 'commit' })
  await heading(window, 'Left')
})
