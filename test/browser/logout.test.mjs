import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { eachWay, heading, launch, press, quit, signIn, visit } from './browser.mjs'

let app
before(async () => { await launch(); app = await startApp() })
after(async () => { await quit(); await app.close() })

for (const { way, ...options } of eachWay) {
  describe(way, () => {
    const gone = async (window) => {
      await window.goto(app.start({ prompt: 'none' }))
      await heading(window, 'Refused')
      assert.equal(await window.locator('#error').innerText(), 'login_required')
    }

    test('with id_token_hint nothing is asked', async (t) => {
      const window = await visit(t, options)
      await signIn(window, app, await newUser())
      await window.goto(app.logout(true))
      await heading(window, 'Left')
      assert.equal(await window.locator('#state').innerText(), 'left')
      await gone(window)
    })

    test('without it the user is asked, and comes back all the same', async (t) => {
      const window = await visit(t, options)
      await signIn(window, app, await newUser())
      await window.goto(app.logout(false))
      await heading(window, 'Sign out?')
      await window.goto(app.start()) // who does not want to just goes elsewhere
      await heading(window, 'Signed in')
      await window.goto(app.logout(false))
      await press(window, 'Sign out')
      await heading(window, 'Left')
      await gone(window)
    })

    for (const hinted of [true, false]) {
      test(`by a form of another site, ${hinted ? 'with' : 'without'} id_token_hint`, async (t) => {
        const window = await visit(t, options)
        await signIn(window, app, await newUser())
        await window.goto(`${app.url}/leave${hinted ? '?hinted' : ''}`)
        await press(window, 'Go')
        if (!hinted) await press(window, 'Sign out')
        await heading(window, 'Left')
        await gone(window)
      })
    }

    test('nobody is signed in, and nowhere to go', async (t) => {
      const window = await visit(t, options)
      await window.goto(app.metadata.end_session_endpoint)
      await heading(window, 'You are signed out')
    })

    test('where to go is not registered', async (t) => {
      const window = await visit(t, { ...options, allowed: /status of 400/ })
      await window.goto(`${app.metadata.end_session_endpoint}?client_id=${app.client.client_id}&post_logout_redirect_uri=https://attacker.example/`)
      await heading(window, 'This did not work')
    })
  })
}
