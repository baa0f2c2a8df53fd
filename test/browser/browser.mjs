// Chromium, as Debian has it, and what each visit must keep to: no error in the console,
// no policy violated, nothing fetched from elsewhere.

import assert from 'node:assert/strict'
import { chromium } from 'playwright-core'
import { address } from '../lib/keyraft.mjs'

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium'
const patience = 20_000 // ms; a bound for a busy machine, not an expectation

let browser
// launch starts the one browser of a suite's file, with before() and after().
export async function launch() {
  browser = await chromium.launch({ executablePath, args: ['--disable-gpu'] })
}
export const quit = () => browser.close()

// visit gives a test a window with no cookies. trouble, in it, is what went wrong on the
// way; allowed says which of it the test wants to see.
export async function visit(t, { allowed = /^$/, ...options } = {}) {
  const context = await browser.newContext({ locale: 'en-GB', ignoreHTTPSErrors: true, ...options })
  context.setDefaultTimeout(patience)
  const window = await context.newPage()
  const trouble = []
  window.on('console', (message) => message.type() === 'error' && trouble.push(message.text()))
  window.on('pageerror', (err) => trouble.push(err.message))
  window.on('request', (request) => {
    const page = request.frame().url()
    if (request.isNavigationRequest() || !page.startsWith(address)) return
    if (new URL(request.url()).origin !== new URL(address).origin) trouble.push(`${page} fetched ${request.url()}`)
  })
  t.after(async () => {
    await context.close()
    assert.deepEqual(trouble.filter((text) => !allowed.test(text)), [])
  })
  return window
}

// heading waits until the window shows this heading.
export async function heading(window, text) {
  await window.getByRole('heading', { level: 1, name: text, exact: true }).waitFor()
}

// press sends the form by a button, or the one of this name, and waits for where it leads,
// also when that is the same page once more.
export async function press(window, button) {
  const there = window.waitForEvent('framenavigated', (frame) => frame === window.mainFrame())
  if (typeof button === 'string') button = window.getByRole('button', { name: button, exact: true })
  await Promise.all([there, button.click()])
}

// enter fills the login form in and sends it.
export async function enter(window, user, password = user.password) {
  await heading(window, 'Sign in')
  await window.getByLabel('User name').fill(user.username)
  await window.getByLabel('Password').fill(password)
  await press(window, 'Sign in')
}

// signIn goes from the application through login and consent back to it.
export async function signIn(window, app, user, more) {
  await window.goto(app.start(more))
  await enter(window, user)
  await heading(window, 'Allow access?')
  await press(window, 'Allow')
  await heading(window, 'Signed in')
}

// told waits until the page says this of what went wrong.
export async function told(window, text) {
  await window.getByRole('alert').filter({ hasText: text }).waitFor()
}

// refusedWith waits until the application shows this error of the server's.
export async function refusedWith(window, code) {
  await heading(window, 'Refused')
  assert.equal(await window.locator('#error').innerText(), code)
}

// eachWay runs walks once with script and once without.
export const eachWay = [{ way: 'with script', javaScriptEnabled: true }, { way: 'without script', javaScriptEnabled: false }]

// withoutScript is for long walks through pages that have none to run.
export const withoutScript = eachWay.slice(1)
