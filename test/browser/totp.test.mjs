// Authenticator apps and recovery codes: set up at the account page and at the login.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { eachWay, enter, heading, launch, press, quit, refusedWith, told, visit, withoutScript } from './browser.mjs'
import { addAuthenticator, openAccount, scan, secondStep } from './factors.mjs'

let app
before(async () => { await launch(); app = await startApp({ skip_consent: true }) })
after(async () => { await quit(); await app.close() })

const wrong = 'The code is wrong or was used before'
const acr2 = 'urn:keyraft:acr:2fa'
const proof = () => [app.got.at(-1).claims.acr, app.got.at(-1).claims.amr.toSorted().join(' ')]

const signer = (options) => async (t, user) => {
  const window = await visit(t, options)
  await window.goto(app.start())
  await enter(window, user)
  return window
}

for (const { way, ...options } of eachWay) {
  describe(way, () => {
    const login = signer(options)

    test('set up at the account page; then each login wants a code, and each code is good once', async (t) => {
      const user = await newUser()
      const account = await visit(t, options)
      await openAccount(account, user)
      await account.getByRole('link', { name: 'Set up an authenticator app' }).click()
      const phone = await scan(account)
      await account.getByLabel('Code of the app').fill(phone.wrong())
      await press(account, 'Confirm')
      await told(account, 'That is not the code which the app shows now.')
      assert.deepEqual(await scan(account), phone) // the same secret, so that nobody scans twice
      await account.getByLabel('Code of the app').fill(phone.code())
      await press(account, 'Confirm')
      await heading(account, 'Your account')
      await account.getByText('It is done.').waitFor()
      assert.equal(await account.getByRole('listitem').filter({ hasText: 'Authenticator app' }).count(), 1)

      const window = await login(t, user)
      await secondStep(window, phone.wrong())
      await told(window, wrong)
      await secondStep(window, phone.last()) // that of the setup
      await told(window, wrong)
      await secondStep(window, phone.code())
      await heading(window, 'Signed in')
      assert.deepEqual(proof(), [acr2, 'mfa otp pwd'])

      const other = await login(t, user)
      await secondStep(other, phone.last())
      await told(other, wrong)
      await press(other, 'Cancel')
      await heading(other, 'Refused')
    })

    test('who must have a second step sets it up on the way in', async (t) => {
      const user = await newUser({ second_factor: true })
      const window = await login(t, user)
      await heading(window, 'Set up a second step')
      const phone = await scan(window)
      await window.getByLabel('Code of the app').fill(phone.wrong())
      await press(window, 'Confirm')
      await told(window, 'That is not the code which the app shows now.')
      await window.getByLabel('Code of the app').fill(phone.code())
      await press(window, 'Confirm')
      await heading(window, 'Signed in')
      assert.deepEqual(proof(), [acr2, 'mfa otp pwd'])
      const other = await login(t, user)
      await secondStep(other, phone.code())
      await heading(other, 'Signed in')
    })
  })
}

for (const { way, ...options } of withoutScript) {
  describe(way, () => {
    const login = signer(options)

    test('a recovery code stands in for a lost phone, once', async (t) => {
      const user = await newUser()
      const account = await visit(t, options)
      await openAccount(account, user)
      await addAuthenticator(account)
      await account.getByRole('link', { name: 'Make new codes' }).click()
      await press(account, 'Make new codes')
      await account.getByText('They are not shown again.').waitFor()
      const codes = await account.getByRole('listitem').allInnerTexts()
      assert.equal(new Set(codes).size, 10)

      const window = await login(t, user)
      await secondStep(window, codes[3])
      await heading(window, 'Signed in')
      assert.equal(proof()[0], acr2)
      const other = await login(t, user)
      await secondStep(other, codes[3])
      await told(other, wrong)
      await secondStep(other, codes[7])
      await heading(other, 'Signed in')
      await account.goto(`${app.metadata.issuer}/account`)
      await account.getByText('8 left').waitFor()
    })

    test('who does not want to set it up is not signed in', async (t) => {
      const window = await login(t, await newUser({ second_factor: true }))
      await heading(window, 'Set up a second step')
      await press(window, 'Cancel')
      await refusedWith(window, 'access_denied')
      await window.goto(app.start({ prompt: 'none' }))
      await refusedWith(window, 'login_required')
    })

    test('an application that wants more of a user who is signed in gets it (RFC 9470)', async (t) => {
      const user = await newUser()
      const window = await login(t, user)
      await heading(window, 'Signed in')
      assert.deepEqual(proof(), ['urn:keyraft:acr:1fa', 'pwd'])
      await window.goto(app.start({ acr_values: acr2, prompt: 'none' }))
      await heading(window, 'Refused')
      await window.goto(app.start({ acr_values: acr2 }))
      await heading(window, 'Set up a second step')
      const phone = await scan(window)
      await window.getByLabel('Code of the app').fill(phone.code())
      await press(window, 'Confirm')
      await heading(window, 'Signed in')
      assert.deepEqual(proof(), [acr2, 'mfa otp pwd'])
      await window.goto(app.start({ acr_values: acr2, prompt: 'none' }))
      await heading(window, 'Signed in')
    })

    test('removed at the account page, it is asked for no more', async (t) => {
      const user = await newUser()
      const account = await visit(t, options)
      await openAccount(account, user)
      await addAuthenticator(account)
      await account.getByRole('link', { name: 'Remove' }).click()
      await heading(account, 'Remove it?')
      await account.getByText(/^It is your last one/).waitFor()
      await press(account, 'Remove')
      await heading(account, 'Your account')
      await account.getByText(/^You have none/).waitFor()
      const window = await login(t, user)
      await heading(window, 'Signed in')
      assert.equal(proof()[0], 'urn:keyraft:acr:1fa')
    })
  })
}
