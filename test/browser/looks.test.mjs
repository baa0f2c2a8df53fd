// Every page as people see it: WCAG 2.2 AA by axe, in both languages, light and dark, on a
// telephone and on a desk; nothing to scroll sideways; screenshots in build/browser, and
// those of the manual when KEYRAFT_SCREENSHOTS names a folder.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { admin, newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { launch, quit, visit } from './browser.mjs'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
const widths = [320, 1280]
const schemes = ['light', 'dark']
const folder = new URL('../../build/browser/', import.meta.url).pathname
const manual = process.env.KEYRAFT_SCREENSHOTS

let app, stranger, user
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
  user = await newUser(manual ? { username: 'ada' } : {}) // a fresh server, for the manual
})
after(async () => { await quit(); await app.close(); await stranger.close() })

const login = async (window, password = user.password) => {
  await window.locator('#username').fill(user.username)
  await window.locator('#password').fill(password)
  await window.locator('button.first').click()
  await window.locator('h1').waitFor()
}

// pages are the ways to each page, from a window without cookies. Those with
// shown are in the manual.
const pages = [
  { name: 'login', shown: true, go: (w) => w.goto(app.start(manual && { login_hint: user.username })) },
  { name: 'login-wrong', go: async (w) => { await w.goto(app.start()); await login(w, 'wrong'); await w.locator('#wrong').waitFor() } },
  { name: 'consent', shown: true, go: async (w) => { await w.goto(app.start({ scope: 'openid profile email offline_access', resource: 'https://api.weather.example', redirect_uri: 'https://weather.example/cb' })); await login(w) } },
  { name: 'consent-self-registered', go: async (w) => { await w.goto(stranger.start({ scope: 'openid profile email phone address offline_access' })); await login(w) } },
  { name: 'consent-claims', go: async (w) => { await w.goto(app.start({ claims: JSON.stringify({ userinfo: { phone_number: null, email: null } }), scope: 'openid' })); await login(w) } },
  { name: 'form-post', go: async (w) => { await w.route('**/assets/submit*', (r) => r.fulfill({ contentType: 'text/javascript', body: '' })); await w.goto(app.start({ response_mode: 'form_post', prompt: 'none' })) } }, // held where it is
  { name: 'logout', shown: true, go: async (w) => { await w.goto(app.start()); await login(w); await w.goto(app.metadata.end_session_endpoint) } },
  { name: 'logged-out', go: (w) => w.goto(app.metadata.end_session_endpoint) },
  { name: 'error', go: (w) => w.goto(app.start({ redirect_uri: 'https://attacker.example/cb' })) },
]

// KEYRAFT_LOOKS=no leaves all of this out, for a second run over the same pages.
const looked = process.env.KEYRAFT_LOOKS === 'no' ? [] : pages

for (const { name, go, shown } of looked) {
  for (const locale of ['en', 'de']) {
    test(`${name} in ${locale}`, async (t) => {
      const window = await visit(t, { locale, allowed: /status of 400/ })
      await go(window)
      assert.equal(await window.locator('html').getAttribute('lang'), locale)
      for (const colorScheme of schemes) {
        await window.emulateMedia({ colorScheme })
        for (const width of widths) {
          await window.setViewportSize({ width, height: 720 })
          await look(window, `${name}-${locale}-${colorScheme}-${width}`)
        }
      }
      if (shown && manual && locale === 'en') await keep(window, name)
    })
  }
}

async function look(window, name) {
  await window.screenshot({ path: join(folder, `${name}.png`), fullPage: true })
  const wide = await window.evaluate(() => document.scrollingElement.scrollWidth - window.innerWidth)
  assert.ok(wide <= 0, `${name} has to be scrolled sideways by ${wide} pixels`)
  await window.evaluate(axe)
  const { violations, incomplete } = await window.evaluate((values) => window.axe.run(document, { runOnly: values, resultTypes: ['violations', 'incomplete'] }), tags)
  const told = [...violations, ...incomplete].map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).join(' ')}`)
  assert.deepEqual(told, [], name)
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

describe('text at twice its size', () => {
  for (const { name, go } of looked) {
    test(name, async (t) => { // WCAG 1.4.4 and 1.4.10: 1280 pixels at 400 % are 320
      const window = await visit(t, { viewport: { width: 640, height: 720 }, allowed: /status of 400/ })
      await go(window)
      await window.evaluate(() => { document.documentElement.style.fontSize = '200%' })
      const wide = await window.evaluate(() => document.scrollingElement.scrollWidth - window.innerWidth)
      assert.ok(wide <= 0, `${name} has to be scrolled sideways by ${wide} pixels`)
    })
  }
})
