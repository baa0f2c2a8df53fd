// Every page as people see it: WCAG 2.2 AA by axe, in both languages, light and dark, on a
// telephone and on a desk, with text of twice its size; nothing to scroll sideways;
// screenshots in build/browser, and those of the manual when KEYRAFT_SCREENSHOTS names a
// folder.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { address, admin, newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { heading, launch, press, quit, visit } from './browser.mjs'
import { addAuthenticator, openAccount, plugPasskeys } from './factors.mjs'
import { newBank, newDevice } from './waiting.mjs'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
const schemes = ['light', 'dark']
const all = schemes.flatMap((scheme) => [320, 1280].map((width) => [scheme, width]))
const narrow = all.slice(0, 1) // German words are longer, their colours are the same
const folder = new URL('../../build/browser/', import.meta.url).pathname
const manual = process.env.KEYRAFT_SCREENSHOTS

// What the pages are shown to: a user, and one who has second factors, each signed in
// already where a page says so.
let app, stranger, tv, bank, user, careful
const signedIn = {}
const named = isIP(new URL(address).hostname) === 0 // where there are passkeys

before(async () => {
  await launch()
  mkdirSync(folder, { recursive: true })
  app = await startApp({ client_name: 'Weather', resources: ['https://api.weather.example'], redirect_uris: ['https://weather.example/cb'] })
  stranger = await startApp({ client_name: 'A very long name of an application that nobody has thought short: Donaudampfschifffahrtsgesellschaftskapitän' })
  const { token } = await admin('POST', '/initial-access-tokens', {})
  const registered = await (await fetch(stranger.metadata.registration_endpoint, {
    method: 'POST', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ client_name: stranger.client.client_name, redirect_uris: stranger.client.redirect_uris, scope: 'openid profile email phone address offline_access' }),
  })).json()
  Object.assign(stranger.client, registered)
  ;[tv, bank] = [await newDevice(), await newBank()]
  user = await newUser(manual ? { username: 'ada' } : {}) // a fresh server, for the manual
  careful = await newUser(manual ? { username: 'grace' } : {})
  signedIn.user = await state(user, async () => {})
  signedIn.careful = await state(careful, async (window) => {
    if (named) {
      await plugPasskeys(window)
      await window.getByRole('link', { name: 'Add a passkey' }).click()
      await window.getByLabel('Name, for you to know it by').fill('Telephone')
      await press(window, 'Add')
      await heading(window, 'Your account')
    } else {
      await addAuthenticator(window)
      await window.getByRole('link', { name: 'Make new codes' }).click()
      await press(window, 'Make new codes')
      await window.getByText('They are not shown again.').waitFor()
    }
    await window.goto(app.start())
    await press(window, 'Allow')
    await heading(window, 'Signed in')
  })
})
after(async () => { await quit(); await app.close(); await stranger.close() })

// state is what a browser keeps that has signed in and done something.
async function state(who, something) {
  const close = []
  const window = await visit({ after: (f) => close.push(f) })
  await openAccount(window, who)
  await something(window)
  const kept = await window.context().storageState()
  for (const f of close) await f()
  return kept
}

const login = async (window, who = user, password = who.password) => {
  await window.locator('#username').fill(who.username)
  await window.locator('#password').fill(password)
  await submit(window)
}

// submit sends the first form, in whatever language.
const submit = (window) => press(window, window.locator('button.first').first())

const account = (page = '') => `${app.metadata.issuer}/account${page}`
const device = async (window) => { await window.goto((await tv.begin()).verification_uri_complete); await submit(window) }

const reset = async (window) => window.goto((await admin('POST', `/users/${(await newUser()).id}/reset-link`)).url)

// pages are the ways to each page. as is who is signed in; those with shown are in the
// manual; passkeys are looked at where there are some, and all others where there are none.
const pages = [
  { name: 'login', shown: true, go: (w) => w.goto(app.start(manual && { login_hint: user.username })) },
  { name: 'login-wrong', go: async (w) => { await w.goto(app.start()); await login(w, user, 'wrong'); await w.locator('#wrong').waitFor() } },
  { name: 'consent', shown: true, as: 'user', go: (w) => w.goto(app.start({ scope: 'openid profile email offline_access', resource: 'https://api.weather.example', redirect_uri: 'https://weather.example/cb' })) },
  { name: 'consent-self-registered', as: 'user', go: (w) => w.goto(stranger.start({ scope: 'openid profile email phone address offline_access' })) },
  { name: 'consent-claims', as: 'user', go: (w) => w.goto(app.start({ claims: JSON.stringify({ userinfo: { phone_number: null, email: null } }), scope: 'openid' })) },
  { name: 'form-post', go: async (w) => { await w.route('**/assets/submit*', (r) => r.fulfill({ contentType: 'text/javascript', body: '' })); await w.goto(app.start({ response_mode: 'form_post', prompt: 'none' })) } }, // held where it is
  { name: 'second-step', shown: true, go: async (w) => { await w.goto(app.start()); await login(w, careful) } },
  { name: 'second-step-wrong', go: async (w) => { await w.goto(app.start()); await login(w, careful); await w.locator('#code').fill('1'); await submit(w); await w.locator('#wrong').waitFor() } },
  { name: 'set-up', go: async (w) => { await w.goto(app.start()); await login(w, await newUser({ second_factor: true })) } },
  { name: 'new-password', go: async (w) => { await w.goto(app.start()); await login(w, await newUser({ must_change_password: true })) } },
  { name: 'reset', go: async (w) => { await reset(w); await w.locator('#new').fill('short'); await w.locator('#again').fill('short'); await submit(w); await w.locator('#wrong').waitFor() } },
  { name: 'reset-done', go: async (w) => { await reset(w); for (const field of ['#new', '#again']) await w.locator(field).fill('another phrase of mine'); await submit(w) } },
  { name: 'account', shown: true, as: 'careful', go: (w) => w.goto(account()) },
  { name: 'account-plain', as: 'user', go: (w) => w.goto(account('?done=yes')) },
  { name: 'authenticator', as: 'careful', go: (w) => w.goto(account('/authenticator')) },
  { name: 'recovery', as: 'careful', go: (w) => w.goto(account('/recovery')) },
  { name: 'recovery-codes', as: 'careful', go: async (w) => { await w.goto(account('/recovery')); await submit(w) } },
  { name: 'remove', as: 'careful', go: async (w) => { await w.goto(account()); await w.goto(await w.locator('a[href*="/remove"]').first().evaluate((a) => a.href)) } },
  { name: 'password', as: 'user', go: async (w) => { await w.goto(account('/password')); await submit(w); await w.locator('#wrong').waitFor() } },
  { name: 'device', shown: true, go: async (w) => w.goto((await tv.begin()).verification_uri_complete) },
  { name: 'device-wrong', go: async (w) => { await w.goto(tv.page); await w.locator('#user_code').fill('hello'); await submit(w); await w.locator('#wrong').waitFor() } },
  { name: 'device-ask', shown: true, as: 'user', go: device },
  { name: 'device-told', as: 'user', go: async (w) => { await device(w); await submit(w) } },
  { name: 'requests', as: 'user', go: async (w) => { for (const binding_message of ['W4SCT', 'Transfer of 12 EUR to Müller & Söhne']) await bank.begin(user, { binding_message }); await w.goto(bank.page) } },
  { name: 'requests-none', as: 'careful', go: (w) => w.goto(bank.page) },
  { name: 'logout', shown: true, as: 'user', go: (w) => w.goto(app.metadata.end_session_endpoint) },
  { name: 'logged-out', go: (w) => w.goto(app.metadata.end_session_endpoint) },
  { name: 'error', go: (w) => w.goto(app.start({ redirect_uri: 'https://attacker.example/cb' })) },
  { name: 'passkey-login', named: true, go: (w) => w.goto(app.start()) },
  { name: 'passkey-failed', named: true, go: async (w) => { await plugPasskeys(w); await w.goto(app.start()); await w.locator('form[data-passkey] button').click(); await w.locator('[data-failed]').waitFor() } },
  { name: 'passkey-second-step', named: true, go: async (w) => { await w.goto(app.start()); await login(w, careful) } },
  { name: 'passkey-set-up', named: true, go: async (w) => { await w.goto(app.start()); await login(w, await newUser({ second_factor: true })) } },
  { name: 'passkey-account', named: true, as: 'careful', go: (w) => w.goto(account()) },
  { name: 'passkey-add', named: true, as: 'careful', go: (w) => w.goto(account('/passkey')) },
]

for (const { name, go, shown, as } of pages.filter((p) => Boolean(p.named) === named)) {
  for (const locale of ['en', 'de']) {
    test(`${name} in ${locale}`, async (t) => {
      const window = await visit(t, { locale, allowed: /status of 400/, storageState: signedIn[as] })
      await go(window)
      await window.locator('h1').waitFor()
      assert.equal(await window.locator('html').getAttribute('lang'), locale)
      for (const [colorScheme, width] of locale === 'en' ? all : narrow) {
        await window.emulateMedia({ colorScheme })
        await window.setViewportSize({ width, height: 720 })
        await look(window, `${name}-${locale}-${colorScheme}-${width}`)
      }
      if (shown && manual && locale === 'en') await keep(window, name)
      await twice(window, name)
    })
  }
}

async function look(window, name) {
  await window.screenshot({ path: join(folder, `${name}.png`), fullPage: true })
  await fits(window, name)
  if (name.endsWith('-dark-1280')) return // the colours of one, the places of another
  await window.evaluate(axe)
  const { violations, incomplete } = await window.evaluate((values) => window.axe.run(document, { runOnly: values, resultTypes: ['violations', 'incomplete'] }), tags)
  const told = [...violations, ...incomplete].map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).join(' ')}`)
  assert.deepEqual(told, [], name)
}

async function fits(window, name) {
  const wide = await window.evaluate(() => document.scrollingElement.scrollWidth - window.innerWidth)
  assert.ok(wide <= 0, `${name} has to be scrolled sideways by ${wide} pixels`)
}

// twice looks at text of twice its size: WCAG 1.4.4 and 1.4.10: 1280 pixels at 400 % are 320.
async function twice(window, name) {
  await window.setViewportSize({ width: 640, height: 720 })
  await window.evaluate(() => { document.documentElement.style.fontSize = '200%' })
  await fits(window, `${name}, text at twice its size`)
}

// keep takes the picture of the manual: a window of a small screen, light and dark.
async function keep(window, name) {
  mkdirSync(manual, { recursive: true })
  await window.setViewportSize({ width: 560, height: 480 })
  for (const colorScheme of schemes) {
    await window.emulateMedia({ colorScheme })
    await window.screenshot({ path: join(manual, `${name}-${colorScheme}.png`), fullPage: true })
  }
}
