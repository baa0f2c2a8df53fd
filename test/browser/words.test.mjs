// The pages in German, whole ways through; and by keyboard alone.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { enter, heading, launch, press, quit, visit, withoutScript } from './browser.mjs'
import { addAuthenticator, openAccount, scan } from './factors.mjs'
import { newBank, newDevice } from './waiting.mjs'

let app, tv, bank
before(async () => { await launch(); app = await startApp(); tv = await newDevice(); bank = await newBank() })
after(async () => { await quit(); await app.close() })

const german = async (window, title) => {
  await heading(window, title)
  assert.equal(await window.locator('html').getAttribute('lang'), 'de')
  assert.equal(await window.title(), title)
}
const sign = async (window, user) => {
  await german(window, 'Anmelden')
  await window.getByLabel('Benutzername').fill(user.username)
  await window.getByLabel('Passwort').fill(user.password)
  await press(window, 'Anmelden')
}

for (const { way, ...options } of withoutScript) {
  describe(way, () => {
    test('ui_locales of the application holds through login, second step and consent, whatever the browser asks for', async (t) => {
      const user = await newUser({ second_factor: true })
      const window = await visit(t, options)
      await window.goto(app.start({ ui_locales: 'fr-CA de' }))
      await sign(window, user)
      await german(window, 'Zweiten Schritt einrichten')
      const phone = await scan(window, 'Geheimnis:')
      await window.getByLabel('Code der App').fill(phone.wrong())
      await press(window, 'Bestätigen')
      await window.getByRole('alert').filter({ hasText: 'Das ist nicht der Code' }).waitFor()
      assert.equal(await window.locator('html').getAttribute('lang'), 'de')
      await window.getByLabel('Code der App').fill(phone.code())
      await press(window, 'Bestätigen')
      await german(window, 'Zugriff erlauben?')
      await press(window, 'Erlauben')
      await heading(window, 'Signed in')
      await window.goto(app.start({ prompt: 'login', ui_locales: 'de' }))
      await sign(window, user)
      await german(window, 'Zweiter Schritt')
    })

    test('Accept-Language: a device, a back channel, the account and the logout', async (t) => {
      const user = await newUser()
      const window = await visit(t, { ...options, locale: 'de-CH' })
      const asked = await tv.begin()
      await window.goto(tv.page)
      await german(window, 'Gerät verbinden')
      await window.getByLabel('Code').fill(asked.user_code)
      await press(window, 'Weiter')
      await sign(window, user)
      await german(window, 'Zugriff erlauben?')
      await window.getByText('Erlauben Sie dies nur, wenn Sie es gerade selbst begonnen haben.').waitFor()
      await press(window, 'Erlauben')
      await german(window, 'Zugriff erlaubt')
      assert.equal((await asked.poll()).sub, user.id)
      await bank.begin(user)
      await window.goto(bank.page)
      await german(window, 'Anfragen, die auf Sie warten')
      await window.goto(`${app.metadata.issuer}/account`)
      await german(window, 'Ihr Konto')
      await window.getByRole('link', { name: 'Authenticator-App einrichten' }).click()
      await german(window, 'Authenticator-App einrichten')
      await window.goto(app.metadata.end_session_endpoint)
      await german(window, 'Abmelden?')
      await press(window, 'Abmelden')
      await german(window, 'Sie sind abgemeldet')
    })
  })
}

// tabTo moves the focus on until it is on the element of this name, as whoever has no
// mouse does.
async function tabTo(window, name) {
  for (let n = 0; n < 30; n++) {
    const at = await window.evaluate(() => {
      const e = document.activeElement
      return e?.getAttribute('aria-label') ?? e?.labels?.[0]?.textContent ?? e?.textContent ?? ''
    })
    if (at.trim() === name) {
      const outline = await window.evaluate(() => getComputedStyle(document.activeElement).outlineStyle)
      assert.notEqual(outline, 'none', `the focus on ${name} can't be seen`)
      return
    }
    await window.keyboard.press('Tab')
  }
  assert.fail(`${name} can't be reached by Tab`)
}

// typed types into the field of this label, which must have the focus by itself.
async function typed(window, label, text) {
  await window.getByLabel(label, { exact: true }).and(window.locator(':focus')).waitFor()
  await window.keyboard.type(text)
}

const enterKey = async (window) => {
  const there = window.waitForEvent('framenavigated', (frame) => frame === window.mainFrame())
  await Promise.all([there, window.keyboard.press('Enter')])
}

test('a device, the second step, the account and the logout by keyboard alone', async (t) => {
  const user = await newUser()
  const account = await visit(t)
  await openAccount(account, user)
  await tabTo(account, 'Set up an authenticator app')
  await enterKey(account)
  await heading(account, 'Set up an authenticator app')
  const phone = await scan(account)
  await typed(account, 'Code of the app', phone.code())
  await enterKey(account)
  await heading(account, 'Your account')

  const asked = await tv.begin()
  const window = await visit(t)
  await window.goto(tv.page)
  await heading(window, 'Connect a device')
  await typed(window, 'Code', asked.user_code)
  await enterKey(window)
  await heading(window, 'Sign in')
  await typed(window, 'User name', user.username)
  await window.keyboard.press('Tab')
  await typed(window, 'Password', user.password)
  await enterKey(window)
  await heading(window, 'Second step')
  await typed(window, 'Code', phone.code())
  await enterKey(window)
  await heading(window, 'Allow access?')
  await tabTo(window, 'Allow')
  await enterKey(window)
  await heading(window, 'Access allowed')
  assert.equal((await asked.poll()).sub, user.id)

  await window.goto(`${app.metadata.issuer}/account`)
  await tabTo(window, 'Sign out everywhere else')
  await enterKey(window)
  await window.getByText('It is done.').waitFor()
  await tabTo(window, 'Take back: Television')
  await enterKey(window)
  await window.getByText('There are none.').waitFor()
  await window.goto(app.metadata.end_session_endpoint)
  await tabTo(window, 'Sign out')
  await enterKey(window)
  await heading(window, 'You are signed out')
  await account.goto(`${app.metadata.issuer}/account`)
  await heading(account, 'Sign in') // ended from elsewhere
  await enter(account, user)
  await heading(account, 'Second step')
})
