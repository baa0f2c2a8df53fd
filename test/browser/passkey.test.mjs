// Passkeys, by an authenticator that Chromium has for tests. They are of a name, so these
// walks need a server whose issuer has one; of one that is an address there are none.

import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { after, before, test } from 'node:test'
import { address, newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { enter, heading, launch, press, quit, told, visit } from './browser.mjs'
import { addAuthenticator, openAccount, plugPasskeys } from './factors.mjs'

let app
before(async () => { await launch(); app = await startApp({ skip_consent: true }) })
after(async () => { await quit(); await app.close() })

const acr2 = 'urn:keyraft:acr:2fa'
const proof = () => [app.got.at(-1).claims.sub, app.got.at(-1).claims.acr, app.got.at(-1).claims.amr.toSorted().join(' ')]
const named = isIP(new URL(address).hostname) === 0
const failed = 'The browser gave no passkey.'
const refused = 'The passkey was not accepted.'

// holder is a user with a passkey, and the account page at which they made it.
async function holder(t, members) {
  const user = await newUser()
  const account = await visit(t)
  const device = await plugPasskeys(account, members)
  await openAccount(account, user)
  await account.getByRole('link', { name: 'Add a passkey' }).click()
  await heading(account, 'Add a passkey')
  await account.getByLabel('Name, for you to know it by').fill('Ada’s telephone')
  await press(account, 'Add')
  await heading(account, 'Your account')
  await account.getByText('It is done.').waitFor()
  assert.equal(await account.getByRole('listitem').filter({ hasText: 'Ada’s telephone' }).count(), 1)
  return { user, account, device, keys: await device.keys() }
}

// another is a new window at the login, with an authenticator that holds these passkeys.
async function another(t, keys, members) {
  const window = await visit(t)
  const device = await plugPasskeys(window, { keys, ...members })
  await window.goto(app.start())
  await heading(window, 'Sign in')
  return { window, device }
}

if (!named) {
  test('where the issuer is an address no page offers a passkey', async (t) => {
    const window = await visit(t, { allowed: /status of 400/ })
    await openAccount(window, await newUser())
    assert.equal(await window.getByRole('link', { name: 'Add a passkey' }).count(), 0)
    await window.goto(`${app.metadata.issuer}/account/passkey`)
    await heading(window, 'This did not work')
  })
} else {
  test('made at the account page, it signs in by itself, without a name and a password', async (t) => {
    const { user, keys } = await holder(t)
    assert.equal(keys.length, 1)
    assert.ok(keys[0].isResidentCredential)
    const { window } = await another(t, keys)
    await press(window, 'Use a passkey')
    await heading(window, 'Signed in')
    assert.deepEqual(proof(), [user.id, acr2, 'mfa pop'])
  })

  test('after a password it is the second step', async (t) => {
    const { user, keys } = await holder(t)
    const { window } = await another(t, keys)
    await enter(window, user)
    await heading(window, 'Second step')
    await window.getByText('Use one of your passkeys.').waitFor() // there is no code to type
    await press(window, 'Use a passkey')
    await heading(window, 'Signed in')
    assert.deepEqual(proof(), [user.id, acr2, 'mfa pop pwd'])
  })

  test('a passkey of a key that only a touch opens is a second step, and no login alone', async (t) => {
    const { user, keys } = await holder(t)
    const { window } = await another(t, keys, { hasUserVerification: false, isUserVerified: false })
    await window.getByRole('button', { name: 'Use a passkey' }).click()
    await told(window, failed) // the browser itself refuses: the page asks for a user who is verified
    await enter(window, user)
    await press(window, 'Use a passkey')
    await heading(window, 'Signed in')
    assert.equal(proof()[2], 'mfa pop pwd')
  })

  test('an application that wants two factors gets the passkey asked for', async (t) => {
    const { account } = await holder(t)
    // The account page took the session up already: the passkey was proved by making it.
    await account.goto(app.start({ acr_values: acr2, prompt: 'none' }))
    await heading(account, 'Signed in')
    await account.goto(app.start({ acr_values: acr2, prompt: 'login' }))
    await press(account, 'Use a passkey')
    await heading(account, 'Signed in')
    assert.equal(proof()[1], acr2)
  })

  test('step up: who was signed in by a password before the passkey was made shows it', async (t) => {
    const user = await newUser()
    const window = await visit(t)
    await window.goto(app.start())
    await enter(window, user)
    await heading(window, 'Signed in')
    assert.equal(proof()[1], 'urn:keyraft:acr:1fa')
    const account = await visit(t)
    const device = await plugPasskeys(account)
    await openAccount(account, user)
    await account.getByRole('link', { name: 'Add a passkey' }).click()
    await press(account, 'Add')
    await heading(account, 'Your account')
    await plugPasskeys(window, { keys: await device.keys() })
    await window.goto(app.start({ acr_values: acr2 }))
    await heading(window, 'Second step')
    await press(window, 'Use a passkey')
    await heading(window, 'Signed in')
    assert.deepEqual(proof(), [user.id, acr2, 'mfa pop pwd'])
  })

  test('who must have a second step can make a passkey on the way in', async (t) => {
    const user = await newUser({ second_factor: true })
    const { window, device } = await another(t, [])
    await enter(window, user)
    await heading(window, 'Set up a second step')
    await press(window, 'Add a passkey')
    await heading(window, 'Signed in')
    assert.deepEqual(proof(), [user.id, acr2, 'mfa pop pwd'])
    const { window: other } = await another(t, await device.keys())
    await press(other, 'Use a passkey')
    await heading(other, 'Signed in')
    assert.equal(proof()[0], user.id)
  })

  test('removed at the account page it opens nothing, though the device has it still', async (t) => {
    const { user, account, keys } = await holder(t)
    await account.getByRole('link', { name: 'Remove' }).click()
    await heading(account, 'Remove it?')
    await press(account, 'Remove')
    await account.getByText(/^You have none/).waitFor()
    const { window } = await another(t, keys)
    await press(window, 'Use a passkey')
    await told(window, refused)
    await enter(window, user) // the password alone is enough again
    await heading(window, 'Signed in')
  })

  test('one of two removed is refused as the second step, where the other is good', async (t) => {
    const { user, account, device, keys } = await holder(t)
    await addAuthenticator(account)
    await account.getByRole('listitem').filter({ hasText: 'Ada’s telephone' }).getByRole('link', { name: 'Remove' }).click()
    await press(account, 'Remove')
    await heading(account, 'Your account')
    assert.equal((await device.keys()).length, 1)
    const { window } = await another(t, keys)
    await press(window, 'Use a passkey')
    await told(window, refused)
    await enter(window, user)
    await heading(window, 'Second step')
    assert.equal(await window.getByRole('button', { name: 'Use a passkey' }).count(), 0)
  })

  test('a device does not hold two of one account, and one without any gives none', async (t) => {
    const { account, device } = await holder(t)
    await account.getByRole('link', { name: 'Add a passkey' }).click()
    await account.getByRole('button', { name: 'Add' }).click()
    await told(account, failed)
    assert.equal((await device.keys()).length, 1)
    const { window } = await another(t, [])
    await window.getByRole('button', { name: 'Use a passkey' }).click()
    await told(window, failed)
  })

  test('a copy whose counter stands still is refused', async (t) => {
    const { keys } = await holder(t)
    const { window, device } = await another(t, keys)
    await press(window, 'Use a passkey')
    await heading(window, 'Signed in')
    assert.ok((await device.keys())[0].signCount > keys[0].signCount)
    const thief = await another(t, keys.map((key) => ({ ...key, signCount: Math.max(0, key.signCount - 1) })))
    await press(thief.window, 'Use a passkey')
    await told(thief.window, refused)
  })

  test('without script the page says that it needs some, and offers none', async (t) => {
    const window = await visit(t, { javaScriptEnabled: false })
    await openAccount(window, await newUser())
    await window.getByRole('link', { name: 'Add a passkey' }).click()
    await window.locator('noscript p').waitFor()
    assert.equal(await window.locator('noscript p').innerText(), 'Passkeys need script in this browser.')
    assert.equal(await window.getByRole('button').count(), 0)
    const login = await visit(t, { javaScriptEnabled: false })
    await login.goto(app.start())
    assert.equal(await login.getByRole('button', { name: 'Use a passkey' }).count(), 0)
  })
}
