// The account page: where somebody is signed in and what they have allowed is listed, and
// what is ended there ends for the applications too.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { enter, heading, launch, press, quit, refusedWith, signIn, told, visit, withoutScript } from './browser.mjs'
import { openAccount } from './factors.mjs'

let weather, trains
before(async () => {
  await launch()
  weather = await startApp({ client_name: 'Weather' })
  trains = await startApp({ client_name: 'Trains' })
})
after(async () => { await quit(); await weather.close(); await trains.close() })

const offline = { scope: 'openid email offline_access' }

for (const { way, ...options } of withoutScript) {
  describe(way, () => {
    // windowOf is a browser of this name at which the user has signed in to an application.
    const windowOf = async (t, userAgent, user, more, app = weather) => {
      const window = await visit(t, { ...options, userAgent })
      await window.goto(app.start(more))
      await enter(window, user)
      await window.getByRole('heading', { level: 1 }).waitFor()
      if (await window.getByRole('button', { name: 'Allow' }).count()) await press(window, 'Allow')
      await heading(window, 'Signed in')
      return { window, tokens: app.got.at(-1).tokens }
    }
    const account = async (window) => {
      await window.goto(`${weather.metadata.issuer}/account`)
      await heading(window, 'Your account')
    }
    const refused = async (app, tokens) => {
      assert.equal((await app.refresh(tokens)).error, 'invalid_grant')
      assert.equal(await app.active(tokens.access_token), false)
    }

    test('a session is ended from another browser: its window is signed out, its tokens are dead', async (t) => {
      const user = await newUser()
      const phone = await windowOf(t, 'Phone/1', user)
      const tablet = await windowOf(t, 'Tablet/1', user, offline)
      const desk = await windowOf(t, 'Desk/1', user)
      await account(desk.window)
      const lines = desk.window.getByRole('listitem')
      assert.match(await lines.filter({ hasText: 'Desk/1' }).innerText(), /this browser, 127\.0\.0\.1, since 20/)
      await press(desk.window, desk.window.getByRole('button', { name: /^Sign out: Phone\/1/ }))
      await desk.window.getByText('It is done.').waitFor()
      assert.equal(await lines.filter({ hasText: 'Phone/1' }).count(), 0)
      await phone.window.goto(weather.start({ prompt: 'none' }))
      await refusedWith(phone.window, 'login_required')
      await refused(weather, phone.tokens)
      assert.equal(await weather.active(tablet.tokens.access_token), true)
      assert.ok((await weather.refresh(desk.tokens)).access_token)

      await press(desk.window, 'Sign out everywhere else')
      await desk.window.getByText('It is done.').waitFor()
      assert.equal(await desk.window.getByRole('button', { name: /^Sign out: / }).count(), 1)
      await tablet.window.goto(weather.start({ prompt: 'none' }))
      await refusedWith(tablet.window, 'login_required')
      assert.ok((await weather.refresh(tablet.tokens)).access_token) // offline_access outlives the session
      assert.ok((await weather.refresh(desk.tokens)).error === undefined)
    })

    test('the session of this very browser', async (t) => {
      const { window, tokens } = await windowOf(t, 'Desk/1', await newUser())
      await account(window)
      await press(window, window.getByRole('button', { name: /^Sign out: Desk\/1/ }))
      await heading(window, 'You are signed out')
      await refused(weather, tokens)
      await window.goto(`${weather.metadata.issuer}/account`)
      await heading(window, 'Sign in')
    })

    test('a consent is taken back: its application is cut off, offline too, and must ask again', async (t) => {
      const user = await newUser()
      const { window, tokens } = await windowOf(t, 'Desk/1', user, offline)
      await window.goto(trains.start())
      await press(window, 'Allow')
      await heading(window, 'Signed in')
      const kept = trains.got.at(-1).tokens
      await account(window)
      const line = window.getByRole('listitem').filter({ has: window.getByRole('button', { name: 'Take back: Weather' }) })
      for (const part of ['Know who you are', 'Your e-mail address', 'Stay connected while you are away']) {
        assert.ok((await line.innerText()).includes(part), part)
      }
      await press(window, 'Take back: Weather')
      await window.getByText('It is done.').waitFor()
      assert.equal(await line.count(), 0)
      await refused(weather, tokens)
      assert.ok((await trains.refresh(kept)).access_token)
      await window.goto(weather.start(offline))
      await heading(window, 'Allow access?')
      await press(window, 'Allow')
      await heading(window, 'Signed in')
      assert.ok((await weather.refresh(weather.got.at(-1).tokens)).access_token)
    })

    test('a new password ends the other logins and is the one from then on', async (t) => {
      const user = await newUser()
      const elsewhere = await windowOf(t, 'Phone/1', user, offline)
      const window = await visit(t, options)
      await openAccount(window, user)
      await window.getByRole('link', { name: 'Change your password' }).click()
      const change = async (current, fresh, again) => {
        await heading(window, 'Change your password')
        await window.getByLabel('Password of now').fill(current)
        await window.getByLabel('New password', { exact: true }).fill(fresh)
        await window.getByLabel('New password once more').fill(again)
        await press(window, 'Change')
      }
      const fresh = 'correct horse battery staple'
      await change('not the password', fresh, fresh)
      await told(window, 'The password of now is wrong')
      await change(user.password, fresh, fresh + '!')
      await told(window, 'The two new passwords differ.')
      await change(user.password, 'short', 'short')
      await told(window, 'The new password is too short.')
      await change(user.password, fresh, fresh)
      await heading(window, 'Your account')
      await window.getByText('It is done.').waitFor()
      await refused(weather, elsewhere.tokens)
      await elsewhere.window.goto(weather.start(offline))
      await enter(elsewhere.window, user)
      await told(elsewhere.window, 'The user name or the password is wrong')
      await enter(elsewhere.window, user, fresh)
      await heading(elsewhere.window, 'Signed in')
    })
  })
}

test('nobody sees the account of who signed out, not by the way back either', async (t) => {
  const window = await visit(t)
  const user = await newUser()
  await signIn(window, weather, user)
  await window.goto(`${weather.metadata.issuer}/account`)
  await heading(window, 'Your account')
  await window.goto(weather.logout(true))
  await heading(window, 'Left')
  await window.goBack()
  await heading(window, 'Sign in')
  assert.ok(!(await window.locator('body').innerText()).includes(user.username))
})
