// A device shows a code; its user types it here and decides.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { admin, newUser } from '../lib/keyraft.mjs'
import { eachWay, enter, heading, launch, press, quit, told, visit, withoutScript } from './browser.mjs'
import { addAuthenticator, openAccount, secondStep } from './factors.mjs'
import { newDevice } from './waiting.mjs'

let tv
before(async () => { await launch(); tv = await newDevice() })
after(quit)

// type enters a code on the first page.
async function type(window, code) {
  await heading(window, 'Connect a device')
  await window.getByLabel('Code').fill(code)
  await press(window, 'Continue')
}

for (const { way, ...options } of eachWay) {
  describe(way, () => {
    test('code, login, yes: the device gets its tokens, once', async (t) => {
      const user = await newUser()
      const asked = await tv.begin()
      assert.equal((await asked.poll()).error, 'authorization_pending')
      assert.equal((await asked.poll()).error, 'slow_down')
      const window = await visit(t, options)
      await window.goto(asked.verification_uri)
      await type(window, asked.user_code.toLowerCase().replace('-', ' '))
      await enter(window, user)
      await heading(window, 'Allow access?')
      const text = await window.locator('main').innerText()
      for (const part of ['Television', user.username, asked.user_code, '127.0.0.1', 'Know who you are', 'Your name and profile', 'Allow this only if you started it yourself']) {
        assert.ok(text.includes(part), `${part} is missing: ${text}`)
      }
      await press(window, 'Allow')
      await heading(window, 'Access allowed')
      const got = await asked.poll()
      assert.equal(got.sub, user.id)
      assert.ok(got.tokens.refresh_token)
      assert.equal((await asked.poll()).error, 'invalid_grant')
    })

    test('no: the device is told so; the link brings the code along, and is no yes', async (t) => {
      const user = await newUser()
      const first = await tv.begin()
      const window = await visit(t, options)
      await window.goto(first.verification_uri_complete)
      await heading(window, 'Connect a device')
      assert.equal(await window.getByLabel('Code').inputValue(), first.user_code)
      await press(window, 'Continue')
      await enter(window, user)
      await press(window, 'Allow')
      await heading(window, 'Access allowed')
      assert.equal((await first.poll()).sub, user.id)
      const second = await tv.begin() // of whom all is allowed already
      await window.goto(second.verification_uri_complete)
      await press(window, 'Continue')
      await heading(window, 'Allow access?')
      await press(window, 'Deny')
      await heading(window, 'Access denied')
      assert.equal((await second.poll()).error, 'access_denied')
    })

    test('codes that are none, unknown ones, and those that are over', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      await window.goto(tv.page)
      await type(window, 'HELLO')
      await told(window, 'This is not a code as devices show it')
      assert.equal(await window.getByLabel('Code').getAttribute('aria-invalid'), 'true')
      await type(window, 'BBBBB-BBBBB')
      await enter(window, user) // nothing is looked up for a stranger
      await told(window, 'No device waits for this code')
      assert.equal(await window.getByLabel('Code').inputValue(), 'BBBBB-BBBBB')
      const decided = await tv.begin()
      await type(window, decided.user_code)
      await press(window, 'Deny')
      await heading(window, 'Access denied')
      await window.goto(tv.page)
      await type(window, decided.user_code)
      await told(window, 'No device waits for this code')
      assert.equal((await decided.poll()).error, 'access_denied')
    })

  })
}

for (const { way, ...options } of withoutScript) {
  describe(way, () => {
    test('a page that waited while the request was decided elsewhere changes nothing', async (t) => {
      const [one, two] = [await newUser(), await newUser()]
      const asked = await tv.begin()
      const windows = []
      for (const user of [one, two]) {
        const window = await visit(t, { ...options, allowed: /status of 400/ })
        await window.goto(asked.verification_uri_complete)
        await press(window, 'Continue')
        await enter(window, user)
        await heading(window, 'Allow access?')
        windows.push(window)
      }
      await press(windows[0], 'Deny')
      await heading(windows[0], 'Access denied')
      await press(windows[1], 'Allow')
      await heading(windows[1], 'This did not work')
      await windows[1].getByText('decided before').waitFor()
      assert.equal((await asked.poll()).error, 'access_denied')
    })

    test('who has a second factor shows it here, too', async (t) => {
      const user = await newUser()
      const account = await visit(t, options)
      await openAccount(account, user)
      const phone = await addAuthenticator(account)
      const asked = await tv.begin()
      const window = await visit(t, options)
      await window.goto(asked.verification_uri_complete)
      await press(window, 'Continue')
      await enter(window, user)
      await secondStep(window, phone.code())
      await press(window, 'Allow')
      await heading(window, 'Access allowed')
      assert.equal((await asked.poll()).sub, user.id)
    })

    test('ten looks of one user, then a wait for them and not for others', async (t) => {
      const window = await visit(t, options)
      await window.goto(tv.page)
      await type(window, 'BBBBB-BBBBB')
      await enter(window, await newUser())
      for (let n = 1; n < 10; n++) {
        await told(window, 'No device waits for this code')
        await type(window, 'BBBBB-BBBBB')
      }
      const asked = await tv.begin()
      await told(window, 'No device waits for this code')
      await type(window, asked.user_code) // the right one does not help any more
      await told(window, 'Too many codes were tried')
      const other = await visit(t, options)
      await other.goto(asked.verification_uri_complete)
      await press(other, 'Continue')
      await enter(other, await newUser())
      await press(other, 'Allow')
      await heading(other, 'Access allowed')
    })
  })
}

test('an application that an operator has switched off can have nothing allowed', async (t) => {
  const box = await newDevice()
  const asked = await box.begin()
  const window = await visit(t, { allowed: /status of 4\d\d/ })
  await window.goto(asked.verification_uri_complete)
  await press(window, 'Continue')
  await enter(window, await newUser())
  await heading(window, 'Allow access?')
  await admin('PATCH', `/clients/${box.client.client_id}`, { enabled: false })
  await press(window, 'Allow')
  await heading(window, 'This did not work')
  assert.equal((await asked.poll()).error, 'invalid_client')
})
