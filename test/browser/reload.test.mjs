import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { admin, newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { eachWay, enter, heading, launch, press, quit, visit } from './browser.mjs'

let app
before(async () => { await launch(); app = await startApp() })
after(async () => { await quit(); await app.close() })

// posts counts the forms that a window sends from now on, by path.
function posts(window) {
  const sent = {}
  window.on('request', (r) => {
    if (r.method() === 'POST') sent[new URL(r.url()).pathname] = (sent[new URL(r.url()).pathname] ?? 0) + 1
  })
  return sent
}

for (const { way, ...options } of eachWay) {
  describe(way, () => {
    test('Reload and Back send no password once more', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      const sent = posts(window)
      await window.goto(app.start({ prompt: 'consent' }))
      await enter(window, user)
      await heading(window, 'Allow access?')
      await window.reload()
      await heading(window, 'Allow access?')
      await press(window, 'Allow')
      await heading(window, 'Signed in')
      await window.goBack()
      await heading(window, 'Allow access?')
      await window.goBack()
      await window.goForward()
      await heading(window, 'Allow access?')
      assert.deepEqual(sent, { '/login': 1, '/consent': 1 })
    })

    test('a password that must be changed is changed before anything else', async (t) => {
      const user = await newUser({ must_change_password: true })
      const window = await visit(t, options)
      const sent = posts(window)
      await window.goto(app.start())
      await enter(window, user)
      await heading(window, 'Choose a new password')
      assert.match(await window.locator('main').innerText(), /At least 10 and at most 1024 characters/)
      const change = async (first, again = first) => {
        await window.getByLabel('New password', { exact: true }).fill(first)
        await window.getByLabel('New password once more').fill(again)
        await press(window, 'Set the password')
      }
      await change('short')
      assert.equal(await window.getByRole('alert').innerText(), 'The new password is too short.')
      await change('another phrase of mine')
      await heading(window, 'Allow access?')
      await window.reload()
      await press(window, 'Allow')
      await heading(window, 'Signed in')
      assert.deepEqual(sent, { '/login': 1, '/login/password': 2, '/consent': 1 })
    })

    test('a link lets a user set a password, and its token stands in no address', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      const { url } = await admin('POST', `/users/${user.id}/reset-link`)
      await window.goto(url)
      await heading(window, 'Choose a new password')
      assert.ok(!window.url().includes(new URL(url).searchParams.get('token')), window.url())
      await window.getByLabel('New password', { exact: true }).fill('another phrase of mine')
      await window.getByLabel('New password once more').fill('another phrase of mine')
      await press(window, 'Set the password')
      await heading(window, 'The password is set')
      await window.goto(app.start())
      await enter(window, user, 'another phrase of mine')
      await heading(window, 'Allow access?')
    })
  })
}
