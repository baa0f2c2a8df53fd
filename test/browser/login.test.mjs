import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { eachWay, enter, heading, launch, press, quit, signIn, visit } from './browser.mjs'

let app
before(async () => { await launch(); app = await startApp() })
after(async () => { await quit(); await app.close() })

for (const { way, ...options } of eachWay) {
  describe(way, () => {
    test('login, consent and back; the second time nothing is asked', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      await window.goto(app.start())
      await heading(window, 'Sign in')
      assert.equal(await window.locator('html').getAttribute('lang'), 'en')
      assert.equal(await window.getByLabel('User name').getAttribute('autocomplete'), 'username')
      await enter(window, user)
      await heading(window, 'Allow access?')
      const text = await window.locator('main').innerText()
      for (const part of ['Weather', user.username, 'Know who you are', 'Your name and profile', 'Your e-mail address', app.url]) {
        assert.ok(text.includes(part), `${part} is missing on the consent page: ${text}`)
      }
      await press(window, 'Allow')
      await heading(window, 'Signed in')
      assert.equal(await window.locator('#sub').innerText(), user.id)
      assert.deepEqual([app.last.method, app.last.referer], ['GET', undefined])
      await window.goto(app.start())
      await heading(window, 'Signed in')
      await window.goto(app.start({ scope: 'openid profile email offline_access' })) // more than was allowed
      await heading(window, 'Allow access?')
    })

    test('a wrong password is told, with the name kept, and the right one goes on', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      await window.goto(app.start())
      await enter(window, user, 'not the password')
      await heading(window, 'Sign in')
      assert.match(await window.getByRole('alert').innerText(), /^The user name or the password is wrong/)
      assert.equal(await window.getByLabel('User name').inputValue(), user.username)
      assert.equal(await window.getByLabel('Password').inputValue(), '')
      assert.equal(await window.getByLabel('Password').getAttribute('aria-invalid'), 'true')
      await window.getByLabel('Password').fill(user.password)
      await window.keyboard.press('Enter')
      await heading(window, 'Allow access?')
    })

    test('deny', async (t) => {
      const window = await visit(t, options)
      await window.goto(app.start())
      await enter(window, await newUser())
      await press(window, 'Deny')
      await heading(window, 'Refused')
      assert.equal(await window.locator('#error').innerText(), 'access_denied')
    })

    test('cancel at the login', async (t) => {
      const window = await visit(t, options)
      await window.goto(app.start())
      await press(window, 'Cancel')
      await heading(window, 'Refused')
      assert.equal(await window.locator('#error').innerText(), 'access_denied')
    })

    test('prompt: login asks again, consent asks again, none asks nothing', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      await window.goto(app.start({ prompt: 'none' }))
      await heading(window, 'Refused')
      assert.equal(await window.locator('#error').innerText(), 'login_required')
      await signIn(window, app, user)
      const first = app.got.at(-1).claims
      await window.goto(app.start({ prompt: 'login' }))
      await enter(window, user)
      await heading(window, 'Signed in')
      const again = app.got.at(-1).claims
      assert.equal(again.sid, first.sid)
      assert.ok(again.auth_time >= first.auth_time)
      await window.goto(app.start({ prompt: 'consent' }))
      await heading(window, 'Allow access?')
      await press(window, 'Allow')
      await heading(window, 'Signed in')
      await window.goto(app.start({ prompt: 'none' }))
      await heading(window, 'Signed in')
    })

    test('another user at prompt=login takes the window over', async (t) => {
      const one = await newUser()
      const two = await newUser()
      const window = await visit(t, options)
      await signIn(window, app, one)
      const before = app.got.at(-1).claims
      await signIn(window, app, two, { prompt: 'login' })
      const now = app.got.at(-1).claims
      assert.deepEqual([now.sub, now.sid === before.sid], [two.id, false])
    })

    test('login_hint fills the name in; the login in two tabs at once goes through in both', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      await window.goto(app.start({ login_hint: user.username }))
      const other = await window.context().newPage()
      await other.goto(app.start())
      await heading(window, 'Sign in')
      assert.equal(await window.getByLabel('User name').inputValue(), user.username)
      await window.getByLabel('Password').fill(user.password)
      await press(window, 'Sign in')
      await press(window, 'Allow')
      await heading(window, 'Signed in')
      await enter(other, user)
      await heading(other, 'Signed in')
    })

    test('back from the consent page leads to it again', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      await window.goto(app.start())
      await enter(window, user)
      await heading(window, 'Allow access?')
      await window.goBack()
      await heading(window, 'Allow access?') // whoever is signed in needs no login page
      await press(window, 'Allow')
      await heading(window, 'Signed in')
    })

    test('German by Accept-Language, English by ui_locales', async (t) => {
      const user = await newUser()
      const window = await visit(t, { ...options, locale: 'de-AT' })
      await window.goto(app.start())
      await heading(window, 'Anmelden')
      assert.equal(await window.locator('html').getAttribute('lang'), 'de')
      await window.getByLabel('Benutzername').fill(user.username)
      await window.getByLabel('Passwort').fill('falsch')
      await press(window, 'Anmelden')
      assert.match(await window.getByRole('alert').innerText(), /^Benutzername oder Passwort/)
      await window.getByLabel('Passwort').fill(user.password)
      await press(window, 'Anmelden')
      await heading(window, 'Zugriff erlauben?')
      await press(window, 'Erlauben')
      await heading(window, 'Signed in')
      await window.goto(app.start({ prompt: 'login', ui_locales: 'en de' }))
      await heading(window, 'Sign in')
    })

    test('what is wrong with the request is told to the person when the redirect URI is not proved', async (t) => {
      const window = await visit(t, { ...options, allowed: /status of 400/ })
      const answer = await window.goto(app.start({ redirect_uri: 'https://attacker.example/cb' }))
      assert.equal(answer.status(), 400)
      await heading(window, 'This did not work')
      await window.goto(app.start({ client_id: 'nobody' }))
      await heading(window, 'This did not work')
    })
  })
}

test('the whole login by keyboard', async (t) => {
  const user = await newUser()
  const window = await visit(t)
  await window.goto(app.start())
  await heading(window, 'Sign in')
  await window.keyboard.type(user.username) // the field has the focus
  await window.keyboard.press('Tab')
  await window.keyboard.type(user.password)
  await window.keyboard.press('Tab')
  assert.equal(await window.evaluate(() => document.activeElement.textContent), 'Sign in')
  await window.keyboard.press('Enter')
  await heading(window, 'Allow access?')
  await window.keyboard.press('Tab')
  assert.equal(await window.evaluate(() => document.activeElement.textContent), 'Allow')
  await window.keyboard.press('Space')
  await heading(window, 'Signed in')
})
